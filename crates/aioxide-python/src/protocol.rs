//! Python protocols, as the engine calls them.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::process::ExitStatus;
use std::rc::{Rc, Weak};

use aioxide::event_loop::RECEIVE_BUFFER;
use aioxide::process::{ProcessProtocol, SubprocessTransport, UNKNOWN_EXIT_CODE, return_code};
use aioxide::protocols::{BaseProtocol, Failure, Input, MessageProtocol, Received, StreamProtocol};
use aioxide::sys;
use aioxide::sys::address::SocketAddress;
use aioxide::transports::{AnyTransport, DatagramTransport, Transport};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyTuple, PyWeakrefReference};

use crate::call::{Call, method};
use crate::context;
use crate::convert::with_writable;
use crate::errors::{Exception, Raised, apart, from_io};
use crate::handles::Handle;
use crate::host::{PyEventLoop, PyHost};
use crate::imports;
use crate::peers::Peers;
use crate::process;
use crate::receive::{self, Failed};
use crate::recycled;
use crate::streams::{Feed, Streams};
use crate::tls::TlsObjects;
use crate::transport::{Class, PyTransport};

/// What stands between a transport of the engine and the Python objects of its program. It is the
/// engine's protocol of any shape: which one, its maker decides.
pub struct PyProtocol {
    this: Weak<PyProtocol>,
    engine: PyEventLoop,
    /// `None` when the connection is lost.
    protocol: Cell<Option<Py<PyAny>>>,
    kind: Cell<Kind>,
    /// The class of the transport's object.
    class: Class,
    /// A copy of the context that the transport was made in. What is received is delivered in it. `None`
    /// while it is empty: one that is empty is lent by the loop then (`context::lend`).
    context: Cell<Option<Py<PyAny>>>,
    /// The transport's Python object.
    face: Cell<Face>,
    /// Whether the loop refers to the transport.
    held: Cell<bool>,
    /// Whether `connection_lost` was called.
    over: Cell<bool>,
    /// Whether a callback runs in the context: another inside of it runs where that does.
    inside: Cell<bool>,
    /// Whether the program has set an attribute on the transport's object, or has its dictionary.
    attributes: Cell<bool>,
    /// Bytes in the last receive, or 4 GiB: the next is probably as large. A quarter of what it was, where the
    /// last was smaller: a stream of large pieces has small ones in between, where a piece is a little
    /// more than a packet.
    last_receive: Cell<u32>,
    /// Made when the first of it is needed.
    rare: OnceCell<Box<Rare>>,
}

/// What few connections have: a box, so that the others are small.
#[derive(Default)]
pub struct Rare {
    /// What `get_extra_info` gives for a socket or a pipe: the `TransportSocket`, once it was asked
    /// for, or the file that the transport was made of.
    pub file: RefCell<Option<Py<PyAny>>>,
    /// Whom everything is sent to, as the program knows the address.
    pub remote: RefCell<Option<Py<PyAny>>>,
    /// The addresses of those who have sent datagrams, as the program knows them.
    peers: Peers,
    /// The protocols of a process's pipes.
    pipes: RefCell<Vec<Rc<PyProtocol>>>,
    /// The TLS that the transport is a layer of.
    tls: OnceCell<Rc<TlsObjects>>,
}

/// What the exception handler is told of a `data_received` that has raised.
const DATA_RECEIVED_FAILED: &str = "Fatal error: protocol.data_received() call failed.";

/// What it is told of a `get_buffer` that has raised.
const GET_BUFFER_FAILED: &str = "Fatal error: protocol.get_buffer() call failed.";

/// Receives into what `get_buffer` gives, and calls `buffer_updated`.
fn fill_buffer(protocol: &Bound<'_, PyAny>, input: &Input<'_, PyHost>) -> Received<Exception> {
    let py = protocol.py();
    let raised = |message, raised: Raised| Received::Raised(message, raised.fetch(py).into());
    let hint = PyInt::new(py, -1);
    let buffer = method(protocol, intern!(py, "get_buffer"), [hint.as_any()]).and_then(|buffer| {
        if Raised::of(py, receive::is_empty(&buffer))? {
            let message = "get_buffer() returned an empty buffer";
            return Err(Raised::set(py, PyRuntimeError::new_err(message)));
        }
        Ok(buffer)
    });
    let buffer = match buffer {
        Ok(buffer) => buffer,
        Err(error) => return raised(GET_BUFFER_FAILED, error),
    };
    let received = match with_writable(&buffer, |memory| input.receive(memory)) {
        Ok(received) => received,
        Err(error) => return raised("Fatal read error on socket transport", error),
    };
    let count = match Received::count(received) {
        Ok(count) => count,
        Err(end) => return end,
    };
    let count = PyInt::new(py, count);
    match method(protocol, intern!(py, "buffer_updated"), [count.as_any()]) {
        Ok(_) => Received::Data,
        Err(error) => raised("Fatal error: protocol.buffer_updated() call failed.", error),
    }
}

/// How a receive that has failed has ended.
fn not_received(failed: Failed) -> Received<Exception> {
    match failed {
        Failed::Socket(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
        Failed::Socket(error) => Received::Failed(error),
        Failed::Memory(error) => {
            Received::Raised("Fatal read error on socket transport", error.into())
        }
    }
}

/// Which callbacks get what is received.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `data_received`.
    Data,
    /// That of asyncio's streams: the reader, where nothing about it is unusual.
    Streams,
    /// `get_buffer` and `buffer_updated`.
    Buffered,
    /// `datagram_received` and `error_received`.
    Datagrams,
    /// A subprocess's protocol, for the process itself.
    Process,
    /// A subprocess's protocol, for the pipe of this number: `pipe_data_received`.
    Pipe(u8),
}

/// The Python object of a transport. The engine keeps it alive exactly as long as the loop refers
/// to the transport; after that, a program that drops its last reference closes the connection.
#[derive(Default)]
enum Face {
    #[default]
    Unmade,
    Held(Py<PyAny>),
    Weak(Py<PyWeakrefReference>),
}

impl PyProtocol {
    /// The engine's side of a protocol for bytes, whose transport is of `class`. Must be called in
    /// the context that its callbacks get; likewise below.
    pub fn for_stream(
        engine: &PyEventLoop,
        protocol: Bound<'_, PyAny>,
        class: Class,
    ) -> PyResult<Rc<PyProtocol>> {
        let kind = Kind::of(&protocol)?;
        PyProtocol::new(engine, protocol, kind, class)
    }

    /// The engine's side of a protocol for datagrams.
    pub fn for_datagrams(
        engine: &PyEventLoop,
        protocol: Bound<'_, PyAny>,
    ) -> PyResult<Rc<PyProtocol>> {
        PyProtocol::new(engine, protocol, Kind::Datagrams, Class::Datagram)
    }

    /// The engine's side of a protocol for a child process.
    pub fn for_process(
        engine: &PyEventLoop,
        protocol: Bound<'_, PyAny>,
    ) -> PyResult<Rc<PyProtocol>> {
        // The object of a process is none of the transports'; `class` is for those.
        PyProtocol::new(engine, protocol, Kind::Process, Class::Socket)
    }

    fn new(
        engine: &PyEventLoop,
        protocol: Bound<'_, PyAny>,
        kind: Kind,
        class: Class,
    ) -> PyResult<Rc<PyProtocol>> {
        let py = protocol.py();
        // Whoever has no such method is no protocol: asyncio finds out at once too.
        protocol.getattr(intern!(py, "connection_made"))?;
        let context = context::copy_current(py)?.unbind();
        let context = match kind {
            // Shared with the pipes.
            Kind::Process => Some(context),
            _ => context::unless_empty(py, context),
        };
        Ok(PyProtocol::of_parts(
            engine,
            protocol.unbind(),
            kind,
            class,
            context,
        ))
    }

    fn of_parts(
        engine: &PyEventLoop,
        protocol: Py<PyAny>,
        kind: Kind,
        class: Class,
        context: Option<Py<PyAny>>,
    ) -> Rc<PyProtocol> {
        Rc::new_cyclic(|this| PyProtocol {
            this: Weak::clone(this),
            engine: engine.clone(),
            protocol: Cell::new(Some(protocol)),
            kind: Cell::new(kind),
            class,
            context: Cell::new(context),
            face: Cell::default(),
            held: Cell::new(false),
            over: Cell::new(false),
            inside: Cell::new(false),
            attributes: Cell::new(false),
            last_receive: Cell::new(0),
            rare: OnceCell::new(),
        })
    }

    /// The Python side of a transport's protocol.
    pub fn of(transport: &AnyTransport<PyHost>) -> Option<Rc<PyProtocol>> {
        let mut found = None;
        let mut look = |any: &dyn Any| {
            found = any
                .downcast_ref::<PyProtocol>()
                .and_then(|protocol| protocol.this.upgrade());
        };
        match transport {
            AnyTransport::Stream(transport) => transport.stream_protocol()?.show(&mut look),
            AnyTransport::Datagram(transport) => transport.message_protocol()?.show(&mut look),
        }
        found
    }

    /// Says which objects the TLS of the connection is made of.
    pub fn set_tls(&self, objects: Rc<TlsObjects>) {
        // Said twice, the first ones hold.
        let _ = self.rare().tls.set(objects);
    }

    /// The objects of the connection's TLS, if it has any.
    pub fn tls(&self) -> Option<&Rc<TlsObjects>> {
        self.rare.get()?.tls.get()
    }

    /// Whether the transport's object may have attributes of the program's.
    pub fn may_have_attributes(&self) -> bool {
        self.attributes.get()
    }

    /// Says that it may, from now on.
    pub fn note_attributes(&self) {
        self.attributes.set(true);
    }

    pub fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    pub fn rare_if_any(&self) -> Option<&Rare> {
        self.rare.get().map(|rare| &**rare)
    }

    /// Gives what is received from now on to another protocol.
    pub fn set(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        if matches!(self.kind.get(), Kind::Data | Kind::Streams | Kind::Buffered) {
            self.kind.set(Kind::of(&protocol)?);
        }
        if let Some(rare) = self.rare.get() {
            for pipe in &*rare.pipes.borrow() {
                pipe.set(protocol.clone())?;
            }
        }
        let before = self.protocol.replace(Some(protocol.unbind()));
        drop(before);
        Ok(())
    }

    /// The protocol, until the connection is lost.
    pub fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let protocol = self.protocol.take();
        let found = protocol.as_ref().map(|protocol| protocol.bind(py).clone());
        self.protocol.set(protocol);
        found
    }

    /// The transport's Python object; made when it is first asked for.
    pub fn face<'py>(
        &self,
        py: Python<'py>,
        transport: AnyTransport<PyHost>,
    ) -> PyResult<Bound<'py, PyTransport>> {
        if let Some(face) = self.made_face(py) {
            return Ok(face.cast_into()?);
        }
        let freed = || PyRuntimeError::new_err("the transport is being freed");
        let this = self.this.upgrade().ok_or_else(freed)?;
        let face = PyTransport::make(py, self.class, transport, this)?;
        self.keep(face.as_any())?;
        Ok(face)
    }

    /// Whom `address` stands for, if the program was given this very object with the last datagram.
    pub fn sender(&self, address: &Bound<'_, PyAny>) -> Option<SocketAddress> {
        self.rare.get()?.peers.address(address)
    }

    /// Calls `error_received` from inside a call of the program's, and in that call's context.
    pub fn tell_error_received(&self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        match self.get(py) {
            Some(protocol) => protocol
                .call_method1(intern!(py, "error_received"), (error.into_value(py),))
                .map(drop),
            None => Ok(()),
        }
    }

    /// Debug mode's note of what becomes of the transport.
    fn log(&self, py: Python<'_>, level: &str, message: &str) {
        let logged = imports::logger(py)
            .and_then(|to| to.call_method1(level, (message, self.made_face(py))));
        if let Err(error) = logged {
            error.write_unraisable(py, None);
        }
    }

    /// Says which object is the transport's.
    pub fn set_face(&self, face: &Bound<'_, PyAny>) -> PyResult<()> {
        self.keep(face)
    }

    /// The class of the transport's object.
    pub fn class(&self) -> Class {
        self.class
    }

    pub fn made_face<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let face = self.face.take();
        let found = match &face {
            Face::Unmade => None,
            Face::Held(face) => Some(face.bind(py).clone()),
            Face::Weak(weak) => weak.bind(py).upgrade(),
        };
        self.face.set(face);
        found
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(rare) = self.rare_if_any() {
            if let Ok(file) = rare.file.try_borrow() {
                visit.call(&*file)?;
            }
            if let Ok(remote) = rare.remote.try_borrow() {
                visit.call(&*remote)?;
            }
            if let Some(tls) = rare.tls.get() {
                tls.traverse(visit)?;
            }
        }
        let context = self.context.take();
        let visited = visit.call(&context);
        self.context.set(context);
        visited?;
        // Nobody runs a collector while it is taken out to be looked at.
        let protocol = self.protocol.take();
        let visited = visit.call(&protocol);
        self.protocol.set(protocol);
        visited
    }

    /// Visits the transport's object, where the loop keeps it alive through this.
    pub fn visit_held_face(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let face = self.face.take();
        let visited = match &face {
            Face::Held(face) => visit.call(face),
            Face::Unmade | Face::Weak(_) => Ok(()),
        };
        self.face.set(face);
        visited
    }

    /// Drops the protocol: for a garbage collector that found a circle.
    pub fn clear(&self) {
        let protocol = self.protocol.take();
        drop(protocol);
    }

    /// Refers to the transport's object strongly or weakly, as the loop does.
    fn keep(&self, face: &Bound<'_, PyAny>) -> PyResult<()> {
        let kept = if self.held.get() {
            Face::Held(face.clone().unbind())
        } else {
            Face::Weak(PyWeakrefReference::new(face)?.unbind())
        };
        let before = self.face.replace(kept);
        drop(before);
        Ok(())
    }

    /// Calls a callback of the protocol in the transport's context.
    fn call<R>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<R>,
    ) -> PyResult<Option<R>> {
        let Some(protocol) = self.get(py) else {
            return Ok(None);
        };
        let called = self.in_context(py, || call(&protocol));
        called.map_err(|raised| raised.fetch(py))?.map(Some)
    }

    /// The same for what is received; whether there was a protocol.
    #[inline]
    fn call_often(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&Bound<'_, PyAny>) -> Result<(), Raised>,
    ) -> Result<bool, Raised> {
        match self.get(py) {
            Some(protocol) => self.in_context(py, || call(&protocol))?.map(|()| true),
            None => Ok(false),
        }
    }

    /// Runs what calls the program in the transport's context. It may end with an exception set in the interpreter.
    #[inline]
    fn in_context<R>(&self, py: Python<'_>, run: impl FnOnce() -> R) -> Result<R, Raised> {
        if self.inside.replace(true) {
            // From inside of a callback: close() tells of an end that has come already.
            return Ok(run());
        }
        let result = match self.own_context(py) {
            Some(context) => context::inside(py, context.as_ptr(), run),
            None => {
                let ran = self.in_lent_context(py, run);
                ran.map(|(result, changed)| {
                    self.context.set(changed);
                    result
                })
            }
        };
        self.inside.set(false);
        result
    }

    /// Runs in an empty context, which is given back to the loop; or to the caller, if it is no longer
    /// empty.
    #[inline]
    fn in_lent_context<R>(
        &self,
        py: Python<'_>,
        run: impl FnOnce() -> R,
    ) -> Result<(R, Option<Py<PyAny>>), Raised> {
        let context = Raised::of(py, context::lend(py))?;
        let result = context::inside(py, context.as_ptr(), run)?;
        let changed = apart(py, || context::unless_empty(py, context));
        Ok((result, changed))
    }

    fn own_context(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let context = self.context.take();
        let found = context.as_ref().map(|context| context.clone_ref(py));
        self.context.set(context);
        found
    }

    /// [`call`](PyProtocol::call) from the engine, of a callback whose result nobody wants.
    fn tell(&self, call: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<()>) -> Result<(), Exception> {
        let told = Python::attach(|py| self.call(py, call).map(drop));
        told.map_err(Exception)
    }

    /// Calls `connection_made`. In a copy of the context: what the callback sets there is not seen
    /// by the others.
    fn tell_made(&self, face: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = face.py();
        let Some(protocol) = self.get(py) else {
            return Ok(());
        };
        let made_by = if self.kind.get() == Kind::Streams && !self.engine.debug() {
            Streams::adopt(&protocol)
        } else {
            None
        };
        let make = || {
            let made = match made_by {
                Some(function) => function.call1((&protocol, face)),
                None => protocol.call_method1(intern!(py, "connection_made"), (face,)),
            };
            made.map(drop)
        };
        match self.own_context(py) {
            Some(context) => context
                .call_method0(py, intern!(py, "copy"))
                .and_then(|copy| context::run(py, &copy, make)),
            None => {
                let made = self.in_lent_context(py, make);
                made.map_err(|raised| raised.fetch(py))?.0
            }
        }
    }

    fn last_receive(&self) -> usize {
        self.last_receive.get() as usize
    }

    fn note_receive(&self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.last_receive
            .set(count.max(self.last_receive.get() / 4));
    }

    /// Receives for `data_received`.
    fn receive_data(&self, py: Python<'_>, input: &Input<'_, PyHost>) -> Received<Exception> {
        let received = if self.last_receive() >= receive::DIRECTLY {
            let room = if self.last_receive() < receive::GUESSED {
                Ok(receive::GUESSED)
            } else {
                input.receivable()
            };
            receive::directly(py, room, RECEIVE_BUFFER, |buffer| input.receive(buffer))
        } else {
            input.with_receive_buffer(|buffer| match input.receive(buffer) {
                Ok(_) => {
                    let spare = &input.event_loop().host().spare_bytes;
                    Ok(spare.filled(py, buffer.bytes()))
                }
                Err(error) => Err(Failed::Socket(error)),
            })
        };
        match received {
            Ok(bytes) => self.deliver(py, bytes),
            Err(failed) => not_received(failed),
        }
    }

    /// Gives bytes to `data_received`; none are the peer's end.
    fn deliver<'py>(&self, py: Python<'py>, bytes: Bound<'py, PyBytes>) -> Received<Exception> {
        let count = bytes.as_bytes().len();
        if count == 0 {
            return Received::End;
        }
        self.note_receive(count);
        let called = self.call_often(py, |protocol| match self.kind.get() {
            Kind::Pipe(number) => {
                let name = intern!(py, "pipe_data_received");
                Raised::of(py, protocol.call_method1(name, (number, &bytes))).map(drop)
            }
            _ => method(protocol, intern!(py, "data_received"), [bytes.as_any()]).map(drop),
        });
        match called {
            Ok(_) => Received::Data,
            Err(raised) => Received::Raised(DATA_RECEIVED_FAILED, raised.fetch(py).into()),
        }
    }

    /// Receives for the reader of asyncio's streams: no Python code stands between.
    fn receive_for_reader(&self, py: Python<'_>, input: &Input<'_, PyHost>) -> Received<Exception> {
        if self.engine.debug() {
            return self.receive_data(py, input);
        }
        let Some(protocol) = self.get(py) else {
            return self.receive_data(py, input);
        };
        if self.last_receive() >= receive::DIRECTLY {
            return self.receive_much_for_reader(py, input, &protocol);
        }
        let received = input.with_receive_buffer(|buffer| {
            input.receive(buffer)?;
            let bytes = buffer.bytes();
            // The reader is looked at now, because a layer may have run code of the program's.
            if !bytes.is_empty()
                && let Some(feed) = Feed::of(&protocol)
            {
                let kept = if feed.holds() {
                    let ring = &input.event_loop().host().bytes_ring;
                    feed.give(&ring.filled(py, bytes))
                } else {
                    feed.append(bytes)
                };
                if kept.is_ok() {
                    return Ok((bytes.len(), Ok(feed)));
                }
            }
            let spare = &input.event_loop().host().spare_bytes;
            Ok((bytes.len(), Err(spare.filled(py, bytes))))
        });
        match received {
            Ok((0, _)) => Received::End,
            Ok((count, Ok(feed))) => self.fed(py, count, &feed),
            Ok((_, Err(bytes))) => self.deliver(py, bytes),
            Err(error) => not_received(Failed::Socket(error)),
        }
    }

    /// As [`receive_for_reader`](PyProtocol::receive_for_reader), when the last receive was large.
    fn receive_much_for_reader<'py>(
        &self,
        py: Python<'py>,
        input: &Input<'_, PyHost>,
        protocol: &Bound<'py, PyAny>,
    ) -> Received<Exception> {
        // A layer may run code of the program's while it receives, which must not see a reader's buffer that
        // is being filled.
        if self.class != Class::Tls
            && let Some(feed) = Feed::of(protocol)
            && !feed.holds()
        {
            let room = input.receivable().unwrap_or(RECEIVE_BUFFER);
            let room = room.clamp(1, RECEIVE_BUFFER);
            if let Ok(received) = feed.receive(room, |buffer| input.receive(buffer)) {
                return match received {
                    Ok(0) => Received::End,
                    Ok(count) => self.fed(py, count, &feed),
                    Err(error) => not_received(Failed::Socket(error)),
                };
            }
        }
        let waiting = input.receivable();
        let received =
            receive::directly(py, waiting, RECEIVE_BUFFER, |buffer| input.receive(buffer));
        let bytes = match received {
            Ok(bytes) => bytes,
            Err(failed) => return not_received(failed),
        };
        match Feed::of(protocol) {
            Some(feed) if !bytes.as_bytes().is_empty() && feed.give(&bytes).is_ok() => {
                self.fed(py, bytes.as_bytes().len(), &feed)
            }
            _ => self.deliver(py, bytes),
        }
    }

    /// A reader has got so many bytes.
    fn fed(&self, py: Python<'_>, count: usize, feed: &Feed<'_>) -> Received<Exception> {
        self.note_receive(count);
        if !feed.must_tell() {
            return Received::Data;
        }
        let told = self.in_context(py, || Raised::of(py, feed.tell()));
        match told.flatten() {
            Ok(()) => Received::Data,
            Err(raised) => Received::Raised(DATA_RECEIVED_FAILED, raised.fetch(py).into()),
        }
    }

    /// Receives for `get_buffer` and `buffer_updated`.
    fn receive_buffered(&self, py: Python<'_>, input: &Input<'_, PyHost>) -> Received<Exception> {
        let mut received = Received::Nothing;
        let called = self.call_often(py, |protocol| {
            received = fill_buffer(protocol, input);
            Ok(())
        });
        match called {
            Ok(_) => received,
            Err(raised) => Received::Raised(GET_BUFFER_FAILED, raised.fetch(py).into()),
        }
    }
}

impl Kind {
    fn of(protocol: &Bound<'_, PyAny>) -> PyResult<Kind> {
        let buffered = imports::asyncio_buffered_protocol(protocol.py())?;
        Ok(if Streams::is_protocol(protocol) {
            Kind::Streams
        } else if protocol.is_instance(buffered)? {
            Kind::Buffered
        } else {
            Kind::Data
        })
    }
}

impl BaseProtocol<PyHost> for PyProtocol {
    fn connection_lost(&self, error: Option<Exception>) -> Result<(), Exception> {
        self.over.set(true);
        if matches!(self.kind.get(), Kind::Pipe(_)) {
            // The process's own protocol is told.
            return Ok(());
        }
        self.tell(|protocol| {
            let py = protocol.py();
            let error = error.map(|error| error.0.into_value(py));
            protocol
                .call_method1(intern!(py, "connection_lost"), (error,))
                .map(drop)
        })
    }

    fn pause_writing(&self) -> Result<(), Exception> {
        // Called from inside write(), in the context of whoever writes.
        Python::attach(|py| {
            let Some(protocol) = self.get(py) else {
                return Ok(());
            };
            protocol
                .call_method0(intern!(py, "pause_writing"))
                .map(drop)
        })
        .map_err(Exception)
    }

    fn resume_writing(&self) -> Result<(), Exception> {
        self.tell(|protocol| {
            protocol
                .call_method0(intern!(protocol.py(), "resume_writing"))
                .map(drop)
        })
    }

    fn show(&self, look: &mut dyn FnMut(&dyn Any)) {
        look(self);
    }

    fn report(&self, what: Failure, error: &Exception) {
        Python::attach(|py| {
            let Err(error) = report(py, self, what, error).map_err(Exception) else {
                return;
            };
            if error.escapes(py) {
                self.engine.interrupt(error);
            } else {
                error.0.write_unraisable(py, None);
            }
        });
    }

    fn held(&self, held: bool) {
        self.held.set(held);
        Python::attach(|py| {
            if !held && self.over.get() {
                self.clear();
            }
            let Some(face) = self.made_face(py) else {
                return;
            };
            if let Err(error) = self.keep(&face) {
                error.write_unraisable(py, None);
            }
        });
    }
}

impl StreamProtocol<PyHost> for PyProtocol {
    fn connection_made(&self, transport: Transport<PyHost>) -> Result<(), Exception> {
        Python::attach(|py| {
            let face = self.face(py, AnyTransport::Stream(transport))?;
            if matches!(self.kind.get(), Kind::Pipe(_)) {
                return Ok(());
            }
            self.tell_made(face.as_any())
        })
        .map_err(Exception)
    }

    fn receive(&self, input: &Input<'_, PyHost>) -> Received<Exception> {
        let py = input.event_loop().host().python();
        match self.kind.get() {
            Kind::Buffered => self.receive_buffered(py, input),
            Kind::Streams => self.receive_for_reader(py, input),
            _ => self.receive_data(py, input),
        }
    }

    fn pipe_closed(&self) {
        if self.engine.debug() {
            Python::attach(|py| self.log(py, "info", "%r was closed by peer"));
        }
    }

    fn cannot_keep_open(&self) {
        Python::attach(|py| {
            let message = "returning true from eof_received() has no effect when using ssl";
            let warned =
                imports::logger(py).and_then(|logger| logger.call_method1("warning", (message,)));
            if let Err(error) = warned {
                error.write_unraisable(py, None);
            }
        });
    }

    fn eof_received(&self) -> Result<bool, Exception> {
        Python::attach(|py| {
            if self.engine.debug() && matches!(self.class, Class::Socket | Class::Tls) {
                self.log(py, "debug", "%r received EOF");
            }
            let called = self.call(py, |protocol| {
                protocol
                    .call_method0(intern!(py, "eof_received"))?
                    .is_truthy()
            });
            Ok(called?.unwrap_or(false))
        })
    }
}

impl MessageProtocol<PyHost> for PyProtocol {
    fn connection_made(&self, transport: DatagramTransport<PyHost>) -> Result<(), Exception> {
        Python::attach(|py| {
            let face = self.face(py, AnyTransport::Datagram(transport))?;
            self.tell_made(face.as_any())
        })
        .map_err(Exception)
    }

    fn datagram_received(
        &self,
        data: &[u8],
        peer: Option<&SocketAddress>,
    ) -> Result<(), Exception> {
        let host = self.engine.host();
        let py = host.python();
        let received = self.call_often(py, |protocol| {
            let bytes = host.spare_bytes.filled(py, data);
            let peer = match peer {
                Some(peer) => Raised::of(py, self.rare().peers.object(py, peer))?,
                None => py.None().into_bound(py),
            };
            let name = intern!(py, "datagram_received");
            method(protocol, name, [bytes.as_any(), &peer]).map(drop)
        });
        match received {
            Ok(_) => Ok(()),
            Err(raised) => Err(Exception(raised.fetch(py))),
        }
    }

    fn error_received(&self, error: io::Error) -> Result<(), Exception> {
        self.tell(|protocol| {
            let py = protocol.py();
            let error = from_io(error).into_value(py);
            protocol
                .call_method1(intern!(py, "error_received"), (error,))
                .map(drop)
        })
    }

    fn send_failed(&self, error: io::Error) -> Result<(), Exception> {
        Python::attach(|py| self.tell_error_received(py, from_io(error))).map_err(Exception)
    }
}

impl ProcessProtocol<PyHost> for PyProtocol {
    fn connection_made(&self, _transport: SubprocessTransport<PyHost>) -> Result<(), Exception> {
        Python::attach(|py| match self.made_face(py) {
            Some(face) => self.tell_made(&face),
            None => Ok(()),
        })
        .map_err(Exception)
    }

    fn pipe(&self, number: usize) -> Rc<dyn StreamProtocol<PyHost>> {
        let class = if number == 0 {
            Class::WritePipe
        } else {
            Class::ReadPipe
        };
        let pipe = Python::attach(|py| {
            let protocol = self.get(py).map(Bound::unbind);
            let protocol = protocol.unwrap_or_else(|| py.None());
            // There are three.
            let kind = Kind::Pipe(u8::try_from(number).unwrap_or(u8::MAX));
            let context = self.own_context(py);
            PyProtocol::of_parts(&self.engine, protocol, kind, class, context)
        });
        self.rare().pipes.borrow_mut().push(Rc::clone(&pipe));
        pipe
    }

    fn pipe_connection_lost(
        &self,
        number: usize,
        error: Option<Exception>,
    ) -> Result<(), Exception> {
        self.tell(|protocol| {
            let py = protocol.py();
            let error = error.map(|error| error.0.into_value(py));
            protocol
                .call_method1(intern!(py, "pipe_connection_lost"), (number, error))
                .map(drop)
        })
    }

    fn exiting(&self, status: ExitStatus) {
        Python::attach(|py| {
            let Some(face) = self.made_face(py) else {
                return;
            };
            if let Err(error) = process::note_exit(&face, return_code(status)) {
                error.write_unraisable(py, Some(&face));
            }
        });
    }

    fn process_exited(&self, _status: ExitStatus) -> Result<(), Exception> {
        self.tell(|protocol| {
            let py = protocol.py();
            protocol
                .call_method0(intern!(py, "process_exited"))
                .map(drop)
        })
    }

    fn known_status(&self) -> Option<ExitStatus> {
        Python::attach(|py| {
            let face = self.made_face(py)?;
            process::known_status(&face).unwrap_or_else(|error| {
                error.write_unraisable(py, Some(&face));
                None
            })
        })
    }

    fn kill(&self, id: u32) -> io::Result<()> {
        Python::attach(|py| {
            let Some(face) = self.made_face(py) else {
                // The transport's object is being freed.
                return sys::process::kill(id, libc::SIGKILL);
            };
            if let Err(error) = process::kill(&face) {
                error.write_unraisable(py, Some(&face));
            }
            Ok(())
        })
    }

    fn status_unknown(&self, id: u32) {
        Python::attach(|py| {
            let message = "child process pid %d exit status already read: \
                           will report returncode %d";
            let warned = imports::logger(py).and_then(|logger| {
                let args = (message, id, UNKNOWN_EXIT_CODE);
                logger.call_method1(intern!(py, "warning"), args)
            });
            if let Err(error) = warned {
                error.write_unraisable(py, None);
            }
        });
    }
}

/// Tells the loop's exception handler, in CPython's words.
fn report(py: Python<'_>, protocol: &PyProtocol, what: Failure, error: &Exception) -> PyResult<()> {
    let Some(face) = protocol.made_face(py) else {
        return Ok(());
    };
    let engine = &protocol.engine;
    let message = match what {
        Failure::Fatal(message) if error.0.is_instance_of::<PyOSError>(py) => {
            // A broken connection is no failure of the program: connection_lost tells it.
            if engine.debug() {
                let kwargs = PyDict::new(py);
                kwargs.set_item("exc_info", error.value(py))?;
                let args = ("%r: %s", face, message);
                imports::logger(py)?.call_method("debug", args, Some(&kwargs))?;
            }
            return Ok(());
        }
        Failure::Fatal(message) | Failure::Unusual(message) => message.to_owned(),
        Failure::Callback(callback) => {
            let Some(event_loop) = engine.host().object(py) else {
                return Ok(());
            };
            // What CPython's loop calls at that point: the handle that the message names.
            let empty = PyTuple::empty(py);
            let (callback, args) = match (callback, protocol.kind.get(), protocol.get(py)) {
                ("connection_made", _, Some(protocol)) => {
                    (protocol.getattr(callback)?, PyTuple::new(py, [face])?)
                }
                ("connection_lost", ..) | (.., None) => {
                    let callback = face.getattr(intern!(py, "_call_connection_lost"))?;
                    (callback, PyTuple::new(py, [py.None()])?)
                }
                (_, Kind::Process | Kind::Pipe(_), Some(protocol)) => {
                    (protocol.getattr(callback)?, empty)
                }
                ("eof_received", _, Some(protocol)) => (protocol.getattr(callback)?, empty),
                _ => (face.getattr(intern!(py, "_read_ready"))?, empty),
            };
            let handle = Handle::new(&event_loop, Call::new(callback, args), None)?;
            let args = (recycled::new(py, handle)?, error.value(py));
            event_loop.call_method1(intern!(py, "_callback_failed"), args)?;
            return Ok(());
        }
        Failure::FlowControl(callback) => format!("protocol.{callback}() failed"),
    };
    let context = PyDict::new(py);
    context.set_item("message", message)?;
    context.set_item("exception", error.value(py))?;
    context.set_item("transport", face)?;
    context.set_item("protocol", protocol.get(py))?;
    engine.host().call_exception_handler(&context);
    Ok(())
}
