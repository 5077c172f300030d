//! asyncio's streams without Python code between the socket and the program.
//!
//! # Facts
//!
//! A request of 1 KiB over `asyncio.StreamReader` and `StreamWriter` runs ten functions of `streams.py`: four
//! to put the bytes into the reader and to wake whoever waits, three to read, three for `drain()`. They do
//! nearly nothing. A server takes 25,000 instructions of its own for such a request, and 3,200 over a
//! `Protocol` (CPython 3.11, one connection); with what is here, 11,350: mostly the task's steps through the
//! loop, the program's own coroutine and what is looked up because a program may have replaced it.
//!
//! # The choice
//!
//! The objects stay asyncio's: a reader is made by asyncio, and its state stands in its attributes,
//! `_buffer` and `_waiter` and the others, where asyncio's own functions find it. What the functions do in
//! the usual case is done here, on those attributes: received bytes are kept (`feed`), `write` passes them to
//! the transport, and `read`, `readexactly`, `readuntil`, `readline` and `drain` give an awaitable
//! (`coroutine`) that is done at once if it can be, and waits for one of our futures (`awaited`) if not. The unusual case (an exception, an end, a limit, an argument of another type) is not
//! written twice: asyncio's own function is called, from its beginning.
//!
//! Only what has not been changed is replaced. [`Class`] knows the functions that asyncio came with, and the
//! interpreter gives a class another version number when any attribute of it changes: so a comparison of
//! two integers tells that a class is as it was. What stands on an instance is looked for each time.
//!
//! Methods are replaced by giving an object a class of ours over asyncio's (`method`), which adds no field
//! and has the same name; one property hides that a buffer may be `bytes` (`objects`). So `type(reader)` is not `asyncio.StreamReader`; `isinstance` holds.
//!
//! # What it costs
//!
//! What `streams.py` does in the usual case is said a second time, and has to be compared with each new
//! version of Python. `type(reader) is asyncio.StreamReader` is false. Readers and writers have a dictionary
//! for their attributes from the beginning, 80 bytes each.

mod awaited;
mod coroutine;
mod feed;
mod method;
mod objects;

use std::cell::Cell;

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};

pub use coroutine::raised;
pub use feed::Feed;
pub use objects::{_reader_buffer, _set_reader_buffer, version};

use crate::gil::OnGil;
use coroutine::Question;
use objects::{
    attributes, learn, protocol as protocol_fields, reader as reader_fields,
    writer as writer_fields,
};

/// The classes of `asyncio.streams`, and ours over them.
pub struct Streams {
    pub reader: Class,
    pub writer: Class,
    pub protocol: Class,
    /// asyncio's `StreamReaderProtocol.connection_made`, with our class of writers in the place of asyncio's; and the
    /// names of the module `asyncio.streams`.
    connection_made: Option<(Py<PyAny>, Py<PyDict>)>,
    /// A reader, a writer and a protocol from which it was learnt where their fields are: see [`objects::Field`].
    _models: Vec<[Py<PyAny>; 3]>,
}

/// A class of asyncio's.
pub struct Class {
    /// asyncio's, and the version number with which it was last seen unchanged.
    original: (Py<PyType>, OnGil<Cell<u32>>),
    /// Ours over it, if there is one; likewise.
    ours: Option<(Py<PyType>, OnGil<Cell<u32>>)>,
    /// What the class must have: its own functions, under these names.
    functions: Vec<(Py<PyString>, Py<PyAny>)>,
    /// What it must not have, because instances do.
    absent: Vec<Py<PyString>>,
    /// What our class must have.
    methods: Vec<(Py<PyString>, Py<PyAny>)>,
}

static STREAMS: PyOnceLock<Streams> = PyOnceLock::new();

/// What makes attributes something else than what stands in an object's dictionary.
const ACCESS: [&str; 2] = ["__getattribute__", "__setattr__"];

impl Streams {
    /// The classes, unless asyncio's were changed before this package was imported.
    #[inline]
    pub fn get(py: Python<'_>) -> Option<&Streams> {
        STREAMS.get(py)
    }

    /// Whether a protocol is one that [`Feed`] knows.
    pub fn is_protocol(protocol: &Bound<'_, PyAny>) -> bool {
        Streams::get(protocol.py()).is_some_and(|streams| streams.protocol.has_exact(protocol))
    }

    /// Gives the reader of a protocol our class, and says what has to be called in the place of the protocol's
    /// `connection_made`, so that a writer that is made there is of our class from its beginning.
    pub fn adopt<'py>(protocol: &Bound<'py, PyAny>) -> Option<&'py Bound<'py, PyAny>> {
        let py = protocol.py();
        let streams = Streams::get(py)?;
        if !streams.protocol.knows(protocol) {
            return None;
        }
        let fields = attributes(protocol)?;
        let reader = feed::reader_of(&fields)?;
        streams.reader.adopt(&reader);
        let (connection_made, module) = streams.connection_made.as_ref()?;
        let usual = !fields.contains(intern!(py, "connection_made")).ok()?
            && is_original(
                module.bind(py),
                intern!(py, "StreamWriter"),
                &streams.writer,
            )
            && streams.writer.is_as_it_was(py);
        usual.then(|| connection_made.bind(py))
    }
}

/// Whether the module `asyncio.streams` has this class, as it was, under its name.
fn is_original(module: &Bound<'_, PyDict>, name: &Bound<'_, PyString>, class: &Class) -> bool {
    let found = module.get_item(name);
    found.is_ok_and(|found| found.is_some_and(|found| found.is(&class.original.0)))
}

/// Whether readers that asyncio would make can be made of our class.
#[pyfunction]
pub fn _makes_readers(py: Python<'_>) -> bool {
    let Some(streams) = Streams::get(py) else {
        return false;
    };
    let Some((_, module)) = &streams.connection_made else {
        return false;
    };
    let module = module.bind(py);
    is_original(module, intern!(py, "StreamReader"), &streams.reader)
        && is_original(
            module,
            intern!(py, "StreamReaderProtocol"),
            &streams.protocol,
        )
        && streams.reader.is_as_it_was(py)
}

impl Class {
    fn new(original: &Bound<'_, PyType>, functions: &[String], absent: &[&str]) -> PyResult<Class> {
        let py = original.py();
        let functions = functions
            .iter()
            .map(String::as_str)
            .chain(ACCESS)
            .map(|name| {
                let name = PyString::intern(py, name);
                let function = original.getattr(&name)?;
                Ok((name.unbind(), function.unbind()))
            });
        let absent = absent.iter().chain(&["__getattr__"]);
        Ok(Class {
            original: (original.clone().unbind(), OnGil::new(Cell::new(0))),
            ours: None,
            functions: functions.collect::<PyResult<_>>()?,
            absent: absent
                .map(|name| PyString::intern(py, name).unbind())
                .collect(),
            methods: Vec::new(),
        })
    }

    /// Makes `ours`, a class over asyncio's, answer these questions itself; and it has these properties.
    fn answered_by(
        mut self,
        ours: &Bound<'_, PyType>,
        questions: &[(&'static str, Question)],
        properties: &[&'static str],
    ) -> PyResult<Class> {
        let py = ours.py();
        let original = self.original.0.bind(py);
        if !ours.is_subclass(original)? {
            return Err(PyTypeError::new_err("not over asyncio's class"));
        }
        for (name, question) in questions {
            let name = PyString::intern(py, name);
            let function = original.getattr(&name)?;
            let method = method::new(*question, &function, &name, ours)?;
            ours.setattr(&name, &method)?;
            self.methods.push((name.unbind(), method.unbind()));
        }
        for name in properties {
            let name = PyString::intern(py, name);
            let property = ours.getattr(&name)?;
            self.methods.push((name.unbind(), property.unbind()));
        }
        self.ours = Some((ours.clone().unbind(), OnGil::new(Cell::new(0))));
        Ok(self)
    }

    /// Whether an object is of asyncio's class or of ours, and of no other.
    #[inline]
    fn has_exact(&self, object: &Bound<'_, PyAny>) -> bool {
        let class = object.get_type_ptr();
        self.original.0.as_ptr() == class.cast()
            || (self.ours.as_ref()).is_some_and(|(ours, _)| ours.as_ptr() == class.cast())
    }

    /// Whether an object is of asyncio's class or of ours, and that class is as it was.
    #[inline]
    fn knows(&self, object: &Bound<'_, PyAny>) -> bool {
        if self.original.0.as_ptr() == object.get_type_ptr().cast() {
            let (class, seen) = &self.original;
            return self.is_unchanged(class.bind(object.py()), seen, &[]);
        }
        self.has_ours(object)
    }

    /// Whether an object is of our class, and that is as it was.
    #[inline]
    fn has_ours(&self, object: &Bound<'_, PyAny>) -> bool {
        let Some((class, seen)) = &self.ours else {
            return false;
        };
        class.as_ptr() == object.get_type_ptr().cast()
            && self.is_unchanged(class.bind(object.py()), seen, &self.methods)
    }

    #[inline]
    fn is_unchanged(
        &self,
        class: &Bound<'_, PyType>,
        seen: &OnGil<Cell<u32>>,
        methods: &[(Py<PyString>, Py<PyAny>)],
    ) -> bool {
        // A class that is changed, or one below it, loses its number and gets one that no class has had.
        let number = version(class);
        if number != 0 && number == seen.get(class.py()).get() {
            return true;
        }
        self.compare(class, seen, methods)
    }

    #[cold]
    fn compare(
        &self,
        class: &Bound<'_, PyType>,
        seen: &OnGil<Cell<u32>>,
        methods: &[(Py<PyString>, Py<PyAny>)],
    ) -> bool {
        let py = class.py();
        let original = self.original.0.bind(py);
        let has = |class: &Bound<'_, PyType>, name: &Py<PyString>, value: &Py<PyAny>| {
            class.getattr(name).is_ok_and(|found| found.is(value))
        };
        let unchanged = self
            .functions
            .iter()
            .all(|(name, function)| has(original, name, function))
            && methods
                .iter()
                .all(|(name, method)| has(class, name, method))
            && (self.functions.iter())
                .filter(|(name, _)| !methods.iter().any(|(replaced, _)| replaced.is(name)))
                .all(|(name, function)| has(class, name, function))
            && (self.absent.iter())
                .filter(|name| !methods.iter().any(|(ours, _)| ours.is(*name)))
                .all(|name| matches!(class.getattr_opt(name), Ok(None)));
        // The lookups above have given the class its number.
        seen.get(py).set(if unchanged { version(class) } else { 0 });
        unchanged
    }

    /// Whether asyncio's class and ours are as they were.
    fn is_as_it_was(&self, py: Python<'_>) -> bool {
        let (original, seen) = &self.original;
        self.is_unchanged(original.bind(py), seen, &[])
            && (self.ours.as_ref())
                .is_some_and(|(ours, seen)| self.is_unchanged(ours.bind(py), seen, &self.methods))
    }

    /// Gives an object of asyncio's class ours.
    fn adopt(&self, object: &Bound<'_, PyAny>) {
        let py = object.py();
        let Some((ours, _)) = &self.ours else { return };
        if self.original.0.as_ptr() == object.get_type_ptr().cast() && self.knows(object) {
            // An object that refuses keeps asyncio's.
            let _ = object.setattr(intern!(py, "__class__"), ours);
        }
    }
}

/// The class that another stands over.
fn base<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    Ok(class.getattr("__base__")?.cast_into()?)
}

/// Says which classes stand over asyncio's, and what they, and the protocol's, must have for their usual case:
/// the names of asyncio's functions. `models` are readers, writers and protocols that nobody uses, one of each class.
/// Called once, when the package is imported.
#[pyfunction]
pub fn _use_streams(
    reader: &Bound<'_, PyType>,
    writer: &Bound<'_, PyType>,
    protocol: &Bound<'_, PyType>,
    replaced: (Vec<String>, Vec<String>, Vec<String>),
    models: Vec<[Bound<'_, PyAny>; 3]>,
    connection_made: Option<(Py<PyAny>, Py<PyDict>)>,
) -> PyResult<()> {
    let py = reader.py();
    method::ready(py)?;
    for model in &models {
        for (model, fields) in model.iter().zip([
            &reader_fields::ALL[..],
            &writer_fields::ALL,
            &protocol_fields::ALL,
        ]) {
            learn(model, fields)?;
        }
    }
    let questions = [
        ("read", Question::Read),
        ("readexactly", Question::ReadExactly),
        ("readuntil", Question::ReadUntil),
        ("readline", Question::ReadLine),
    ];
    let (of_reader, of_writer, of_protocol) = replaced;
    let fields = [
        "_limit",
        "_loop",
        "_buffer",
        "_eof",
        "_waiter",
        "_exception",
        "_transport",
        "_paused",
    ];
    let reader = Class::new(&base(reader)?, &of_reader, &fields)?.answered_by(
        reader,
        &questions,
        &["_buffer"],
    )?;
    let writer = Class::new(
        &base(writer)?,
        &of_writer,
        &["_transport", "_protocol", "_reader"],
    )?
    .answered_by(
        writer,
        &[("drain", Question::Drain), ("write", Question::Write)],
        &[],
    )?;
    let protocol = Class::new(
        protocol,
        &of_protocol,
        &[
            "_stream_reader_wr",
            "_client_connected_cb",
            "_connection_lost",
            "_paused",
        ],
    )?;
    let streams = Streams {
        reader,
        writer,
        protocol,
        connection_made,
        _models: (models.into_iter())
            .map(|models| models.map(Bound::unbind))
            .collect(),
    };
    // Said twice, the first ones hold.
    let _ = STREAMS.set(py, streams);
    Ok(())
}
