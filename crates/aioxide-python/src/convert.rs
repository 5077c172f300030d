//! Every conversion of buffers, addresses and times.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::slice;

use aioxide::sys::address::SocketAddress;
use aioxide::sys::buffer::Buffer;
use aioxide::sys::clock::Time;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString};
use pyo3::{ffi, intern};

use crate::gil::from_drop;

// ---- buffers ----

/// The memory of a bytes-like object, which cannot be resized or freed meanwhile.
pub struct View(Box<ffi::Py_buffer>);

impl View {
    /// The bytes of `object`, for reading.
    ///
    /// # Errors
    /// `TypeError` when it is no bytes-like object, `BufferError` when it is not contiguous.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<View> {
        View::with_flags(object, ffi::PyBUF_SIMPLE)
    }

    /// The memory of `object`, for writing.
    ///
    /// # Errors
    /// `TypeError` when it has no writable memory, in the words of `socket.recv_into`.
    pub fn writable(object: &Bound<'_, PyAny>) -> PyResult<View> {
        View::with_flags(object, ffi::PyBUF_WRITABLE).map_err(|_| {
            let kind = object
                .get_type()
                .name()
                .map(|name| name.to_string())
                .unwrap_or_default();
            PyTypeError::new_err(format!(
                "recv_into() argument 1 must be read-write bytes-like object, not {kind}"
            ))
        })
    }

    fn with_flags(object: &Bound<'_, PyAny>, flags: i32) -> PyResult<View> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: `object` is live and `view` is memory for one view, at an address that stays.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, flags) } < 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(View(view))
    }

    pub fn len(&self) -> usize {
        usize::try_from(self.0.len).unwrap_or_default()
    }

    /// The bytes. They must not be kept while Python code runs: it could change them.
    pub fn bytes<'a>(&'a self, _py: Python<'a>) -> &'a [u8] {
        if self.len() == 0 {
            return &[];
        }
        // SAFETY: the view is contiguous (PyBUF_SIMPLE), `len` bytes long, and pinned until it is
        // released. The token keeps other threads from writing to it.
        unsafe { slice::from_raw_parts(self.0.buf.cast::<u8>(), self.len()) }
    }

    /// The memory, to be written to. Made with [`writable`](View::writable).
    pub fn memory<'a>(&'a self, _py: Python<'a>) -> Buffer<'a> {
        if self.len() == 0 || self.0.readonly != 0 {
            return Buffer::new(&mut []);
        }
        // SAFETY: as in `bytes`; the view is writable, and nothing else refers to the memory
        // while the token is held.
        Buffer::new(unsafe { slice::from_raw_parts_mut(self.0.buf.cast(), self.len()) })
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // A view of an object that is freed after the interpreter is leaked with it.
        from_drop(|_py| {
            // SAFETY: the view was filled by PyObject_GetBuffer and is released once.
            unsafe { ffi::PyBuffer_Release(&raw mut *self.0) }
        });
    }
}

/// Fills a new `bytes` object of at most `capacity` bytes.
///
/// # Errors
/// `MemoryError`; what `fill` gives.
pub fn new_bytes<'py, E: From<PyErr>>(
    py: Python<'py>,
    capacity: usize,
    fill: impl FnOnce(&mut Buffer<'_>) -> Result<(), E>,
) -> Result<Bound<'py, PyBytes>, E> {
    let size =
        ffi::Py_ssize_t::try_from(capacity).map_err(|_| PyValueError::new_err("too many bytes"))?;
    // SAFETY: with null this makes an object of `size` bytes whose contents are uninitialised; it
    // is ours alone until it is given out.
    let mut object = unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), size) };
    if object.is_null() {
        return Err(PyErr::fetch(py).into());
    }
    // SAFETY: the object is a bytes object with `capacity` bytes of memory.
    let memory =
        unsafe { slice::from_raw_parts_mut(ffi::PyBytes_AsString(object).cast(), capacity) };
    let mut buffer = Buffer::new(memory);
    let result = fill(&mut buffer);
    let filled = buffer.filled();
    if let Err(error) = result {
        // SAFETY: the object is ours; a bytes object is freed without looking at its contents.
        unsafe { ffi::Py_DECREF(object) };
        return Err(error);
    }
    if filled < capacity {
        // SAFETY: the object has one reference. On failure it is freed and `object` set to null.
        unsafe { _PyBytes_Resize(&raw mut object, filled as ffi::Py_ssize_t) };
    }
    // SAFETY: the object is ours, of type bytes, and its bytes are initialised; or null with an
    // exception set.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
    // SAFETY: it was made by PyBytes_FromStringAndSize.
    Ok(unsafe { object.cast_into_unchecked() })
}

unsafe extern "C" {
    /// Part of the C API's documentation, and missing from PyO3's.
    fn _PyBytes_Resize(object: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> i32;
}

// ---- addresses ----

/// An address as the `socket` module gives it: a pair, a quadruple, a path, or bytes.
pub fn address_to_python<'py>(
    py: Python<'py>,
    address: &SocketAddress,
) -> PyResult<Bound<'py, PyAny>> {
    match address {
        SocketAddress::Ip(SocketAddr::V4(address)) => {
            Ok((address.ip().to_string(), address.port())
                .into_pyobject(py)?
                .into_any())
        }
        SocketAddress::Ip(SocketAddr::V6(address)) => {
            let (port, flow, scope) = (address.port(), address.flowinfo(), address.scope_id());
            Ok((address.ip().to_string(), port, flow, scope)
                .into_pyobject(py)?
                .into_any())
        }
        SocketAddress::Unix(address) => match (address.path_bytes(), address.abstract_name()) {
            (Some(path), _) => Ok(std::ffi::OsStr::from_bytes(path)
                .into_pyobject(py)?
                .into_any()),
            (None, Some(name)) => {
                let mut bytes = vec![0];
                bytes.extend_from_slice(name);
                Ok(PyBytes::new(py, &bytes).into_any())
            }
            (None, None) => Ok(PyString::new(py, "").into_any()),
        },
        _ => Ok(py.None().into_bound(py)),
    }
}

/// The address of an Internet socket from what getaddrinfo gives: `(host, port[, flow, scope])`
/// with a numeric host. `None` when it is something else.
pub fn address_from_python(address: &Bound<'_, PyAny>) -> Option<SocketAddress> {
    let host: String = address.get_item(0).ok()?.extract().ok()?;
    let port: u16 = address.get_item(1).ok()?.extract().ok()?;
    let item = |index: usize| -> u32 {
        address
            .get_item(index)
            .and_then(|item| item.extract())
            .unwrap_or_default()
    };
    // getaddrinfo writes the scope behind the address too.
    let ip: IpAddr = host.split('%').next()?.parse().ok()?;
    Some(match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port).into(),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, item(2), item(3)).into(),
    })
}

// ---- descriptors and times ----

/// The descriptor of an integer or of an object with `fileno()`, with the errors of Python's
/// selectors.
pub fn descriptor(object: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let py = object.py();
    let number = if object.is_instance_of::<PyInt>() {
        object.clone()
    } else {
        let invalid = |_: PyErr| {
            let object = object
                .repr()
                .map(|repr| repr.to_string())
                .unwrap_or_default();
            PyValueError::new_err(format!("Invalid file object: {object}"))
        };
        let number = object
            .call_method0(intern!(py, "fileno"))
            .map_err(invalid)?;
        number
            .call_method0(intern!(py, "__int__"))
            .map_err(invalid)?
    };
    let number: i64 = number.extract()?;
    match RawFd::try_from(number) {
        Ok(fd) if fd >= 0 => Ok(fd),
        _ => Err(PyValueError::new_err(format!(
            "Invalid file descriptor: {number}"
        ))),
    }
}

/// A point on the loop's clock, from seconds.
pub fn time(seconds: f64) -> PyResult<Time> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
    }
    Ok(Time::from_secs_f64_ceil(seconds))
}

/// `TypeError` for what is not bytes-like, in the words of asyncio's transports.
pub fn not_bytes_like(data: &Bound<'_, PyAny>) -> PyErr {
    let name = data
        .get_type()
        .name()
        .map(|name| name.to_string())
        .unwrap_or_default();
    PyTypeError::new_err(format!(
        "data argument must be a bytes-like object, not '{name}'"
    ))
}
