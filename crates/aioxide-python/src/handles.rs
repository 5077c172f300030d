//! `Handle` and `TimerHandle`.

use std::cell::{Cell, RefCell};

use aioxide::event_loop::timers::TimerId;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{Py, intern};

use crate::context;
use crate::errors::Exception;
use crate::event_loop::Loop;
use crate::gil::OnGil;
use crate::imports;

/// A callback that waits for its turn: shows itself as `asyncio.Handle`.
#[pyclass(frozen, subclass, weakref, module = "aioxide")]
pub struct Handle {
    event_loop: Py<Loop>,
    context: Py<PyAny>,
    /// `None` when the handle is cancelled.
    call: OnGil<RefCell<Option<Call>>>,
    cancelled: OnGil<Cell<bool>>,
    /// Where the handle was made, in debug mode.
    source_traceback: Option<Py<PyAny>>,
    /// What a handle that was cancelled in debug mode has shown itself as.
    repr: OnGil<RefCell<Option<String>>>,
    /// Held while the callback runs: a `threading.RLock`, for whoever cancels in another thread.
    lock: Option<Py<PyAny>>,
}

struct Call {
    callback: Py<PyAny>,
    args: Py<PyTuple>,
}

impl Handle {
    /// A handle for `callback(*args)`, in `context` or a copy of the current one.
    pub fn new(
        event_loop: &Bound<'_, Loop>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Handle> {
        let py = event_loop.py();
        let context = match context {
            Some(context) => context.unbind(),
            None => context::copy_current(py)?,
        };
        let source_traceback = if event_loop.get().engine(py).debug() {
            // The caller of the method that made this handle.
            let frame = imports::current_frame(py)?.call1((0,))?;
            Some(imports::extract_stack(py)?.call1((frame,))?.unbind())
        } else {
            None
        };
        let call = Call {
            callback: callback.unbind(),
            args: args.unbind(),
        };
        Ok(Handle {
            event_loop: event_loop.clone().unbind(),
            context,
            call: OnGil::new(RefCell::new(Some(call))),
            cancelled: OnGil::new(Cell::new(false)),
            source_traceback,
            repr: OnGil::new(RefCell::new(None)),
            lock: None,
        })
    }

    /// The handle of `call_soon_threadsafe`. Since Python 3.14, `cancel()` and `cancelled()` in
    /// another thread wait until a callback that runs has returned.
    pub fn threadsafe(
        event_loop: &Bound<'_, Loop>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Handle> {
        let mut handle = Handle::new(event_loop, callback, args, context)?;
        if cfg!(Py_3_14) {
            let lock = imports::reentrant_lock(event_loop.py())?.call0()?;
            handle.lock = Some(lock.unbind());
        }
        Ok(handle)
    }

    /// Calls `call` with the lock held, if there is one.
    fn locked<R>(&self, py: Python<'_>, call: impl FnOnce() -> R) -> PyResult<R> {
        let Some(lock) = &self.lock else {
            return Ok(call());
        };
        lock.call_method0(py, intern!(py, "acquire"))?;
        let result = call();
        lock.call_method0(py, intern!(py, "release"))?;
        Ok(result)
    }

    /// Calls the callback; what it raises goes to the exception handler.
    ///
    /// # Errors
    /// Only what must leave the loop.
    pub fn run(slf: &Bound<'_, Handle>) -> Result<(), Exception> {
        if slf.get().lock.is_none() {
            return Handle::run_now(slf);
        }
        slf.get()
            .locked(slf.py(), || Handle::run_now(slf))
            .map_err(Exception)?
    }

    fn run_now(slf: &Bound<'_, Handle>) -> Result<(), Exception> {
        let py = slf.py();
        let this = slf.get();
        let (callback, args) = match &*this.call.get(py).borrow() {
            Some(call) => (call.callback.clone_ref(py), call.args.clone_ref(py)),
            None => return Ok(()),
        };
        let called = {
            let _current = CurrentHandle::begin(slf);
            context::run(py, &this.context, || {
                callback.bind(py).call1(args.bind(py)).map(drop)
            })
        };
        match called.map_err(Exception) {
            Ok(()) => Ok(()),
            Err(error) if error.escapes(py) => Err(error),
            Err(error) => Handle::report(slf, &error).map_err(Exception),
        }
    }

    fn report(slf: &Bound<'_, Handle>, error: &Exception) -> PyResult<()> {
        slf.get().event_loop.bind(slf.py()).call_method1(
            intern!(slf.py(), "_callback_failed"),
            (slf, error.value(slf.py())),
        )?;
        Ok(())
    }

    /// Cancels: what the callback holds is dropped now.
    fn drop_call(slf: &Bound<'_, Handle>) {
        let py = slf.py();
        let this = slf.get();
        if this.cancelled.get(py).replace(true) {
            return;
        }
        if this.source_traceback.is_some()
            && let Ok(repr) = slf.repr()
        {
            this.repr.get(py).replace(Some(repr.to_string()));
        }
        let call = this.call.get(py).take();
        drop(call);
    }
}

/// Debug mode's note of which handle runs, for the messages of what fails meanwhile.
struct CurrentHandle<'a, 'py>(Option<&'a Bound<'py, Handle>>);

impl<'a, 'py> CurrentHandle<'a, 'py> {
    fn begin(handle: &'a Bound<'py, Handle>) -> Self {
        let traced = handle.get().source_traceback.is_some();
        let current = CurrentHandle(traced.then_some(handle));
        current.note(Some(handle));
        current
    }

    fn note(&self, current: Option<&Bound<'py, Handle>>) {
        let Some(handle) = self.0 else { return };
        let event_loop = handle.get().event_loop.bind(handle.py());
        // A loop that refuses attributes goes without the note.
        let _ = event_loop.setattr(intern!(handle.py(), "_current_handle"), current);
    }
}

impl Drop for CurrentHandle<'_, '_> {
    fn drop(&mut self) {
        self.note(None);
    }
}

#[pymethods]
impl Handle {
    /// Makes the loop pass the callback over.
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().locked(slf.py(), || Handle::drop_call(slf))
    }

    /// Whether it was cancelled.
    fn cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        self.locked(py, || self.cancelled.get(py).get())
    }

    /// The context that the callback runs in.
    fn get_context(&self, py: Python<'_>) -> Py<PyAny> {
        self.context.clone_ref(py)
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        Handle::run(slf).map_err(|error| error.0)
    }

    #[getter]
    fn _callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let call = self.call.get(py).borrow();
        call.as_ref().map(|call| call.callback.clone_ref(py))
    }

    #[getter]
    fn _args(&self, py: Python<'_>) -> Option<Py<PyTuple>> {
        let call = self.call.get(py).borrow();
        call.as_ref().map(|call| call.args.clone_ref(py))
    }

    #[getter]
    fn _context(&self, py: Python<'_>) -> Py<PyAny> {
        self.context.clone_ref(py)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<Loop> {
        self.event_loop.clone_ref(py)
    }

    #[getter]
    fn _cancelled(&self, py: Python<'_>) -> bool {
        self.cancelled.get(py).get()
    }

    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.source_traceback
            .as_ref()
            .map(|traceback| traceback.clone_ref(py))
    }

    #[getter]
    fn _repr(&self, py: Python<'_>) -> Option<String> {
        self.repr.get(py).borrow().clone()
    }

    #[getter]
    fn __class__(slf: &Bound<'_, Self>) -> PyResult<Py<PyType>> {
        let class = if slf.get().lock.is_some() {
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
        visit.call(&self.event_loop)?;
        visit.call(&self.context)?;
        if let Ok(call) = self.call.visit().try_borrow()
            && let Some(call) = &*call
        {
            visit.call(&call.callback)?;
            visit.call(&call.args)?;
        }
        visit.call(&self.lock)?;
        visit.call(&self.source_traceback)
    }

    fn __clear__(&self, py: Python<'_>) {
        let call = self.call.get(py).take();
        drop(call);
    }
}

/// A callback that waits for its deadline: shows itself as `asyncio.TimerHandle`.
#[pyclass(frozen, extends = Handle, weakref, module = "aioxide")]
pub struct TimerHandle {
    /// The deadline in seconds, as the program gave it.
    given: Py<PyAny>,
    /// The same, for comparing.
    when: f64,
    /// Set as long as the loop holds the timer.
    timer: OnGil<Cell<Option<TimerId>>>,
}

impl TimerHandle {
    pub fn new(given: Py<PyAny>, when: f64) -> TimerHandle {
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
                ._args(py)
                .into_pyobject(py)?
                .eq(right_base._args(py))?)
    }

    pub fn set_timer(&self, py: Python<'_>, timer: TimerId) {
        self.timer.get(py).set(Some(timer));
    }
}

#[pymethods]
impl TimerHandle {
    /// Takes the timer back.
    fn cancel(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let handle = slf.as_super().get();
        if let Some(timer) = slf.get().timer.get(py).take() {
            let callback = handle.event_loop.get().engine(py).cancel_timer(timer);
            drop(callback);
        }
        Handle::drop_call(slf.as_super());
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.given)
    }

    /// The deadline, on the loop's clock.
    fn when(&self, py: Python<'_>) -> Py<PyAny> {
        self.given.clone_ref(py)
    }

    #[getter]
    fn _when(&self, py: Python<'_>) -> Py<PyAny> {
        self.given.clone_ref(py)
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
    Ok(slf.get().given.bind(slf.py()).repr()?.to_string())
}
