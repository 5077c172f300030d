//! The memory of handles, used again and again.
//!
//! # Facts
//!
//! A handle lives for one iteration. To take its memory from the interpreter, to show it to the garbage
//! collector and to give it back takes as long as a small callback. Each object that is taken there counts
//! towards the next run of the collector, which finds nothing among handles that are freed at once.
//!
//! # What was chosen
//!
//! The memory of handles that have been freed is kept, and the next ones are made in it. PyO3 can do that
//! (`freelist`), with a lock that the GIL makes unnecessary. Here the two functions of a class that
//! take memory and give it back are ours.
//!
//! # What it costs
//!
//! At most [`KEPT`] objects of each class, for the whole process.

use std::cell::RefCell;
use std::ffi::c_void;

use pyo3::prelude::*;
use pyo3::{PyClass, PyClassInitializer, ffi};

use crate::gil::OnGil;

/// Freed objects of a class that are kept: more than a busy loop has at a time, and little memory.
const KEPT: usize = 512;

/// The freed objects of one class.
pub struct Recycled(OnGil<RefCell<Vec<*mut ffi::PyObject>>>);

impl Recycled {
    pub const fn new() -> Recycled {
        Recycled(OnGil::new(RefCell::new(Vec::new())))
    }

    fn take(&self, py: Python<'_>) -> Option<*mut ffi::PyObject> {
        self.0.get(py).borrow_mut().pop()
    }

    /// False if it is not kept.
    fn keep(&self, py: Python<'_>, object: *mut ffi::PyObject) -> bool {
        let mut objects = self.0.get(py).borrow_mut();
        let keeps = objects.len() < KEPT;
        if keeps {
            objects.push(object);
        }
        keeps
    }
}

/// A class whose objects are made in the memory of freed ones.
pub trait Recycle: PyClass {
    /// Those of this class alone.
    fn recycled() -> &'static Recycled;

    /// From now on. Called once, before there is an object.
    fn recycle(py: Python<'_>) {
        let class = py.get_type::<Self>().as_type_ptr();
        // SAFETY: the class is a heap type of our own, which nobody else uses yet, and the functions have the
        // signatures of their slots.
        unsafe {
            (*class).tp_alloc = Some(allocate::<Self>);
            (*class).tp_free = Some(free::<Self>);
        }
    }
}

/// `tp_alloc`. The object is not shown to the garbage collector: [`track`] does that when it has its value.
unsafe extern "C" fn allocate<T: Recycle>(
    class: *mut ffi::PyTypeObject,
    items: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with the GIL held, and with a class that has this slot. Memory that
    // is used again is that of an object of the same class, `class` itself, and PyO3 writes all of it
    // behind the object's head. `PyObject_GC_New` gives an object without a value, or null with an exception;
    // what inherits the slot has fields that nobody writes, and gets zeroed memory.
    unsafe {
        let py = Python::assume_attached();
        if items != 0 || class != T::type_object_raw(py) {
            return ffi::PyType_GenericAlloc(class, items);
        }
        match T::recycled().take(py) {
            Some(object) => ffi::PyObject_Init(object, class),
            None => ffi::PyObject_GC_New(class),
        }
    }
}

/// `tp_free`, of an object whose value is gone and which the garbage collector does not see any more.
unsafe extern "C" fn free<T: Recycle>(object: *mut c_void) {
    // SAFETY: the interpreter calls this with the GIL held, and with an object that `allocate` has given; the
    // type's reference is its caller's.
    unsafe {
        let py = Python::assume_attached();
        let of = ffi::Py_TYPE(object.cast());
        if of != T::type_object_raw(py) || !T::recycled().keep(py, object.cast()) {
            ffi::PyObject_GC_Del(object);
        }
    }
}

/// Makes an object of a class that [recycles](Recycle), and shows it to the garbage collector.
#[inline]
pub fn new<'py, T: Recycle>(
    py: Python<'py>,
    value: impl Into<PyClassInitializer<T>>,
) -> PyResult<Bound<'py, T>> {
    let object = Bound::new(py, value)?;
    track(&object);
    Ok(object)
}

/// Shows an object to the garbage collector, unless it is seen already.
#[inline]
pub fn track<T>(object: &Bound<'_, T>) {
    // SAFETY: the object is live, whole, and of a type that the collector knows.
    unsafe {
        if ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(object.as_ptr().cast());
        }
    }
}
