//! `SocketTransport`: the Python object of a stream transport.

use std::cell::RefCell;
use std::rc::Rc;

use aioxide::transports::flow_control::WaterMarks;
use aioxide::transports::{LOST_WRITES_BEFORE_WARNING, Output, Transport, WriteError};
use pyo3::exceptions::{PyResourceWarning, PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyType};

use crate::convert::{View, address_to_python, not_bytes_like};
use crate::errors::{from_io, loop_is_closed};
use crate::event_loop::Loop;
use crate::gil::{OnGil, from_drop};
use crate::host::PyHost;
use crate::imports;
use crate::protocol::{Adapter, PyProtocol};
use crate::socket::{as_python_socket, closed_python_socket};

/// A transport over a connected stream socket: shows itself as an `asyncio.Transport`.
#[pyclass(frozen, weakref, module = "aioxide")]
pub struct SocketTransport {
    state: OnGil<State>,
}

struct State {
    transport: Transport<PyHost>,
    protocol: Rc<PyProtocol>,
    /// The `TransportSocket` that `get_extra_info('socket')` gives, once it was asked for.
    socket: RefCell<Option<Py<PyAny>>>,
}

impl SocketTransport {
    pub fn new(transport: Transport<PyHost>, protocol: Rc<PyProtocol>) -> SocketTransport {
        let state = State {
            transport,
            protocol,
            socket: RefCell::new(None),
        };
        SocketTransport {
            state: OnGil::new(state),
        }
    }

    pub fn transport<'py>(&'py self, py: Python<'py>) -> &'py Transport<PyHost> {
        &self.state.get(py).transport
    }

    /// Says which socket object the transport was made of.
    pub fn set_socket(&self, py: Python<'_>, socket: &Bound<'_, PyAny>) -> PyResult<()> {
        let wrapped = imports::transport_socket(py)?.call1((socket,))?.unbind();
        self.state.get(py).socket.replace(Some(wrapped));
        Ok(())
    }

    /// The `TransportSocket`; made, over the transport's own descriptor, when it is first asked for.
    fn socket<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.state.get(py);
        if let Some(socket) = &*state.socket.borrow() {
            return Ok(socket.bind(py).clone());
        }
        let mut made = None;
        state.transport.with_socket(&mut |socket| {
            let (socket, object) = as_python_socket(py, socket);
            made = Some(object);
            socket
        });
        let made = match made {
            Some(made) => made?,
            // The connection is lost: asyncio's transports show their socket, closed.
            None => closed_python_socket(py)?,
        };
        let wrapped = imports::transport_socket(py)?.call1((made,))?;
        state.socket.replace(Some(wrapped.clone().unbind()));
        Ok(wrapped)
    }

    /// What needs the loop is refused when it is closed, unless there is nothing to do.
    fn check_loop(&self, py: Python<'_>) -> PyResult<()> {
        let transport = self.transport(py);
        if transport.event_loop().is_closed() && !transport.is_closing() {
            return Err(loop_is_closed());
        }
        Ok(())
    }

    fn write_bytes(
        &self,
        py: Python<'_>,
        method: &str,
        bytes: &[u8],
        keep: Option<&dyn Fn() -> PyBackedBytes>,
    ) -> PyResult<()> {
        match self.transport(py).try_write(Output { bytes, keep }) {
            Ok(()) => Ok(()),
            Err(WriteError::Lost(times)) => {
                if times >= LOST_WRITES_BEFORE_WARNING {
                    let message = "socket.send() raised exception.";
                    imports::logger(py)?.call_method1(intern!(py, "warning"), (message,))?;
                }
                Ok(())
            }
            Err(_) => Err(PyRuntimeError::new_err(format!(
                "Cannot call {method}() after write_eof()"
            ))),
        }
    }
}

#[pymethods]
impl SocketTransport {
    /// Takes bytes to send.
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            let keep = || PyBackedBytes::from(bytes.clone());
            return self.write_bytes(py, "write", bytes.as_bytes(), Some(&keep));
        }
        let bytes_like = data.is_instance_of::<PyBytes>()
            || data.is_instance_of::<PyByteArray>()
            || data.is_instance_of::<PyMemoryView>();
        if !bytes_like {
            return Err(not_bytes_like(data));
        }
        let view = View::of(data)?;
        self.write_bytes(py, "write", view.bytes(py), None)
    }

    /// Takes several pieces to send, in order.
    fn writelines(&self, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        // All of them are checked before any is sent, as asyncio's transports join them first.
        let pieces = list_of_data.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let views = pieces.iter().map(View::of).collect::<PyResult<Vec<_>>>()?;
        for (piece, view) in pieces.iter().zip(&views) {
            let py = piece.py();
            let keep = piece.cast_exact::<PyBytes>().ok();
            let keep = keep.map(|bytes| || PyBackedBytes::from(bytes.clone()));
            let keep = keep.as_ref().map(|keep| keep as &dyn Fn() -> PyBackedBytes);
            self.write_bytes(py, "writelines", view.bytes(py), keep)?;
        }
        Ok(())
    }

    /// Sends an end after what is buffered.
    fn write_eof(&self, py: Python<'_>) -> PyResult<()> {
        self.transport(py).write_eof().map_err(from_io)
    }

    /// Always: a byte stream over a socket can end its sending side.
    fn can_write_eof(&self) -> bool {
        true
    }

    /// Sends what is buffered, then ends the connection.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.check_loop(py)?;
        self.transport(py).close();
        Ok(())
    }

    /// Ends the connection now.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.check_loop(py)?;
        self.transport(py).abort();
        Ok(())
    }

    /// Whether it is closing or closed.
    fn is_closing(&self, py: Python<'_>) -> bool {
        self.transport(py).is_closing()
    }

    /// Stops receiving until `resume_reading()`.
    fn pause_reading(&self, py: Python<'_>) {
        self.transport(py).pause_reading();
    }

    /// Receives again.
    fn resume_reading(&self, py: Python<'_>) -> PyResult<()> {
        self.check_loop(py)?;
        self.transport(py).resume_reading();
        Ok(())
    }

    /// Whether the program wants what is received.
    fn is_reading(&self, py: Python<'_>) -> bool {
        self.transport(py).is_reading()
    }

    /// Changes when `pause_writing` and `resume_writing` are called.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        &self,
        py: Python<'_>,
        high: Option<i64>,
        low: Option<i64>,
    ) -> PyResult<()> {
        let marks = |high: Option<i64>, low: Option<i64>| {
            let high = high.map(usize::try_from).transpose().ok()?;
            let low = low.map(usize::try_from).transpose().ok()?;
            WaterMarks::new(high, low)
        };
        let Some(marks) = marks(high, low) else {
            let shown_high = high
                .or(low.map(|low| low.saturating_mul(4)))
                .unwrap_or_default();
            let shown_low = low.unwrap_or(shown_high.div_euclid(4));
            return Err(PyValueError::new_err(format!(
                "high ({shown_high}) must be >= low ({shown_low}) must be >= 0"
            )));
        };
        self.transport(py).set_water_marks(marks);
        Ok(())
    }

    /// The low- and the high-water mark.
    fn get_write_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        let marks = self.transport(py).water_marks();
        (marks.low(), marks.high())
    }

    /// Bytes that the kernel has not taken.
    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        self.transport(py).write_buffer_size()
    }

    /// Gives what is received from now on to another protocol.
    fn set_protocol(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        self.state.get(protocol.py()).protocol.set(protocol)
    }

    /// The protocol, until the connection is lost.
    fn get_protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state.get(py).protocol.get(py)
    }

    /// What is known of the connection, by name.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        &self,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
        py: Python<'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let transport = self.transport(py);
        let found = match name {
            "peername" => match transport.peer_address() {
                Some(address) => Some(address_to_python(py, &address)?),
                None => None,
            },
            "sockname" => match transport.local_address() {
                Some(address) => Some(address_to_python(py, &address)?),
                None => None,
            },
            "socket" => Some(self.socket(py)?),
            _ => None,
        };
        Ok(found.or(default))
    }

    /// What the loop does at the end: tells the protocol. It is here for the exception handler,
    /// which is given a handle of it when the protocol's callback has raised.
    fn _call_connection_lost(&self, exc: Bound<'_, PyAny>) -> PyResult<()> {
        let py = exc.py();
        match self.state.get(py).protocol.get(py) {
            Some(protocol) => protocol
                .call_method1(intern!(py, "connection_lost"), (exc,))
                .map(drop),
            None => Ok(()),
        }
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Loop>> {
        self.transport(py).event_loop().host().object(py)
    }

    #[getter]
    fn __class__(slf: &Bound<'_, Self>) -> PyResult<Py<PyType>> {
        Ok(imports::transport_class(slf.py())?.clone().unbind())
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let transport = self.transport(py);
        let fd = transport.fd_number();
        if transport.is_lost() {
            return format!("<SocketTransport closed fd={fd}>");
        }
        let closing = if transport.is_closing() {
            " closing"
        } else {
            ""
        };
        let read = if transport.is_receiving() {
            "polling"
        } else {
            "idle"
        };
        let write = if transport.is_sending() {
            "polling"
        } else {
            "idle"
        };
        let buffered = transport.write_buffer_size();
        format!(
            "<SocketTransport{closing} fd={fd} read={read} write=<{write}, bufsize={buffered}>>"
        )
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let state = self.state.visit();
        if let Ok(socket) = state.socket.try_borrow() {
            visit.call(&*socket)?;
        }
        state.protocol.traverse(&visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        self.state.get(py).protocol.clear();
    }
}

impl Drop for SocketTransport {
    /// The program has dropped a transport that the loop does not refer to: paused, with nothing
    /// to send, and not closed.
    fn drop(&mut self) {
        let transport = self.state.get_mut().transport.clone();
        if transport.is_lost() {
            return;
        }
        from_drop(|py| {
            let message =
                std::ffi::CString::new(format!("unclosed transport {}", self.__repr__(py)));
            let message = message.unwrap_or_default();
            let category = py.get_type::<PyResourceWarning>();
            if let Err(error) = PyErr::warn(py, &category, &message, 1) {
                error.write_unraisable(py, None);
            }
            transport.abandon();
        });
    }
}

/// A transport as its Python object shows itself.
pub fn describe(py: Python<'_>, transport: &Transport<PyHost>) -> PyResult<String> {
    let adapter = transport.stream_protocol();
    let adapter = adapter
        .as_deref()
        .and_then(|adapter| adapter.as_any()?.downcast_ref::<Adapter>());
    match adapter.and_then(|adapter| adapter.0.made_face(py)) {
        Some(face) => Ok(face.repr()?.to_string()),
        None => Ok(format!("{transport:?}")),
    }
}
