//! The portable session: through the methods of `SSLObject`, and two `MemoryBIO`s.

use std::any::Any;
use std::rc::Rc;

use aioxide::sys::buffer::Buffer;
use aioxide::tls::session::{Progress, Reading, TlsSession, Wire};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{TlsObjects, close_notify, do_handshake, unclean_end, wants_read};
use crate::errors::Exception;
use crate::host::PyHost;
use crate::imports;

/// The most plaintext of one `SSLObject.read()`: a record's (RFC 8446, 5.1).
const RECORD: usize = 16 * 1024;

/// A session that works with any `ssl` module.
pub struct Portable {
    objects: Rc<TlsObjects>,
}

impl Portable {
    pub fn new(objects: Rc<TlsObjects>) -> Portable {
        Portable { objects }
    }

    /// Lets the object work on what was received.
    fn with_wire<R>(
        &self,
        wire: &mut Wire,
        work: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<R>,
    ) -> Result<R, Exception> {
        Python::attach(|py| {
            let object = self.objects.object.bind(py);
            let unread = wire.incoming.unread();
            if !unread.is_empty() {
                let bytes = PyBytes::new(py, unread);
                let incoming = self.objects.incoming.bind(py);
                incoming.call_method1(intern!(py, "write"), (bytes,))?;
                wire.incoming.advance(wire.incoming.len());
            }
            let result = work(object);
            let outgoing = self.objects.outgoing.bind(py);
            if outgoing.getattr(intern!(py, "pending"))?.is_truthy()? {
                let bytes = outgoing.call_method0(intern!(py, "read"))?;
                wire.outgoing.extend_from_slice(bytes_of(&bytes)?);
            }
            result
        })
        .map_err(Exception)
    }
}

fn bytes_of<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    match object.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.as_bytes()),
        Err(_) => Err(PyTypeError::new_err("bytes were expected")),
    }
}

impl TlsSession<PyHost> for Portable {
    fn handshake(&mut self, wire: &mut Wire) -> Result<Progress, Exception> {
        self.with_wire(wire, do_handshake)
    }

    fn read(&mut self, wire: &mut Wire, plaintext: &mut Buffer<'_>) -> Result<Reading, Exception> {
        self.with_wire(wire, |object| {
            let py = object.py();
            while plaintext.room() > 0 {
                let size = plaintext.room().min(RECORD);
                let bytes = match object.call_method1(intern!(py, "read"), (size,)) {
                    Ok(bytes) => bytes,
                    Err(error) if wants_read(py, &error)? => return Ok(Reading::Blocked),
                    Err(error) if error.is_instance(py, imports::ssl_zero_return(py)?) => {
                        return Ok(Reading::End);
                    }
                    Err(error) => return Err(error),
                };
                let bytes = bytes_of(&bytes)?;
                if bytes.is_empty() {
                    return Ok(Reading::End);
                }
                plaintext.append(bytes);
            }
            Ok(Reading::Full)
        })
    }

    fn write(&mut self, wire: &mut Wire, plaintext: &[u8]) -> Result<usize, Exception> {
        self.with_wire(wire, |object| {
            let py = object.py();
            let bytes = PyBytes::new(py, plaintext);
            match object.call_method1(intern!(py, "write"), (bytes,)) {
                Ok(count) => count.extract(),
                Err(error) if wants_read(py, &error)? => Ok(0),
                Err(error) => Err(error),
            }
        })
    }

    fn close(&mut self, wire: &mut Wire) -> Result<(), Exception> {
        self.with_wire(wire, close_notify)
    }

    fn pending(&self) -> usize {
        Python::attach(|py| {
            let waiting = self
                .objects
                .incoming
                .bind(py)
                .getattr(intern!(py, "pending"));
            let waiting = waiting.and_then(|waiting| waiting.extract::<usize>());
            let decrypted = self
                .objects
                .object
                .bind(py)
                .call_method0(intern!(py, "pending"));
            let decrypted = decrypted.and_then(|decrypted| decrypted.extract::<usize>());
            waiting.unwrap_or_default() + decrypted.unwrap_or_default()
        })
    }

    fn truncated(&mut self, wire: &Wire) -> Option<Exception> {
        unclean_end(wire, &self.objects)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
