//! TLS with the program's own `ssl.SSLContext`.
//!
//! The engine's layer (`aioxide::tls`) decides everything about time, flow control and ends. A
//! session here turns bytes into other bytes, through the `SSLObject` that the context makes.

pub mod choice;
mod openssl;
mod portable;

use std::cell::OnceCell;
use std::rc::Rc;

use aioxide::protocols::StreamProtocol;
use aioxide::tls::keepers::Keepers;
use aioxide::tls::session::{Progress, TlsSession, Wire};
use aioxide::tls::{Tls, TlsTimeouts, WhenEstablished};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::duration;
use crate::errors::Exception;
use crate::host::{PyEventLoop, PyHost};
use crate::imports;
use crate::protocol::PyProtocol;

/// The connections of a loop that keep OpenSSL's buffers.
pub type TlsBuffers = Keepers<openssl::Buffers>;

/// The Python objects of one TLS connection.
pub struct TlsObjects {
    pub context: Py<PyAny>,
    /// The `ssl.SSLObject`.
    pub object: Py<PyAny>,
    /// Its two `ssl.MemoryBIO`s.
    incoming: Py<PyAny>,
    outgoing: Py<PyAny>,
    /// What the fast session has taken out of the object.
    session: OnceCell<Py<PyAny>>,
}

impl TlsObjects {
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)?;
        visit.call(&self.object)?;
        visit.call(&self.incoming)?;
        visit.call(&self.outgoing)?;
        match self.session.get() {
            Some(session) => visit.call(session),
            None => Ok(()),
        }
    }

    /// What `get_extra_info` knows by this name, once the handshake is over; `None` if it is none
    /// of TLS's.
    pub fn extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        established: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let object = self.object.bind(py);
        let found = match name {
            "sslcontext" => self.context.bind(py).clone(),
            _ if !established => return Ok(None),
            "ssl_object" => object.clone(),
            "peercert" => object.call_method0(intern!(py, "getpeercert"))?,
            "cipher" => object.call_method0(intern!(py, "cipher"))?,
            "compression" => object.call_method0(intern!(py, "compression"))?,
            _ => return Ok(None),
        };
        Ok(Some(found))
    }
}

/// How the TLS of a connection, or of a server's connections, is to be.
#[pyclass(frozen, module = "aioxide._aioxide")]
pub struct TlsOptions {
    context: Py<PyAny>,
    server_side: bool,
    server_hostname: Option<Py<PyAny>>,
    timeouts: TlsTimeouts,
}

#[pymethods]
impl TlsOptions {
    #[new]
    fn new(
        context: Py<PyAny>,
        server_side: bool,
        server_hostname: Option<Py<PyAny>>,
        handshake_timeout: f64,
        shutdown_timeout: f64,
    ) -> TlsOptions {
        TlsOptions {
            context,
            server_side,
            server_hostname,
            timeouts: TlsTimeouts {
                handshake: duration(handshake_timeout),
                shutdown: duration(shutdown_timeout),
            },
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)?;
        visit.call(&self.server_hostname)
    }
}

impl TlsOptions {
    /// A layer for a protocol, of the class of TLS transports.
    pub fn layer(
        &self,
        py: Python<'_>,
        engine: &PyEventLoop,
        protocol: &Rc<PyProtocol>,
        when_established: WhenEstablished<PyHost>,
    ) -> PyResult<Rc<Tls<PyHost>>> {
        let bio = || imports::memory_bio(py)?.call0();
        let (incoming, outgoing) = (bio()?, bio()?);
        let kwargs = PyDict::new(py);
        kwargs.set_item(intern!(py, "server_side"), self.server_side)?;
        kwargs.set_item(intern!(py, "server_hostname"), &self.server_hostname)?;
        let object = self.context.bind(py).call_method(
            intern!(py, "wrap_bio"),
            (&incoming, &outgoing),
            Some(&kwargs),
        )?;
        let objects = Rc::new(TlsObjects {
            context: self.context.clone_ref(py),
            object: object.unbind(),
            incoming: incoming.unbind(),
            outgoing: outgoing.unbind(),
            session: OnceCell::new(),
        });
        protocol.set_tls(Rc::clone(&objects));
        Ok(Tls::new(
            engine,
            session(py, &objects, &engine.host().tls_buffers)?,
            Rc::clone(protocol) as Rc<dyn StreamProtocol<PyHost>>,
            self.timeouts,
            when_established,
        ))
    }
}

/// The session over these objects: the fast one where that can be.
fn session(
    py: Python<'_>,
    objects: &Rc<TlsObjects>,
    buffers: &Rc<TlsBuffers>,
) -> PyResult<Box<dyn TlsSession<PyHost>>> {
    if let Ok(library) = choice::fast(py)
        && let Some(session) = openssl::OpenSsl::new(py, library, objects, buffers)?
    {
        return Ok(Box::new(session));
    }
    Ok(Box::new(portable::Portable::new(Rc::clone(objects))))
}

/// Goes on with an `SSLObject`'s handshake.
fn do_handshake(object: &Bound<'_, PyAny>) -> PyResult<Progress> {
    let py = object.py();
    match object.call_method0(intern!(py, "do_handshake")) {
        Ok(_) => Ok(Progress::Done),
        Err(error) if wants_read(py, &error)? => Ok(Progress::Blocked),
        Err(error) => Err(error),
    }
}

/// Writes an `SSLObject`'s end.
fn close_notify(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    match object.call_method0(intern!(py, "unwrap")) {
        Ok(_) => Ok(()),
        // Our end was written; the peer's is looked for in what comes.
        Err(error) if error.is_instance(py, imports::ssl_error(py)?) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether an exception says that more has to be received first.
fn wants_read(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    Ok(error.is_instance(py, imports::ssl_want_read(py)?))
}

/// What is said of a peer that has ended its stream without `close_notify`.
///
/// Within a record that is an error, unless the context has `OP_IGNORE_UNEXPECTED_EOF`. Between
/// two it is what every `close()` of a blocking `ssl.SSLSocket` does, and asyncio takes it for a
/// good end: so does this.
fn unclean_end(wire: &Wire, objects: &TlsObjects) -> Option<Exception> {
    if !wire.incoming.is_within_record() {
        return None;
    }
    let end = |py: Python<'_>| -> PyResult<Option<PyErr>> {
        let ssl = py.import(intern!(py, "ssl"))?;
        // Since OpenSSL 3.
        if let Ok(ignore) = ssl.getattr(intern!(py, "OP_IGNORE_UNEXPECTED_EOF")) {
            let options = objects.context.bind(py).getattr(intern!(py, "options"))?;
            if options.bitand(ignore)?.is_truthy()? {
                return Ok(None);
            }
        }
        let number = ssl.getattr(intern!(py, "SSL_ERROR_EOF"))?;
        let class = ssl.getattr(intern!(py, "SSLEOFError"))?;
        let error = class.call1((number, "EOF occurred in violation of protocol"))?;
        Ok(Some(PyErr::from_value(error)))
    };
    Python::attach(|py| end(py).unwrap_or_else(Some)).map(Exception)
}
