//! `Server`: listening sockets and the transports of their clients.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::rc::Rc;

use aioxide::protocols::StreamProtocol;
use aioxide::reactor::Socket;
use aioxide::server::{FAILED_CREATION, Server, Service};
use aioxide::tls::WhenEstablished;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::context;
use crate::errors::{Exception, from_io, log_file_error, loop_is_closed};
use crate::event_loop::Loop;
use crate::gil::OnGil;
use crate::host::{PyEventLoop, PyHost};
use crate::imports;
use crate::protocol::PyProtocol;
use crate::socket::{OpenSocket, as_python_socket, take_socket};
use crate::tls::TlsOptions;
use crate::transport::Class;

/// A server, as far as the engine does it; `aioxide.Server` adds the coroutines.
#[pyclass(
    frozen,
    subclass,
    weakref,
    module = "aioxide._aioxide",
    name = "BaseServer"
)]
pub struct PyServer {
    server: OnGil<Server<PyHost>>,
    callbacks: OnGil<Rc<Callbacks>>,
}

/// What the engine's server asks of Python.
pub struct Callbacks {
    engine: PyEventLoop,
    factory: Py<PyAny>,
    /// For a server over TLS.
    tls: Option<Py<TlsOptions>>,
    /// The context in which the server was made to serve; each client gets a copy.
    context: RefCell<Py<PyAny>>,
    /// The socket objects of the listeners, as far as they were asked for or given.
    sockets: RefCell<Vec<(RawFd, Py<PyAny>)>>,
}

impl Callbacks {
    fn new(
        event_loop: &Bound<'_, Loop>,
        factory: Bound<'_, PyAny>,
        tls: Option<Py<TlsOptions>>,
    ) -> PyResult<Rc<Callbacks>> {
        Ok(Rc::new(Callbacks {
            engine: event_loop.get().engine(event_loop.py()).clone(),
            factory: factory.unbind(),
            tls,
            context: RefCell::new(context::copy_current(event_loop.py())?.unbind()),
            sockets: RefCell::default(),
        }))
    }

    /// Visits what it refers to; by its only owner.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.factory)?;
        visit.call(&self.tls)?;
        match self.context.try_borrow() {
            Ok(context) => visit.call(&*context),
            Err(_) => Ok(()),
        }
    }

    fn socket<'py>(&self, py: Python<'py>, fd: RawFd) -> Option<Bound<'py, PyAny>> {
        let sockets = self.sockets.borrow();
        let (_, socket) = sockets.iter().find(|(of, _)| *of == fd)?;
        Some(socket.bind(py).clone())
    }
}

/// Calls the loop's exception handler with what has failed, and what `add` says of it.
fn tell_handler(
    py: Python<'_>,
    engine: &PyEventLoop,
    message: &str,
    error: &Exception,
    add: impl FnOnce(&Bound<'_, PyDict>) -> PyResult<()>,
) {
    let context = PyDict::new(py);
    let filled = context
        .set_item("message", message)
        .and_then(|()| context.set_item("exception", error.value(py)))
        .and_then(|()| add(&context));
    match filled {
        Ok(()) => engine.host().call_exception_handler(&context),
        Err(error) => error.write_unraisable(py, None),
    }
}

/// Like asyncio, only debug mode speaks of a client whose handshake has failed.
fn report_handshakes(engine: &PyEventLoop, protocol: &Rc<PyProtocol>) -> WhenEstablished<PyHost> {
    let (engine, protocol) = (engine.clone(), Rc::downgrade(protocol));
    Box::new(move |established| {
        let Err(error) = established else {
            return;
        };
        if !engine.debug() {
            return;
        }
        Python::attach(|py| {
            let protocol = protocol.upgrade().and_then(|protocol| protocol.get(py));
            tell_handler(py, &engine, FAILED_CREATION, &error, |context| {
                context.set_item("protocol", protocol)
            });
        });
    })
}

impl Service<PyHost> for Callbacks {
    fn protocol(&self) -> Result<Rc<dyn StreamProtocol<PyHost>>, Exception> {
        Python::attach(|py| {
            let context = self.context.borrow().clone_ref(py);
            let context = context.call_method0(py, intern!(py, "copy"))?;
            let protocol = context::run(py, &context, || {
                let protocol = self.factory.bind(py).call0()?;
                let class = match &self.tls {
                    Some(_) => Class::Tls,
                    None => Class::Socket,
                };
                PyProtocol::for_stream(&self.engine, protocol, class)
            })?;
            let Some(tls) = &self.tls else {
                return Ok(protocol as Rc<dyn StreamProtocol<PyHost>>);
            };
            let report = report_handshakes(&self.engine, &protocol);
            let layer = tls.get().layer(py, &self.engine, &protocol, report)?;
            Ok(layer as Rc<dyn StreamProtocol<PyHost>>)
        })
        .map_err(Exception)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn report(&self, message: &'static str, listener: Option<RawFd>, error: Exception) {
        Python::attach(|py| {
            tell_handler(py, &self.engine, message, &error, |context| {
                if let Some(socket) = listener.and_then(|fd| self.socket(py, fd)) {
                    context.set_item("socket", imports::transport_socket(py)?.call1((socket,))?)?;
                }
                Ok(())
            });
        });
    }

    fn report_leftover(&self, path: &Path, error: io::Error) {
        Python::attach(|py| {
            if let Err(error) = log_file_error(py, "clean up listening", path, error) {
                error.write_unraisable(py, None);
            }
        });
    }
}

impl PyServer {
    /// The Python socket of a listener; made when it is first asked for.
    fn socket<'py>(&self, py: Python<'py>, fd: RawFd) -> PyResult<Option<Bound<'py, PyAny>>> {
        let callbacks = self.callbacks.get(py);
        if let Some(socket) = callbacks.socket(py, fd) {
            return Ok(Some(socket));
        }
        let mut made = None;
        self.server.get(py).with_socket(fd, &mut |socket| {
            let (socket, object) = as_python_socket(py, socket);
            made = Some(object);
            socket
        });
        let made = made.transpose()?;
        if let Some(made) = &made {
            callbacks
                .sockets
                .borrow_mut()
                .push((fd, made.clone().unbind()));
        }
        Ok(made)
    }
}

#[pymethods]
impl PyServer {
    /// A server over bound sockets; `sockets` are `socket.socket`s or what `_bind_all` gave.
    #[new]
    #[pyo3(signature = (event_loop, protocol_factory, sockets, backlog, tls = None))]
    fn new(
        event_loop: &Bound<'_, Loop>,
        protocol_factory: Bound<'_, PyAny>,
        sockets: Vec<Bound<'_, PyAny>>,
        backlog: i32,
        tls: Option<Py<TlsOptions>>,
    ) -> PyResult<PyServer> {
        let py = event_loop.py();
        let callbacks = Callbacks::new(event_loop, protocol_factory, tls)?;
        let mut taken = Vec::new();
        for socket in sockets {
            taken.push(take_socket(&socket)?);
            if !socket.is_instance_of::<OpenSocket>() {
                let fd = taken.last().map_or(-1, Socket::fd);
                callbacks.sockets.borrow_mut().push((fd, socket.unbind()));
            }
        }
        let engine = event_loop.get().engine(py);
        let server = Server::new(engine, taken, backlog, callbacks.clone());
        Ok(PyServer {
            server: OnGil::new(server),
            callbacks: OnGil::new(callbacks),
        })
    }

    /// Lets closing the server remove the file of its Unix socket.
    fn _cleanup_socket(&self, py: Python<'_>) -> PyResult<()> {
        self.server.get(py).cleanup_socket().map_err(from_io)
    }

    /// Listens and accepts.
    fn _start_serving(&self, py: Python<'_>) -> PyResult<()> {
        if !self.server.get(py).is_serving() {
            let context = context::copy_current(py)?.unbind();
            let before = self.callbacks.get(py).context.replace(context);
            drop(before);
        }
        self.server.get(py).start_serving().map_err(from_io)
    }

    /// Closes the listening sockets.
    fn _close(&self, py: Python<'_>) {
        self.server.get(py).close();
        // The program's, which may refer to this.
        let sockets = self.callbacks.get(py).sockets.take();
        drop(sockets);
    }

    /// A future that is done when the server is closed and its last client has detached; `None`
    /// when that is so.
    fn _wait_closed<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.server.get(py).is_over() {
            return Ok(None);
        }
        let event_loop = self.get_loop(py).ok_or_else(loop_is_closed)?;
        let (future, settle) = Loop::settled_later(&event_loop)?;
        self.server.get(py).when_over(|| settle(Ok(())));
        Ok(Some(future))
    }

    /// Closes the transports of all clients.
    fn close_clients(&self, py: Python<'_>) {
        self.server.get(py).close_clients();
    }

    /// Aborts the transports of all clients.
    fn abort_clients(&self, py: Python<'_>) {
        self.server.get(py).abort_clients();
    }

    /// Whether it accepts connections.
    fn is_serving(&self, py: Python<'_>) -> bool {
        self.server.get(py).is_serving()
    }

    /// Whether it was closed.
    fn _is_closed(&self, py: Python<'_>) -> bool {
        self.server.get(py).is_closed()
    }

    /// Clients that are attached.
    #[getter]
    fn _active_count(&self, py: Python<'_>) -> usize {
        self.server.get(py).client_count()
    }

    /// The listening sockets; none when it is closed.
    #[getter]
    fn sockets<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let wrapper = imports::transport_socket(py)?;
        let mut sockets = Vec::new();
        for fd in self.server.get(py).fds() {
            if let Some(socket) = self.socket(py, fd)? {
                sockets.push(wrapper.call1((socket,))?);
            }
        }
        PyTuple::new(py, sockets)
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Loop>> {
        self.get_loop(py)
    }

    /// The loop that serves.
    fn get_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Loop>> {
        self.callbacks.get(py).engine.host().object(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // While others refer to the server, the loop visits what it holds, or nobody does.
        if self.server.visit().is_shared() {
            return Ok(());
        }
        self.callbacks.visit().traverse(&visit)
    }
}
