//! What a program sets on a transport is noted.
//!
//! # Facts
//!
//! Programs may put a function of their own in the place of a transport's method. To call a method so that this
//! is seen takes some 400 instructions above what the method does: it is looked up on the class and on the object, and its
//! arguments go through PyO3. A stream's writer calls two for each reply, and nearly nobody replaces them.
//!
//! # The choice
//!
//! The classes of transports note on an object that an attribute was set on it, or that its `__dict__` was asked for
//! ([`watch`]). Whether a class has its compiled methods is what its version number tells. Where neither is unusual, what
//! is compiled calls the compiled function.
//!
//! # What it costs
//!
//! A function that is put there by `object.__setattr__`, or by the C API's functions for the dictionary, is not seen by a
//! stream's writer.

use std::cell::Cell;
use std::ffi::c_int;
use std::ptr;

use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTypeInfo, ffi};

use crate::gil::OnGil;
use crate::imports;
use crate::streams::version;
use crate::transport::PyTransport;

/// Makes a class of transports note what is set on its objects. A decorator.
#[pyfunction]
pub fn _watch_attributes<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    // SAFETY: the class is a heap type of the package's that nobody else uses yet, and the function has the signature of
    // the slot.
    unsafe {
        (*class.as_type_ptr()).tp_setattro = Some(set_attribute);
        ffi::PyType_Modified(class.as_type_ptr());
    }
    Ok(class.clone())
}

/// The `__dict__` of a transport.
#[pyfunction]
pub fn _attributes<'py>(transport: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    note(transport);
    // SAFETY: the object is live; the result is a new reference, or null with an exception.
    unsafe {
        let found = ffi::PyObject_GenericGetDict(transport.as_ptr(), ptr::null_mut());
        Bound::from_owned_ptr_or_err(transport.py(), found)
    }
}

fn note(object: &Bound<'_, PyAny>) {
    if let Ok(transport) = object.cast::<PyTransport>() {
        transport.get().protocol(object.py()).note_attributes();
    }
}

/// `tp_setattro`.
unsafe extern "C" fn set_attribute(
    object: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: the interpreter calls this with the GIL held and live objects; no value is a deletion.
    unsafe {
        note(&Bound::from_borrowed_ptr(Python::assume_attached(), object));
        ffi::PyObject_GenericSetAttr(object, name, value)
    }
}

/// A transport of this package's own classes, if calling its compiled `write` and `is_closing` is calling what the
/// program sees under these names.
#[inline]
pub fn usual<'a, 'py>(transport: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, PyTransport>> {
    static SEEN: [OnGil<Cell<u32>>; 2] = [const { OnGil::new(Cell::new(0)) }; 2];
    let py = transport.py();
    let classes = [imports::socket_transport, imports::tls_transport];
    let known = classes.iter().zip(&SEEN).find_map(|(class, seen)| {
        let class = class(py).ok()?;
        (class.as_type_ptr() == transport.get_type_ptr()).then_some((class, seen.get(py)))
    });
    let (class, seen) = known?;
    let number = version(class);
    if (number == 0 || number != seen.get()) && !compare(class, seen) {
        return None;
    }
    // SAFETY: the class is over the compiled one.
    let transport = unsafe { transport.cast_unchecked::<PyTransport>() };
    let noted = transport.get().protocol(py).may_have_attributes();
    (!noted).then_some(transport)
}

#[cold]
fn compare(class: &Bound<'_, PyType>, seen: &Cell<u32>) -> bool {
    let compiled = ["write", "is_closing"].iter().all(|name| {
        // SAFETY: both objects are live; the type is a static one of the interpreter's.
        class.getattr(*name).is_ok_and(|found| unsafe {
            ffi::Py_IS_TYPE(found.as_ptr(), &raw mut ffi::PyMethodDescr_Type) != 0
        })
    });
    // SAFETY: the class is live, and its fields are read with the GIL held.
    let sets = unsafe { (*class.as_type_ptr()).tp_setattro };
    let watched =
        sets.is_some_and(|sets| ptr::fn_addr_eq(sets, set_attribute as ffi::setattrofunc));
    let unchanged = compiled
        && watched
        && class
            .is_subclass(&PyTransport::type_object(class.py()))
            .is_ok_and(|is| is);
    // The lookups above have given the class its number.
    seen.set(if unchanged { version(class) } else { 0 });
    unchanged
}
