//! The Python objects of transports: what all of them have, and the classes for each shape.

use std::cell::Cell;
use std::rc::Rc;

use aioxide::sys::address::SocketAddress;
use aioxide::tls::Tls;
use aioxide::transports::flow_control::WaterMarks;
use aioxide::transports::{
    AnyTransport, BaseTransport, LOST_WRITES_BEFORE_WARNING, Output, Transport, WriteError,
};
use pyo3::exceptions::{
    PyAttributeError, PyNotImplementedError, PyResourceWarning, PyRuntimeError, PyTypeError,
    PyValueError,
};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use crate::convert::{KeptBytes, View, address_to_python, not_bytes_like, type_name};
use crate::errors::{from_io, loop_is_closed};
use crate::event_loop::Loop;
use crate::gil::{OnGil, from_drop};
use crate::host::PyHost;
use crate::imports;
use crate::protocol::{PyProtocol, Rare};
use crate::seed::Seed;
use crate::socket::{as_python_socket, closed_python_socket};

/// What the objects of all transports have: the part of `asyncio.BaseTransport`. An object's own class is
/// one in Python (`_transports.py`), over one of those below.
#[pyclass(frozen, subclass, module = "aioxide", name = "BaseTransport")]
pub struct PyTransport {
    state: OnGil<State>,
}

struct State {
    transport: AnyTransport<PyHost>,
    protocol: Rc<PyProtocol>,
}

/// The class of a transport's object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Socket,
    Tls,
    ReadPipe,
    WritePipe,
    Datagram,
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Class::Socket => "SocketTransport",
            Class::Tls => "SSLTransport",
            Class::ReadPipe => "ReadPipeTransport",
            Class::WritePipe => "WritePipeTransport",
            Class::Datagram => "DatagramTransport",
        }
    }

    fn is_pipe(self) -> bool {
        matches!(self, Class::ReadPipe | Class::WritePipe)
    }
}

/// A transport over a connected stream socket.
#[pyclass(frozen, subclass, extends = PyTransport, module = "aioxide")]
pub struct SocketTransport;

/// A transport over TLS. Programs know one by the three letters in the name of its class.
#[pyclass(
    frozen,
    subclass,
    extends = PyTransport,
    module = "aioxide",
    name = "SSLTransport"
)]
pub struct TlsTransport {
    /// What `set_read_buffer_limits` was given: told again, and without effect.
    read_marks: OnGil<Cell<WaterMarks>>,
}

/// The mark of received ciphertext that asyncio's TLS transports begin with:
/// `FLOW_CONTROL_HIGH_WATER_SSL_READ`, in bytes.
const SSL_READ_HIGH_WATER: i64 = 256 * 1024;

/// A transport over the reading end of a pipe.
#[pyclass(frozen, subclass, extends = PyTransport, module = "aioxide")]
pub struct ReadPipeTransport;

/// A transport over the writing end of a pipe.
#[pyclass(frozen, subclass, extends = PyTransport, module = "aioxide")]
pub struct WritePipeTransport;

impl PyTransport {
    /// The object of a transport, of its class in Python.
    pub fn make<'py>(
        py: Python<'py>,
        class: Class,
        transport: AnyTransport<PyHost>,
        protocol: Rc<PyProtocol>,
    ) -> PyResult<Bound<'py, PyTransport>> {
        let state = State {
            transport,
            protocol,
        };
        let class = match class {
            Class::Socket => imports::socket_transport(py)?,
            Class::Tls => imports::tls_transport(py)?,
            Class::ReadPipe => imports::read_pipe_transport(py)?,
            Class::WritePipe => imports::write_pipe_transport(py)?,
            Class::Datagram => imports::datagram_transport(py)?,
        };
        Ok(Seed::grow(class, state)?.cast_into()?)
    }

    /// The base of an object that is being made.
    pub fn from_seed(seed: &Bound<'_, Seed>) -> PyResult<PyClassInitializer<PyTransport>> {
        let state = OnGil::new(seed.get().take(seed.py())?);
        Ok(PyClassInitializer::from(PyTransport { state }))
    }

    pub fn any<'py>(&'py self, py: Python<'py>) -> &'py AnyTransport<PyHost> {
        &self.state.get(py).transport
    }

    pub fn base<'py>(&'py self, py: Python<'py>) -> &'py dyn BaseTransport<PyHost> {
        self.any(py).base()
    }

    pub fn protocol<'py>(&'py self, py: Python<'py>) -> &'py Rc<PyProtocol> {
        &self.state.get(py).protocol
    }

    /// The byte stream. The classes that ask are made of nothing else.
    pub fn stream<'py>(&'py self, py: Python<'py>) -> PyResult<&'py Transport<PyHost>> {
        match self.any(py) {
            AnyTransport::Stream(transport) => Ok(transport),
            AnyTransport::Datagram(_) => Err(PyRuntimeError::new_err("not a byte stream")),
        }
    }

    /// Whom everything is sent to, as the program knows the address.
    pub fn remote<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let remote = self.protocol(py).rare_if_any()?.remote.borrow();
        remote.as_ref().map(|remote| remote.bind(py).clone())
    }

    pub fn set_remote(&self, py: Python<'_>, remote: Option<Py<PyAny>>) {
        let before = self.rare(py).remote.replace(remote);
        drop(before);
    }

    /// Says which file object the transport was made of.
    pub fn set_file(&self, py: Python<'_>, file: &Bound<'_, PyAny>) -> PyResult<()> {
        let file = if self.class(py).is_pipe() {
            file.clone()
        } else {
            imports::transport_socket(py)?.call1((file,))?
        };
        self.rare(py).file.replace(Some(file.unbind()));
        Ok(())
    }

    /// Has the same file as a transport below it, if that was asked for it.
    pub fn share_file(&self, py: Python<'_>, below: &PyTransport) {
        let Some(below) = below.protocol(py).rare_if_any() else {
            return;
        };
        let file = below.file.borrow();
        let file = file.as_ref().map(|file| file.clone_ref(py));
        let before = self.rare(py).file.replace(file);
        drop(before);
    }

    fn rare<'py>(&'py self, py: Python<'py>) -> &'py Rare {
        self.protocol(py).rare()
    }

    fn class(&self, py: Python<'_>) -> Class {
        self.protocol(py).class()
    }

    /// Whether it is a layer whose handshake has ended well.
    fn is_established(&self, py: Python<'_>) -> bool {
        self.tls(py).is_some_and(Tls::is_established)
    }

    /// The layer, if it is one.
    fn tls<'py>(&'py self, py: Python<'py>) -> Option<&'py Tls<PyHost>> {
        let AnyTransport::Stream(transport) = self.any(py) else {
            return None;
        };
        transport.layer()?.downcast_ref()
    }

    /// The `TransportSocket` or the pipe; made, over the transport's own descriptor, when it is
    /// first asked for.
    fn file<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let rare = self.rare(py);
        if let Some(file) = &*rare.file.borrow() {
            return Ok(file.bind(py).clone());
        }
        let mut made = None;
        self.base(py).with_socket(&mut |socket| {
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
        rare.file.replace(Some(wrapped.clone().unbind()));
        Ok(wrapped)
    }

    /// What needs the loop is refused when it is closed, unless there is nothing to do.
    fn check_loop(&self, py: Python<'_>) -> PyResult<()> {
        let transport = self.base(py);
        if transport.event_loop().is_closed() && !transport.is_closing() {
            return Err(loop_is_closed());
        }
        Ok(())
    }

    /// Writes; whether the bytes were taken. Those that come when the connection is lost are not.
    fn write_bytes(
        &self,
        py: Python<'_>,
        method: &str,
        bytes: &[u8],
        keep: Option<&dyn Fn() -> KeptBytes>,
    ) -> PyResult<bool> {
        match self.stream(py)?.try_write(Output { bytes, keep }) {
            Ok(()) => Ok(true),
            Err(error) => self.not_written(py, method, error).map(|()| false),
        }
    }

    /// What a write says that was not taken.
    #[cold]
    fn not_written(&self, py: Python<'_>, method: &str, error: WriteError) -> PyResult<()> {
        match error {
            WriteError::Lost(times) => {
                if times >= LOST_WRITES_BEFORE_WARNING {
                    let message = match self.class(py) {
                        Class::WritePipe => {
                            "pipe closed by peer or os.write(pipe, data) raised exception."
                        }
                        Class::Tls => "SSL connection is closed",
                        _ => "socket.send() raised exception.",
                    };
                    imports::logger(py)?.call_method1(intern!(py, "warning"), (message,))?;
                }
                Ok(())
            }
            WriteError::SendingFile => Err(PyRuntimeError::new_err(format!(
                "unable to {method}; sendfile is in progress"
            ))),
            _ => Err(PyRuntimeError::new_err(format!(
                "Cannot call {method}() after write_eof()"
            ))),
        }
    }

    /// `write` of a `bytes` object.
    #[inline]
    pub fn write_whole(&self, bytes: &Bound<'_, PyBytes>) -> PyResult<()> {
        let py = bytes.py();
        let keep = || KeptBytes::of(bytes);
        let output = Output {
            bytes: bytes.as_bytes(),
            keep: Some(&keep),
        };
        match self.stream(py)?.try_write(output) {
            Ok(()) => Ok(()),
            Err(error) => self.not_written(py, "write", error),
        }
    }

    pub fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            return self.write_whole(bytes);
        }
        check_bytes_like(data).map_err(|error| match self.class(py) {
            Class::Tls => PyTypeError::new_err(format!(
                "data: expecting a bytes-like instance, got {}",
                type_name(data)
            )),
            _ => error,
        })?;
        let view = View::of(data)?;
        self.write_bytes(py, "write", view.bytes(py), None)?;
        Ok(())
    }

    fn writelines(&self, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        // All of them are checked before any is sent, as asyncio's transports join them first.
        let pieces = list_of_data.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let views = pieces.iter().map(View::of).collect::<PyResult<Vec<_>>>()?;
        let py = list_of_data.py();
        if views.is_empty() {
            // Nothing is still refused after the end.
            self.write_bytes(py, "writelines", &[], None)?;
            return Ok(());
        }
        if self.stream(py)?.joins_lines() {
            let mut joined = Vec::new();
            for view in &views {
                joined.extend_from_slice(view.bytes(py));
            }
            self.write_bytes(py, "writelines", &joined, None)?;
            return Ok(());
        }
        for (piece, view) in pieces.iter().zip(&views) {
            let keep = piece.cast_exact::<PyBytes>().ok();
            let keep = keep.map(|bytes| || KeptBytes::of(bytes));
            let keep = keep.as_ref().map(|keep| keep as &dyn Fn() -> KeptBytes);
            if !self.write_bytes(py, "writelines", view.bytes(py), keep)? {
                // They count as one write.
                break;
            }
        }
        Ok(())
    }

    pub fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.check_loop(py)?;
        self.base(py).abort();
        Ok(())
    }

    pub fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let transport = slf.get().base(slf.py());
        let pauses = transport.is_reading();
        transport.pause_reading();
        if pauses && transport.event_loop().debug() {
            log_debug(slf, "%r pauses reading")?;
        }
        Ok(())
    }

    pub fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().check_loop(slf.py())?;
        let transport = slf.get().base(slf.py());
        let was_reading = transport.is_reading();
        transport.resume_reading();
        if transport.event_loop().debug() && !was_reading && transport.is_reading() {
            log_debug(slf, "%r resumes reading")?;
        }
        Ok(())
    }

    pub fn set_write_buffer_limits(
        &self,
        py: Python<'_>,
        high: Option<i64>,
        low: Option<i64>,
    ) -> PyResult<()> {
        self.base(py).set_water_marks(water_marks(high, low)?);
        Ok(())
    }
}

/// The marks of these arguments.
fn water_marks(high: Option<i64>, low: Option<i64>) -> PyResult<WaterMarks> {
    let marks = |high: Option<i64>, low: Option<i64>| {
        let high = high.map(usize::try_from).transpose().ok()?;
        let low = low.map(usize::try_from).transpose().ok()?;
        WaterMarks::new(high, low)
    };
    marks(high, low).ok_or_else(|| {
        let shown_high = high
            .or(low.map(|low| low.saturating_mul(4)))
            .unwrap_or_default();
        let shown_low = low.unwrap_or(shown_high.div_euclid(4));
        PyValueError::new_err(format!(
            "high ({shown_high}) must be >= low ({shown_low}) must be >= 0"
        ))
    })
}

/// Debug mode's note of what a transport does.
fn log_debug(transport: &Bound<'_, PyTransport>, message: &str) -> PyResult<()> {
    let py = transport.py();
    imports::logger(py)?.call_method1(intern!(py, "debug"), (message, transport))?;
    Ok(())
}

fn shown_address(
    py: Python<'_>,
    address: Option<SocketAddress>,
) -> PyResult<Option<Bound<'_, PyAny>>> {
    address
        .map(|address| address_to_python(py, &address))
        .transpose()
}

/// Refuses what asyncio's transports do not take.
pub fn check_bytes_like(data: &Bound<'_, PyAny>) -> PyResult<()> {
    let bytes_like = data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>();
    if bytes_like {
        Ok(())
    } else {
        Err(not_bytes_like(data))
    }
}

#[pymethods]
impl PyTransport {
    /// Sends what is buffered, then ends the connection.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.check_loop(py)?;
        self.base(py).close();
        Ok(())
    }

    /// Whether it is closing or closed.
    pub fn is_closing(&self, py: Python<'_>) -> bool {
        self.base(py).is_closing()
    }

    /// Gives what is received from now on to another protocol.
    fn set_protocol(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        self.protocol(protocol.py()).set(protocol)
    }

    /// The protocol, until the connection is lost.
    fn get_protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.protocol(py).get(py)
    }

    /// What is known of the connection, by name.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        &self,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
        py: Python<'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let transport = self.base(py);
        if let Some(tls) = self.protocol(py).tls()
            && let Some(found) = tls.extra_info(py, name, self.is_established(py))?
        {
            return Ok(Some(found));
        }
        let found = match (name, self.class(py).is_pipe()) {
            ("pipe", true) | ("socket", false) => Some(self.file(py)?),
            // Known to have none, where it has none.
            ("peername", false) => return shown_address(py, transport.peer_address()),
            ("sockname", false) => return shown_address(py, transport.local_address()),
            _ => None,
        };
        Ok(found.or(default))
    }

    /// What the loop does at the end: tells the protocol. It is here for the exception handler,
    /// which is given a handle of it when the protocol's callback has raised.
    fn _call_connection_lost(&self, exc: Bound<'_, PyAny>) -> PyResult<()> {
        let py = exc.py();
        match self.protocol(py).get(py) {
            Some(protocol) => protocol
                .call_method1(intern!(py, "connection_lost"), (exc,))
                .map(drop),
            None => Ok(()),
        }
    }

    /// What the loop does when something can be received. It is here for the exception handler
    /// too, which is given a handle of it when a callback has raised that costs no connection.
    #[expect(clippy::unused_self, reason = "a method, as on asyncio's transports")]
    fn _read_ready(&self) {}

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Loop>> {
        self.base(py).event_loop().host().object(py)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let transport = self.base(py);
        let class = self.class(py);
        let (name, fd) = (class.name(), transport.fd_number());
        if transport.is_lost() {
            let closed = if class.is_pipe() { " closed" } else { "" };
            return format!("<{name} closed fd={fd}{closed}>");
        }
        if class.is_pipe() && transport.event_loop().is_closed() {
            return format!("<{name} fd={fd} open>");
        }
        let state = |polling| if polling { "polling" } else { "idle" };
        let closing = if transport.is_closing() {
            " closing"
        } else {
            ""
        };
        let read = state(transport.is_receiving());
        let write = state(transport.is_sending());
        let buffered = transport.write_buffer_size();
        match class {
            Class::ReadPipe => format!("<{name}{closing} fd={fd} {read}>"),
            Class::WritePipe => format!("<{name}{closing} fd={fd} {write} bufsize={buffered}>"),
            Class::Socket | Class::Tls | Class::Datagram => {
                format!("<{name}{closing} fd={fd} read={read} write=<{write}, bufsize={buffered}>>")
            }
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let state = self.state.visit();
        state.protocol.traverse(&visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        self.protocol(py).clear();
    }
}

/// The methods of `asyncio.ReadTransport`.
macro_rules! reading_methods {
    ($class:ty) => {
        #[pymethods]
        impl $class {
            /// Stops receiving until `resume_reading()`.
            fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
                PyTransport::pause_reading(slf.as_super())
            }

            /// Receives again.
            fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
                PyTransport::resume_reading(slf.as_super())
            }

            /// Whether the program wants what is received.
            fn is_reading(slf: &Bound<'_, Self>) -> bool {
                slf.as_super().get().base(slf.py()).is_reading()
            }
        }
    };
}

/// What a transport that can write has, whatever its shape.
macro_rules! buffering_methods {
    ($class:ty) => {
        #[pymethods]
        impl $class {
            /// Ends the connection now.
            fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
                slf.as_super().get().abort(slf.py())
            }

            /// Changes when `pause_writing` and `resume_writing` are called.
            #[pyo3(signature = (high = None, low = None))]
            fn set_write_buffer_limits(
                slf: &Bound<'_, Self>,
                high: Option<i64>,
                low: Option<i64>,
            ) -> PyResult<()> {
                let transport = slf.as_super().get();
                transport.set_write_buffer_limits(slf.py(), high, low)
            }

            /// The low- and the high-water mark.
            fn get_write_buffer_limits(slf: &Bound<'_, Self>) -> (usize, usize) {
                let marks = slf.as_super().get().base(slf.py()).water_marks();
                (marks.low(), marks.high())
            }

            /// Bytes that the kernel has not taken.
            fn get_write_buffer_size(slf: &Bound<'_, Self>) -> usize {
                slf.as_super().get().base(slf.py()).write_buffer_size()
            }
        }
    };
}
pub(crate) use {buffering_methods, reading_methods};

/// The methods of `asyncio.WriteTransport` for bytes.
macro_rules! writing_methods {
    ($class:ty) => {
        #[pymethods]
        impl $class {
            /// Takes bytes to send.
            fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
                slf.as_super().get().write(data)
            }

            /// Takes several pieces to send, in order.
            fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
                slf.as_super().get().writelines(list_of_data)
            }
        }
    };
}

/// Those of `asyncio.WriteTransport` where what can be written to can be ended.
macro_rules! ending_methods {
    ($class:ty) => {
        #[pymethods]
        impl $class {
            /// Sends an end after what is buffered.
            fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
                let transport = slf.as_super().get().stream(slf.py())?;
                transport.write_eof().map_err(from_io)
            }

            /// Always.
            fn can_write_eof(&self) -> bool {
                true
            }
        }
    };
}

reading_methods!(SocketTransport);
writing_methods!(SocketTransport);
ending_methods!(SocketTransport);
buffering_methods!(SocketTransport);
reading_methods!(TlsTransport);
writing_methods!(TlsTransport);
buffering_methods!(TlsTransport);
reading_methods!(ReadPipeTransport);
writing_methods!(WritePipeTransport);
ending_methods!(WritePipeTransport);
buffering_methods!(WritePipeTransport);

#[pymethods]
impl PyTransport {
    /// The socket itself, which `get_extra_info('socket')` wraps; other libraries look for it under
    /// this name.
    #[getter]
    fn _sock<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let file = self.file(py)?;
        if self.class(py).is_pipe() {
            return Err(PyAttributeError::new_err("_sock"));
        }
        file.getattr(intern!(py, "_sock"))
    }
}

#[pymethods]
impl SocketTransport {
    /// `loop.sendfile` tries the kernel's way first.
    #[classattr]
    fn _sendfile_compatible(py: Python<'_>) -> PyResult<Py<PyAny>> {
        imports::sendfile_mode(py)?
            .getattr(intern!(py, "TRY_NATIVE"))
            .map(Bound::unbind)
    }

    /// `loop.start_tls` takes it.
    #[classattr]
    fn _start_tls_compatible() -> bool {
        true
    }

    /// Whether the protocol was told to pause writing; `loop.sendfile` puts another in its place.
    #[getter]
    fn _protocol_paused(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().base(slf.py()).is_writing_paused()
    }
}

#[pymethods]
impl TlsTransport {
    #[new]
    fn new(seed: &Bound<'_, Seed>) -> PyResult<PyClassInitializer<TlsTransport>> {
        let marks = water_marks(Some(SSL_READ_HIGH_WATER), None)?;
        Ok(PyTransport::from_seed(seed)?.add_subclass(TlsTransport {
            read_marks: OnGil::new(Cell::new(marks)),
        }))
    }

    /// Keeps the marks. How much is received before it is decrypted is bounded without them, and a
    /// protocol that has paused stops the transport below at once.
    #[pyo3(signature = (high = None, low = None))]
    fn set_read_buffer_limits(
        &self,
        py: Python<'_>,
        high: Option<i64>,
        low: Option<i64>,
    ) -> PyResult<()> {
        let high = high.or(low.is_none().then_some(SSL_READ_HIGH_WATER));
        self.read_marks.get(py).set(water_marks(high, low)?);
        Ok(())
    }

    /// The low- and the high-water mark.
    fn get_read_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        let marks = self.read_marks.get(py).get();
        (marks.low(), marks.high())
    }

    /// Bytes that were received and not delivered.
    fn get_read_buffer_size(slf: &Bound<'_, Self>) -> usize {
        let transport = slf.as_super().get();
        transport.tls(slf.py()).map_or(0, Tls::read_buffer_size)
    }

    /// TLS has no half-closed connections.
    #[expect(clippy::unused_self, reason = "a method, as on asyncio's transports")]
    fn write_eof(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(
            "a TLS connection cannot be ended one way: close() it",
        ))
    }

    /// Never.
    #[expect(clippy::unused_self, reason = "a method, as on asyncio's transports")]
    fn can_write_eof(&self) -> bool {
        false
    }

    /// `loop.sendfile` reads the file and writes it.
    #[classattr]
    fn _sendfile_compatible(py: Python<'_>) -> PyResult<Py<PyAny>> {
        imports::sendfile_mode(py)?
            .getattr(intern!(py, "FALLBACK"))
            .map(Bound::unbind)
    }

    /// Other libraries look for it under this name.
    #[getter]
    fn _sslcontext<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        let py = slf.py();
        let tls = slf.as_super().get().protocol(py).tls()?;
        Some(tls.context.bind(py).clone())
    }

    /// `loop.start_tls` takes it: TLS inside TLS.
    #[classattr]
    fn _start_tls_compatible() -> bool {
        true
    }

    /// As on a socket's transport.
    #[getter]
    fn _protocol_paused(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().base(slf.py()).is_writing_paused()
    }
}

/// The constructor of a transport's class, for the class in Python over it.
macro_rules! made_from_seed {
    ($class:ident) => {
        #[pymethods]
        impl $class {
            #[new]
            fn new(seed: &Bound<'_, Seed>) -> PyResult<PyClassInitializer<$class>> {
                Ok(PyTransport::from_seed(seed)?.add_subclass($class))
            }
        }
    };
}
pub(crate) use made_from_seed;

made_from_seed!(SocketTransport);
made_from_seed!(ReadPipeTransport);
made_from_seed!(WritePipeTransport);

impl Drop for PyTransport {
    /// The program has dropped a transport that the loop does not refer to: paused, with nothing
    /// to send, and not closed.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if state.transport.base().is_lost() {
            return;
        }
        // A layer above uses it: the connection is that one's.
        if let AnyTransport::Stream(transport) = &state.transport
            && transport
                .stream_protocol()
                .is_some_and(|protocol| protocol.upper_transport().is_some())
        {
            return;
        }
        from_drop(|py| {
            warn_unclosed(py, &self.__repr__(py));
            self.base(py).abandon();
        });
    }
}

/// `ResourceWarning: unclosed transport ...`.
pub fn warn_unclosed(py: Python<'_>, repr: &str) {
    let message = std::ffi::CString::new(format!("unclosed transport {repr}")).unwrap_or_default();
    let category = py.get_type::<PyResourceWarning>();
    if let Err(error) = PyErr::warn(py, &category, &message, 1) {
        error.write_unraisable(py, None);
    }
}

/// A transport as its Python object shows itself.
pub fn describe(py: Python<'_>, transport: &AnyTransport<PyHost>) -> PyResult<String> {
    match PyProtocol::of(transport).and_then(|protocol| protocol.made_face(py)) {
        Some(face) => Ok(face.repr()?.to_string()),
        None => Ok(transport.base().fd_number().to_string()),
    }
}
