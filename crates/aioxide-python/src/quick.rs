//! The usual calls of the loop's busiest methods.
//!
//! # Facts
//!
//! Each task is made by a call of `create_task`, and it and each future ask `get_debug`. Each task that gives
//! way, each future that is done and each timeout is a call of `call_soon`, `call_later` or one of their kind, with a
//! callback, nearly always at most two arguments, and a context or none. PyO3's general way to take arguments makes
//! a tuple for them, and compares names of keywords as strings.
//!
//! # What was chosen
//!
//! Each of these methods has a function before PyO3's, which recognises such a call, of a loop that is
//! open and not in debug mode, and passes everything else on, as it came. So signatures, errors and checks
//! are those of the methods in `event_loop.rs`, and stand there alone.
//!
//! Methods without arguments that are called for each request, future or timer (`create_future`, `get_debug`, `time`,
//! a handle's `cancel`) have a function in the place of PyO3's: the method's descriptor has checked the
//! object's class before.

use std::cell::Cell;
use std::ffi::c_int;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::slice;
use std::sync::OnceLock;
use std::thread;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyModule, PyTuple};
use pyo3::{Borrowed, PyClass, ffi, intern};

use crate::call::{Args, Call};
use crate::context::Captured;
use crate::event_loop::{Loop, When, queue_timer, time_after};
use crate::exit::hang_at_exit;
use crate::gil::OnGil;
use crate::handles::{Handle, TimerHandle};
use crate::imports;

pub type Method = ffi::PyCFunctionFastWithKeywords;

/// The objects of a call: the loop, what it was given, and a context.
struct Usual<'a, 'py> {
    event_loop: Borrowed<'a, 'py, Loop>,
    given: &'a [Bound<'py, PyAny>],
    context: Option<Borrowed<'a, 'py, PyAny>>,
}

impl<'a, 'py> Usual<'a, 'py> {
    /// What makes a handle for the callback that stands at a place among what was given, with what follows it.
    #[inline(always)]
    fn handle(&self, at: usize) -> PyResult<Option<impl FnOnce() -> Handle>> {
        let Some((callback, args)) = self.given.get(at..).and_then(|given| given.split_first())
        else {
            return Ok(None);
        };
        let py = self.event_loop.py();
        let args = Args::new(py, args)?;
        let context = Captured::new(py, self.context.map(|context| context.to_owned()))?;
        Ok(Some(move || {
            let call = Call::new(callback.clone(), args);
            Handle::plain(&self.event_loop, call, context)
        }))
    }
}

#[inline(always)]
fn call_soon<'py>(usual: &Usual<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(handle) = usual.handle(0)? else {
        return Ok(None);
    };
    Ok(Some(Loop::queue(&usual.event_loop, handle)?.into_any()))
}

#[inline(always)]
fn call_soon_threadsafe<'py>(usual: &Usual<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    hang_at_exit();
    let Some(handle) = usual.handle(0)? else {
        return Ok(None);
    };
    let handle = Loop::queue(&usual.event_loop, || handle().for_threads())?;
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

fn timer<'py>(usual: &Usual<'_, 'py>, when: When<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(handle) = usual.handle(1)? else {
        return Ok(None);
    };
    let timer = queue_timer(&usual.event_loop, when, handle())?;
    Ok(Some(timer.into_any()))
}

/// Whether a keyword's name is that of a context.
///
/// Code that was compiled from Python has one object for each name. asyncio's futures and tasks in C, which make
/// most of these calls, have another one, of their own: it is remembered.
///
/// # Safety
/// The name is a live string.
#[inline]
unsafe fn is_context(py: Python<'_>, name: *mut ffi::PyObject) -> bool {
    static ANOTHER: OnGil<Cell<*mut ffi::PyObject>> = OnGil::new(Cell::new(ptr::null_mut()));
    let (context, another) = (intern!(py, "context"), ANOTHER.get(py));
    if name == another.get() || name == context.as_ptr() {
        return true;
    }
    // SAFETY: the caller's word. What is remembered is kept for ever.
    unsafe {
        let name = Borrowed::from_ptr(py, name);
        let equal = name.eq(context).unwrap_or(false);
        if equal && another.get().is_null() {
            another.set(name.to_owned().into_ptr());
        }
        equal
    }
}

/// Attempts a usual call, and otherwise makes that of PyO3: `None` is for that. One function for each method, so that
/// nothing stands between the interpreter and the attempt.
#[inline(always)]
unsafe fn call(
    attempt: impl for<'py> Fn(&Usual<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>>,
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
            && is_context(py, ffi::PyTuple_GET_ITEM(names, 0))
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
    // SAFETY: the caller's word.
    unsafe { conclude(py, result, general, event_loop, args, count, names) }
}

/// Ends a call that was attempted: with what it has given or raised, or else with PyO3's function.
///
/// # Safety
/// The arguments are those that the interpreter has called a method with, of which `general` is PyO3's function.
#[inline]
pub unsafe fn conclude(
    py: Python<'_>,
    attempted: thread::Result<PyResult<Option<Bound<'_, PyAny>>>>,
    general: &OnceLock<Method>,
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    match attempted {
        Ok(Ok(Some(given))) => given.into_ptr(),
        Ok(Ok(None)) => match general.get() {
            // SAFETY: the arguments are passed on as they came.
            Some(general) => unsafe { general(object, args, count, names) },
            None => fail(py, "the method is not there"),
        },
        Ok(Err(error)) => raise(py, error),
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
            let keywords = ffi::METH_VARARGS | ffi::METH_KEYWORDS;
            let fast = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
            let create_task = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: create_task };
            put_in_place_of(class, "create_task", keywords, create_task, fast)?;
            put_without_arguments(class, "create_future", create_future)?;
            put_without_arguments(class, "get_debug", get_debug)?;
            put_without_arguments(class, "time", time)
        }
    };
}

methods!(call_soon, call_soon_threadsafe, call_later, call_at);

/// Of a coroutine, on a loop without a factory that is not in debug mode; what keywords there are, the task is given.
unsafe extern "C" fn create_task(
    event_loop: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with the GIL held, as a method of the loop's class, with `count` objects in
    // `args` and behind them one for each of `names`, if there are any.
    unsafe {
        let py = Python::assume_attached();
        let this = Borrowed::from_ptr(py, event_loop).cast_unchecked::<Loop>();
        let made = panic::catch_unwind(AssertUnwindSafe(|| {
            let engine = this.get().engine(py);
            let host = engine.host();
            let names = (!names.is_null())
                .then(|| Borrowed::from_ptr(py, names).cast_unchecked::<PyTuple>());
            let names = names.as_ref().map_or(&[][..], |names| names.as_slice());
            let is = |name: &Bound<'_, PyAny>, other| name.eq(other).unwrap_or(false);
            // Before 3.14 it depends on the release whether there may be others.
            let is_unusual = |name: &Bound<'_, PyAny>| match cfg!(Py_3_14) {
                true => name.eq(intern!(py, "loop")).unwrap_or(true),
                false => !is(name, intern!(py, "name")) && !is(name, intern!(py, "context")),
            };
            if count != 1
                || engine.is_closed()
                || engine.debug()
                || host.uses_task_factory()
                || (cfg!(not(Py_3_11)) && !names.is_empty())
                || names.iter().any(is_unusual)
            {
                return None;
            }
            let given = slice::from_raw_parts(args.cast::<Bound<'_, PyAny>>(), 1 + names.len());
            Some(new_task(&this, &given[0], names, &given[1..]))
        }));
        match made {
            Ok(Some(Ok(task))) => task.into_ptr(),
            Ok(Some(Err(error))) => raise(py, error),
            Ok(None) => match this.getattr(intern!(py, "_create_task")) {
                Ok(method) => {
                    let count = usize::try_from(count).unwrap_or_default();
                    ffi::PyObject_Vectorcall(method.as_ptr(), args, count, names)
                }
                Err(error) => raise(py, error),
            },
            Err(_) => fail(py, "the engine has panicked"),
        }
    }
}

fn new_task<'py>(
    event_loop: &Bound<'py, Loop>,
    coro: &Bound<'py, PyAny>,
    names: &[Bound<'py, PyAny>],
    values: &[Bound<'py, PyAny>],
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let name = intern!(py, "Task");
    let class = imports::asyncio_tasks(py)?.as_any();
    // A module's attributes stand in its dictionary.
    let class = match class
        .cast_exact::<PyModule>()
        .map(|module| module.dict().get_item(name))
    {
        Ok(Ok(Some(found))) => found,
        _ => class.getattr(name)?,
    };
    if names.is_empty() {
        let host = event_loop.get().engine(py).host();
        // A tuple is handed on as it is: a class has no quicker way to be called.
        let args = PyTuple::new(py, [coro])?;
        return host.with_loop(event_loop, |kwargs| class.call(args, Some(kwargs)));
    }
    let kwargs = PyDict::new(py);
    kwargs.set_item(intern!(py, "loop"), event_loop)?;
    for (name, value) in names.iter().zip(values) {
        kwargs.set_item(name, value)?;
    }
    class.call((coro,), Some(&kwargs))
}

/// A method without arguments: what it gives, or raises.
///
/// # Safety
/// The interpreter calls it with the GIL held, with an object of the class `T` or of one below it.
#[inline(always)]
pub unsafe fn without_arguments<T: PyClass>(
    object: *mut ffi::PyObject,
    method: impl for<'py> FnOnce(&Bound<'py, T>) -> PyResult<Bound<'py, PyAny>>,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's word.
    let (py, object) = unsafe {
        let py = Python::assume_attached();
        let object = Borrowed::from_ptr(py, object).cast_unchecked::<T>();
        (py, object)
    };
    match panic::catch_unwind(AssertUnwindSafe(|| method(&object))) {
        Ok(Ok(given)) => given.into_ptr(),
        Ok(Err(error)) => raise(py, error),
        Err(_) => fail(py, "the engine has panicked"),
    }
}

/// A future of this loop.
unsafe extern "C" fn create_future(
    event_loop: *mut ffi::PyObject,
    _none: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this as a method of the loop's class.
    unsafe { without_arguments(event_loop, new_future) }
}

/// Servers ask for it once for each request.
unsafe extern "C" fn time(
    event_loop: *mut ffi::PyObject,
    _none: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as above.
    unsafe {
        without_arguments(event_loop, |event_loop: &Bound<'_, Loop>| {
            let py = event_loop.py();
            Ok(PyFloat::new(py, event_loop.get().time(py)).into_any())
        })
    }
}

/// Makes a future.
pub fn new_future<'py>(event_loop: &Bound<'py, Loop>) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let class = imports::asyncio_future(py)?;
    let host = event_loop.get().engine(py).host();
    host.with_loop(event_loop, |kwargs| {
        class.call(PyTuple::empty(py), Some(kwargs))
    })
}

/// Gives handles their `cancel`: each timeout that is not needed any more is such a call.
pub fn install_cancel(py: Python<'_>) -> PyResult<()> {
    unsafe extern "C" fn cancel(
        handle: *mut ffi::PyObject,
        _none: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject {
        // SAFETY: the interpreter calls this as a method of the class.
        unsafe {
            without_arguments(handle, |handle: &Bound<'_, Handle>| {
                Handle::cancel(handle)?;
                Ok(handle.py().None().into_bound(handle.py()))
            })
        }
    }
    unsafe extern "C" fn cancel_timer(
        handle: *mut ffi::PyObject,
        _none: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject {
        // SAFETY: as above.
        unsafe {
            without_arguments(handle, |handle: &Bound<'_, TimerHandle>| {
                TimerHandle::cancel(handle);
                Ok(handle.py().None().into_bound(handle.py()))
            })
        }
    }
    put_without_arguments(&py.get_type::<Handle>(), "cancel", cancel)?;
    put_without_arguments(&py.get_type::<TimerHandle>(), "cancel", cancel_timer)
}

/// Each future and each task asks for it.
unsafe extern "C" fn get_debug(
    event_loop: *mut ffi::PyObject,
    _none: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as above.
    unsafe {
        without_arguments(event_loop, |event_loop: &Bound<'_, Loop>| {
            let py = event_loop.py();
            let debug = event_loop.get().engine(py).debug();
            Ok(PyBool::new(py, debug).to_owned().into_any())
        })
    }
}

#[cold]
fn raise(py: Python<'_>, error: PyErr) -> *mut ffi::PyObject {
    error.restore(py);
    ptr::null_mut()
}

/// Puts a function in the place of one of PyO3's that takes no arguments.
pub fn put_without_arguments(
    class: &Bound<'_, PyAny>,
    name: &str,
    function: ffi::PyCFunction,
) -> PyResult<()> {
    let function = ffi::PyMethodDefPointer {
        PyCFunction: function,
    };
    put_in_place_of(class, name, ffi::METH_NOARGS, function, ffi::METH_NOARGS)
}

/// Puts a function in the place of one of PyO3's.
fn put_in_place_of(
    class: &Bound<'_, PyAny>,
    name: &str,
    flags: c_int,
    function: ffi::PyMethodDefPointer,
    flags_of_ours: c_int,
) -> PyResult<()> {
    let Some(definition) = definition(class, name, flags)? else {
        return Ok(());
    };
    let ours = Box::leak(Box::new(ffi::PyMethodDef {
        ml_meth: function,
        ml_flags: flags_of_ours,
        ..definition
    }));
    // SAFETY: the definition lives for ever. What PyO3's function takes, ours takes too, as the flags say. The
    // result is a new reference, or null with an exception.
    let method = unsafe {
        let method = ffi::PyDescr_NewMethod(class.as_ptr().cast(), ours);
        Bound::from_owned_ptr_or_err(class.py(), method)?
    };
    class.setattr(name, method)
}

/// Puts a function before PyO3's for a method of a class, and keeps that one as `general`.
pub fn put_before(
    class: &Bound<'_, PyAny>,
    name: &str,
    quick: Method,
    general: &OnceLock<Method>,
) -> PyResult<()> {
    let fast = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
    let Some(definition) = definition(class, name, fast)? else {
        return Ok(());
    };
    // SAFETY: the flags say that it is such a function.
    let method = unsafe { definition.ml_meth.PyCFunctionFastWithKeywords };
    if general.set(method).is_err() {
        return Ok(());
    }
    let quick = ffi::PyMethodDefPointer {
        PyCFunctionFastWithKeywords: quick,
    };
    put_in_place_of(class, name, fast, quick, fast)
}

/// How PyO3 has defined a method of a class, if its function has these flags.
fn definition(
    class: &Bound<'_, PyAny>,
    name: &str,
    flags: c_int,
) -> PyResult<Option<ffi::PyMethodDef>> {
    let descriptor = class.getattr(name)?;
    // SAFETY: what is of this type has the fields of a method's descriptor, and its definition lives for ever: it
    // is PyO3's.
    let definition = unsafe {
        if ffi::Py_IS_TYPE(descriptor.as_ptr(), &raw mut ffi::PyMethodDescr_Type) == 0 {
            return Ok(None);
        }
        *(*descriptor.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method
    };
    Ok((definition.ml_flags == flags).then_some(definition))
}
