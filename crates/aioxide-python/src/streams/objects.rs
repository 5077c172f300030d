//! What objects written in Python are made of: their attributes, their buffers, and the numbers of their
//! classes.

use std::slice;

use aioxide::sys::buffer::Buffer;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyString, PyType};

/// The attributes of an object of one of asyncio's classes: its `__dict__`.
#[inline]
pub fn attributes<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyDict>> {
    // SAFETY: the object is live. The call gives a new reference to its dictionary, which it makes if there
    // is none yet, or null with an exception.
    let found = unsafe {
        let found = ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(object.py(), found)
    };
    found.ok()?.cast_into().ok()
}

/// What an object has under a name.
#[inline]
pub fn field<'py>(
    attributes: &Bound<'py, PyDict>,
    name: &Bound<'py, PyString>,
) -> Option<Bound<'py, PyAny>> {
    attributes.get_item(name).ok()?
}

/// Whether what an object has under a name is `False`.
#[inline]
pub fn is_false(attributes: &Bound<'_, PyDict>, name: &Bound<'_, PyString>) -> bool {
    // SAFETY: the object is a static one of the interpreter's, and only compared.
    let no = unsafe { ffi::Py_False() };
    field(attributes, name).is_some_and(|found| found.as_ptr() == no)
}

/// Whether what an object has under a name is `None`.
#[inline]
pub fn is_none(attributes: &Bound<'_, PyDict>, name: &Bound<'_, PyString>) -> bool {
    field(attributes, name).is_some_and(|found| found.is_none())
}

/// The number of what a class looks like now; 0 is none.
#[inline]
pub fn version(class: &Bound<'_, PyType>) -> u32 {
    // SAFETY: the class is live, and its fields are read with the GIL held.
    unsafe {
        let class = class.as_type_ptr();
        if cfg!(not(Py_3_12)) && (*class).tp_flags & ffi::Py_TPFLAGS_VALID_VERSION_TAG == 0 {
            return 0;
        }
        (*class).tp_version_tag
    }
}

/// Appends bytes.
///
/// # Errors
/// `BufferError` when somebody has a view of the buffer, `MemoryError`.
#[inline]
pub fn append(buffer: &Bound<'_, PyByteArray>, bytes: &[u8]) -> PyResult<()> {
    let before = buffer.len();
    buffer.resize(before + bytes.len())?;
    // SAFETY: nobody else refers to the memory: the buffer could be resized, so there is no view of it, and
    // no Python code runs meanwhile.
    let memory = unsafe { buffer.as_bytes_mut() };
    memory[before..].copy_from_slice(bytes);
    Ok(())
}

/// Appends what `receive` gives, at most `room` bytes. `receive` must not run Python code.
///
/// # Errors
/// As [`append`].
pub fn append_received<R>(
    buffer: &Bound<'_, PyByteArray>,
    room: usize,
    receive: impl FnOnce(&mut Buffer<'_>) -> R,
) -> PyResult<(R, usize)> {
    let before = buffer.len();
    buffer.resize(before + room)?;
    // SAFETY: as in `append`; the memory is uninitialised where it is new, and `MaybeUninit` is what a
    // `Buffer` is made of.
    let memory = unsafe { slice::from_raw_parts_mut(buffer.data().add(before).cast(), room) };
    let mut memory = Buffer::new(memory);
    let result = receive(&mut memory);
    let count = memory.filled();
    // Nobody has gained a view meanwhile, and becoming shorter needs no memory.
    buffer.resize(before + count)?;
    Ok((result, count))
}

/// Takes the first `count` bytes, or fewer if there are no more.
///
/// # Errors
/// As [`append`].
#[inline]
pub fn take<'py>(buffer: &Bound<'py, PyByteArray>, count: usize) -> PyResult<Bound<'py, PyBytes>> {
    let count = count.min(buffer.len());
    // SAFETY: the bytes are copied, and meanwhile no Python code runs.
    let taken = PyBytes::new(buffer.py(), unsafe { &buffer.as_bytes()[..count] });
    if count == buffer.len() {
        buffer.resize(0)?;
    } else {
        // SAFETY: the object is live; the call gives -1 with an exception, or 0.
        let done =
            unsafe { ffi::PySequence_DelSlice(buffer.as_ptr(), 0, count as ffi::Py_ssize_t) };
        if done < 0 {
            return Err(PyErr::fetch(buffer.py()));
        }
    }
    Ok(taken)
}
