//! What is awaited ends, without an exception that is made for it.
//!
//! # Facts
//!
//! Since Python 3.12 the interpreter awaits what is no coroutine of its own by `tp_iternext`, as an iterator: it ends by
//! a `StopIteration` that has the result. An exception is made, raised, caught and freed for each `read()`,
//! each `drain()` and each operation on a socket that waits. The interpreter looks for its `value` and drops it.
//!
//! # The choice
//!
//! An end with `None` is an end without an exception, which the protocol of iterators allows. For the usual results
//! the exception is one that was raised before, if nobody has kept it and nothing but its value was ever
//! written into it.
//!
//! # What it costs
//!
//! The last result of at most [`KEPT`] bytes lives until the next. It rests on the fields of `StopIteration`, which are
//! part of the C API's headers.

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;

/// `am_await` and `tp_iter` of what is its own iterator.
pub unsafe extern "C" fn itself(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with the GIL held and a live object.
    unsafe { ffi::Py_INCREF(object) };
    object
}

/// What `tp_iternext` returns.
#[inline]
pub fn answer(py: Python<'_>, sent: PyResult<PySendResult<'_>>) -> *mut ffi::PyObject {
    match sent {
        Ok(PySendResult::Next(next)) => return next.into_ptr(),
        Ok(PySendResult::Return(result)) if result.is_none() => {}
        Ok(PySendResult::Return(result)) => {
            if let Some(result) = again::stop(result) {
                PyStopIteration::new_err((result.unbind(),)).restore(py);
            }
        }
        Err(error) => error.restore(py),
    }
    std::ptr::null_mut()
}

#[cfg(not(Py_3_12))]
mod again {
    use pyo3::prelude::*;

    /// These versions do not await in this way.
    pub fn stop(result: Bound<'_, PyAny>) -> Option<Bound<'_, PyAny>> {
        Some(result)
    }
}

#[cfg(Py_3_12)]
mod again {
    use std::cell::Cell;
    use std::ptr;

    use pyo3::exceptions::PyStopIteration;
    use pyo3::prelude::*;
    use pyo3::types::{PyBytes, PyInt, PyTuple};
    use pyo3::{PyTypeInfo, ffi};

    use crate::gil::OnGil;

    /// The largest result that an exception may keep alive, in bytes: what the ring of messages keeps as well.
    const KEPT: usize = 4096;

    /// An exception that was raised, if there is one.
    static SPARE: OnGil<Cell<Option<Py<PyAny>>>> = OnGil::new(Cell::new(None));

    /// Raises the exception with this result; gives it back if that is not done.
    #[inline]
    pub fn stop(result: Bound<'_, PyAny>) -> Option<Bound<'_, PyAny>> {
        let py = result.py();
        let usual = match result.cast_exact::<PyBytes>() {
            Ok(bytes) => bytes.as_bytes().len() <= KEPT,
            Err(_) => result.is_exact_instance_of::<PyInt>(),
        };
        if !usual {
            return Some(result);
        }
        let spare = SPARE.get(py);
        let exception = match spare.take() {
            Some(exception) if is_fresh(exception.bind(py)) => exception.into_bound(py),
            _ => match PyStopIteration::type_object(py).call0() {
                Ok(exception) => exception,
                Err(_) => return Some(result),
            },
        };
        let Ok(args) = PyTuple::new(py, [&result]) else {
            return Some(result);
        };
        // SAFETY: the object is a `StopIteration` that nobody else refers to. What was there is given up when what
        // takes its place is there. The interpreter is given a reference to the exception.
        unsafe {
            let fields = exception.as_ptr().cast::<ffi::PyStopIterationObject>();
            let before = (
                ptr::replace(&raw mut (*fields).args, args.into_ptr()),
                ptr::replace(&raw mut (*fields).value, result.into_ptr()),
            );
            ffi::Py_XDECREF(before.0);
            ffi::Py_XDECREF(before.1);
            ffi::PyErr_SetRaisedException(exception.clone().into_ptr());
        }
        spare.set(Some(exception.unbind()));
        None
    }

    /// Whether nobody else has an exception, and it has nothing but its value.
    fn is_fresh(exception: &Bound<'_, PyAny>) -> bool {
        let fields = exception.as_ptr().cast::<ffi::PyStopIterationObject>();
        // SAFETY: the object is a `StopIteration` itself, whose fields are read with the GIL held. The flag is a C
        // `char`.
        unsafe {
            ffi::Py_REFCNT(exception.as_ptr()) == 1
                && (*fields).dict.is_null()
                && (*fields).notes.is_null()
                && (*fields).traceback.is_null()
                && (*fields).context.is_null()
                && (*fields).cause.is_null()
                && (&raw const (*fields).suppress_context).cast::<u8>().read() == 0
        }
    }
}
