//! What a handle calls: a callback and its arguments.
//!
//! Nearly every callback of asyncio's and of programs has at most two arguments. They stand in the handle
//! itself and are handed over as they stand: a tuple is made when somebody asks for one.

use std::ptr;

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::errors::Raised;
use crate::gil::Own;

/// A callback and what it is called with.
pub struct Call {
    callback: Own<PyAny>,
    args: Args,
}

/// The arguments of a callback.
pub enum Args {
    None,
    One(Own<PyAny>),
    Two(Own<PyAny>, Own<PyAny>),
    Many(Own<PyTuple>),
}

impl Args {
    /// The arguments that a method was called with.
    #[inline(always)]
    pub fn new<'py>(py: Python<'py>, given: &[Bound<'py, PyAny>]) -> PyResult<Args> {
        let own = |given: &Bound<'py, PyAny>| Own::new(given.clone());
        Ok(match given {
            [] => Args::None,
            [one] => Args::One(own(one)),
            [one, two] => Args::Two(own(one), own(two)),
            many => Args::Many(Own::new(PyTuple::new(py, many)?)),
        })
    }

    fn clone_ref(&self, py: Python<'_>) -> Args {
        match self {
            Args::None => Args::None,
            Args::One(one) => Args::One(one.another(py)),
            Args::Two(one, two) => Args::Two(one.another(py), two.another(py)),
            Args::Many(many) => Args::Many(many.another(py)),
        }
    }
}

/// # Safety
/// As for the interpreter's function; a word before `args` may be written to.
#[inline]
unsafe fn vectorcall(
    callback: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    count: usize,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's word.
    unsafe {
        let count = count | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        ffi::PyObject_Vectorcall(callback, args, count, ptr::null_mut())
    }
}

/// The result of a call of the interpreter's.
///
/// # Safety
/// It is a new reference, or null with an exception set.
#[inline]
unsafe fn result<'py>(
    py: Python<'py>,
    given: *mut ffi::PyObject,
) -> Result<Bound<'py, PyAny>, Raised> {
    // SAFETY: the caller's word.
    unsafe { Bound::from_owned_ptr_or_opt(py, given) }.ok_or_else(|| Raised::is_set(py))
}

/// Calls a method with so many arguments, [`MOST_ARGUMENTS`] at most.
///
/// # Errors
/// What it has raised.
#[inline]
pub fn method<'py, const N: usize>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    args: [&Bound<'py, PyAny>; N],
) -> Result<Bound<'py, PyAny>, Raised> {
    // A word before the object, which the interpreter may write to, and one for each argument.
    let mut given = [ptr::null_mut(); MOST_ARGUMENTS + 2];
    given[1] = object.as_ptr();
    for (place, arg) in given[2..].iter_mut().zip(args) {
        *place = arg.as_ptr();
    }
    const { assert!(N <= MOST_ARGUMENTS) };
    let count = (N + 1) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
    // SAFETY: the objects live until the call returns, and there are as many as it is told.
    unsafe {
        let args = given.as_mut_ptr().add(1);
        let given = ffi::PyObject_VectorcallMethod(name.as_ptr(), args, count, ptr::null_mut());
        result(object.py(), given)
    }
}

/// The most arguments of [`method`].
const MOST_ARGUMENTS: usize = 2;

impl From<Bound<'_, PyTuple>> for Args {
    fn from(given: Bound<'_, PyTuple>) -> Args {
        if given.is_empty() {
            Args::None
        } else {
            Args::Many(Own::new(given))
        }
    }
}

impl Call {
    pub fn new(callback: Bound<'_, PyAny>, args: impl Into<Args>) -> Call {
        Call {
            callback: Own::new(callback),
            args: args.into(),
        }
    }

    /// The same call again: whoever makes it keeps it alive meanwhile.
    #[inline]
    pub fn clone_ref(&self, py: Python<'_>) -> Call {
        Call {
            callback: self.callback.another(py),
            args: self.args.clone_ref(py),
        }
    }

    /// Makes it.
    ///
    /// # Errors
    /// What it has raised.
    #[inline]
    pub fn call(&self, py: Python<'_>) -> Result<(), Raised> {
        let callback = self.callback.as_ptr();
        // SAFETY: a call is made and dropped with the GIL held, and so it is here. What stands before the arguments
        // may be written to by whoever is called.
        let given = unsafe {
            match &self.args {
                Args::None => ffi::PyObject_CallNoArgs(callback),
                Args::One(one) => {
                    let mut given = [ptr::null_mut(), one.as_ptr()];
                    vectorcall(callback, given.as_mut_ptr().add(1), 1)
                }
                Args::Two(one, two) => {
                    let mut given = [ptr::null_mut(), one.as_ptr(), two.as_ptr()];
                    vectorcall(callback, given.as_mut_ptr().add(1), 2)
                }
                Args::Many(many) => ffi::PyObject_Call(callback, many.as_ptr(), ptr::null_mut()),
            }
        };
        // SAFETY: it is the result of a call.
        unsafe { result(py, given) }.map(drop)
    }

    pub fn callback<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.callback.bind(py).clone()
    }

    /// The arguments as a tuple.
    pub fn args<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match &self.args {
            Args::None => Ok(PyTuple::empty(py)),
            Args::One(one) => PyTuple::new(py, [one.bind(py)]),
            Args::Two(one, two) => PyTuple::new(py, [one.bind(py), two.bind(py)]),
            Args::Many(many) => Ok(many.bind(py).clone()),
        }
    }

    /// For the garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&*self.callback)?;
        match &self.args {
            Args::None => Ok(()),
            Args::One(one) => visit.call(&**one),
            Args::Two(one, two) => {
                visit.call(&**one)?;
                visit.call(&**two)
            }
            Args::Many(many) => visit.call(&**many),
        }
    }
}
