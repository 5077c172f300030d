//! Engine state inside Python objects.
//!
//! # Facts
//!
//! The engine is single-threaded: `Rc`, `Cell`, `RefCell`. Python objects may be used and freed
//! on any thread, but only by the thread that is attached to the interpreter, and with the GIL
//! there is one such thread at a time.
//!
//! # What follows
//!
//! The GIL is the engine's lock. A value in [`OnGil`] can only be reached with a [`Python`] token,
//! so its uses on different threads never overlap and each happens after the last. The engine
//! lets go of the GIL in one place alone, the sleep of the reactor, where it holds no borrow (see
//! `Reactor::wait`); and Python code, which may hand the GIL to another thread, is only called
//! with no borrow held.
//!
//! # What it costs
//!
//! An interpreter without a GIL cannot use this module: it does not compile for one.

#[cfg(Py_GIL_DISABLED)]
compile_error!(
    "aioxide needs an interpreter with the GIL: the free-threaded build is not supported"
);

use pyo3::exceptions::PyImportError;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use pyo3::{Bound, Py, PyErr, PyResult, Python, ffi};

/// Refuses to be imported by another interpreter than the process's first one: what is imported from
/// Python is kept for all of them, and a loop of one would run on the objects of another.
pub fn check_interpreter(_py: Python<'_>) -> PyResult<()> {
    // SAFETY: the token proves that the thread is attached; both calls give the interpreter's state
    // and its number without changing anything.
    let number = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    if number == 0 {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "aioxide does not support subinterpreters: import it in the main interpreter",
    ))
}

/// Runs Python code from the drop of an object, which may come while an exception is on its way:
/// the exception is put aside meanwhile. Nothing is run when the interpreter has gone.
pub fn from_drop(call: impl FnOnce(Python<'_>)) {
    Python::try_attach(|py| {
        let on_its_way = PyErr::take(py);
        call(py);
        if let Some(error) = on_its_way {
            error.restore(py);
        }
    });
}

/// A number for this thread, which no other has as long as this one can run Python code. Never 0.
#[inline]
pub fn thread(_py: Python<'_>) -> usize {
    // SAFETY: the token proves that the thread is attached; the call gives the address of its state.
    unsafe { ffi::PyThreadState_Get() }.addr()
}

/// A reference to a Python object that is dropped with the GIL held.
///
/// A [`Py`] asks its thread when it is dropped whether it holds the GIL, and leaves the object to others if it
/// does not. Where that cannot be, as in what a Python object or the engine's queue holds, the question is most of
/// the price. This type stays on its thread, unless an [`OnGil`] moves it.
pub struct Own<T>(ManuallyDrop<Py<T>>, PhantomData<*mut ()>);

impl<T> Own<T> {
    #[inline]
    pub fn new(object: Bound<'_, T>) -> Own<T> {
        Own(ManuallyDrop::new(object.unbind()), PhantomData)
    }

    /// Another reference to the same object.
    #[inline]
    pub fn another(&self, py: Python<'_>) -> Own<T> {
        Own(ManuallyDrop::new(self.0.clone_ref(py)), PhantomData)
    }

    /// The same reference, which may go anywhere.
    #[inline]
    pub fn into_py(self) -> Py<T> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: it is taken once, since what it is taken from is not dropped.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T> Deref for Own<T> {
    type Target = Py<T>;

    #[inline]
    fn deref(&self) -> &Py<T> {
        &self.0
    }
}

impl<T> Drop for Own<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: it was made with the GIL held, and has not left its thread or is in an `OnGil`: the GIL is held.
        // The reference is ours, and given up here alone.
        unsafe { ffi::Py_DECREF(self.0.as_ptr()) }
    }
}

/// A value that only the thread that holds the GIL touches.
pub struct OnGil<T>(T);

// SAFETY: `get` needs a token, which proves that the thread holds the GIL, and gives a reference
// that does not outlive it. A drop happens in the deallocation of a Python object, which holds
// the GIL too. So no two threads touch the value at the same time, and the GIL's own lock orders
// their accesses.
unsafe impl<T> Send for OnGil<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for OnGil<T> {}

impl<T> OnGil<T> {
    pub const fn new(value: T) -> OnGil<T> {
        OnGil(value)
    }

    #[inline]
    pub fn get<'a>(&'a self, _py: Python<'a>) -> &'a T {
        &self.0
    }

    /// For the drop and the traversal of the object that holds it, which have no token.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.0
    }

    /// For a garbage collector's visit, which has no token but holds the GIL.
    pub fn visit(&self) -> &T {
        &self.0
    }
}
