//! Compiled methods, as the own ones of a class in Python.
//!
//! # Facts
//!
//! Since Python 3.11 the interpreter calls a compiled method directly if the object is of the very
//! class that the method belongs to. The objects of transports are not: their classes are written in
//! Python, over the compiled ones (see `seed.rs`). Each `write()` would take 150 instructions more, some
//! 13 ns.
//!
//! # What was chosen
//!
//! Such a class is given descriptors of its own for the functions of the compiled classes below it.
//! `is_closing()`, which belongs to the base of all transports, becomes quicker than it was on compiled
//! classes alone. The loop's class, which stands over twenty others, has them too.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PySet, PyString, PyType};

/// Gives a class the methods of the compiled classes below it. A decorator.
#[pyfunction]
pub fn _own_methods<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    let object = class.py().get_type::<PyAny>();
    // As the interpreter looks a name up: the first class that has it.
    let found = PySet::empty(class.py())?;
    for below in class.mro().iter().filter(|below| !below.is(&object)) {
        for entry in below
            .getattr("__dict__")?
            .call_method0("items")?
            .try_iter()?
        {
            let (name, method): (Bound<'_, PyString>, Bound<'_, PyAny>) = entry?.extract()?;
            if found.contains(&name)? {
                continue;
            }
            found.add(&name)?;
            if let Some(own) = own_method(class, &method)? {
                class.setattr(name, own)?;
            }
        }
    }
    Ok(class.clone())
}

/// Whether two compiled methods are the same function, of whichever class each is.
pub fn are_same(left: &Bound<'_, PyAny>, right: &Bound<'_, PyAny>) -> bool {
    // SAFETY: what is of this type has the fields of a method's descriptor, which never change.
    let function = |method: &Bound<'_, PyAny>| unsafe {
        if ffi::Py_IS_TYPE(method.as_ptr(), &raw mut ffi::PyMethodDescr_Type) == 0 {
            return None;
        }
        Some((*method.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method)
    };
    function(left).is_some_and(|left| function(right) == Some(left))
}

/// A descriptor for `class` of the function that a compiled method of a class below it has; `None` if
/// `method` is none.
fn own_method<'py>(
    class: &Bound<'py, PyType>,
    method: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    // SAFETY: what is of this type has the fields of a method's descriptor. The definition in it lives
    // as long as the class that it is of. That class is below `class`, so it lives as long as `class`,
    // and its function takes the objects of `class`. The result is a new reference, or null with an
    // exception.
    unsafe {
        if ffi::Py_IS_TYPE(method.as_ptr(), &raw mut ffi::PyMethodDescr_Type) == 0 {
            return Ok(None);
        }
        let descriptor = method.as_ptr().cast::<ffi::PyMethodDescrObject>();
        let of = (*descriptor).d_common.d_type;
        if ffi::PyType_IsSubtype(class.as_type_ptr(), of) == 0 {
            return Ok(None);
        }
        let own = ffi::PyDescr_NewMethod(class.as_type_ptr(), (*descriptor).d_method);
        Bound::from_owned_ptr_or_err(class.py(), own).map(Some)
    }
}
