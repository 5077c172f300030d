//! Running Python code in a `contextvars.Context`.

use pyo3::prelude::*;
use pyo3::{PyErr, ffi};

/// A copy of the current context.
pub fn copy_current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the call gives a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }
}

/// A new context, in which nothing is set.
pub fn empty(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: as above.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New()) }.map(Bound::unbind)
}

/// Runs `call` in `context`.
///
/// # Errors
/// `RuntimeError` when the context is entered already, as `Context.run` says; what `call` gives.
#[inline]
pub fn run<R>(
    py: Python<'_>,
    context: &Py<PyAny>,
    call: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    // SAFETY: the pointer is to a live object, and the call checks that it is a context.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } < 0 {
        return Err(PyErr::fetch(py));
    }
    let result = call();
    // SAFETY: as above. The exception that `call` raised is not set in the interpreter: it is in
    // `result`.
    if unsafe { ffi::PyContext_Exit(context.as_ptr()) } < 0 {
        return Err(PyErr::fetch(py));
    }
    result
}
