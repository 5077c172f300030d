//! Python's socket objects over the engine's sockets, and the other way round.

use std::cell::Cell;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::rc::Rc;

use aioxide::reactor::Socket;
use aioxide::sys::address::SocketAddress;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::gil::{OnGil, from_drop};
use crate::imports;

/// Owns a Python socket on behalf of the engine: the engine's drop closes it. The program may hold
/// the object too, and sees it closed.
struct Owned {
    object: Py<PyAny>,
    /// Whether the object was told that it is in use: it does not close its descriptor then,
    /// whatever the program does.
    in_use: bool,
}

impl Owned {
    fn new(object: &Bound<'_, PyAny>) -> PyResult<Owned> {
        let py = object.py();
        let in_use = object.is_instance(imports::socket(py)?)?;
        if in_use {
            // The way in which the files of `socket.makefile()` keep their socket.
            let users = object.getattr(intern!(py, "_io_refs"))?.add(1)?;
            object.setattr(intern!(py, "_io_refs"), users)?;
        }
        Ok(Owned {
            object: object.clone().unbind(),
            in_use,
        })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        from_drop(|py| {
            let object = self.object.bind(py);
            let released = if self.in_use {
                object.call_method0(intern!(py, "_decref_socketios"))
            } else {
                Ok(object.clone())
            };
            let closed = released.and_then(|_| object.call_method0(intern!(py, "close")));
            if let Err(error) = closed {
                error.write_unraisable(py, Some(object));
            }
        });
    }
}

/// A socket, and the peer if it is known.
type Connected = (Socket, Option<SocketAddress>);

/// A socket of the engine's that is on its way to a transport or a server. Dropping it closes it.
#[pyclass(frozen, module = "aioxide._aioxide")]
pub struct OpenSocket {
    /// `None` when it was taken.
    socket: OnGil<Cell<Option<Connected>>>,
}

impl OpenSocket {
    pub fn new(socket: Socket, peer: Option<SocketAddress>) -> OpenSocket {
        OpenSocket {
            socket: OnGil::new(Cell::new(Some((socket, peer)))),
        }
    }
}

#[pymethods]
impl OpenSocket {
    /// Closes it, unless it was taken.
    fn close(&self, py: Python<'_>) {
        let socket = self.socket.get(py).take();
        drop(socket);
    }
}

/// A Python socket that is closed, to stand for one that was.
pub fn closed_python_socket(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let socket = imports::socket(py)?.call0()?;
    socket.call_method0(intern!(py, "close"))?;
    Ok(socket)
}

/// The engine's socket for an [`OpenSocket`] or a Python socket, with the peer if it is known.
pub fn take_connected(object: &Bound<'_, PyAny>) -> PyResult<Connected> {
    let Ok(open) = object.cast::<OpenSocket>() else {
        return Ok((from_python_file(object)?, None));
    };
    let taken = open.get().socket.get(object.py()).take();
    taken.ok_or_else(|| PyRuntimeError::new_err("the socket was taken already"))
}

/// As [`take_connected`], without a peer.
pub fn take_socket(object: &Bound<'_, PyAny>) -> PyResult<Socket> {
    Ok(take_connected(object)?.0)
}

/// The engine's socket over a Python socket or file, which it closes in the end.
pub fn from_python_file(socket: &Bound<'_, PyAny>) -> PyResult<Socket> {
    let fd: RawFd = socket
        .call_method0(intern!(socket.py(), "fileno"))?
        .extract()?;
    Ok(Socket::foreign(fd, Rc::new(Owned::new(socket)?)))
}

/// Makes a Python socket the owner of the engine's descriptor. The descriptor stays as it is when
/// no object can be made of it, or when another object owns it already.
pub fn as_python_socket<'py>(
    py: Python<'py>,
    socket: Socket,
) -> (Socket, PyResult<Bound<'py, PyAny>>) {
    let fd = match socket.into_owned_fd() {
        Ok(fd) => fd,
        Err(socket) => {
            let error = PyRuntimeError::new_err("the socket has an owner");
            return (socket, Err(error));
        }
    };
    let made = imports::socket(py).and_then(|class| {
        let object = class.call_method1(intern!(py, "__new__"), (class,))?;
        let kwargs = PyDict::new(py);
        kwargs.set_item(intern!(py, "fileno"), fd.as_raw_fd())?;
        let ready = object
            .call_method(intern!(py, "__init__"), (), Some(&kwargs))
            // The descriptor is non-blocking; the object does not look.
            .and_then(|_| object.call_method1(intern!(py, "settimeout"), (0,)));
        if let Err(error) = ready {
            // An interrupt may come when the object has the number already: it must not close it.
            object.call_method0(intern!(py, "detach"))?;
            return Err(error);
        }
        match Owned::new(&object) {
            Ok(owned) => Ok((object, owned)),
            Err(error) => {
                object.call_method0(intern!(py, "detach"))?;
                Err(error)
            }
        }
    });
    match made {
        Ok((object, owned)) => {
            // From here on the object closes it.
            let fd = fd.into_raw_fd();
            (Socket::foreign(fd, Rc::new(owned)), Ok(object))
        }
        Err(error) => (fd.into(), Err(error)),
    }
}
