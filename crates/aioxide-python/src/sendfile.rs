//! Sending files: `sock_sendfile` and `sendfile`, as far as the kernel does it.

use std::io;
use std::os::fd::RawFd;

use aioxide::sock::sendfile::FileRange;
use aioxide::transports::AnyTransport;
use pyo3::exceptions::{PyConnectionError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;

use crate::errors::from_io;
use crate::event_loop::Loop;
use crate::imports;
use crate::sock::Target;
use crate::transport::PyTransport;

/// How many bytes were sent; or what asyncio says when that has failed.
fn outcome(range: FileRange, sent: io::Result<()>) -> PyResult<Py<PyAny>> {
    Python::attach(|py| match sent {
        Ok(()) => Ok(range.sent().into_pyobject(py)?.into_any().unbind()),
        // Nothing has gone: the file, most often, is none that can be sent. The caller may read
        // and send it instead.
        Err(error) if range.sent() == 0 && error.raw_os_error().is_some() => {
            let class = imports::sendfile_not_available(py)?;
            Err(PyErr::from_value(
                class.call1(("os.sendfile call failed",))?,
            ))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            let args = ("socket is not connected", libc::ENOTCONN);
            Err(PyConnectionError::new_err(args))
        }
        Err(error) => Err(match error.kind() {
            io::ErrorKind::ConnectionAborted => {
                PyConnectionError::new_err("Connection is closed by peer")
            }
            io::ErrorKind::NotConnected | io::ErrorKind::ResourceBusy => {
                PyRuntimeError::new_err(error.to_string())
            }
            _ => from_io(error),
        }),
    })
}

/// A part of a file. The numbers were checked: they are not negative.
fn range(offset: i64, count: Option<i64>) -> FileRange {
    FileRange::new(offset.unsigned_abs(), count.map(i64::unsigned_abs))
}

#[pymethods]
impl Loop {
    /// A future of how many bytes of a file were sent to a socket.
    #[pyo3(signature = (sock, file, offset, count = None))]
    fn _sock_sendfile<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        file: &Bound<'py, PyAny>,
        offset: i64,
        count: Option<i64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (socket, file) = (Target::of(sock)?, Target::of(file)?);
        slf.get().check_number_free(slf.py(), socket.number())?;
        let engine = slf.get().engine(slf.py()).clone();
        Loop::future(slf, async move {
            let mut range = range(offset, count);
            // The program may close either of them meanwhile, and the number become another's.
            let goes_on = || Python::attach(|py| socket.fd(py).and(file.fd(py)).map(drop));
            let sent = engine
                .send_range(socket.number(), file.number(), &mut range, goes_on)
                .await;
            outcome(range, sent)
        })
    }

    /// A future of how many bytes of the file of this number were sent through a transport.
    #[pyo3(signature = (transport, file, offset, count = None))]
    fn _sendfile<'py>(
        slf: &Bound<'py, Self>,
        transport: &Bound<'py, PyTransport>,
        file: RawFd,
        offset: i64,
        count: Option<i64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let AnyTransport::Stream(transport) = transport.get().any(slf.py()) else {
            let message = "sendfile is not supported for this transport";
            return Err(PyTypeError::new_err(message));
        };
        // From here on nothing else can be written.
        let sender = transport
            .begin_sendfile()
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        Loop::future(slf, async move {
            let mut range = range(offset, count);
            let sent = sender.send(file, &mut range).await;
            outcome(range, sent)
        })
    }
}
