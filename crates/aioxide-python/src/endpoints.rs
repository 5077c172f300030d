//! From addresses to sockets and transports.

use std::rc::Rc;

use aioxide::endpoints::{BindOptions, Endpoint};
use aioxide::sys::address::Family;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::convert::address_from_python;
use crate::errors::address_error;
use crate::event_loop::Loop;
use crate::protocol::{Adapter, PyProtocol};
use crate::socket::{OpenSocket, take_connected};
use crate::transport::SocketTransport;

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

#[pymethods]
impl Loop {
    /// A future of a connected `OpenSocket`, or of the list of what failed.
    #[pyo3(signature = (remote, local = None))]
    fn _connect<'py>(
        slf: &Bound<'py, Self>,
        remote: &Bound<'py, PyAny>,
        local: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let engine = slf.get().engine(slf.py()).clone();
        let remote = endpoints(remote)?;
        let local = local.map(endpoints).transpose()?;
        Loop::future(slf, async move {
            let connected = engine.connect_any(&remote, local.as_deref()).await;
            Python::attach(|py| match connected {
                Ok((socket, peer)) => {
                    Ok(Py::new(py, OpenSocket::new(socket, Some(peer)))?.into_any())
                }
                Err(errors) => {
                    let errors: PyResult<Vec<_>> = errors
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

    /// Starts the transport of a connected socket (an `OpenSocket` or a `socket.socket`). Gives it
    /// and a future that is done when `connection_made` was called.
    fn _start_transport<'py>(
        slf: &Bound<'py, Self>,
        protocol: Bound<'py, PyAny>,
        socket: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, SocketTransport>, Bound<'py, PyAny>)> {
        let py = slf.py();
        let engine = slf.get().engine(py);
        let protocol = PyProtocol::new(protocol)?;
        let (taken, peer) = take_connected(socket)?;
        let adapter = Rc::new(Adapter(Rc::clone(&protocol)));
        let (transport, made) = engine.start_transport(taken, adapter, peer);
        let face = protocol.face(py, &transport)?;
        if !socket.is_instance_of::<OpenSocket>() {
            face.get().set_socket(py, socket)?;
        }
        let made = Loop::future(slf, async move {
            made.await;
            Ok(Python::attach(|py| py.None()))
        })?;
        Ok((face, made))
    }
}
