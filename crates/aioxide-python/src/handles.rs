//! `Handle` and `TimerHandle`.

use std::cell::{Cell, RefCell};

use aioxide::event_loop::timers::TimerId;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyTuple, PyType};
use pyo3::{Py, intern};

use crate::call::Call;
use crate::context::Captured;
use crate::errors::{Exception, Raised, apart};
use crate::event_loop::Loop;
use crate::gil::{OnGil, Own};
use crate::imports;
use crate::recycled::{self, Alone, Recycle, Recycled};
use crate::turn::Turn;

/// A callback that waits for its turn: shows itself as `asyncio.Handle`.
#[pyclass(frozen, subclass, weakref, module = "aioxide")]
pub struct Handle {
    event_loop: OnGil<Own<Loop>>,
    context: OnGil<Captured>,
    /// `None` when the handle is cancelled.
    call: OnGil<RefCell<Option<Call>>>,
    cancelled: OnGil<Cell<bool>>,
    /// What `call_soon_threadsafe` gives shows itself as another class.
    threadsafe: bool,
    turn: OnGil<Turn>,
    rare: Option<Box<OnGil<Rare>>>,
}

/// What a handle has that was made in debug mode.
struct Rare {
    /// Where it was made.
    source_traceback: Own<PyAny>,
    /// What it has shown itself as before it was cancelled.
    repr: RefCell<Option<String>>,
}

impl Handle {
    /// A handle for a call in `context`, or in a copy of the current one.
    pub fn new(
        event_loop: &Bound<'_, Loop>,
        call: Call,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Handle> {
        let py = event_loop.py();
        let mut handle = Handle::plain(event_loop, call, Captured::new(py, context)?);
        if event_loop.get().engine(py).debug() {
            // The caller of the method that made this handle.
            let frame = imports::current_frame(py)?.call1((0,))?;
            let stack = imports::extract_stack(py)?.call1((frame,))?;
            handle.rare = Some(Box::new(OnGil::new(Rare {
                source_traceback: Own::new(stack),
                repr: RefCell::default(),
            })));
        }
        Ok(handle)
    }

    /// The same, of a loop that is not in debug mode.
    #[inline(always)]
    pub fn plain(event_loop: &Bound<'_, Loop>, call: Call, context: Captured) -> Handle {
        Handle {
            event_loop: OnGil::new(Own::new(event_loop.clone())),
            context: OnGil::new(context),
            call: OnGil::new(RefCell::new(Some(call))),
            cancelled: OnGil::new(Cell::new(false)),
            threadsafe: false,
            turn: OnGil::new(Turn::default()),
            rare: None,
        }
    }

    /// The handle of `call_soon_threadsafe`. Since Python 3.14, `cancel()` and `cancelled()` in
    /// another thread wait until a callback that runs has returned.
    pub fn threadsafe(
        event_loop: &Bound<'_, Loop>,
        call: Call,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Handle> {
        Handle::new(event_loop, call, context).map(Handle::for_threads)
    }

    /// The same handle, as that of `call_soon_threadsafe`.
    #[inline(always)]
    pub fn for_threads(self) -> Handle {
        Handle {
            threadsafe: cfg!(Py_3_14),
            ..self
        }
    }

    fn rare<'a>(&'a self, py: Python<'a>) -> Option<&'a Rare> {
        self.rare.as_ref().map(|rare| rare.get(py))
    }

    fn source_traceback<'a>(&'a self, py: Python<'a>) -> Option<&'a Py<PyAny>> {
        Some(&self.rare(py)?.source_traceback)
    }

    /// Waits until no other thread runs the callback.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        if self.threadsafe {
            self.turn.get(py).wait(py)?;
        }
        Ok(())
    }

    /// Calls the callback; what it raises goes to the exception handler.
    ///
    /// # Errors
    /// Only what must leave the loop.
    #[inline]
    pub fn run(slf: &Bound<'_, Handle>) -> Result<(), Exception> {
        if !slf.get().threadsafe {
            return Handle::run_now(slf);
        }
        let turn = slf.get().turn.get(slf.py());
        turn.take(slf.py(), || Handle::run_now(slf))
            .map_err(Exception)?
    }

    /// The same for a handle that the loop's queue gives up.
    #[inline]
    pub fn run_last(py: Python<'_>, handle: Own<Handle>) -> Result<(), Exception> {
        if handle.get().rare.is_some() {
            return Handle::run_shared(py, handle);
        }
        match Alone::new(py, handle) {
            Ok(handle) => {
                // Nobody can cancel it while it runs, so the call is made as it stands there.
                let called = match &*handle.call.get(py).borrow() {
                    Some(call) => handle.context.get(py).call(py, call),
                    None => Ok(()),
                };
                match called {
                    Ok(()) => Ok(()),
                    Err(raised) => Handle::failed(handle.share().bind(py), raised),
                }
            }
            Err(handle) => Handle::run_shared(py, handle),
        }
    }

    fn run_shared(py: Python<'_>, handle: Own<Handle>) -> Result<(), Exception> {
        let handle = handle.bind(py);
        let ran = Handle::run(handle);
        recycled::show_if_shared(handle);
        ran
    }

    #[inline]
    fn run_now(slf: &Bound<'_, Handle>) -> Result<(), Exception> {
        let py = slf.py();
        let this = slf.get();
        // The callback may cancel its own handle.
        let call = match &*this.call.get(py).borrow() {
            Some(call) => call.clone_ref(py),
            None => return Ok(()),
        };
        let run = || this.context.get(py).call(py, &call);
        let called = if this.rare.is_none() {
            run()
        } else {
            let _current = CurrentHandle::begin(slf);
            run()
        };
        match called {
            Ok(()) => Ok(()),
            Err(raised) => Handle::failed(slf, raised),
        }
    }

    #[cold]
    fn failed(slf: &Bound<'_, Handle>, raised: Raised) -> Result<(), Exception> {
        let py = slf.py();
        let error = Exception(raised.fetch(py));
        // Whoever is told of it may keep it.
        recycled::show(slf);
        if error.escapes(py) {
            return Err(error);
        }
        slf.get()
            .event_loop
            .get(py)
            .bind(py)
            .call_method1(intern!(py, "_callback_failed"), (slf, error.value(py)))
            .map_err(Exception)?;
        Ok(())
    }

    /// Cancels: what the callback holds is dropped now.
    fn drop_call(slf: &Bound<'_, Handle>) {
        let py = slf.py();
        let this = slf.get();
        if this.cancelled.get(py).replace(true) {
            return;
        }
        if let Some(rare) = this.rare(py)
            && let Ok(repr) = slf.repr()
        {
            rare.repr.replace(Some(repr.to_string()));
        }
        let call = this.call.get(py).take();
        drop(call);
    }
}

impl Recycle for Handle {
    fn recycled() -> &'static Recycled {
        static HANDLES: Recycled = Recycled::new();
        &HANDLES
    }
}

/// Debug mode's note of which handle runs, for the messages of what fails meanwhile.
struct CurrentHandle<'a, 'py>(&'a Bound<'py, Handle>);

impl<'a, 'py> CurrentHandle<'a, 'py> {
    fn begin(handle: &'a Bound<'py, Handle>) -> Self {
        let current = CurrentHandle(handle);
        current.note(Some(handle));
        current
    }

    fn note(&self, current: Option<&Bound<'py, Handle>>) {
        let handle = self.0;
        let event_loop = handle.get().event_loop.get(handle.py()).bind(handle.py());
        // A loop that refuses attributes goes without the note.
        let _ = event_loop.setattr(intern!(handle.py(), "_current_handle"), current);
    }
}

impl Drop for CurrentHandle<'_, '_> {
    fn drop(&mut self) {
        // What the callback has raised is set in the interpreter.
        apart(self.0.py(), || self.note(None));
    }
}

#[pymethods]
impl Handle {
    /// Makes the loop pass the callback over.
    pub fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().wait(slf.py())?;
        recycled::show(slf);
        Handle::drop_call(slf);
        Ok(())
    }

    /// Whether it was cancelled.
    fn cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        self.wait(py)?;
        Ok(self.cancelled.get(py).get())
    }

    /// The context that the callback runs in.
    fn get_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.context.get(py).object(py)
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        Handle::run(slf).map_err(|error| error.0)
    }

    #[getter]
    fn _callback<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let call = self.call.get(py).borrow();
        call.as_ref().map(|call| call.callback(py))
    }

    #[getter]
    fn _args<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let call = self
            .call
            .get(py)
            .borrow()
            .as_ref()
            .map(|call| call.clone_ref(py));
        call.map(|call| call.args(py)).transpose()
    }

    #[getter]
    fn _context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.context.get(py).object(py)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<Loop> {
        self.event_loop.get(py).clone_ref(py)
    }

    #[getter]
    fn _cancelled(&self, py: Python<'_>) -> bool {
        self.cancelled.get(py).get()
    }

    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.source_traceback(py)
            .map(|traceback| traceback.clone_ref(py))
    }

    #[getter]
    fn _repr(&self, py: Python<'_>) -> Option<String> {
        self.rare(py)?.repr.borrow().clone()
    }

    #[getter]
    fn __class__(slf: &Bound<'_, Self>) -> PyResult<Py<PyType>> {
        let class = if slf.get().threadsafe {
            imports::thread_safe_handle(slf.py())?
        } else {
            imports::asyncio_handle(slf.py())?
        };
        Ok(class.clone().unbind())
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        imports::asyncio_handle(slf.py())?.call_method1(intern!(slf.py(), "__repr__"), (slf,))
    }

    fn _repr_info<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        imports::asyncio_handle(slf.py())?.call_method1(intern!(slf.py(), "_repr_info"), (slf,))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&**self.event_loop.visit())?;
        self.context.visit().traverse(&visit)?;
        if let Ok(call) = self.call.visit().try_borrow()
            && let Some(call) = &*call
        {
            call.traverse(&visit)?;
        }
        match &self.rare {
            Some(rare) => visit.call(&*rare.visit().source_traceback),
            None => Ok(()),
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        let call = self.call.get(py).take();
        drop(call);
    }
}

/// A callback that waits for its deadline: shows itself as `asyncio.TimerHandle`.
#[pyclass(frozen, extends = Handle, weakref, module = "aioxide")]
pub struct TimerHandle {
    /// The deadline in seconds, as the program gave it, where that is more than a number.
    given: Option<Py<PyAny>>,
    /// The same, for comparing.
    when: f64,
    /// Set as long as the loop holds the timer.
    timer: OnGil<Cell<Option<TimerId>>>,
}

impl TimerHandle {
    pub fn new(given: Option<Py<PyAny>>, when: f64) -> TimerHandle {
        TimerHandle {
            given,
            when,
            timer: OnGil::new(Cell::new(None)),
        }
    }

    /// asyncio's equality: the same deadline, callback and arguments.
    fn equal(left: &Bound<'_, TimerHandle>, right: &Bound<'_, TimerHandle>) -> PyResult<bool> {
        let py = left.py();
        let (left_base, right_base) = (left.as_super().get(), right.as_super().get());
        Ok(left.get().when == right.get().when
            && left_base.cancelled.get(py).get() == right_base.cancelled.get(py).get()
            && left_base
                ._callback(py)
                .into_pyobject(py)?
                .eq(right_base._callback(py))?
            && left_base
                ._args(py)?
                .into_pyobject(py)?
                .eq(right_base._args(py)?)?)
    }

    pub fn set_timer(&self, py: Python<'_>, timer: TimerId) {
        self.timer.get(py).set(Some(timer));
    }
}

impl Recycle for TimerHandle {
    fn recycled() -> &'static Recycled {
        static HANDLES: Recycled = Recycled::new();
        &HANDLES
    }
}

#[pymethods]
impl TimerHandle {
    /// Takes the timer back.
    pub fn cancel(slf: &Bound<'_, Self>) {
        let py = slf.py();
        recycled::show(slf);
        let handle = slf.as_super().get();
        if let Some(timer) = slf.get().timer.get(py).take() {
            let callback = handle
                .event_loop
                .get(py)
                .get()
                .engine(py)
                .cancel_timer(timer);
            drop(callback);
        }
        Handle::drop_call(slf.as_super());
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.given)
    }

    /// The deadline, on the loop's clock.
    fn when<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match &self.given {
            Some(given) => given.bind(py).clone(),
            None => PyFloat::new(py, self.when).into_any(),
        }
    }

    #[getter]
    fn _when<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.when(py)
    }

    /// Whether the loop holds the timer.
    #[getter]
    fn _scheduled(&self, py: Python<'_>) -> bool {
        self.timer.get(py).get().is_some()
    }

    #[getter]
    fn __class__(slf: &Bound<'_, Self>) -> PyResult<Py<PyType>> {
        Ok(imports::asyncio_timer_handle(slf.py())?.clone().unbind())
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        imports::asyncio_handle(slf.py())?.call_method1(intern!(slf.py(), "__repr__"), (slf,))
    }

    fn _repr_info<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let mut info: Vec<String> = imports::asyncio_handle(slf.py())?
            .call_method1(intern!(slf.py(), "_repr_info"), (slf,))?
            .extract()?;
        let position = if slf.as_super().get().cancelled.get(slf.py()).get() {
            2
        } else {
            1
        };
        info.insert(
            position.min(info.len()),
            format!("when={}", self_when(slf)?),
        );
        Ok(info.into_pyobject(slf.py())?.into_any())
    }

    fn __hash__(&self) -> PyResult<isize> {
        Python::attach(|py| self.when.into_pyobject(py)?.into_any().hash())
    }

    fn __richcmp__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
        op: pyo3::basic::CompareOp,
    ) -> PyResult<Py<PyAny>> {
        use pyo3::basic::CompareOp;
        let py = slf.py();
        let Ok(other) = other.cast::<TimerHandle>() else {
            return Ok(py.NotImplemented());
        };
        let (left, right) = (slf.get().when, other.get().when);
        let result = match op {
            CompareOp::Lt => left < right,
            CompareOp::Le => left < right || TimerHandle::equal(slf, other)?,
            CompareOp::Gt => left > right,
            CompareOp::Ge => left > right || TimerHandle::equal(slf, other)?,
            CompareOp::Eq => TimerHandle::equal(slf, other)?,
            CompareOp::Ne => !TimerHandle::equal(slf, other)?,
        };
        Ok(result.into_pyobject(py)?.to_owned().into_any().unbind())
    }
}

fn self_when(slf: &Bound<'_, TimerHandle>) -> PyResult<String> {
    Ok(slf.get().when(slf.py()).repr()?.to_string())
}
