//! What a read waits for.
//!
//! On this package's own loop that is an [`Operation`] without an attempt; where the program has put something
//! in the place of the loop's `create_future` or `call_soon`, or has a loop of its own or the debug mode, it
//! is what `create_future` gives.

use std::cell::Cell;

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyDict, PyIterator, PyType};
use pyo3::{PyTypeInfo, ffi};

use super::objects::{attributes, field, reader, set_field, version};
use crate::event_loop::Loop;
use crate::gil::{OnGil, Own};
use crate::imports;
use crate::operation::Operation;

/// What is awaited.
pub enum Awaited {
    Ours(Own<Operation>),
    /// The iterator of a future.
    Iterator(Own<PyIterator>),
}

impl Awaited {
    /// Makes a future of a reader's loop, and puts it into the reader's `_waiter`.
    pub fn begin<'py>(
        fields: &Bound<'py, PyDict>,
    ) -> PyResult<(Awaited, PyResult<PySendResult<'py>>)> {
        let py = fields.py();
        let event_loop = field(fields, &reader::LOOP);
        let event_loop = event_loop.unwrap_or_else(|| py.None().into_bound(py));
        if let Some(event_loop) = usual(&event_loop) {
            let operation = Operation::bare(event_loop)?;
            set_field(fields, &reader::WAITER, operation.as_any())?;
            let first = Operation::go_on(&operation);
            return Ok((Awaited::Ours(Own::new(operation)), first));
        }
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        set_field(fields, &reader::WAITER, &future)?;
        match iterator(&future) {
            Ok(iterator) => {
                let first = iterator.send(py.None().bind(py));
                Ok((Awaited::Iterator(Own::new(iterator)), first))
            }
            Err(error) => {
                set_field(fields, &reader::WAITER, py.None().bind(py))?;
                Err(error)
            }
        }
    }

    /// Goes on with what the task has to say.
    #[inline]
    pub fn send<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<PySendResult<'py>> {
        match self {
            Awaited::Ours(operation) => Operation::go_on(operation.bind(value.py())),
            Awaited::Iterator(iterator) => iterator.bind(value.py()).send(value),
        }
    }

    /// The iterator's own `throw`, if it has one.
    pub fn throw<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self {
            Awaited::Ours(_) => Ok(None),
            Awaited::Iterator(iterator) => iterator.bind(py).getattr_opt(intern!(py, "throw")),
        }
    }

    /// For the garbage collector.
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Awaited::Ours(operation) => visit.call(&**operation),
            Awaited::Iterator(iterator) => visit.call(&**iterator),
        }
    }
}

/// What a loop has to have from us.
const FUNCTIONS: [&str; 2] = ["create_future", "call_soon"];

/// A loop of this package's class itself, about which nothing is unusual.
#[inline]
fn usual<'a, 'py>(event_loop: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, Loop>> {
    static SEEN: PyOnceLock<OnGil<Cell<u32>>> = PyOnceLock::new();
    let py = event_loop.py();
    let class = imports::event_loop(py).ok()?;
    if event_loop.get_type_ptr() != class.as_type_ptr() {
        return None;
    }
    let seen = SEEN.get_or_init(py, || OnGil::new(Cell::new(0))).get(py);
    let number = version(class);
    if number == 0 || number != seen.get() {
        if !FUNCTIONS.iter().all(|name| is_compiled(class, name)) {
            return None;
        }
        // The lookups have given the class its number.
        seen.set(version(class));
    }
    let own = attributes(event_loop)?;
    if own.contains(intern!(py, "create_future")).ok()?
        || own.contains(intern!(py, "call_soon")).ok()?
    {
        return None;
    }
    let event_loop = event_loop.cast::<Loop>().ok()?;
    let engine = event_loop.get().engine(py);
    (!engine.debug() && !engine.is_closed()).then_some(event_loop)
}

/// Whether what a class has under a name is compiled, and so ours.
fn is_compiled(class: &Bound<'_, PyType>, name: &str) -> bool {
    // SAFETY: both objects are live; the type is a static one of the interpreter's.
    class.getattr(name).is_ok_and(|found| unsafe {
        ffi::Py_IS_TYPE(found.as_ptr(), &raw mut ffi::PyMethodDescr_Type) != 0
    })
}

/// A reader's waiter that is one of ours.
#[inline]
pub fn ours<'a, 'py>(waiter: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, Operation>> {
    let class = Operation::type_object_raw(waiter.py());
    if waiter.get_type_ptr() != class {
        return None;
    }
    waiter.cast().ok()
}

/// The iterator that awaiting something gives.
fn iterator<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyIterator>> {
    let (py, class) = (object.py(), object.get_type());
    if class.is(imports::asyncio_future(py)?) {
        return object.try_iter();
    }
    // What is special is looked up on the class, as the interpreter does.
    let Some(function) = class.getattr_opt(intern!(py, "__await__"))? else {
        return Err(PyTypeError::new_err(format!(
            "object {} can't be used in 'await' expression",
            class.name()?
        )));
    };
    let iterator = function.call1((object,))?;
    iterator.cast_into().map_err(|error| {
        let class = error.into_inner().get_type();
        match class.name() {
            Ok(name) => PyTypeError::new_err(format!(
                "__await__() returned non-iterator of type '{name}'"
            )),
            Err(error) => error,
        }
    })
}
