//! The usual calls of the loop's busiest methods.
//!
//! # Facts
//!
//! Each task is made by a call of `create_task`. Each task that gives way, each future that is done and each
//! timeout is a call of `call_soon`, `call_later` or one of their kind, with a callback, nearly always at most two arguments, and a context or none. PyO3's
//! general way to take arguments makes a tuple for them, and compares names of keywords as strings.
//!
//! # What was chosen
//!
//! Each of these methods has a function before PyO3's, which recognises such a call, of a loop that is
//! open and not in debug mode, and passes everything else on, as it came. So signatures, errors and checks
//! are those of the methods in `event_loop.rs`, and stand there alone.

use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::slice;
use std::sync::OnceLock;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{Borrowed, ffi, intern};

use crate::call::{Args, Call};
use crate::event_loop::{Loop, When, queue_timer, time_after};
use crate::exit::hang_at_exit;
use crate::handles::Handle;
use crate::imports;

pub type Method = ffi::PyCFunctionFastWithKeywords;

/// A usual call; `None` is for PyO3's function.
type Attempt = for<'py> fn(&Usual<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>>;

/// The objects of a call: the loop, what it was given, and a context.
struct Usual<'a, 'py> {
    event_loop: Borrowed<'a, 'py, Loop>,
    given: &'a [Bound<'py, PyAny>],
    context: Option<Borrowed<'a, 'py, PyAny>>,
}

impl<'a, 'py> Usual<'a, 'py> {
    /// A handle for the callback that stands at a place among what was given, with what follows it.
    #[inline]
    fn handle(&self, at: usize) -> PyResult<Option<Handle>> {
        let Some((callback, args)) = self.given.get(at..).and_then(|given| given.split_first())
        else {
            return Ok(None);
        };
        let py = self.event_loop.py();
        let call = Call::new(callback.clone(), Args::new(py, args)?);
        let context = self.context.map(|context| context.to_owned());
        Handle::plain(&self.event_loop, call, context).map(Some)
    }
}

fn call_soon<'py>(usual: &Usual<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(handle) = usual.handle(0)? else {
        return Ok(None);
    };
    Ok(Some(Loop::queue(&usual.event_loop, handle)?.into_any()))
}

fn call_soon_threadsafe<'py>(usual: &Usual<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    hang_at_exit();
    let Some(handle) = usual.handle(0)? else {
        return Ok(None);
    };
    let handle = Loop::queue(&usual.event_loop, handle.for_threads())?;
    let py = handle.py();
    usual.event_loop.get().engine(py).wake();
    Ok(Some(handle.into_any()))
}

fn call_later<'py>(usual: &Usual<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(delay) = usual.given.first().filter(|delay| !delay.is_none()) else {
        return Ok(None);
    };
    if usual.given.len() < 2 {
        return Ok(None);
    }
    timer(usual, time_after(&usual.event_loop, delay)?)
}

fn call_at<'py>(usual: &Usual<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(when) = usual.given.first().filter(|when| !when.is_none()) else {
        return Ok(None);
    };
    if usual.given.len() < 2 {
        return Ok(None);
    }
    timer(usual, When::new(when)?)
}

/// Of a coroutine and no keywords, on a loop without a factory.
fn create_task<'py>(usual: &Usual<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = usual.event_loop.py();
    let host = usual.event_loop.get().engine(py).host();
    let ([coro], None, false) = (usual.given, usual.context, host.uses_task_factory()) else {
        return Ok(None);
    };
    let class = imports::asyncio_tasks(py)?.getattr(intern!(py, "Task"))?;
    let kwargs = host.take_kwargs(py);
    kwargs.set_item(intern!(py, "loop"), &*usual.event_loop)?;
    let task = class.call((coro,), Some(&kwargs));
    host.keep_kwargs(kwargs)?;
    task.map(Some)
}

fn timer<'py>(usual: &Usual<'_, 'py>, when: When<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(handle) = usual.handle(1)? else {
        return Ok(None);
    };
    let timer = queue_timer(&usual.event_loop, when, handle)?;
    Ok(Some(timer.into_any()))
}

/// Attempts a usual call, and otherwise makes that of PyO3.
#[inline]
unsafe fn call(
    attempt: Attempt,
    general: &OnceLock<Method>,
    event_loop: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with the GIL held.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the method's descriptor has checked the class of the object. `count` objects stand in `args`, and
    // behind them one for each of `names`, all of which live until this returns.
    let usual = || unsafe {
        let given = usize::try_from(count).ok()?;
        let context = if names.is_null() {
            None
        } else if ffi::PyTuple_GET_SIZE(names) == 1
            && ffi::PyTuple_GET_ITEM(names, 0) == intern!(py, "context").as_ptr()
        {
            Some(Borrowed::from_ptr(py, *args.add(given))).filter(|context| !context.is_none())
        } else {
            return None;
        };
        let event_loop = Borrowed::from_ptr(py, event_loop).cast_unchecked::<Loop>();
        let engine = event_loop.get().engine(py);
        if given == 0 || engine.is_closed() || engine.debug() {
            return None;
        }
        let given = slice::from_raw_parts(args.cast::<Bound<'_, PyAny>>(), given);
        Some(Usual {
            event_loop,
            given,
            context,
        })
    };
    let result = panic::catch_unwind(AssertUnwindSafe(|| match usual() {
        Some(usual) => attempt(&usual),
        None => Ok(None),
    }));
    match result {
        Ok(Ok(Some(handle))) => handle.into_ptr(),
        Ok(Ok(None)) => match general.get() {
            // SAFETY: the arguments are passed on as they came.
            Some(general) => unsafe { general(event_loop, args, count, names) },
            // SAFETY: as above; the loop is live.
            None => unsafe {
                let event_loop = Borrowed::from_ptr(py, event_loop);
                match event_loop.getattr(intern!(py, "_create_task")) {
                    Ok(method) => {
                        let count = usize::try_from(count).unwrap_or_default();
                        ffi::PyObject_Vectorcall(method.as_ptr(), args, count, names)
                    }
                    Err(error) => {
                        error.restore(py);
                        ptr::null_mut()
                    }
                }
            },
        },
        Ok(Err(error)) => {
            error.restore(py);
            ptr::null_mut()
        }
        Err(_) => fail(py, "the engine has panicked"),
    }
}

#[cold]
fn fail(py: Python<'_>, message: &'static str) -> *mut ffi::PyObject {
    PyRuntimeError::new_err(message).restore(py);
    ptr::null_mut()
}

/// Puts functions before those of PyO3.
macro_rules! methods {
    ($($name:ident),*) => {
        /// Gives the loop's class these methods. Called once, before there is a class over it.
        pub fn install(class: &Bound<'_, PyAny>) -> PyResult<()> {
            $({
                static GENERAL: OnceLock<Method> = OnceLock::new();
                unsafe extern "C" fn method(
                    event_loop: *mut ffi::PyObject,
                    args: *const *mut ffi::PyObject,
                    count: ffi::Py_ssize_t,
                    names: *mut ffi::PyObject,
                ) -> *mut ffi::PyObject {
                    // SAFETY: the interpreter calls this as a method of the loop's class.
                    unsafe { call($name, &GENERAL, event_loop, args, count, names) }
                }
                put_before(class, stringify!($name), method, &GENERAL)?;
            })*
            Ok(())
        }
    };
}

methods!(
    call_soon,
    call_soon_threadsafe,
    call_later,
    call_at,
    create_task
);

/// Puts a function before PyO3's for a method of a class, and keeps that one as `general`.
pub fn put_before(
    class: &Bound<'_, PyAny>,
    name: &str,
    quick: Method,
    general: &OnceLock<Method>,
) -> PyResult<()> {
    let descriptor = class.getattr(name)?;
    // SAFETY: what is of this type has the fields of a method's descriptor, and its definition lives for ever: it
    // is PyO3's. The new one does as well. Its function takes what that one's takes, which the flags
    // say. The result is a new reference, or null with an exception.
    unsafe {
        let fast = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
        if ffi::Py_IS_TYPE(descriptor.as_ptr(), &raw mut ffi::PyMethodDescr_Type) == 0 {
            return Ok(());
        }
        let definition = *(*descriptor.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method;
        // `create_task` takes all keywords, for which PyO3 makes functions of another kind. `call` does then what
        // that one does.
        if definition.ml_flags != ffi::METH_VARARGS | ffi::METH_KEYWORDS
            && (definition.ml_flags != fast
                || general
                    .set(definition.ml_meth.PyCFunctionFastWithKeywords)
                    .is_err())
        {
            return Ok(());
        }
        let quick = Box::leak(Box::new(ffi::PyMethodDef {
            ml_meth: ffi::PyMethodDefPointer {
                PyCFunctionFastWithKeywords: quick,
            },
            ml_flags: fast,
            ..definition
        }));
        let method = ffi::PyDescr_NewMethod(class.as_ptr().cast(), quick);
        let method = Bound::from_owned_ptr_or_err(class.py(), method)?;
        class.setattr(name, method)
    }
}
