//! The memory of handles, used again and again.
//!
//! # Facts
//!
//! A handle lives for one iteration. To take its memory from the interpreter, to show it to the garbage
//! collector and to give it back takes as long as a small callback. Each object that is taken there counts
//! towards the next run of the collector, which goes through all handles that wait, and finds nothing: they
//! are freed at once when they have run.
//!
//! What a running loop refers to is reachable: nothing of it can be garbage. What the collector does not see
//! has, for the collector, somebody outside who refers to what it refers to.
//!
//! # What was chosen
//!
//! The memory of handles that have been freed is kept, and the next ones are made in it. PyO3 can do that
//! (`freelist`), with a lock that the GIL makes unnecessary. Here the two functions of a class that
//! take memory and give it back are ours, and what they take is not counted.
//!
//! A handle that waits in a running loop is not shown to the collector ([`unseen`]). It is
//! ([`show`]) as soon as the loop's queue is not what keeps it alive: when it has run, or was cancelled, and
//! somebody else still has it; and when the loop stops while it waits. So a handle that is part of
//! a circle is seen by the time that the circle can be garbage.
//!
//! # What it costs
//!
//! At most [`KEPT`] objects of each class, for the whole process. `gc.get_objects()` does not give
//! handles that wait. When a loop stops it goes through what waits in it.

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

/// What stands before an object that the garbage collector may be shown: its links, zero while it is not.
/// The same since Python 3.7, for classes whose attributes do not stand there too.
type Links = [usize; 2];

/// `tp_alloc`. The object is not shown to the garbage collector.
unsafe extern "C" fn allocate<T: Recycle>(
    class: *mut ffi::PyTypeObject,
    items: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with the GIL held, and with a class that has this slot. Memory that
    // is used again is that of an object of the same class, `class` itself, and new memory has its size and
    // room for the links before it; PyO3 writes all of the object behind its head. What inherits
    // the slot is made as it would be without it.
    unsafe {
        let py = Python::assume_attached();
        if items != 0 || class != T::type_object_raw(py) {
            return ffi::PyType_GenericAlloc(class, items);
        }
        if let Some(object) = T::recycled().take(py) {
            return ffi::PyObject_Init(object, class);
        }
        let size = usize::try_from((*class).tp_basicsize).unwrap_or_default();
        let links = ffi::PyObject_Malloc(size_of::<Links>() + size).cast::<Links>();
        if links.is_null() {
            return ffi::PyErr_NoMemory();
        }
        links.write([0, 0]);
        ffi::PyObject_Init(links.add(1).cast(), class)
    }
}

/// `tp_free`, of an object whose value is gone and which the garbage collector does not see any more.
unsafe extern "C" fn free<T: Recycle>(object: *mut c_void) {
    // SAFETY: the interpreter calls this with the GIL held, and with an object that `allocate` has given; the
    // type's reference is its caller's.
    unsafe {
        let py = Python::assume_attached();
        if ffi::Py_TYPE(object.cast()) != T::type_object_raw(py) {
            ffi::PyObject_GC_Del(object);
        } else if !T::recycled().keep(py, object.cast()) {
            ffi::PyObject_Free(object.cast::<Links>().sub(1).cast());
        }
    }
}

/// Makes an object of a class that [recycles](Recycle), which the garbage collector does not see.
#[inline]
pub fn unseen<'py, T: Recycle>(
    py: Python<'py>,
    value: impl Into<PyClassInitializer<T>>,
) -> PyResult<Bound<'py, T>> {
    Bound::new(py, value)
}

/// Makes one, and shows it to the garbage collector.
pub fn new<'py, T: Recycle>(
    py: Python<'py>,
    value: impl Into<PyClassInitializer<T>>,
) -> PyResult<Bound<'py, T>> {
    let object = unseen(py, value)?;
    show(&object);
    Ok(object)
}

/// Shows an object to the garbage collector, unless it is seen already.
#[inline]
pub fn show<T>(object: &Bound<'_, T>) {
    // SAFETY: the object is live, whole, and of a type that the collector knows.
    unsafe {
        if ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(object.as_ptr().cast());
        }
    }
}

/// The same, if there is another reference than the caller's, who is about to give that up.
#[inline]
pub fn show_if_shared<T>(object: &Bound<'_, T>) {
    // SAFETY: the object is live.
    if unsafe { ffi::Py_REFCNT(object.as_ptr()) } > 1 {
        show(object);
    }
}
