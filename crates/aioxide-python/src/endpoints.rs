//! From addresses to sockets and transports.

use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

use aioxide::endpoints::{BindOptions, Endpoint, HappyEyeballs};
use aioxide::sys::address::Family;
use aioxide::sys::socket::set_nonblocking;
use aioxide::tls::Tls;
use aioxide::transports::AnyTransport;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::convert::{address_for, address_from_python, duration};
use crate::errors::{Exception, address_error, from_io, log_file_error};
use crate::event_loop::Loop;
use crate::host::PyHost;
use crate::protocol::PyProtocol;
use crate::socket::{OpenSocket, from_python_file, take_connected};
use crate::tls::TlsOptions;
use crate::transport::{Class, PyTransport};

/// What `socket.getaddrinfo` gives, as endpoints.
fn endpoints(infos: &Bound<'_, PyAny>) -> PyResult<Vec<Endpoint>> {
    infos
        .try_iter()?
        .map(|info| {
            let info = info?;
            let unknown = || {
                let address = info.get_item(4).and_then(|address| address.repr());
                let address = address
                    .map(|address| address.to_string())
                    .unwrap_or_default();
                PyValueError::new_err(format!("not the address of an Internet socket: {address}"))
            };
            Ok(Endpoint {
                family: Family(info.get_item(0)?.extract()?),
                kind: info.get_item(1)?.extract()?,
                protocol: info.get_item(2)?.extract()?,
                address: address_from_python(&info.get_item(4)?).ok_or_else(unknown)?,
            })
        })
        .collect()
}

impl Loop {
    /// A TLS layer for a protocol, its transport, and a future that is done when the handshake has
    /// ended.
    fn layer<'py>(
        slf: &Bound<'py, Self>,
        protocol: Bound<'py, PyAny>,
        tls: &Bound<'py, TlsOptions>,
    ) -> PyResult<NewLayer<'py>> {
        let py = slf.py();
        let engine = slf.get().engine(py);
        let protocol = PyProtocol::for_stream(engine, protocol, Class::Tls)?;
        let (established, settle) = Loop::settled_later(slf)?;
        let settle = Box::new(|result: Result<(), Exception>| {
            settle(result.map_err(|error| error.0));
        });
        let layer = tls.get().layer(py, engine, &protocol, settle)?;
        let face = protocol.face(py, AnyTransport::Stream(layer.transport()))?;
        Ok((layer, face, established))
    }
}

/// A TLS layer, its transport, and the future of its handshake.
type NewLayer<'py> = (Rc<Tls<PyHost>>, Bound<'py, PyTransport>, Bound<'py, PyAny>);

#[pymethods]
impl Loop {
    /// A future of a connected `OpenSocket`, or of the list of what failed.
    fn _connect<'py>(
        slf: &Bound<'py, Self>,
        remote: &Bound<'py, PyAny>,
        local: Option<&Bound<'py, PyAny>>,
        happy_eyeballs_delay: Option<f64>,
        interleave: Option<isize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let engine = slf.get().engine(slf.py()).clone();
        let remote = endpoints(remote)?;
        let local = local.map(endpoints).transpose()?;
        let how = HappyEyeballs {
            delay: happy_eyeballs_delay.map(duration),
            // As in asyncio, a negative number is 1.
            interleave: interleave.map(|first| usize::try_from(first).unwrap_or(1)),
        };
        Loop::future(slf, async move {
            let connected = engine.connect_any(remote, local.as_deref(), how).await;
            Python::attach(|py| match connected {
                Ok((socket, peer)) => {
                    Ok(Py::new(py, OpenSocket::new(socket, Some(peer)))?.into_any())
                }
                Err(errors) => {
                    let errors: PyResult<Vec<_>> = errors
                        .errors()
                        .iter()
                        .map(|error| Ok(address_error(py, error)?.into_value(py)))
                        .collect();
                    Ok(PyList::new(py, errors?)?.into_any().unbind())
                }
            })
        })
    }

    /// Bound `OpenSocket`s for addresses, and the errors of those that were passed over.
    fn _bind_all<'py>(
        &self,
        py: Python<'py>,
        infos: &Bound<'py, PyAny>,
        reuse_address: bool,
        reuse_port: bool,
        keep_alive: bool,
    ) -> PyResult<(Vec<OpenSocket>, Vec<Py<PyAny>>)> {
        let options = BindOptions {
            reuse_address,
            reuse_port,
            keep_alive,
        };
        match self.engine(py).bind_all(&endpoints(infos)?, options) {
            Ok(bound) => {
                let sockets = bound
                    .sockets
                    .into_iter()
                    .map(|socket| OpenSocket::new(socket, None));
                let errors: PyResult<Vec<_>> = bound
                    .passed_over
                    .iter()
                    .map(|error| Ok(address_error(py, error)?.into_value(py).into_any()))
                    .collect();
                Ok((sockets.collect(), errors?))
            }
            Err(error) => Err(address_error(py, &error)?),
        }
    }

    /// An `OpenSocket` that is bound to the address of a Unix socket.
    fn _bind_unix(&self, path: &Bound<'_, PyAny>) -> PyResult<OpenSocket> {
        let py = path.py();
        let address = address_for(Family::UNIX, path, "bind")?;
        let mut logged = Ok(());
        let bound = self.engine(py).bind_unix(&address, |path, error| {
            logged = log_file_error(py, "check or remove stale", path, error);
        });
        logged?;
        let socket = bound.map_err(|failed| from_io(failed.error))?;
        Ok(OpenSocket::new(socket, None))
    }

    /// Starts the transport of a connected socket (an `OpenSocket` or a `socket.socket`). Gives it
    /// and a future that is done when `connection_made` was called: over TLS, when the handshake
    /// has ended.
    #[pyo3(signature = (protocol, socket, tls = None))]
    fn _start_transport<'py>(
        slf: &Bound<'py, Self>,
        protocol: Bound<'py, PyAny>,
        socket: &Bound<'py, PyAny>,
        tls: Option<&Bound<'py, TlsOptions>>,
    ) -> PyResult<(Bound<'py, PyTransport>, Bound<'py, PyAny>)> {
        let py = slf.py();
        let engine = slf.get().engine(py);
        if let Some(tls) = tls {
            let (layer, face, established) = Loop::layer(slf, protocol, tls)?;
            let (taken, peer) = take_connected(socket)?;
            drop(engine.start_transport(taken, layer, peer));
            if !socket.is_instance_of::<OpenSocket>() {
                face.get().set_file(py, socket)?;
            }
            return Ok((face, established));
        }
        let protocol = PyProtocol::for_stream(engine, protocol, Class::Socket)?;
        let (taken, peer) = take_connected(socket)?;
        let (transport, made) = engine.start_transport(taken, protocol.clone(), peer);
        let face = protocol.face(py, AnyTransport::Stream(transport))?;
        if !socket.is_instance_of::<OpenSocket>() {
            face.get().set_file(py, socket)?;
        }
        Ok((face, Loop::done_when(slf, made)?))
    }

    /// Puts TLS between a transport and its protocol. `received` is what the protocol was given of
    /// the peer's ciphertext. Gives the new transport, and a future that is done when the handshake
    /// has ended.
    fn _start_tls<'py>(
        slf: &Bound<'py, Self>,
        transport: &Bound<'py, PyTransport>,
        protocol: Bound<'py, PyAny>,
        tls: &Bound<'py, TlsOptions>,
        received: &[u8],
    ) -> PyResult<(Bound<'py, PyTransport>, Bound<'py, PyAny>)> {
        let py = slf.py();
        let below = transport.get().stream(py)?.clone();
        let (layer, face, established) = Loop::layer(slf, protocol, tls)?;
        face.get().share_file(py, transport.get());
        layer.upgrade(&below, received);
        Ok((face, established))
    }

    /// Starts the transport of one end of a pipe (a file object), and gives it and such a future.
    fn _start_pipe<'py>(
        slf: &Bound<'py, Self>,
        protocol: Bound<'py, PyAny>,
        pipe: &Bound<'py, PyAny>,
        for_writing: bool,
    ) -> PyResult<(Bound<'py, PyTransport>, Bound<'py, PyAny>)> {
        let py = slf.py();
        let engine = slf.get().engine(py);
        let fd: RawFd = pipe.call_method0(intern!(py, "fileno"))?.extract()?;
        let (class, checked) = if for_writing {
            (Class::WritePipe, engine.check_write_pipe(fd))
        } else {
            (Class::ReadPipe, engine.check_read_pipe(fd))
        };
        // Before the file is ours: one that is refused stays as it was.
        checked.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => PyValueError::new_err(error.to_string()),
            _ => from_io(error),
        })?;
        let protocol = PyProtocol::for_stream(engine, protocol, class)?;
        set_nonblocking(fd).map_err(from_io)?;
        let taken = from_python_file(pipe)?;
        let (transport, made) = if for_writing {
            let (transport, made) = engine
                .start_write_pipe(taken, protocol.clone())
                .map_err(from_io)?;
            (transport, Loop::done_when(slf, made)?)
        } else {
            let (transport, made) = engine
                .start_read_pipe(taken, protocol.clone())
                .map_err(from_io)?;
            (transport, Loop::done_when(slf, made)?)
        };
        let face = protocol.face(py, AnyTransport::Stream(transport))?;
        face.get().set_file(py, pipe)?;
        Ok((face, made))
    }
}
