//! The functions of our classes over asyncio's.
//!
//! # Facts
//!
//! A function of Python's is called without an object that binds it to its instance; a compiled one is too,
//! if its type says that it is a method descriptor. Programs ask whether a function is a coroutine function
//! (`inspect.iscoroutinefunction`), and look at its signature.
//!
//! # What was chosen
//!
//! A type of our own: it is called without the binding object, and has every attribute of asyncio's
//! function, `__class__` and `__code__` included. So everything that asks sees that function. Called, it
//! gives a [`Coroutine`] where nothing is unusual, and calls what asyncio's class has under its name
//! otherwise, whether that is the original or what a program has put there.

use std::ffi::{c_int, c_uint, c_void};
use std::mem::offset_of;
use std::ptr;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyBytes, PyInt, PyString, PySuper, PyType};
use pyo3::{ffi, intern};

use super::Streams;
use super::coroutine::{Argument, Call, Coroutine, Question};
use super::objects::{attributes, field, writer};
use crate::attributes::usual;
use crate::gil::Own;
use crate::iterating;
use crate::recycled::{self, Recycle};

/// The object of such a function. Never changed, and never freed: a class of the package has it.
#[repr(C)]
struct Method {
    base: ffi::PyObject,
    vectorcall: ffi::vectorcallfunc,
    question: Question,
    /// asyncio's function.
    function: *mut ffi::PyObject,
    /// Under which name it is found.
    name: *mut ffi::PyObject,
    /// Our class.
    class: *mut ffi::PyObject,
}

static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Makes the type of methods, and lets the interpreter send to a [`Coroutine`] directly.
pub fn ready(py: Python<'_>) -> PyResult<()> {
    TYPE.get_or_try_init(py, || make_type(py))?;
    let class = py.get_type::<Coroutine>();
    Coroutine::recycle(py);
    // SAFETY: the class is a heap type, which has its table of functions for itself, and there is no object
    // of it yet. The functions have the signatures of the slots.
    unsafe {
        (*class.as_type_ptr()).tp_iternext = Some(next);
        let functions = (*class.as_type_ptr()).tp_as_async;
        if functions.is_null() {
            return Err(PyRuntimeError::new_err(
                "a coroutine that cannot be awaited",
            ));
        }
        (*functions).am_send = Some(send);
        (*functions).am_await = Some(iterating::itself);
    }
    Ok(())
}

fn make_type(py: Python<'_>) -> PyResult<Py<PyType>> {
    let mut members = [
        ffi::PyMemberDef {
            name: c"__vectorcalloffset__".as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: offset_of!(Method, vectorcall) as ffi::Py_ssize_t,
            flags: ffi::Py_READONLY,
            doc: ptr::null(),
        },
        ffi::PyMemberDef::default(),
    ];
    let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
    let mut slots = [
        slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
        slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void),
        slot(ffi::Py_tp_descr_get, bind as *mut c_void),
        slot(ffi::Py_tp_getattro, get_attribute as *mut c_void),
        ffi::PyType_Slot::default(),
    ];
    let flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_METHOD_DESCRIPTOR
        | ffi::Py_TPFLAGS_HAVE_VECTORCALL;
    let mut spec = ffi::PyType_Spec {
        name: c"aioxide._aioxide.StreamMethod".as_ptr(),
        basicsize: size_of::<Method>() as c_int,
        itemsize: 0,
        flags: flags as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the specification is complete, and the interpreter copies what it needs of it: the members
    // are looked at for the offset. The functions have the signatures of their slots. The result is a new
    // reference, or null with an exception.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec)) }?;
    Ok(made.cast_into::<PyType>()?.unbind())
}

/// The method of `class` that stands in the place of asyncio's `function`.
pub fn new<'py>(
    question: Question,
    function: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    class: &Bound<'py, PyType>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    let of = TYPE.get_or_try_init(py, || make_type(py))?.bind(py);
    // SAFETY: the type makes objects of the size of `Method`, zeroed behind the head; all fields are written
    // before anybody else sees the object. The references are given to it for ever.
    unsafe {
        let object = ffi::PyType_GenericAlloc(of.as_type_ptr(), 0);
        let object = Bound::from_owned_ptr_or_err(py, object)?;
        let method = object.as_ptr().cast::<Method>();
        (&raw mut (*method).vectorcall).write(call);
        (&raw mut (*method).question).write(question);
        (&raw mut (*method).function).write(function.clone().into_ptr());
        (&raw mut (*method).name).write(name.clone().into_ptr());
        (&raw mut (*method).class).write(class.clone().into_ptr());
        Ok(object)
    }
}

/// `tp_descr_get`: a bound method, as of a function of Python's.
unsafe extern "C" fn bind(
    method: *mut ffi::PyObject,
    object: *mut ffi::PyObject,
    _class: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with live objects, or null for no object; the result is a new
    // reference, or null with an exception.
    unsafe {
        if object.is_null() || object == ffi::Py_None() {
            ffi::Py_INCREF(method);
            return method;
        }
        PyMethod_New(method, object)
    }
}

unsafe extern "C" {
    /// Part of the C API's documentation, and missing from PyO3's.
    fn PyMethod_New(function: *mut ffi::PyObject, object: *mut ffi::PyObject)
    -> *mut ffi::PyObject;
}

/// `tp_getattro`: that of asyncio's function.
unsafe extern "C" fn get_attribute(
    method: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with an object of the type, whose fields never change.
    unsafe { ffi::PyObject_GetAttr((*method.cast::<Method>()).function, name) }
}

/// The vectorcall of a method.
unsafe extern "C" fn call(
    method: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with the GIL held.
    let py = unsafe { Python::assume_attached() };
    {
        // SAFETY: the interpreter calls this with an object of the type, whose fields never change.
        let (question, function) = unsafe {
            let method = &*method.cast::<Method>();
            let function = Bound::from_borrowed_ptr(py, method.function);
            (method.question, function)
        };
        // SAFETY: the number of arguments is in `count`; so many objects, which live until this returns,
        // stand in `args`, and behind them one for each of `names`.
        let (given, named) = unsafe {
            let given = ffi::PyVectorcall_NARGS(count) as usize;
            let named = if names.is_null() {
                0
            } else {
                ffi::PyTuple_Size(names) as usize
            };
            (given, named)
        };
        // SAFETY: as above.
        let argument = |at: usize| unsafe { Bound::from_borrowed_ptr(py, *args.add(at)) };
        if given > 0 {
            let object = argument(0);
            let name = || {
                // SAFETY: there is one name, and so it is an item of the tuple.
                unsafe { Bound::from_borrowed_ptr(py, ffi::PyTuple_GET_ITEM(names, 0)) }
            };
            if question == Question::Write
                && (given, named) == (2, 0)
                && is_usual(question, &object)
                && let Some(transport) = transport_of(&object)
            {
                let written = match usual(&transport) {
                    Some(transport) => transport.get().write(&argument(1)),
                    None => transport
                        .call_method1(intern!(py, "write"), (argument(1),))
                        .map(drop),
                };
                return match written {
                    Ok(()) => py.None().into_ptr(),
                    Err(error) => fail(py, error),
                };
            }
            let argument = match (given, named) {
                (1, 0) => Some(None),
                (2, 0) => Some(Some(argument(1))),
                (1, 1) if is_named(question, &name()) => Some(Some(argument(1))),
                _ => None,
            };
            if let Some(argument) = argument
                && let Some(argument) = simple(py, question, argument)
                && is_usual(question, &object)
            {
                let call = Call {
                    question,
                    function: Own::new(function),
                    object: Own::new(object),
                    argument,
                };
                return match recycled::quick(py, || Coroutine::new(call)) {
                    Ok(coroutine) => {
                        recycled::show(&coroutine);
                        coroutine.into_ptr()
                    }
                    Err(error) => fail(py, error),
                };
            }
            // What asyncio's class has: `super()` binds it as it wants to be bound.
            // SAFETY: the fields are of the types that `new` has given them.
            let (class, name) = unsafe {
                let method = &*method.cast::<Method>();
                let class = Bound::from_borrowed_ptr(py, method.class);
                (class, Bound::from_borrowed_ptr(py, method.name))
            };
            let of = class.cast_into::<PyType>().map_err(PyErr::from);
            let bound = of
                .and_then(|class| PySuper::new(&class, &object))
                .and_then(|parent| parent.getattr(name.cast_into::<PyString>()?));
            match bound {
                // SAFETY: as above, without the first argument. The flag that would allow to write before
                // them is taken off.
                Ok(bound) => unsafe {
                    return ffi::PyObject_Vectorcall(bound.as_ptr(), args.add(1), given - 1, names);
                },
                // Called on something else than an object of our class.
                Err(_) if !is_ours(question, &object) => {}
                Err(error) => return fail(py, error),
            }
        }
        // SAFETY: as above.
        unsafe { ffi::PyObject_Vectorcall(function.as_ptr(), args, given, names) }
    }
}

/// What a writer writes to.
fn transport_of<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    field(&attributes(object)?, &writer::TRANSPORT)
}

fn fail(py: Python<'_>, error: PyErr) -> *mut ffi::PyObject {
    error.restore(py);
    ptr::null_mut()
}

fn is_named(question: Question, name: &Bound<'_, PyAny>) -> bool {
    let py = name.py();
    match question {
        Question::Read | Question::ReadExactly => name.is(intern!(py, "n")),
        Question::ReadUntil => name.is(intern!(py, "separator")),
        Question::ReadLine | Question::Drain | Question::Write => false,
    }
}

/// The argument of a usual call.
#[inline]
fn simple<'py>(
    py: Python<'py>,
    question: Question,
    argument: Option<Bound<'py, PyAny>>,
) -> Option<Argument> {
    match (question, argument) {
        (Question::Read | Question::ReadExactly, Some(count)) => {
            let count = count.cast_exact::<PyInt>().ok()?.extract::<isize>().ok()?;
            let count = usize::try_from(count).ok().filter(|count| *count > 0)?;
            Some(Argument::Count(count))
        }
        (Question::ReadUntil, Some(separator)) => {
            let separator = separator.cast_into_exact::<PyBytes>().ok()?;
            let empty = separator.as_bytes().is_empty();
            (!empty).then(|| Argument::Separator(Own::new(separator)))
        }
        (Question::ReadUntil | Question::ReadLine, None) => {
            static NEWLINE: PyOnceLock<Py<PyBytes>> = PyOnceLock::new();
            let newline = NEWLINE.get_or_init(py, || PyBytes::new(py, b"\n").unbind());
            Some(Argument::Separator(Own::new(newline.bind(py).clone())))
        }
        (Question::Drain, None) => Some(Argument::None),
        _ => None,
    }
}

/// Whether an object is of our class, and nothing about that has been changed.
#[inline]
fn is_usual(question: Question, object: &Bound<'_, PyAny>) -> bool {
    Streams::get(object.py()).is_some_and(|streams| match question {
        Question::Drain | Question::Write => streams.writer.has_ours(object),
        _ => streams.reader.has_ours(object),
    })
}

/// Whether an object is of our class or of one over it.
fn is_ours(question: Question, object: &Bound<'_, PyAny>) -> bool {
    let py = object.py();
    let class = Streams::get(py).and_then(|streams| match question {
        Question::Drain | Question::Write => streams.writer.ours.as_ref(),
        _ => streams.reader.ours.as_ref(),
    });
    class.is_some_and(|(class, _)| object.is_instance(class.bind(py)).unwrap_or(false))
}

/// `am_send` of a [`Coroutine`]: as its `send()`, without a `StopIteration` at the end.
unsafe extern "C" fn send(
    coroutine: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: the interpreter calls this with the GIL held, live objects, and the address of a pointer of its own.
    unsafe {
        let py = Python::assume_attached();
        let value = Bound::from_borrowed_ptr(py, value);
        let (how, object) = match advance(py, coroutine, &value) {
            Ok(PySendResult::Next(next)) => (ffi::PySendResult::PYGEN_NEXT, next.into_ptr()),
            Ok(PySendResult::Return(value)) => (ffi::PySendResult::PYGEN_RETURN, value.into_ptr()),
            Err(error) => (ffi::PySendResult::PYGEN_ERROR, fail(py, error)),
        };
        result.write(object);
        how
    }
}

/// `tp_iternext` of a [`Coroutine`], which Python 3.12 and later await it by.
unsafe extern "C" fn next(coroutine: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with the GIL held and a live object.
    unsafe {
        let py = Python::assume_attached();
        iterating::answer(py, advance(py, coroutine, py.None().bind(py)))
    }
}

/// # Safety
/// It is a live object.
#[inline]
unsafe fn advance<'py>(
    py: Python<'py>,
    coroutine: *mut ffi::PyObject,
    value: &Bound<'py, PyAny>,
) -> PyResult<PySendResult<'py>> {
    // SAFETY: the caller's.
    let coroutine = unsafe { Bound::from_borrowed_ptr(py, coroutine) };
    let coroutine = coroutine.cast_into_exact::<Coroutine>()?;
    coroutine.get().advance(py, value)
}
