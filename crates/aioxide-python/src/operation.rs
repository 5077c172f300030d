//! An operation on the program's socket, while it waits.
//!
//! # Facts
//!
//! Most operations on a socket of a client wait, once each. A future of asyncio's around a task of the
//! engine costs two turns of the loop after the event (the engine's task, then the future's callback), a
//! handle, a done callback for the cancellation, and the calls between them: more than the kernel takes
//! for receiving a KiB.
//!
//! # The choice
//!
//! One object is all of it: what the engine calls when an attempt is worth making, the attempt, and the
//! future that the task awaits. When the attempt has ended, the task goes on in the same step.
//! Cancelling takes the object out of the engine at once, before an attempt is made: what was not
//! received stays in the socket.
//!
//! It has as much of `asyncio.Future` as a task asks of what it awaits. The program does not see it: the
//! coroutine of the operation is what a program holds.
//!
//! # What it costs
//!
//! The task goes on one turn of the loop earlier than with asyncio, before callbacks that were queued in
//! between. In debug mode it goes on by `call_soon`, as asyncio's does, so that a slow one is named.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;

use aioxide::event_loop::host::Report;
use aioxide::event_loop::sources::Waiting;
use aioxide::reactor::Op;
use pyo3::exceptions::asyncio::{CancelledError, InvalidStateError};
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::context;
use crate::errors::{Exception, from_io};
use crate::event_loop::Loop;
use crate::gil::OnGil;
use crate::host::PyEventLoop;
use crate::sock::{Attempt, Attempted};

/// What a task awaits while an operation on a socket waits.
#[pyclass(frozen, module = "aioxide._aioxide")]
pub struct Operation {
    event_loop: Py<Loop>,
    /// `None` while it is made, and when the operation is over: the socket is given back then.
    attempt: OnGil<RefCell<Option<Attempt>>>,
    /// Invariant: set while the engine waits on the operation's behalf. It may name a wait that is over:
    /// a callback that the program adds on the same side displaces the operation, without a word.
    waiting: OnGil<Cell<Option<Waiting>>>,
    outcome: OnGil<RefCell<Outcome>>,
    /// Who is told of the end, each in its context.
    callbacks: OnGil<RefCell<Vec<DoneCallback>>>,
    /// asyncio's sign that it is being awaited, and not merely yielded.
    blocking: OnGil<Cell<bool>>,
}

/// A callback, and its context.
type DoneCallback = (Py<PyAny>, Py<PyAny>);

/// How an operation has ended.
enum Outcome {
    Pending,
    Value(Py<PyAny>),
    Error(Py<PyBaseException>),
    /// With the message that whoever cancelled has given.
    Cancelled(Option<Py<PyAny>>),
}

impl Operation {
    /// The result of an attempt that is made now; or what waits for it.
    pub fn begin<'py>(slf: &Bound<'py, Loop>, mut attempt: Attempt) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let known = match attempt.make(py, slf.get().engine(py)) {
            Attempted::Done(result) => return result.map(|value| value.into_bound(py)),
            Attempted::WouldBlock { known } => known,
        };
        slf.get().check_closed(py)?;
        slf.get().check_number_free(py, attempt.fd())?;
        let operation = Operation {
            event_loop: slf.clone().unbind(),
            attempt: OnGil::new(RefCell::default()),
            waiting: OnGil::new(Cell::default()),
            outcome: OnGil::new(RefCell::new(Outcome::Pending)),
            callbacks: OnGil::new(RefCell::default()),
            blocking: OnGil::new(Cell::new(false)),
        };
        let operation = Bound::new(py, operation)?;
        Operation::wait(&operation, attempt, |engine, fd, op, operation| {
            engine.add_operation(fd, op, operation, known).map(Some)
        })?;
        Ok(operation.into_any())
    }

    /// Waits by `add`; what it does not let wait is pending until it is cancelled.
    fn wait(
        slf: &Bound<'_, Operation>,
        attempt: Attempt,
        add: impl FnOnce(&PyEventLoop, RawFd, Op, Py<Operation>) -> io::Result<Option<Waiting>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (fd, op) = (attempt.fd(), attempt.op());
        let engine = this.event_loop.get().engine(py);
        this.attempt.get(py).replace(Some(attempt));
        match add(engine, fd, op, slf.clone().unbind()) {
            Ok(waiting) => {
                this.waiting.get(py).set(waiting);
                Ok(())
            }
            Err(error) => {
                let attempt = this.attempt.get(py).take();
                drop(attempt);
                Err(from_io(error))
            }
        }
    }

    /// Makes the attempt, now that it is worth it.
    ///
    /// # Errors
    /// Only what must leave the loop.
    pub fn run(slf: &Bound<'_, Operation>) -> Result<(), Exception> {
        let py = slf.py();
        let this = slf.get();
        this.waiting.get(py).set(None);
        // Nothing to attempt: it was cancelled.
        let Some(mut attempt) = this.attempt.get(py).take() else {
            return Ok(());
        };
        let result = match attempt.make_again(py, this.event_loop.get().engine(py)) {
            Attempted::Done(result) => result,
            // An attempt calls the socket's own method, which may have cancelled what it is made for.
            Attempted::WouldBlock { .. } if this.done(py) => return Ok(()),
            Attempted::WouldBlock { known } => {
                let waits = Operation::wait(slf, attempt, |engine, fd, op, operation| {
                    engine.add_operation_again(fd, op, operation, known)
                });
                match waits {
                    Ok(()) => return Ok(()),
                    Err(error) => Err(error),
                }
            }
        };
        Operation::settle(
            slf,
            match result {
                Ok(value) => Outcome::Value(value),
                Err(error) => Outcome::Error(error.into_value(py)),
            },
        )
    }

    /// Ends the operation, and lets whoever awaits it go on.
    fn settle(slf: &Bound<'_, Operation>, outcome: Outcome) -> Result<(), Exception> {
        let py = slf.py();
        let this = slf.get();
        if this.done(py) {
            return Ok(());
        }
        this.outcome.get(py).replace(outcome);
        let engine = this.event_loop.get().engine(py);
        if engine.debug() {
            return this.call_soon(slf).map_err(Exception);
        }
        let callbacks = this.callbacks.get(py).take();
        let mut escaped = Ok(());
        for (callback, context) in callbacks {
            let called = context::run(py, &context, || callback.bind(py).call1((slf,)).map(drop));
            match called.map_err(Exception) {
                Err(error) if error.escapes(py) => escaped = Err(error),
                Err(error) => engine.report(Report {
                    message: "Exception in a callback of a socket operation".into(),
                    error: Some(error),
                    subject: None,
                }),
                Ok(()) => {}
            }
        }
        escaped
    }

    /// Queues the callbacks.
    fn call_soon(&self, slf: &Bound<'_, Operation>) -> PyResult<()> {
        let py = slf.py();
        for (callback, context) in self.callbacks.get(py).take() {
            self.queue(slf, callback.into_bound(py), context.into_bound(py))?;
        }
        Ok(())
    }

    fn queue(
        &self,
        slf: &Bound<'_, Operation>,
        callback: Bound<'_, PyAny>,
        context: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let kwargs = PyDict::new(py);
        kwargs.set_item(intern!(py, "context"), context)?;
        let event_loop = self.event_loop.bind(py);
        event_loop.call_method(intern!(py, "call_soon"), (callback, slf), Some(&kwargs))?;
        Ok(())
    }

    /// The value, or the exception that stands for it.
    fn ended(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &*self.outcome.get(py).borrow() {
            Outcome::Pending => Err(InvalidStateError::new_err("Result is not set.")),
            Outcome::Value(value) => Ok(value.clone_ref(py)),
            Outcome::Error(error) => {
                let error = error.clone_ref(py).into_bound(py);
                Err(PyErr::from_value(error.into_any()))
            }
            Outcome::Cancelled(None) => Err(CancelledError::new_err(())),
            Outcome::Cancelled(Some(message)) => {
                Err(CancelledError::new_err((message.clone_ref(py),)))
            }
        }
    }
}

#[pymethods]
impl Operation {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Itself while it is pending; then it ends with the result.
    fn __next__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let py = slf.py();
        let this = slf.get();
        if this.done(py) {
            return Err(PyStopIteration::new_err(this.ended(py)?));
        }
        if this.blocking.get(py).replace(true) {
            let message = "await wasn't used with future";
            return Err(PyRuntimeError::new_err(message));
        }
        Ok(slf)
    }

    #[getter]
    fn _asyncio_future_blocking(&self, py: Python<'_>) -> bool {
        self.blocking.get(py).get()
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, py: Python<'_>, blocking: bool) {
        self.blocking.get(py).set(blocking);
    }

    fn get_loop(&self, py: Python<'_>) -> Py<Loop> {
        self.event_loop.clone_ref(py)
    }

    fn done(&self, py: Python<'_>) -> bool {
        !matches!(*self.outcome.get(py).borrow(), Outcome::Pending)
    }

    fn cancelled(&self, py: Python<'_>) -> bool {
        matches!(*self.outcome.get(py).borrow(), Outcome::Cancelled(_))
    }

    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.ended(py)
    }

    /// Calls `callback` with this object when the operation is over.
    #[pyo3(signature = (callback, *, context = None))]
    fn add_done_callback<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let context = match context {
            Some(context) => context,
            None => context::copy_current(py)?.into_bound(py),
        };
        if this.done(py) {
            return this.queue(slf, callback, context);
        }
        let mut callbacks = this.callbacks.get(py).borrow_mut();
        callbacks.push((callback.unbind(), context.unbind()));
        Ok(())
    }

    /// Ends the operation; false when it is over already.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        if this.done(py) {
            return Ok(false);
        }
        this.outcome.get(py).replace(Outcome::Cancelled(msg));
        if let Some(waiting) = this.waiting.get(py).take() {
            let engine = this.event_loop.get().engine(py);
            engine.remove_operation(waiting, |operation| operation.is(slf));
        }
        let attempt = this.attempt.get(py).take();
        drop(attempt);
        this.call_soon(slf)?;
        Ok(true)
    }

    fn __repr__(&self, py: Python<'_>) -> &'static str {
        match &*self.outcome.get(py).borrow() {
            Outcome::Pending => "<socket operation pending>",
            Outcome::Value(_) | Outcome::Error(_) => "<socket operation finished>",
            Outcome::Cancelled(_) => "<socket operation cancelled>",
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        if let Ok(attempt) = self.attempt.visit().try_borrow()
            && let Some(attempt) = &*attempt
        {
            attempt.visit(&visit)?;
        }
        if let Ok(outcome) = self.outcome.visit().try_borrow() {
            match &*outcome {
                Outcome::Value(value) | Outcome::Cancelled(Some(value)) => visit.call(value)?,
                Outcome::Error(error) => visit.call(error)?,
                Outcome::Pending | Outcome::Cancelled(None) => {}
            }
        }
        if let Ok(callbacks) = self.callbacks.visit().try_borrow() {
            for (callback, context) in callbacks.iter() {
                visit.call(callback)?;
                visit.call(context)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self, py: Python<'_>) {
        let attempt = self.attempt.get(py).take();
        drop(attempt);
        let callbacks = self.callbacks.get(py).take();
        drop(callbacks);
    }
}
