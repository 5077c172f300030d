//! What a task awaits: an operation on the program's socket while it waits, or bytes for a stream's reader.
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
//! Without an attempt it is a bare future ([`Operation::bare`]), which stands in a reader's `_waiter` while
//! `read()` or its like waits for bytes. Whoever makes it done queues it, where asyncio's future queues a
//! handle for each callback: the task goes on at the same place in the order of callbacks, and there is no
//! handle, no call of `call_soon` and none of `create_future`. Since asyncio's own functions and the program
//! may find it in `_waiter`, it has what they use of a future.
//!
//! # What it costs
//!
//! The task goes on one turn of the loop earlier than with asyncio, before callbacks that were queued in
//! between. In debug mode it goes on by `call_soon`, as asyncio's does, so that a slow one is named.

use std::cell::{Cell, RefCell};
use std::iter::Chain;
use std::os::fd::RawFd;
use std::{io, option, vec};

use aioxide::event_loop::host::Report;
use aioxide::event_loop::sources::Waiting;
use aioxide::reactor::Op;
use pyo3::exceptions::asyncio::{CancelledError, InvalidStateError};
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use pyo3::{ffi, intern};

use crate::awaiting;
use crate::context;
use crate::errors::{Exception, from_io};
use crate::event_loop::Loop;
use crate::gil::{OnGil, Own};
use crate::host::PyEventLoop;
use crate::recycled::{self, Recycle, Recycled};
use crate::sock::{Attempt, Attempted};
use crate::streams::raised;

/// What a task awaits while an operation on a socket waits.
#[pyclass(frozen, weakref, module = "aioxide._aioxide")]
pub struct Operation {
    /// What is called when the object is: see `awaiting.rs`. Always the same function.
    pub vectorcall: ffi::vectorcallfunc,
    event_loop: OnGil<Own<Loop>>,
    /// `None` while it is made, and when the operation is over: the socket is given back then.
    attempt: OnGil<RefCell<Option<Attempt>>>,
    /// Invariant: set while the engine waits on the operation's behalf. It may name a wait that is over:
    /// a callback that the program adds on the same side displaces the operation, without a word.
    waiting: OnGil<Cell<Option<Waiting>>>,
    outcome: OnGil<RefCell<Outcome>>,
    /// Who is told of the end, each in its context.
    callbacks: OnGil<RefCell<Callbacks>>,
    /// asyncio's sign that it is being awaited, and not merely yielded.
    blocking: OnGil<Cell<bool>>,
}

/// A callback, and its context.
type DoneCallback = (Own<PyAny>, Own<PyAny>);

/// Callbacks: nearly always one, the task's.
#[derive(Default)]
struct Callbacks {
    first: Option<DoneCallback>,
    others: Vec<DoneCallback>,
}

impl Callbacks {
    fn push(&mut self, callback: DoneCallback) {
        if self.first.is_none() && self.others.is_empty() {
            self.first = Some(callback);
        } else {
            self.others.push(callback);
        }
    }

    fn iter(&self) -> impl Iterator<Item = &DoneCallback> {
        self.first.iter().chain(&self.others)
    }
}

impl IntoIterator for Callbacks {
    type Item = DoneCallback;
    type IntoIter = Chain<option::IntoIter<DoneCallback>, vec::IntoIter<DoneCallback>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.others)
    }
}

/// How an operation has ended.
enum Outcome {
    Pending,
    Value(Own<PyAny>),
    Error(Own<PyBaseException>),
    /// With the message that whoever cancelled has given.
    Cancelled(Option<Own<PyAny>>),
}

impl Recycle for Operation {
    fn recycled() -> &'static Recycled {
        static OPERATIONS: Recycled = Recycled::new();
        &OPERATIONS
    }
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
        let operation = Operation::bare(slf)?;
        Operation::wait(&operation, attempt, |engine, fd, op, operation| {
            engine.add_operation(fd, op, operation, known).map(Some)
        })?;
        Ok(operation.into_any())
    }

    /// A future without an attempt: pending until somebody makes it done.
    #[inline]
    pub fn bare<'py>(event_loop: &Bound<'py, Loop>) -> PyResult<Bound<'py, Operation>> {
        let operation = Operation {
            vectorcall: awaiting::call,
            event_loop: OnGil::new(Own::new(event_loop.clone())),
            attempt: OnGil::new(RefCell::default()),
            waiting: OnGil::new(Cell::default()),
            outcome: OnGil::new(RefCell::new(Outcome::Pending)),
            callbacks: OnGil::new(RefCell::default()),
            blocking: OnGil::new(Cell::new(false)),
        };
        let operation = recycled::quick(event_loop.py(), || operation)?;
        recycled::show(&operation);
        awaiting::ready(&operation)?;
        Ok(operation)
    }

    /// Makes it done, unless it is cancelled; its callbacks are called in their turn.
    ///
    /// # Errors
    /// `InvalidStateError` when it is done already.
    pub fn complete(slf: &Bound<'_, Operation>) -> PyResult<()> {
        if slf.get().cancelled(slf.py()) {
            return Ok(());
        }
        Operation::finish(slf, || {
            Outcome::Value(Own::new(slf.py().None().into_bound(slf.py())))
        })
    }

    fn finish(slf: &Bound<'_, Operation>, outcome: impl FnOnce() -> Outcome) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        if this.done(py) {
            return Err(InvalidStateError::new_err("invalid state"));
        }
        this.outcome.get(py).replace(outcome());
        this.schedule(slf)
    }

    pub fn loop_of<'a>(&'a self, py: Python<'a>) -> &'a Py<Loop> {
        self.event_loop.get(py)
    }

    #[inline]
    pub fn is_blocking(&self, py: Python<'_>) -> bool {
        self.blocking.get(py).get()
    }

    #[inline]
    pub fn note_blocking(&self, py: Python<'_>, blocking: bool) {
        self.blocking.get(py).set(blocking);
    }

    /// Whether it is done, and nothing was raised.
    pub fn has_value(&self, py: Python<'_>) -> bool {
        matches!(*self.outcome.get(py).borrow(), Outcome::Value(_))
    }

    /// Calls `callback` with this object, in `context` or a copy of the current one, when it is done.
    pub fn add_callback<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let context = match context {
            Some(context) => context,
            None => context::copy_current(py)?,
        };
        if this.done(py) {
            return this.queue(slf, callback, context);
        }
        let mut callbacks = this.callbacks.get(py).borrow_mut();
        callbacks.push((Own::new(callback), Own::new(context)));
        Ok(())
    }

    /// Gives the callbacks their turn. Those of a loop in debug mode are handles, so that a slow one is
    /// named.
    fn schedule(&self, slf: &Bound<'_, Operation>) -> PyResult<()> {
        let py = slf.py();
        let engine = self.loop_of(py).get().engine(py);
        if engine.debug() || engine.is_closed() {
            return self.call_soon(slf);
        }
        if self.callbacks.get(py).borrow().iter().next().is_some() {
            engine.queue_operation(slf.clone().unbind());
        }
        Ok(())
    }

    /// What awaiting it comes to: itself while it is pending, then the result.
    #[inline]
    pub fn go_on<'py>(slf: &Bound<'py, Operation>) -> PyResult<PySendResult<'py>> {
        let (py, this) = (slf.py(), slf.get());
        if this.done(py) {
            return Ok(PySendResult::Return(this.ended(py)?.into_bound(py)));
        }
        if this.blocking.get(py).replace(true) {
            this.stop_waiting(slf);
            let message = "await wasn't used with future";
            return Err(PyRuntimeError::new_err(message));
        }
        Ok(PySendResult::Next(slf.clone().into_any()))
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
        let engine = this.loop_of(py).get().engine(py);
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
        let Some(mut attempt) = this.attempt.get(py).take() else {
            // It was made done, or cancelled: this is its callbacks' turn, if they have none of their own.
            if this.done(py) {
                return this.call_back(slf);
            }
            return Ok(());
        };
        let result = match attempt.make_again(py, this.loop_of(py).get().engine(py)) {
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
                Ok(value) => Outcome::Value(Own::new(value.into_bound(py))),
                Err(error) => Outcome::Error(Own::new(error.into_value(py).into_bound(py))),
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
        let engine = this.loop_of(py).get().engine(py);
        if engine.debug() {
            return this.call_soon(slf).map_err(Exception);
        }
        this.call_back(slf)
    }

    /// Calls the callbacks.
    ///
    /// # Errors
    /// Only what must leave the loop.
    fn call_back(&self, slf: &Bound<'_, Operation>) -> Result<(), Exception> {
        let py = slf.py();
        let engine = self.loop_of(py).get().engine(py);
        let callbacks = self.callbacks.get(py).take();
        let mut escaped = Ok(());
        for (callback, context) in callbacks {
            let called = awaiting::wake(slf, &callback, &context);
            match called.map_err(Exception) {
                Err(error) if error.escapes(py) => escaped = Err(error),
                Err(error) => engine.report(Report {
                    message: "Exception in a callback of what was awaited".into(),
                    error: Some(error),
                    subject: None,
                }),
                Ok(()) => {}
            }
        }
        escaped
    }

    /// An attempt that nobody waits for is not made: what comes is for the next operation on the socket.
    fn stop_waiting(&self, slf: &Bound<'_, Operation>) {
        let py = slf.py();
        if let Some(waiting) = self.waiting.get(py).take() {
            let engine = self.loop_of(py).get().engine(py);
            engine.remove_operation(waiting, |operation| operation.is(slf));
        }
        let attempt = self.attempt.get(py).take();
        drop(attempt);
    }

    /// Queues the callbacks.
    fn call_soon(&self, slf: &Bound<'_, Operation>) -> PyResult<()> {
        let py = slf.py();
        for (callback, context) in self.callbacks.get(py).take() {
            self.queue(slf, callback.bind(py).clone(), context.bind(py).clone())?;
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
        let event_loop = self.loop_of(py).bind(py);
        event_loop.call_method(intern!(py, "call_soon"), (callback, slf), Some(&kwargs))?;
        Ok(())
    }

    /// What makes an attempt is made done by it alone.
    fn check_bare(&self, py: Python<'_>) -> PyResult<()> {
        if self.attempt.get(py).borrow().is_some() {
            return Err(PyRuntimeError::new_err("a socket operation ends by itself"));
        }
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
        match Operation::go_on(&slf)? {
            PySendResult::Next(_) => Ok(slf),
            PySendResult::Return(value) => Err(PyStopIteration::new_err((value.unbind(),))),
        }
    }

    #[getter]
    fn _asyncio_future_blocking(&self, py: Python<'_>) -> bool {
        self.is_blocking(py)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, py: Python<'_>, blocking: bool) {
        self.note_blocking(py, blocking);
    }

    fn get_loop(&self, py: Python<'_>) -> Py<Loop> {
        self.loop_of(py).clone_ref(py)
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

    fn exception(&self, py: Python<'_>) -> PyResult<Option<Py<PyBaseException>>> {
        match &*self.outcome.get(py).borrow() {
            Outcome::Pending => return Err(InvalidStateError::new_err("Exception is not set.")),
            Outcome::Value(_) => return Ok(None),
            Outcome::Error(error) => return Ok(Some(error.clone_ref(py))),
            Outcome::Cancelled(_) => {}
        }
        self.ended(py).map(|_| None)
    }

    fn set_result(slf: &Bound<'_, Self>, result: Py<PyAny>) -> PyResult<()> {
        slf.get().check_bare(slf.py())?;
        Operation::finish(slf, || {
            Outcome::Value(Own::new(result.into_bound(slf.py())))
        })
    }

    fn set_exception(slf: &Bound<'_, Self>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        slf.get().check_bare(slf.py())?;
        let exception = match exception.cast::<PyType>() {
            Ok(class) => class.call0()?,
            Err(_) => exception.clone(),
        };
        let Ok(exception) = exception.cast_into::<PyBaseException>() else {
            return Err(PyTypeError::new_err("invalid exception object"));
        };
        if exception.is_instance_of::<PyStopIteration>() {
            let message =
                "StopIteration interacts badly with generators and cannot be raised into a Future";
            return Err(PyTypeError::new_err(message));
        }
        Operation::finish(slf, || Outcome::Error(Own::new(exception)))
    }

    /// Takes callbacks back that are equal to `callback`; how many.
    fn remove_done_callback(&self, callback: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = callback.py();
        if self.done(py) {
            // They have their turn already.
            return Ok(0);
        }
        let callbacks = self.callbacks.get(py).take();
        let (mut kept, mut removed) = (Callbacks::default(), 0);
        let mut failed = Ok(());
        for (there, context) in callbacks {
            // The comparison may run code of the program's.
            let equal = failed.is_ok()
                && there.bind(py).eq(callback).unwrap_or_else(|error| {
                    failed = Err(error);
                    false
                });
            if equal {
                removed += 1;
            } else {
                kept.push((there, context));
            }
        }
        let added = self.callbacks.get(py).replace(kept);
        for callback in added {
            self.callbacks.get(py).borrow_mut().push(callback);
        }
        failed.map(|()| removed)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<Loop> {
        self.loop_of(py).clone_ref(py)
    }

    #[getter]
    fn _state(&self, py: Python<'_>) -> &'static str {
        match &*self.outcome.get(py).borrow() {
            Outcome::Pending => "PENDING",
            Outcome::Cancelled(_) => "CANCELLED",
            Outcome::Value(_) | Outcome::Error(_) => "FINISHED",
        }
    }

    /// Pairs of a callback and its context; `None` when there are none.
    #[getter]
    fn _callbacks<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        if self.done(py) {
            return Ok(None);
        }
        let callbacks = self.callbacks.get(py).borrow();
        let pairs: Vec<_> = (callbacks.iter())
            .map(|(callback, context)| (callback.clone_ref(py), context.clone_ref(py)))
            .collect();
        drop(callbacks);
        (!pairs.is_empty())
            .then(|| PyList::new(py, pairs))
            .transpose()
    }

    /// Calls `callback` with this object when the operation is over.
    #[pyo3(signature = (callback, *, context = None))]
    fn add_done_callback<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        Operation::add_callback(slf, callback, context)
    }

    /// Ends the operation; false when it is over already.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        if this.done(py) {
            return Ok(false);
        }
        this.outcome.get(py).replace(Outcome::Cancelled(
            msg.map(|msg| Own::new(msg.into_bound(py))),
        ));
        this.stop_waiting(slf);
        this.schedule(slf)?;
        Ok(true)
    }

    /// Raised in whoever awaits it, who goes on without it.
    #[pyo3(signature = (*args))]
    fn throw(slf: &Bound<'_, Self>, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        let error = raised(args)?;
        Operation::close(slf);
        Err(error)
    }

    /// Whoever awaits it is closed.
    fn close(slf: &Bound<'_, Self>) {
        slf.get().stop_waiting(slf);
    }

    fn __repr__(&self, py: Python<'_>) -> &'static str {
        match &*self.outcome.get(py).borrow() {
            Outcome::Pending => "<operation pending>",
            Outcome::Value(_) | Outcome::Error(_) => "<operation finished>",
            Outcome::Cancelled(_) => "<operation cancelled>",
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&**self.event_loop.visit())?;
        if let Ok(attempt) = self.attempt.visit().try_borrow()
            && let Some(attempt) = &*attempt
        {
            attempt.visit(&visit)?;
        }
        if let Ok(outcome) = self.outcome.visit().try_borrow() {
            match &*outcome {
                Outcome::Value(value) | Outcome::Cancelled(Some(value)) => visit.call(&**value)?,
                Outcome::Error(error) => visit.call(&**error)?,
                Outcome::Pending | Outcome::Cancelled(None) => {}
            }
        }
        if let Ok(callbacks) = self.callbacks.visit().try_borrow() {
            for (callback, context) in callbacks.iter() {
                visit.call(&**callback)?;
                visit.call(&**context)?;
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
