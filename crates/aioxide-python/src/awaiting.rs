//! What a task asks of what it awaits, without an object for each question.
//!
//! # Facts
//!
//! asyncio's task in C knows its own futures by their type. Of anything else it asks, for each wait, for
//! `_asyncio_future_blocking`, calls `get_loop()`, sets the first to false, calls `add_done_callback(wakeup,
//! context=...)`, and when it is woken `result()`. As attributes and methods of a compiled class these are
//! 3,900 instructions on Python 3.11: two bound methods made, arguments parsed, names made of C strings.
//!
//! # The choice
//!
//! An [`Operation`] answers by slots of its type ([`ready`]). It is its own `get_loop` and `add_done_callback`:
//! called without an argument it gives its loop, called with one it takes a callback. And a wakeup that is a
//! task's, and would only learn that there is no exception, is called with a future that is done ([`done`])
//! in the place of the operation: the task asks that one directly. What the operation has come to is said to
//! whoever awaits it, in the coroutine.
//!
//! # What it costs
//!
//! The type's table is changed after PyO3 has made it, and this rests on what asyncio's C code asks; where
//! that changes, the attributes and methods are still there under their names.

use std::ffi::CStr;
use std::ptr;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyCFunction, PyDict, PyModule, PyString};
use pyo3::{PyTypeInfo, ffi, intern};

use crate::context;
use crate::imports;
use crate::iterating;
use crate::operation::Operation;

/// Names of what the slots answer, each one object for the whole interpreter.
struct Names {
    blocking: Py<PyAny>,
    get_loop: Py<PyAny>,
    add_done_callback: Py<PyAny>,
    context: Py<PyAny>,
}

static NAMES: PyOnceLock<Names> = PyOnceLock::new();

fn names(py: Python<'_>) -> &Names {
    NAMES.get_or_init(py, || {
        let keep = |name: &Bound<'_, PyString>| name.clone().into_any().unbind();
        Names {
            blocking: keep(intern!(py, "_asyncio_future_blocking")),
            get_loop: keep(intern!(py, "get_loop")),
            add_done_callback: keep(intern!(py, "add_done_callback")),
            context: keep(intern!(py, "context")),
        }
    })
}

/// Puts the slots into the type, which its first object shows the layout of.
#[inline]
pub fn ready(first: &Bound<'_, Operation>) -> PyResult<()> {
    static READY: PyOnceLock<()> = PyOnceLock::new();
    let made = READY.get_or_try_init(first.py(), || make_ready(first));
    made.copied()
}

#[cold]
fn make_ready(first: &Bound<'_, Operation>) -> PyResult<()> {
    let py = first.py();
    names(py);
    let offset = (&raw const first.get().vectorcall).addr() - first.as_ptr().addr();
    let offset = ffi::Py_ssize_t::try_from(offset)
        .map_err(|_| PyRuntimeError::new_err("an operation that is too large"))?;
    let class = Operation::type_object(py);
    // SAFETY: the class is a heap type without subclasses, whose fields are written with the GIL held before
    // anybody else has an object of it. Every object has its call at the offset, which `Operation` writes
    // before the object is seen. The functions have the signatures of the slots.
    unsafe {
        let class = class.as_type_ptr();
        (*class).tp_vectorcall_offset = offset;
        (*class).tp_call = Some(ffi::PyVectorcall_Call);
        (*class).tp_flags |= ffi::Py_TPFLAGS_HAVE_VECTORCALL;
        (*class).tp_getattro = Some(get_attribute);
        (*class).tp_setattro = Some(set_attribute);
        (*class).tp_iternext = Some(next);
        if !(*class).tp_as_async.is_null() {
            (*(*class).tp_as_async).am_await = Some(iterating::itself);
        }
        ffi::PyType_Modified(class);
    }
    Ok(())
}

/// `tp_iternext`: itself while it is pending, then the result.
unsafe extern "C" fn next(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with a live object, and the GIL held; it is an operation.
    unsafe {
        let py = Python::assume_attached();
        let operation = Bound::from_borrowed_ptr(py, object).cast_into_unchecked::<Operation>();
        iterating::answer(py, Operation::go_on(&operation))
    }
}

/// `tp_getattro`.
unsafe extern "C" fn get_attribute(
    object: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with live objects, and the GIL held; the first is an operation.
    unsafe {
        let py = Python::assume_attached();
        if let Some(names) = NAMES.get(py) {
            if name == names.blocking.as_ptr() {
                let operation =
                    Bound::from_borrowed_ptr(py, object).cast_into_unchecked::<Operation>();
                let answer = if operation.get().is_blocking(py) {
                    ffi::Py_True()
                } else {
                    ffi::Py_False()
                };
                ffi::Py_INCREF(answer);
                return answer;
            }
            if name == names.get_loop.as_ptr() || name == names.add_done_callback.as_ptr() {
                ffi::Py_INCREF(object);
                return object;
            }
        }
        ffi::PyObject_GenericGetAttr(object, name)
    }
}

/// `tp_setattro`.
unsafe extern "C" fn set_attribute(
    object: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> i32 {
    // SAFETY: as above; no value is a deletion.
    unsafe {
        let py = Python::assume_attached();
        let known = NAMES
            .get(py)
            .is_some_and(|names| name == names.blocking.as_ptr());
        if known && (value == ffi::Py_False() || value == ffi::Py_True()) {
            let operation = Bound::from_borrowed_ptr(py, object).cast_into_unchecked::<Operation>();
            operation.get().note_blocking(py, value == ffi::Py_True());
            return 0;
        }
        ffi::PyObject_GenericSetAttr(object, name, value)
    }
}

/// An operation, called: `get_loop()`, or `add_done_callback(callback, context=...)`.
pub unsafe extern "C" fn call(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with the GIL held and an object of the type. The number of arguments
    // is in `count`; so many objects, which live until this returns, stand in `args`, and behind them one for
    // each of `names`.
    let (py, operation, arguments, named) = unsafe {
        let py = Python::assume_attached();
        let operation = Bound::from_borrowed_ptr(py, object).cast_into_unchecked::<Operation>();
        let given = ffi::PyVectorcall_NARGS(count) as usize;
        let named = if names.is_null() {
            0
        } else {
            ffi::PyTuple_Size(names) as usize
        };
        let argument = |at: usize| Bound::from_borrowed_ptr(py, *args.add(at));
        let arguments = match (given, named) {
            (0, 0) => Ok(None),
            (1, 0) => Ok(Some((argument(0), None))),
            (1, 1) if is_context(py, ffi::PyTuple_GET_ITEM(names, 0)) => {
                let context = argument(1);
                Ok(Some((argument(0), (!context.is_none()).then_some(context))))
            }
            _ => Err(given + named),
        };
        (py, operation, arguments, named)
    };
    let answer = match arguments {
        Ok(None) => Ok(operation.get().loop_of(py).clone_ref(py).into_any()),
        Ok(Some((callback, context))) => {
            Operation::add_callback(&operation, callback, context).map(|()| py.None())
        }
        Err(given) => Err(PyTypeError::new_err(format!(
            "takes a callback and a context, got {given} arguments ({named} by name)"
        ))),
    };
    match answer {
        Ok(answer) => answer.into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

/// Whether it is the name of the argument `context`.
///
/// # Safety
/// It is a live `str`.
unsafe fn is_context(py: Python<'_>, name: *mut ffi::PyObject) -> bool {
    let known = names(py).context.bind(py);
    // SAFETY: the caller's.
    let name = unsafe { Bound::from_borrowed_ptr(py, name) };
    name.is(known) || name.eq(known).unwrap_or(false)
}

/// Calls the callback of what has a result, in its context.
pub fn wake(
    operation: &Bound<'_, Operation>,
    callback: &Py<PyAny>,
    context: &Py<PyAny>,
) -> PyResult<()> {
    let py = operation.py();
    let callback = callback.bind(py);
    let subject = if operation.get().has_value(py) && is_wakeup(callback) {
        done(py)?
    } else {
        operation.as_any()
    };
    context::run(py, context, || callback.call1((subject,)).map(drop))
}

/// Whether a callback is the wakeup of asyncio's task in C.
fn is_wakeup(callback: &Bound<'_, PyAny>) -> bool {
    const NAME: &CStr = c"task_wakeup";
    let Ok(function) = callback.cast_exact::<PyCFunction>() else {
        return false;
    };
    // SAFETY: what is of this type has the fields of a C function; its name is a C string that lives as long.
    unsafe {
        let function = function.as_ptr().cast::<ffi::PyCFunctionObject>();
        let (definition, task) = ((*function).m_ml, (*function).m_self);
        !task.is_null()
            && !definition.is_null()
            && imports::asyncio_task(callback.py())
                .is_ok_and(|class| ffi::PyObject_TypeCheck(task, class.as_type_ptr()) != 0)
            && CStr::from_ptr((*definition).ml_name) == NAME
    }
}

/// A future of asyncio's that is done, without a result to speak of, and of no loop.
fn done(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static DONE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let done = DONE.get_or_try_init(py, || {
        // A future asks its loop, once, whether that is in debug mode.
        // `bool()` is false.
        let nowhere = PyModule::new(py, "no loop")?;
        nowhere.setattr(intern!(py, "get_debug"), py.get_type::<PyBool>())?;
        let future = imports::asyncio_future(py)?;
        let kwargs = PyDict::new(py);
        kwargs.set_item(intern!(py, "loop"), nowhere)?;
        let future = future.call((), Some(&kwargs))?;
        future.call_method1(intern!(py, "set_result"), (py.None(),))?;
        Ok::<_, PyErr>(future.unbind())
    })?;
    Ok(done.bind(py))
}
