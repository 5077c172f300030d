//! What `read()` and its like give: an object that is awaited like the coroutine that asyncio's give.
//!
//! It asks its question when it is awaited, as a coroutine does. If the answer is there, it is given at
//! once. If bytes are missing, it waits for a future in the reader's `_waiter`, as `_wait_for_data` does.
//! In every other case it makes asyncio's own coroutine, and passes on to it what it is asked.
//!
//! After a wait for `read()` the answer is what is in the buffer, whatever else has happened meanwhile:
//! asyncio's function does not look at anything else then.

use std::cell::RefCell;
use std::ffi::CString;

use pyo3::exceptions::{
    PyBaseException, PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError, PyValueError,
};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt, PyTraceback, PyTuple, PyType};
use pyo3::{ffi, intern};

use super::Streams;
use super::awaited::Awaited;
use super::feed::READER_FIELDS;
use super::objects::{
    Held, attributes, field, is_false, is_none, protocol, reader, set_field, writer,
};
use crate::attributes::usual;
use crate::gil::{OnGil, Own, from_drop};
use crate::recycled::{Recycle, Recycled};

/// Which of asyncio's functions was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    Read,
    ReadExactly,
    ReadUntil,
    ReadLine,
    Drain,
    /// `write`, which is no coroutine function: it gives no [`Coroutine`].
    Write,
}

/// A call of one of asyncio's coroutine functions.
pub struct Call {
    pub question: Question,
    /// asyncio's function.
    pub function: Own<PyAny>,
    /// The reader, or the writer.
    pub object: Own<PyAny>,
    pub argument: Argument,
}

/// What a function is called with.
pub enum Argument {
    None,
    /// How many bytes; more than none.
    Count(usize),
    /// What they end with; not empty.
    Separator(Own<PyBytes>),
}

/// The object. What the interpreter asks of it first are functions of `method.rs`, which `method::ready` sees to.
#[pyclass(frozen, weakref, module = "aioxide", name = "StreamCoroutine")]
pub struct Coroutine {
    call: OnGil<Call>,
    state: OnGil<RefCell<State>>,
}

impl Recycle for Coroutine {
    fn recycled() -> &'static Recycled {
        static COROUTINES: Recycled = Recycled::new();
        &COROUTINES
    }
}

enum State {
    Created,
    /// Bytes are missing; what is awaited is the future in the reader's `_waiter`.
    Waiting(Waiting),
    /// asyncio's own coroutine has taken over.
    Passed(Own<PyAny>),
    /// Its code runs, further up the stack.
    Running,
    Done,
}

struct Waiting {
    /// The reader's attributes.
    fields: Own<PyDict>,
    awaited: Awaited,
    searched: Searched,
}

/// How far `readuntil()` has looked for its separator: asyncio's local variable `offset`.
///
/// A line that comes in many pieces would be searched from its beginning with each of them. The position
/// holds for a buffer that has only grown. Another one, or one that is shorter than that, is searched from
/// its beginning, which asyncio's function does not do: it would miss what stands there.
#[derive(Clone, Copy, Default)]
struct Searched {
    /// The address of the buffer, which is only compared.
    buffer: usize,
    /// No separator begins before this position.
    offset: usize,
    /// How often it has waited.
    waits: u8,
}

impl Searched {
    /// From which position a buffer has to be searched.
    fn begin(self, buffer: &Held<'_>) -> usize {
        let same = self.buffer == address(buffer) && self.offset <= buffer.len();
        if same && self.buffer != 0 {
            self.offset
        } else {
            0
        }
    }
}

/// What tells a buffer from another, while it grows; 0 of one that does not grow.
fn address(buffer: &Held<'_>) -> usize {
    match buffer {
        Held::Array(array) => array.as_ptr().addr(),
        Held::Bytes(_) => 0,
    }
}

impl Waiting {
    /// What `_wait_for_data` does however its wait ends.
    fn end(&self, py: Python<'_>) {
        // Replacing what a dictionary has does not fail.
        let _ = set_field(self.fields.bind(py), &reader::WAITER, py.None().bind(py));
    }
}

/// What an attempt has come to.
enum Attempt<'py> {
    Done(Bound<'py, PyAny>),
    /// Bytes are missing.
    Missing(Bound<'py, PyDict>, Searched),
    /// asyncio's function decides.
    Unusual,
}

impl Coroutine {
    pub fn new(call: Call) -> Coroutine {
        Coroutine {
            call: OnGil::new(call),
            state: OnGil::new(RefCell::new(State::Created)),
        }
    }

    fn replace(&self, py: Python<'_>, state: State) -> State {
        self.state.get(py).replace(state)
    }

    /// Goes on, with the result of what was awaited.
    pub fn advance<'py>(
        &self,
        py: Python<'py>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<PySendResult<'py>> {
        let (after, result) = match self.replace(py, State::Running) {
            State::Created if !value.is_none() => (
                State::Created,
                Err(PyTypeError::new_err(
                    "can't send non-None value to a just-started coroutine",
                )),
            ),
            State::Created => self.ask(py, None),
            State::Waiting(waiting) => match waiting.awaited.send(value) {
                Ok(PySendResult::Next(next)) => {
                    (State::Waiting(waiting), Ok(PySendResult::Next(next)))
                }
                Ok(PySendResult::Return(_)) => {
                    waiting.end(py);
                    self.ask(py, Some(waiting.searched))
                }
                Err(error) => {
                    waiting.end(py);
                    (State::Done, Err(error))
                }
            },
            State::Passed(coroutine) => pass(coroutine.bind(py).clone(), value),
            State::Running => (
                State::Running,
                Err(PyValueError::new_err("coroutine already executing")),
            ),
            State::Done => (State::Done, Err(reused())),
        };
        drop(self.replace(py, after));
        result
    }

    /// Asks the question, at first or after a wait, with what was searched before it.
    fn ask<'py>(
        &self,
        py: Python<'py>,
        waited: Option<Searched>,
    ) -> (State, PyResult<PySendResult<'py>>) {
        let mut waited = waited;
        loop {
            let attempt = match self.call.get(py).question {
                Question::Drain => Ok(self.drain(py)),
                _ => self.read(py, waited),
            };
            let (fields, searched) = match attempt {
                Ok(Attempt::Done(value)) => return (State::Done, Ok(PySendResult::Return(value))),
                Ok(Attempt::Missing(fields, searched)) => (fields, searched),
                Ok(Attempt::Unusual) => return self.pass_on(py),
                Err(error) => return (State::Done, Err(error)),
            };
            match wait(&fields, searched) {
                Ok((waiting, PySendResult::Next(next))) => {
                    return (State::Waiting(waiting), Ok(PySendResult::Next(next)));
                }
                // The loop's futures are done at birth.
                Ok((waiting, PySendResult::Return(_))) => waiting.end(py),
                Err(error) => return (State::Done, Err(error)),
            }
            waited = Some(searched);
        }
    }

    /// Makes asyncio's own coroutine.
    fn pass_on<'py>(&self, py: Python<'py>) -> (State, PyResult<PySendResult<'py>>) {
        let (function, object) = (
            self.call.get(py).function.bind(py),
            self.call.get(py).object.bind(py),
        );
        let made = match (&self.call.get(py).argument, self.call.get(py).question) {
            (Argument::Count(count), _) => function.call1((object, *count)),
            (Argument::Separator(separator), Question::ReadUntil) => {
                function.call1((object, separator.bind(py)))
            }
            _ => function.call1((object,)),
        };
        match made {
            Ok(coroutine) => pass(coroutine, py.None().bind(py)),
            Err(error) => (State::Done, Err(error)),
        }
    }

    /// `read()` and its like. Of a reader that has `waited` only the buffer is looked at.
    fn read<'py>(&self, py: Python<'py>, waited: Option<Searched>) -> PyResult<Attempt<'py>> {
        let Some(fields) = attributes(self.call.get(py).object.bind(py)) else {
            return Ok(Attempt::Unusual);
        };
        if waited.is_none() && (!is_none(&fields, &reader::EXCEPTION) || has_functions(&fields)) {
            return Ok(Attempt::Unusual);
        }
        let Some(buffer) = Held::of(&fields) else {
            return Ok(Attempt::Unusual);
        };
        let there = buffer.len();
        let mut searched = waited.unwrap_or_default();
        let wanted = match &self.call.get(py).argument {
            Argument::Count(count) => match self.call.get(py).question {
                Question::Read if there > 0 || waited.is_some() => Some(*count),
                Question::ReadExactly if there >= *count => Some(*count),
                _ => None,
            },
            Argument::Separator(separator) => {
                match until(&fields, &buffer, separator.bind(py), searched)? {
                    Line::Here(length) => Some(length),
                    Line::Missing(further) => {
                        searched = further;
                        None
                    }
                    Line::TooLong => return Ok(Attempt::Unusual),
                }
            }
            Argument::None => return Ok(Attempt::Unusual),
        };
        if let Some(wanted) = wanted {
            // A message that came in pieces is put together in the buffer; so will the next be.
            let whole = match self.call.get(py).question {
                Question::Read => true,
                Question::ReadExactly => searched.waits < 2,
                _ => false,
            };
            let (taken, left) = buffer.take(&fields, wanted, whole)?;
            resume(&fields, left)?;
            return Ok(Attempt::Done(taken.into_any()));
        }
        let waits = is_false(&fields, &reader::EOF)
            && is_false(&fields, &reader::PAUSED)
            && is_none(&fields, &reader::WAITER);
        searched.waits = searched.waits.saturating_add(1);
        Ok(if waits {
            Attempt::Missing(fields, searched)
        } else {
            Attempt::Unusual
        })
    }

    /// `drain()`.
    fn drain<'py>(&self, py: Python<'py>) -> Attempt<'py> {
        match is_drained(self.call.get(py).object.bind(py)) {
            Some(true) => Attempt::Done(py.None().into_bound(py)),
            _ => Attempt::Unusual,
        }
    }

    /// `throw()` while it waits: the future's iterator is told first, and may go on.
    fn throw_into<'py>(
        &self,
        waiting: Waiting,
        args: &Bound<'py, PyTuple>,
    ) -> (State, PyResult<Bound<'py, PyAny>>) {
        let py = args.py();
        let thrown = match waiting.awaited.throw(py) {
            Ok(Some(throw)) => throw.call1(args),
            Ok(None) => Err(raised(args).unwrap_or_else(|error| error)),
            Err(error) => Err(error),
        };
        match thrown {
            Ok(next) => (State::Waiting(waiting), Ok(next)),
            // The wait is over, and nothing was raised.
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                waiting.end(py);
                let (after, sent) = self.ask(py, Some(waiting.searched));
                (after, sent.and_then(given))
            }
            Err(error) => {
                waiting.end(py);
                (State::Done, Err(error))
            }
        }
    }

    /// Ends it without a word: the iterator that has to be closed as well, if there is one.
    fn end(&self, py: Python<'_>) -> PyResult<Option<Own<PyAny>>> {
        match self.replace(py, State::Done) {
            State::Waiting(waiting) => {
                waiting.end(py);
                Ok(None)
            }
            State::Passed(coroutine) => Ok(Some(coroutine)),
            State::Running => {
                drop(self.replace(py, State::Running));
                Err(PyValueError::new_err("coroutine already executing"))
            }
            State::Created | State::Done => Ok(None),
        }
    }
}

/// What `send()` and `throw()` give: a result is an exception.
fn given(sent: PySendResult<'_>) -> PyResult<Bound<'_, PyAny>> {
    match sent {
        PySendResult::Next(next) => Ok(next),
        PySendResult::Return(result) => Err(PyStopIteration::new_err((result.unbind(),))),
    }
}

fn reused() -> PyErr {
    PyRuntimeError::new_err("cannot reuse already awaited coroutine")
}

/// Passes a value on to asyncio's own coroutine.
fn pass<'py>(
    coroutine: Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> (State, PyResult<PySendResult<'py>>) {
    let sent = send_to(&coroutine, value);
    match sent {
        Ok(PySendResult::Next(_)) => (State::Passed(Own::new(coroutine)), sent),
        _ => (State::Done, sent),
    }
}

/// Sends to a coroutine, which PyO3 takes for no iterator.
fn send_to<'py>(
    coroutine: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> PyResult<PySendResult<'py>> {
    let py = coroutine.py();
    let mut result = std::ptr::null_mut();
    // SAFETY: both objects are live. The result is a new reference, or null with an exception set.
    unsafe {
        let how = ffi::PyIter_Send(coroutine.as_ptr(), value.as_ptr(), &raw mut result);
        let result = Bound::from_owned_ptr_or_err(py, result)?;
        Ok(match how {
            ffi::PySendResult::PYGEN_NEXT => PySendResult::Next(result),
            _ => PySendResult::Return(result),
        })
    }
}

/// Whether a reader has functions of its own in the place of those that reading rests on.
fn has_functions(fields: &Bound<'_, PyDict>) -> bool {
    let py = fields.py();
    fields.len() != READER_FIELDS
        && [
            intern!(py, "read"),
            intern!(py, "readuntil"),
            intern!(py, "_wait_for_data"),
            intern!(py, "_maybe_resume_transport"),
        ]
        .into_iter()
        .any(|name| fields.contains(name).unwrap_or(true))
}

/// What there is of a line.
enum Line {
    /// All of it, of this length.
    Here(usize),
    Missing(Searched),
    /// More than the limit.
    TooLong,
}

/// Looks for the end of what `readuntil()` gives.
fn until(
    fields: &Bound<'_, PyDict>,
    buffer: &Held<'_>,
    separator: &Bound<'_, PyBytes>,
    searched: Searched,
) -> PyResult<Line> {
    let py = fields.py();
    let (there, end) = (buffer.len(), separator.as_bytes().len());
    let Some(limit) = limit_of(fields) else {
        return Ok(Line::TooLong);
    };
    let offset = searched.begin(buffer);
    let found = if there - offset < end {
        None
    } else {
        let object = match buffer {
            Held::Array(array) => array.as_any(),
            Held::Bytes(bytes) => bytes.as_any(),
        };
        let found = object.call_method1(intern!(py, "find"), (separator, offset))?;
        usize::try_from(found.extract::<isize>()?).ok()
    };
    // Where it begins, or the first position at which it still can.
    let begin = found.unwrap_or_else(|| (there + 1).saturating_sub(end).max(offset));
    Ok(match found {
        _ if begin > limit => Line::TooLong,
        Some(begin) => Line::Here(begin + end),
        None => Line::Missing(Searched {
            buffer: address(buffer),
            offset: begin,
            waits: searched.waits,
        }),
    })
}

fn limit_of(fields: &Bound<'_, PyDict>) -> Option<usize> {
    let limit = field(fields, &reader::LIMIT)?;
    limit.cast_exact::<PyInt>().ok()?.extract().ok()
}

/// `_maybe_resume_transport()`.
#[inline]
fn resume(fields: &Bound<'_, PyDict>, left: usize) -> PyResult<()> {
    if is_false(fields, &reader::PAUSED) || limit_of(fields).is_some_and(|limit| left > limit) {
        return Ok(());
    }
    set_field(fields, &reader::PAUSED, &PyBool::new(fields.py(), false))?;
    match field(fields, &reader::TRANSPORT) {
        Some(transport) => transport
            .call_method0(intern!(fields.py(), "resume_reading"))
            .map(drop),
        None => Ok(()),
    }
}

/// Begins to wait as `_wait_for_data` does.
fn wait<'py>(
    fields: &Bound<'py, PyDict>,
    searched: Searched,
) -> PyResult<(Waiting, PySendResult<'py>)> {
    let (awaited, first) = Awaited::begin(fields)?;
    let waiting = Waiting {
        fields: Own::new(fields.clone()),
        awaited,
        searched,
    };
    match first {
        Ok(first) => Ok((waiting, first)),
        Err(error) => {
            waiting.end(fields.py());
            Err(error)
        }
    }
}

/// Whether a writer's `drain()` has nothing to wait for and nothing to raise.
fn is_drained(writer: &Bound<'_, PyAny>) -> Option<bool> {
    let py = writer.py();
    let streams = Streams::get(py)?;
    let fields = attributes(writer)?;
    let of_writer = field(&fields, &writer::READER)?;
    if !of_writer.is_none() {
        if !streams.reader.knows(&of_writer) {
            return None;
        }
        let fields = attributes(&of_writer)?;
        if !is_none(&fields, &reader::EXCEPTION)
            || (fields.len() != READER_FIELDS && fields.contains(intern!(py, "exception")).ok()?)
        {
            return None;
        }
    }
    let of_writer = field(&fields, &writer::PROTOCOL)?;
    if !streams.protocol.knows(&of_writer) {
        return None;
    }
    let transport = field(&fields, &writer::TRANSPORT)?;
    let closing = match usual(&transport) {
        Some(transport) => transport.get().base(py).is_closing(),
        None => {
            let closing = transport.call_method0(intern!(py, "is_closing"));
            closing.ok()?.is_truthy().ok()?
        }
    };
    if closing {
        return None;
    }
    let fields = attributes(&of_writer)?;
    Some(
        is_false(&fields, &protocol::LOST)
            && is_false(&fields, &protocol::PAUSED)
            && !fields.contains(intern!(py, "_drain_helper")).ok()?,
    )
}

#[pymethods]
impl Coroutine {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.send(py.None().bind(py))
    }

    /// Goes on with this result of what was awaited.
    fn send<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        given(self.advance(value.py(), value)?)
    }

    /// Goes on with what was awaited having raised.
    #[pyo3(signature = (*args))]
    fn throw<'py>(&self, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        match args.len() {
            1..=3 => {}
            0 => {
                return Err(PyTypeError::new_err(
                    "throw expected at least 1 argument, got 0",
                ));
            }
            given => {
                return Err(PyTypeError::new_err(format!(
                    "throw expected at most 3 arguments, got {given}"
                )));
            }
        }
        let (after, thrown) = match self.replace(py, State::Running) {
            State::Passed(coroutine) => {
                let coroutine = coroutine.bind(py).clone();
                match coroutine.call_method1(intern!(py, "throw"), args) {
                    Ok(next) => (State::Passed(Own::new(coroutine)), Ok(next)),
                    Err(error) => (State::Done, Err(error)),
                }
            }
            State::Waiting(waiting) => self.throw_into(waiting, args),
            State::Running => (
                State::Running,
                Err(PyValueError::new_err("coroutine already executing")),
            ),
            before => match raised(args) {
                Ok(_) if matches!(before, State::Done) => (State::Done, Err(reused())),
                Ok(error) => (State::Done, Err(error)),
                // Nothing that can be raised.
                Err(error) => (before, Err(error)),
            },
        };
        drop(self.replace(py, after));
        thrown
    }

    /// Ends it: what it waits for it does not want any more.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.end(py)? {
            Some(coroutine) => coroutine.call_method0(py, intern!(py, "close")).map(drop),
            None => Ok(()),
        }
    }

    /// Whether its code runs.
    #[getter]
    fn cr_running(&self, py: Python<'_>) -> bool {
        (self.state.get(py).try_borrow()).is_ok_and(|state| matches!(*state, State::Running))
    }

    /// Whether it waits.
    #[getter]
    fn cr_suspended(&self, py: Python<'_>) -> bool {
        (self.state.get(py).try_borrow())
            .is_ok_and(|state| matches!(*state, State::Waiting(_) | State::Passed(_)))
    }

    /// None: there is no frame. So `inspect` takes what was not begun for something that is closed.
    #[getter]
    fn cr_frame(&self) -> Option<Py<PyAny>> {
        None
    }

    /// None: it is not compiled from Python.
    #[getter]
    fn cr_code(&self) -> Option<Py<PyAny>> {
        None
    }

    /// None: where it was made is not kept.
    #[getter]
    fn cr_origin(&self) -> Option<Py<PyAny>> {
        None
    }

    // There is no `cr_await`: early 3.14 takes what has one for something with a frame
    // (`asyncio.print_call_graph`).

    #[getter]
    fn __name__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.call
            .get(py)
            .function
            .getattr(py, intern!(py, "__name__"))
    }

    #[getter]
    fn __qualname__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.call
            .get(py)
            .function
            .getattr(py, intern!(py, "__qualname__"))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let name = slf.get().__qualname__(slf.py())?;
        Ok(format!("<coroutine object {name} at {:p}>", slf.as_ptr()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let call = self.call.visit();
        visit.call(&*call.function)?;
        visit.call(&*call.object)?;
        if let Argument::Separator(separator) = &call.argument {
            visit.call(&**separator)?;
        }
        match self.state.visit().try_borrow().as_deref() {
            Ok(State::Waiting(waiting)) => {
                visit.call(&*waiting.fields)?;
                waiting.awaited.visit(&visit)
            }
            Ok(State::Passed(coroutine)) => visit.call(&**coroutine),
            _ => Ok(()),
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        if matches!(*self.state.get(py).borrow(), State::Created) {
            // Nobody has awaited it: its end says so.
            return;
        }
        let ended = self.end(py);
        drop(ended);
    }
}

/// The exception that these arguments of `throw()` are.
///
/// # Errors
/// When they are none.
pub fn raised(args: &Bound<'_, PyTuple>) -> PyResult<PyErr> {
    let py = args.py();
    let argument = |at| args.get_item(at).ok().filter(|given| !given.is_none());
    let (kind, value) = (args.get_item(0)?, argument(1));
    let traceback = match argument(2).map(Bound::cast_into::<PyTraceback>) {
        Some(Err(_)) => {
            return Err(PyTypeError::new_err(
                "throw() third argument must be a traceback object",
            ));
        }
        Some(Ok(traceback)) => Some(traceback),
        None => None,
    };
    let is_class = match kind.cast::<PyType>() {
        Ok(kind) => kind.is_subclass_of::<PyBaseException>()?,
        Err(_) => false,
    };
    let made = if is_class {
        match value {
            Some(value)
                if value.is_instance_of::<PyBaseException>() && value.is_instance(&kind)? =>
            {
                value
            }
            Some(value) => match value.cast::<PyTuple>() {
                Ok(values) => kind.call1(values)?,
                Err(_) => kind.call1((value,))?,
            },
            None => kind.call0()?,
        }
    } else if !kind.is_instance_of::<PyBaseException>() {
        return Err(PyTypeError::new_err(format!(
            "exceptions must be classes or instances deriving from BaseException, not {}",
            kind.get_type().name()?
        )));
    } else if value.is_some() {
        return Err(PyTypeError::new_err(
            "instance exception may not have a separate value",
        ));
    } else {
        kind
    };
    let error = PyErr::from_value(made);
    if traceback.is_some() {
        error.set_traceback(py, traceback);
    }
    Ok(error)
}

impl Drop for Coroutine {
    fn drop(&mut self) {
        match std::mem::replace(self.state.get_mut().get_mut(), State::Done) {
            State::Created => from_drop(|py| {
                if let Err(error) = warn_never_awaited(py, self) {
                    error.write_unraisable(py, None);
                }
            }),
            // A coroutine that is freed runs what stands in its `finally`.
            State::Waiting(waiting) => from_drop(|py| waiting.end(py)),
            _ => {}
        }
    }
}

/// What the interpreter says of a coroutine.
fn warn_never_awaited(py: Python<'_>, coroutine: &Coroutine) -> PyResult<()> {
    let name = coroutine.__qualname__(py)?;
    let message = CString::new(format!("coroutine '{name}' was never awaited"))?;
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &message, 1)
}
