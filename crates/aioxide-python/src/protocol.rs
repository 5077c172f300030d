//! A Python protocol, as the engine calls it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use aioxide::event_loop::RECEIVE_BUFFER;
use aioxide::protocols::{Failure, Input, Received, StreamProtocol};
use aioxide::transports::Transport;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyWeakrefReference};

use crate::context;
use crate::convert::View;
use crate::errors::Exception;
use crate::handles::Handle;
use crate::host::PyHost;
use crate::imports;
use crate::receive::{self, Failed};
use crate::transport::SocketTransport;

/// What stands between a transport of the engine and the Python objects of its program.
pub struct PyProtocol {
    /// `None` when the connection is lost.
    protocol: RefCell<Option<Py<PyAny>>>,
    kind: Cell<Kind>,
    /// The context that the transport was made in. What is received is delivered in it.
    context: Py<PyAny>,
    /// The transport's Python object.
    face: RefCell<Face>,
    /// Whether the loop refers to the transport.
    held: Cell<bool>,
    /// Bytes in the last receive: the next is probably as large.
    last_receive: Cell<usize>,
}

/// Which callbacks get what is received.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `data_received`.
    Data,
    /// `get_buffer` and `buffer_updated`.
    Buffered,
}

/// The Python object of a transport. The engine keeps it alive exactly as long as the loop refers
/// to the transport; after that, a program that drops its last reference closes the connection.
enum Face {
    Unmade,
    Held(Py<SocketTransport>),
    Weak(Py<PyWeakrefReference>),
}

impl PyProtocol {
    /// The engine's side of `protocol`. Must be called in the context that its callbacks get.
    pub fn new(protocol: Bound<'_, PyAny>) -> PyResult<Rc<PyProtocol>> {
        let py = protocol.py();
        // Whoever has no such method is no protocol: asyncio finds out at once too.
        protocol.getattr(intern!(py, "connection_made"))?;
        Ok(Rc::new(PyProtocol {
            kind: Cell::new(Kind::of(&protocol)?),
            protocol: RefCell::new(Some(protocol.unbind())),
            context: context::copy_current(py)?,
            face: RefCell::new(Face::Unmade),
            held: Cell::new(false),
            last_receive: Cell::new(0),
        }))
    }

    /// Gives what is received from now on to another protocol.
    pub fn set(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        self.kind.set(Kind::of(&protocol)?);
        let before = self.protocol.replace(Some(protocol.unbind()));
        drop(before);
        Ok(())
    }

    /// The protocol, until the connection is lost.
    pub fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.protocol
            .borrow()
            .as_ref()
            .map(|protocol| protocol.bind(py).clone())
    }

    /// The transport's Python object; made when it is first asked for.
    pub fn face<'py>(
        self: &Rc<Self>,
        py: Python<'py>,
        transport: &Transport<PyHost>,
    ) -> PyResult<Bound<'py, SocketTransport>> {
        if let Some(face) = self.made_face(py) {
            return Ok(face);
        }
        let face = Bound::new(py, SocketTransport::new(transport.clone(), Rc::clone(self)))?;
        self.keep(&face)?;
        Ok(face)
    }

    pub fn made_face<'py>(&self, py: Python<'py>) -> Option<Bound<'py, SocketTransport>> {
        match &*self.face.borrow() {
            Face::Unmade => None,
            Face::Held(face) => Some(face.bind(py).clone()),
            Face::Weak(weak) => weak.bind(py).upgrade()?.cast_into().ok(),
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)?;
        match self.protocol.try_borrow() {
            Ok(protocol) => visit.call(&*protocol),
            Err(_) => Ok(()),
        }
    }

    /// Visits the transport's object, where the loop keeps it alive through this.
    pub fn visit_held_face(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.face.try_borrow().as_deref() {
            Ok(Face::Held(face)) => visit.call(face),
            _ => Ok(()),
        }
    }

    /// Drops the protocol: for a garbage collector that found a circle.
    pub fn clear(&self) {
        let protocol = self.protocol.take();
        drop(protocol);
    }

    /// Refers to the transport's object strongly or weakly, as the loop does.
    fn keep(&self, face: &Bound<'_, SocketTransport>) -> PyResult<()> {
        let kept = if self.held.get() {
            Face::Held(face.clone().unbind())
        } else {
            Face::Weak(PyWeakrefReference::new(face.as_any())?.unbind())
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
        context::run(py, &self.context, || call(&protocol)).map(Some)
    }

    /// Receives for `data_received`.
    fn receive_data(&self, py: Python<'_>, input: &Input<'_, PyHost>) -> Received<Exception> {
        let received = if self.last_receive.get() >= receive::DIRECTLY {
            let waiting = input.receivable();
            receive::directly(py, waiting, RECEIVE_BUFFER, |buffer| input.receive(buffer))
        } else {
            input.with_receive_buffer(|buffer| match input.receive(buffer) {
                Ok(_) => {
                    let spare = &input.event_loop().host().spare_bytes;
                    Ok(spare.filled(py, buffer.bytes()))
                }
                Err(error) => Err(Failed::Socket(error)),
            })
        };
        let bytes = match received {
            Ok(bytes) => bytes,
            Err(Failed::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Received::Nothing;
            }
            Err(Failed::Socket(error)) => return Received::Failed(error),
            Err(Failed::Memory(error)) => {
                return Received::Raised("Fatal read error on socket transport", error.into());
            }
        };
        let count = bytes.as_bytes().len();
        if count == 0 {
            return Received::End;
        }
        self.last_receive.set(count);
        let called = self.call(py, |protocol| {
            protocol
                .call_method1(intern!(py, "data_received"), (bytes,))
                .map(drop)
        });
        match called {
            Ok(_) => Received::Data,
            Err(error) => {
                let message = "Fatal error: protocol.data_received() call failed.";
                Received::Raised(message, error.into())
            }
        }
    }

    /// Receives for `get_buffer` and `buffer_updated`.
    fn receive_buffered(&self, py: Python<'_>, input: &Input<'_, PyHost>) -> Received<Exception> {
        let view = self.call(py, |protocol| {
            let buffer = protocol.call_method1(intern!(py, "get_buffer"), (-1,))?;
            if buffer.len()? == 0 {
                return Err(PyRuntimeError::new_err(
                    "get_buffer() returned an empty buffer",
                ));
            }
            Ok(View::writable(&buffer))
        });
        let view = match view {
            Ok(Some(Ok(view))) => view,
            Ok(Some(Err(error))) => {
                return Received::Raised("Fatal read error on socket transport", error.into());
            }
            Ok(None) => return Received::Nothing,
            Err(error) => {
                let message = "Fatal error: protocol.get_buffer() call failed.";
                return Received::Raised(message, error.into());
            }
        };
        let count = match Received::count(input.receive(&mut view.memory(py))) {
            Ok(count) => count,
            Err(end) => return end,
        };
        drop(view);
        let called = self.call(py, |protocol| {
            protocol
                .call_method1(intern!(py, "buffer_updated"), (count,))
                .map(drop)
        });
        match called {
            Ok(_) => Received::Data,
            Err(error) => {
                let message = "Fatal error: protocol.buffer_updated() call failed.";
                Received::Raised(message, error.into())
            }
        }
    }
}

impl Kind {
    fn of(protocol: &Bound<'_, PyAny>) -> PyResult<Kind> {
        let buffered = imports::asyncio_buffered_protocol(protocol.py())?;
        Ok(if protocol.is_instance(buffered)? {
            Kind::Buffered
        } else {
            Kind::Data
        })
    }
}

/// The adapter that the engine holds: it can give itself to the transport's object.
pub struct Adapter(pub Rc<PyProtocol>);

impl StreamProtocol<PyHost> for Adapter {
    fn connection_made(&self, transport: Transport<PyHost>) -> Result<(), Exception> {
        Python::attach(|py| {
            let face = self.0.face(py, &transport)?;
            let Some(protocol) = self.0.get(py) else {
                return Ok(());
            };
            // A copy: what the callback sets in its context is not seen by the others.
            let context = self.0.context.call_method0(py, intern!(py, "copy"))?;
            context::run(py, &context, || {
                protocol
                    .call_method1(intern!(py, "connection_made"), (face,))
                    .map(drop)
            })
        })
        .map_err(Exception)
    }

    fn receive(&self, input: &Input<'_, PyHost>) -> Received<Exception> {
        Python::attach(|py| match self.0.kind.get() {
            Kind::Data => self.0.receive_data(py, input),
            Kind::Buffered => self.0.receive_buffered(py, input),
        })
    }

    fn eof_received(&self) -> Result<bool, Exception> {
        Python::attach(|py| {
            let called = self.0.call(py, |protocol| {
                protocol
                    .call_method0(intern!(py, "eof_received"))?
                    .is_truthy()
            });
            Ok(called?.unwrap_or(false))
        })
    }

    fn connection_lost(&self, error: Option<Exception>) -> Result<(), Exception> {
        Python::attach(|py| {
            let error = error.map(|error| error.0.into_value(py));
            let called = self.0.call(py, |protocol| {
                protocol
                    .call_method1(intern!(py, "connection_lost"), (error,))
                    .map(drop)
            });
            called.map(drop)
        })
        .map_err(Exception)
    }

    fn pause_writing(&self) -> Result<(), Exception> {
        // Called from inside write(), in the context of whoever writes.
        Python::attach(|py| {
            let Some(protocol) = self.0.get(py) else {
                return Ok(());
            };
            protocol
                .call_method0(intern!(py, "pause_writing"))
                .map(drop)
        })
        .map_err(Exception)
    }

    fn resume_writing(&self) -> Result<(), Exception> {
        Python::attach(|py| {
            let called = self.0.call(py, |protocol| {
                protocol
                    .call_method0(intern!(py, "resume_writing"))
                    .map(drop)
            });
            called.map(drop)
        })
        .map_err(Exception)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn report(&self, what: Failure, error: &Exception) {
        Python::attach(|py| {
            let Err(error) = report(py, &self.0, what, error).map_err(Exception) else {
                return;
            };
            match self.0.made_face(py) {
                Some(face) if error.escapes(py) => {
                    face.get().transport(py).event_loop().interrupt(error);
                }
                _ => error.0.write_unraisable(py, None),
            }
        });
    }

    fn held(&self, held: bool) {
        self.0.held.set(held);
        Python::attach(|py| {
            let Some(face) = self.0.made_face(py) else {
                return;
            };
            if face.get().transport(py).is_lost() {
                self.0.clear();
            }
            if let Err(error) = self.0.keep(&face) {
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
    let engine = face.get().transport(py).event_loop().clone();
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
        Failure::Fatal(message) => message.to_owned(),
        Failure::Callback(callback) => {
            let Some(event_loop) = engine.host().object(py) else {
                return Ok(());
            };
            let (callback, args) = match (callback, protocol.get(py)) {
                ("connection_made", Some(protocol)) => {
                    (protocol.getattr(callback)?, PyTuple::new(py, [face])?)
                }
                _ => {
                    let callback = face.getattr(intern!(py, "_call_connection_lost"))?;
                    (callback, PyTuple::new(py, [py.None()])?)
                }
            };
            let handle = Handle::new(&event_loop, callback, args, None)?;
            let args = (Py::new(py, handle)?, error.value(py));
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
