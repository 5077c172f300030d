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
//! take memory and give it back are ours, and what they take is not counted. So is the one that ends an object,
//! and the usual handle is written into its memory ([`quick`]): PyO3's ways, which are for every class, take longer
//! than the rest together. Where the value stands in an object is measured on the first one, which PyO3 makes, and
//! if that is not as thought all are made and ended by PyO3.
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

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr;

use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::{PyClass, PyClassInitializer, ffi};

use crate::gil::{OnGil, Own};

/// Freed objects of a class that are kept: more than a busy loop has at a time, and little memory.
const KEPT: usize = 512;

/// The freed objects of one class, and what is known of it.
pub struct Recycled {
    freed: OnGil<RefCell<Vec<*mut ffi::PyObject>>>,
    /// The class; null before [`Recycle::recycle`].
    class: OnGil<Cell<*mut ffi::PyTypeObject>>,
    /// PyO3's `tp_dealloc`.
    general: OnGil<Cell<Option<ffi::destructor>>>,
    /// Where an object has its value; 0 as long as that is not known, or not to be relied on.
    value_at: OnGil<Cell<usize>>,
}

impl Recycled {
    pub const fn new() -> Recycled {
        Recycled {
            freed: OnGil::new(RefCell::new(Vec::new())),
            class: OnGil::new(Cell::new(ptr::null_mut())),
            general: OnGil::new(Cell::new(None)),
            value_at: OnGil::new(Cell::new(0)),
        }
    }

    fn take(&self, py: Python<'_>) -> Option<*mut ffi::PyObject> {
        self.freed.get(py).borrow_mut().pop()
    }

    /// False if it is not kept.
    fn keep(&self, py: Python<'_>, object: *mut ffi::PyObject) -> bool {
        let mut objects = self.freed.get(py).borrow_mut();
        let keeps = objects.len() < KEPT;
        if keeps {
            objects.push(object);
        }
        keeps
    }
}

/// Objects that are ended inside of each other's end, of all classes.
///
/// A handle may have another one as its argument, and that one another: a program that keeps the last of a chain
/// keeps them all, and gives all of them up at once. The interpreter's own containers put the end of what is nested
/// deeply off until the stack is short again, and so is it done here (CPython 3.14 does it for every object).
struct Nesting {
    depth: Cell<u32>,
    /// Those that have to be ended yet. Nobody refers to them, and the garbage collector does not see them.
    waiting: RefCell<Vec<*mut ffi::PyObject>>,
}

static NESTING: OnGil<Nesting> = OnGil::new(Nesting {
    depth: Cell::new(0),
    waiting: RefCell::new(Vec::new()),
});

/// How deep the ends of objects may be nested.
const DEEPEST: u32 = 100;

impl Nesting {
    /// Runs `end`.
    #[inline]
    fn nested(&self, end: impl FnOnce()) {
        self.depth.set(self.depth.get() + 1);
        end();
        let depth = self.depth.get() - 1;
        self.depth.set(depth);
        if depth == 0 && !self.waiting.borrow().is_empty() {
            self.end_waiting();
        }
    }

    #[cold]
    fn end_waiting(&self) {
        // What is ended here leaves the others to this.
        self.depth.set(self.depth.get() + 1);
        loop {
            let next = self.waiting.borrow_mut().pop();
            let Some(object) = next else { break };
            // SAFETY: `deallocate` was called with the object, and has put it off; it is called again, as the
            // interpreter does it.
            unsafe {
                if let Some(deallocate) = (*ffi::Py_TYPE(object)).tp_dealloc {
                    deallocate(object);
                }
            }
        }
        self.depth.set(self.depth.get() - 1);
    }
}

/// A class whose objects are made in the memory of freed ones.
pub trait Recycle: PyClass<Frozen = True> + Sync {
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
            if let Some(general) = (*class).tp_dealloc {
                Self::recycled().general.get(py).set(Some(general));
                (*class).tp_dealloc = Some(deallocate::<Self>);
            }
        }
        Self::recycled().class.get(py).set(class);
    }

    /// Where the value is in an object that PyO3 has made, if there is nothing but a head before it and
    /// the list of weak references behind it.
    #[cold]
    fn learn(object: &Bound<'_, Self>) {
        let recycled = Self::recycled();
        let class = recycled.class.get(object.py()).get();
        let value = ptr::from_ref(object.get()).addr();
        let at = value - object.as_ptr().addr();
        let end = at + size_of::<Self>();
        let size = end + size_of::<*mut ffi::PyObject>();
        let is = |field: ffi::Py_ssize_t, value: usize| usize::try_from(field) == Ok(value);
        // SAFETY: the class is live as long as the module.
        let as_thought = unsafe {
            at == size_of::<ffi::PyObject>()
                && is((*class).tp_weaklistoffset, end)
                && is((*class).tp_basicsize, size)
        };
        if as_thought {
            recycled.value_at.get(object.py()).set(at);
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
        let object = memory::<T>(py, class);
        if object.is_null() {
            return ffi::PyErr_NoMemory();
        }
        ffi::PyObject_Init(object, class)
    }
}

/// Memory for an object of the class `T` itself, used again or new; null if there is none.
///
/// # Safety
/// `class` is that of `T`.
#[inline]
unsafe fn memory<T: Recycle>(py: Python<'_>, class: *mut ffi::PyTypeObject) -> *mut ffi::PyObject {
    if let Some(object) = T::recycled().take(py) {
        return object;
    }
    // SAFETY: the memory is as large as is asked for: links, and an object of the class behind them.
    unsafe {
        let size = usize::try_from((*class).tp_basicsize).unwrap_or_default();
        let links = ffi::PyObject_Malloc(size_of::<Links>() + size).cast::<Links>();
        if links.is_null() {
            return ptr::null_mut();
        }
        links.write([0, 0]);
        links.add(1).cast()
    }
}

/// `tp_dealloc`: what PyO3's does, without its preparations for a value that may be anything. The value's own
/// drop must not panic, nor need what PyO3 counts.
unsafe extern "C" fn deallocate<T: Recycle>(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls this with the GIL held, once, when nobody refers to the object any more. Where
    // it has its value and its list of weak references has been compared with an object that PyO3 has made.
    unsafe {
        let py = Python::assume_attached();
        let class = ffi::Py_TYPE(object);
        let own = class == T::recycled().class.get(py).get();
        let nesting = NESTING.get(py);
        if own && nesting.depth.get() >= DEEPEST {
            ffi::PyObject_GC_UnTrack(object.cast());
            nesting.waiting.borrow_mut().push(object);
            return;
        }
        let at = T::recycled().value_at.get(py).get();
        if at == 0 || !own {
            if let Some(general) = T::recycled().general.get(py).get() {
                nesting.nested(|| general(object));
            }
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        let value = object.byte_add(at).cast::<T>();
        if !value.add(1).cast::<*mut ffi::PyObject>().read().is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        nesting.nested(|| {
            value.drop_in_place();
            free::<T>(object.cast());
            ffi::Py_DECREF(class.cast());
        });
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

/// The same, from the value alone and without PyO3's way to an object, as soon as that way has been taken
/// once and the object was as thought. The value is made in its place, if it can be: to write it there word by word is
/// quicker than to copy what was just written elsewhere.
#[inline(always)]
pub fn quick<T: Recycle + Into<PyClassInitializer<T>>>(
    py: Python<'_>,
    make: impl FnOnce() -> T,
) -> PyResult<Bound<'_, T>> {
    let recycled = T::recycled();
    let at = recycled.value_at.get(py).get();
    if at == 0 {
        let object = unseen(py, make())?;
        T::learn(&object);
        return Ok(object);
    }
    let class = recycled.class.get(py).get();
    // SAFETY: the memory is that of an object of the class, in which there is nothing but the head, the value and
    // the list of weak references, and all three are written here.
    unsafe {
        let object = memory::<T>(py, class);
        if object.is_null() {
            ffi::PyErr_NoMemory();
            return Err(PyErr::fetch(py));
        }
        let slot = object.byte_add(at).cast::<T>();
        slot.write(make());
        slot.add(1)
            .cast::<*mut ffi::PyObject>()
            .write(ptr::null_mut());
        let object = ffi::PyObject_Init(object, class);
        Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked())
    }
}

/// The last reference to an object, which nobody else can get hold of: neither through the garbage collector nor through
/// a weak reference. It is ended when this is dropped, without the interpreter's way to that.
pub struct Alone<T: Recycle>(ManuallyDrop<Own<T>>);

impl<T: Recycle> Alone<T> {
    /// Gives the object back if it is not known that nobody else has it, or if PyO3 or the interpreter has to end it.
    #[inline]
    pub fn new(py: Python<'_>, object: Own<T>) -> Result<Alone<T>, Own<T>> {
        let recycled = T::recycled();
        let at = recycled.value_at.get(py).get();
        let class = recycled.class.get(py).get();
        let this = object.as_ptr();
        // SAFETY: the object is live. If it is of this very class, its links stand before it, and where it has its
        // value and behind that the list of weak references has been compared with an object that PyO3 has made.
        let alone = unsafe {
            at != 0
                && ffi::Py_REFCNT(this) == 1
                && ffi::Py_TYPE(this) == class
                && this.cast::<Links>().sub(1).read() == [0, 0]
                && this
                    .byte_add(at + size_of::<T>())
                    .cast::<*mut ffi::PyObject>()
                    .read()
                    .is_null()
        };
        if alone && !ends_are_traced(py) {
            Ok(Alone(ManuallyDrop::new(object)))
        } else {
            Err(object)
        }
    }

    /// The reference, to be given to others.
    pub fn share(self) -> Own<T> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: it is taken once, since what it is taken from is not dropped.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T: Recycle> Deref for Alone<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.get()
    }
}

impl<T: Recycle> Drop for Alone<T> {
    #[inline]
    fn drop(&mut self) {
        let object = self.0.as_ptr();
        // SAFETY: it stays on its thread, as the reference in it, which was made with the GIL held. What `new` has
        // found still holds, since nobody can have got hold of the object: it would be ended by `deallocate` now,
        // which does this.
        unsafe {
            let py = Python::assume_attached();
            let recycled = T::recycled();
            let at = recycled.value_at.get(py).get();
            object.byte_add(at).cast::<T>().drop_in_place();
            if !recycled.keep(py, object) {
                ffi::PyObject_Free(object.cast::<Links>().sub(1).cast());
            }
            ffi::Py_DECREF(recycled.class.get(py).get().cast());
        }
    }
}

/// Whether somebody has asked the interpreter to tell of each object that ends.
#[cfg(all(Py_3_13, not(py_sys_config = "Py_REF_DEBUG")))]
#[inline]
fn ends_are_traced(_py: Python<'_>) -> bool {
    unsafe extern "C" {
        fn PyRefTracer_GetTracer(data: *mut *mut c_void) -> Option<unsafe extern "C" fn()>;
    }
    // SAFETY: the token proves that the thread is attached, as the call demands; it may be given nothing for the data.
    unsafe { PyRefTracer_GetTracer(ptr::null_mut()) }.is_some()
}

/// Whether the interpreter counts all references, or it cannot be asked to tell of the end of objects.
#[cfg(not(all(Py_3_13, not(py_sys_config = "Py_REF_DEBUG"))))]
#[inline]
fn ends_are_traced(_py: Python<'_>) -> bool {
    cfg!(py_sys_config = "Py_REF_DEBUG")
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
