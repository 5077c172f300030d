//! `DatagramTransport`, and how its endpoint is made.

use aioxide::endpoints::{DatagramAddresses, DatagramOptions};
use aioxide::sys::address::{Family, SocketAddress};
use aioxide::transports::{
    AnyTransport, DatagramTransport as Engine, LOST_WRITES_BEFORE_WARNING, Output, SendError,
};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyUnicodeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::convert::{KeptBytes, View, address_for};
use crate::errors::{Exception, first_address_error, log_file_error};
use crate::event_loop::Loop;
use crate::host::PyHost;
use crate::imports;
use crate::protocol::PyProtocol;
use crate::seed::Seed;
use crate::socket::{OpenSocket, take_connected};
use crate::transport::{
    PyTransport, buffering_methods, check_bytes_like, made_from_seed, reading_methods,
};

/// A transport of datagrams.
#[pyclass(frozen, subclass, extends = PyTransport, module = "aioxide")]
pub struct DatagramTransport;

#[pymethods]
impl Loop {
    /// A socket for an endpoint: an `OpenSocket`.
    #[expect(
        clippy::too_many_arguments,
        reason = "one for each of the endpoint's options"
    )]
    #[pyo3(signature = (family, protocol, local, remote, reuse_port, allow_broadcast))]
    fn _open_datagram(
        &self,
        py: Python<'_>,
        family: i32,
        protocol: i32,
        local: Option<&Bound<'_, PyAny>>,
        remote: Option<&Bound<'_, PyAny>>,
        reuse_port: bool,
        allow_broadcast: bool,
    ) -> PyResult<OpenSocket> {
        let family = Family(family);
        let address = |address: Option<&Bound<'_, PyAny>>| {
            address
                .map(|address| address_for(family, address, "bind"))
                .transpose()
        };
        let addresses = DatagramAddresses {
            family,
            protocol,
            local: address(local)?,
            remote: address(remote)?,
        };
        let options = DatagramOptions {
            family,
            reuse_port,
            allow_broadcast,
        };
        let mut logged = Ok(());
        let engine = self.engine(py);
        let opened = engine.open_datagram_socket(&[addresses], options, |path, error| {
            logged = log_file_error(py, "check or remove stale", path, error);
        });
        logged?;
        match opened {
            Ok((socket, remote)) => Ok(OpenSocket::new(socket, remote)),
            Err(errors) => Err(first_address_error(&errors)),
        }
    }

    /// The transport of a datagram socket (an `OpenSocket` or a `socket.socket`), and a future that
    /// is done when `connection_made` was called. `remote` is whom everything is sent to.
    #[pyo3(signature = (protocol, socket, remote = None))]
    fn _start_datagrams<'py>(
        slf: &Bound<'py, Self>,
        protocol: Bound<'py, PyAny>,
        socket: &Bound<'py, PyAny>,
        remote: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyTransport>, Bound<'py, PyAny>)> {
        let py = slf.py();
        let engine = slf.get().engine(py);
        let protocol = PyProtocol::for_datagrams(engine, protocol)?;
        let (taken, address) = take_connected(socket)?;
        let (transport, made) = engine.start_datagram_transport(taken, protocol.clone(), address);
        let face = protocol.face(py, AnyTransport::Datagram(transport))?;
        if !socket.is_instance_of::<OpenSocket>() {
            face.get().set_file(py, socket)?;
        }
        face.get().set_remote(py, remote.map(Bound::unbind));
        Ok((face, Loop::done_when(slf, made)?))
    }
}

reading_methods!(DatagramTransport);
buffering_methods!(DatagramTransport);
made_from_seed!(DatagramTransport);

impl DatagramTransport {
    fn engine<'py>(slf: &'py Bound<'py, Self>) -> PyResult<&'py Engine<PyHost>> {
        match slf.as_super().get().any(slf.py()) {
            AnyTransport::Datagram(transport) => Ok(transport),
            AnyTransport::Stream(_) => Err(PyRuntimeError::new_err("not a datagram transport")),
        }
    }

    /// The address to send to, for the engine; `None` is the endpoint's own.
    fn destination(
        slf: &Bound<'_, Self>,
        addr: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<SocketAddress>> {
        let transport = slf.as_super().get().base(slf.py());
        let remote = slf.as_super().get().remote(slf.py());
        if transport.peer_address().is_some() || remote.is_some() {
            return Ok(None);
        }
        let Some(addr) = addr else {
            return Err(PyTypeError::new_err(
                "sendto(): an address is needed, not None",
            ));
        };
        let family = transport.local_address().map(|local| local.family());
        address_for(family.unwrap_or_default(), addr, "sendto").map(Some)
    }

    /// Sends a `bytes` object to the one who has sent the last datagram, if `addr` is that one's very object; false
    /// where it is not, and nothing has happened.
    pub fn answer(
        slf: &Bound<'_, Self>,
        bytes: &Bound<'_, PyBytes>,
        addr: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let py = slf.py();
        let transport = slf.as_super().get();
        if transport.remote(py).is_some() {
            return Ok(false);
        }
        let Some(sender) = transport.protocol(py).sender(addr) else {
            return Ok(false);
        };
        let keep = || KeptBytes::of(bytes);
        let output = Output {
            bytes: bytes.as_bytes(),
            keep: Some(&keep),
        };
        let sent = DatagramTransport::engine(slf)?.try_send(output, Some(&sender));
        after_sending(py, sent).map(|()| true)
    }

    fn check_remote(slf: &Bound<'_, Self>, addr: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(remote) = slf.as_super().get().remote(slf.py())
            && !addr.is(&remote)
            && !addr.eq(&remote)?
        {
            let remote = remote.str()?;
            let message = format!("Invalid address: must be None or {remote}");
            return Err(PyValueError::new_err(message));
        }
        Ok(())
    }
}

#[pymethods]
impl DatagramTransport {
    /// Sends a datagram, which may be empty.
    #[pyo3(signature = (data, addr = None))]
    fn sendto(
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
        addr: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        check_bytes_like(data)?;
        if let Some(addr) = addr {
            DatagramTransport::check_remote(slf, addr)?;
        }
        let transport = DatagramTransport::engine(slf)?;
        // Most often it is an answer. Where everything goes to one peer, that is known as well.
        let sender = addr.and_then(|addr| slf.as_super().get().protocol(py).sender(addr));
        let destination = match sender {
            Some(sender) => Ok(Some(sender)),
            None => DatagramTransport::destination(slf, addr),
        };
        let to = match destination {
            Ok(to) => to,
            // A name that no host can have is one that cannot be resolved.
            Err(error) if error.is_instance_of::<PyUnicodeError>(py) => {
                let unknown =
                    imports::gaierror(py)?.call1((libc::EAI_NONAME, error.value(py).str()?))?;
                let error = PyErr::from_value(unknown);
                return slf
                    .as_super()
                    .get()
                    .protocol(py)
                    .tell_error_received(py, error);
            }
            // A host that cannot be resolved is as one that cannot be reached.
            Err(error) if error.is_instance_of::<PyOSError>(py) => {
                return slf
                    .as_super()
                    .get()
                    .protocol(py)
                    .tell_error_received(py, error);
            }
            Err(error) => {
                transport.fail("Fatal write error on datagram transport", Exception(error));
                return Ok(());
            }
        };
        let sent = if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            let keep = || KeptBytes::of(bytes);
            let output = Output {
                bytes: bytes.as_bytes(),
                keep: Some(&keep),
            };
            transport.try_send(output, to.as_ref())
        } else {
            let view = View::of(data)?;
            let bytes = view.bytes(py);
            transport.try_send(Output { bytes, keep: None }, to.as_ref())
        };
        after_sending(py, sent)
    }
}

/// What `sendto` says to how a send has ended.
fn after_sending(py: Python<'_>, sent: Result<(), SendError<Exception>>) -> PyResult<()> {
    match sent {
        Ok(()) => Ok(()),
        Err(SendError::Lost(times)) => {
            if times >= LOST_WRITES_BEFORE_WARNING {
                let message = "socket.send() raised exception.";
                imports::logger(py)?.call_method1(intern!(py, "warning"), (message,))?;
            }
            Ok(())
        }
        Err(SendError::Raised(error)) => Err(error.0),
    }
}
