//! Every conversion of buffers, addresses and times.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;
use std::slice;
use std::time::Duration;

use aioxide::sys::address::{Family, SocketAddress};
use aioxide::sys::buffer::Buffer;
use aioxide::sys::clock::Time;
use pyo3::exceptions::{PyOSError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyInt, PyString, PyTuple};
use pyo3::{ffi, intern};

use crate::errors::Raised;
use crate::gil::{Own, from_drop};
use crate::imports;

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
        View::with_flags(object, ffi::PyBUF_WRITABLE).map_err(|_| not_writable(object))
    }

    fn with_flags(object: &Bound<'_, PyAny>, flags: i32) -> PyResult<View> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: `object` is live and `view` is memory for one view, at an address that stays.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, flags) } < 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(View(view))
    }

    /// The object whose memory it is, for the garbage collector: the view has one reference to it.
    pub fn object(&self) -> Option<&Py<PyAny>> {
        let object = (&raw const self.0.obj).cast::<Option<Py<PyAny>>>();
        // SAFETY: `Py` is a pointer that is not null (`repr(transparent)`), so an `Option` of it is
        // what C has there: null, or a reference that lives as long as the view. It is borrowed, and
        // never dropped through this.
        unsafe { (*object).as_ref() }
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

/// A `bytes` object that a transport's queue keeps, to send it from where it lies.
pub struct KeptBytes(Own<PyBytes>);

impl KeptBytes {
    /// Another reference to the object.
    #[inline]
    pub fn of(bytes: &Bound<'_, PyBytes>) -> KeptBytes {
        KeptBytes(Own::new(bytes.clone()))
    }
}

impl AsRef<[u8]> for KeptBytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        let object = self.0.as_ptr();
        // SAFETY: the object is a `bytes`, which does not change; it lives as long as this reference to it. The queue
        // that has it is the engine's, and touched with the GIL held.
        unsafe {
            let size = usize::try_from(ffi::Py_SIZE(object)).unwrap_or_default();
            let first = (&raw const (*object.cast::<ffi::PyBytesObject>()).ob_sval).cast();
            slice::from_raw_parts(first, size)
        }
    }
}

/// Lends the memory of `object` to be written to, for as long as a call takes, which must not raise. A view on
/// the stack: quicker than a [`View`].
///
/// # Errors
/// As those of [`View::writable`].
#[inline]
pub fn with_writable<R>(
    object: &Bound<'_, PyAny>,
    write: impl FnOnce(&mut Buffer<'_>) -> R,
) -> Result<R, Raised> {
    struct Released(ffi::Py_buffer);
    impl Drop for Released {
        fn drop(&mut self) {
            // SAFETY: it was filled by PyObject_GetBuffer or says that it holds nothing, and has not moved; the GIL
            // is held, since whoever has made it has a token that lives longer. No exception is on its way.
            unsafe { ffi::PyBuffer_Release(&raw mut self.0) }
        }
    }
    let mut view = Released(ffi::Py_buffer::new());
    // SAFETY: `object` is live, and `view` is memory for one view, which stays where it is until it is released.
    let got =
        unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut view.0, ffi::PyBUF_WRITABLE) };
    if got < 0 {
        return Err(Raised::set(object.py(), not_writable(object)));
    }
    let len = usize::try_from(view.0.len).unwrap_or_default();
    if len == 0 || view.0.readonly != 0 {
        return Ok(write(&mut Buffer::new(&mut [])));
    }
    // SAFETY: the view is contiguous, `len` bytes long, writable, and pinned until it is released. Nothing else
    // refers to the memory while the token is held.
    let memory = unsafe { slice::from_raw_parts_mut(view.0.buf.cast(), len) };
    Ok(write(&mut Buffer::new(memory)))
}

/// What is raised for an object without writable memory, in the words of `socket.recv_into`, in the place of the
/// exception that is set.
#[cold]
fn not_writable(object: &Bound<'_, PyAny>) -> PyErr {
    drop(PyErr::take(object.py()));
    let kind = object.get_type().name();
    let kind = kind.map(|name| name.to_string()).unwrap_or_default();
    PyTypeError::new_err(format!(
        "recv_into() argument 1 must be read-write bytes-like object, not {kind}"
    ))
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
        SocketAddress::Unix(_) => match (address.path(), address.abstract_name()) {
            (Some(path), _) => Ok(path.as_os_str().into_pyobject(py)?.into_any()),
            (None, Some(name)) => {
                let mut bytes = vec![0];
                bytes.extend_from_slice(name);
                Ok(PyBytes::new(py, &bytes).into_any())
            }
            (None, None) => Ok(PyString::new(py, "").into_any()),
        },
        other => match other.netlink() {
            Some(netlink) => Ok(netlink.into_pyobject(py)?.into_any()),
            None => Ok(py.None().into_bound(py)),
        },
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

/// The address that a program means, for a socket of `family`, as the `socket` module reads it:
/// names of hosts are resolved, which may block. `call` is named in the messages.
///
/// # Errors
/// Those of the `socket` module: `TypeError` for another shape, `OverflowError` for a port,
/// `OSError` for a name that cannot be resolved or a path that is too long.
pub fn address_for(
    family: Family,
    address: &Bound<'_, PyAny>,
    call: &str,
) -> PyResult<SocketAddress> {
    match family {
        Family::INET | Family::INET6 => internet_address(family, address, call),
        Family::UNIX => unix_address(address, call),
        Family::NETLINK => {
            let (port, groups) = address.extract()?;
            Ok(SocketAddress::from_netlink(port, groups))
        }
        _ => Err(PyOSError::new_err(format!("{call}(): bad family"))),
    }
}

fn internet_address(
    family: Family,
    address: &Bound<'_, PyAny>,
    call: &str,
) -> PyResult<SocketAddress> {
    let py = address.py();
    let name = if family == Family::INET {
        "AF_INET"
    } else {
        "AF_INET6"
    };
    let Ok(tuple) = address.cast::<PyTuple>() else {
        let kind = address.get_type().name()?;
        let message = format!("{call}(): {name} address must be tuple, not {kind}");
        return Err(PyTypeError::new_err(message));
    };
    let most = if family == Family::INET { 2 } else { 4 };
    if tuple.len() < 2 || tuple.len() > most {
        let parts = if family == Family::INET {
            "a pair (host, port)"
        } else {
            "a tuple (host, port[, flowinfo[, scopeid]])"
        };
        let message = format!("{call}(): {name} address must be {parts}");
        return Err(PyTypeError::new_err(message));
    }
    let port: i64 = tuple.get_item(1)?.extract()?;
    let port = u16::try_from(port)
        .map_err(|_| PyOverflowError::new_err(format!("{call}(): port must be 0-65535.")))?;
    let host = tuple.get_item(0)?;
    let text = if host.is_instance_of::<PyString>() {
        host.extract::<String>().ok()
    } else if host.is_instance_of::<PyBytes>() || host.is_instance_of::<PyByteArray>() {
        let bytes = View::of(&host)?.bytes(py).to_vec();
        String::from_utf8(bytes).ok()
    } else {
        let kind = host.get_type().name()?;
        let message = format!("str, bytes or bytearray expected, not {kind}");
        return Err(PyTypeError::new_err(message));
    };
    let numeric = match (text.as_deref(), family) {
        (Some(""), Family::INET) => Some(Ipv4Addr::UNSPECIFIED.into()),
        (Some(""), _) => Some(Ipv6Addr::UNSPECIFIED.into()),
        (Some("<broadcast>"), Family::INET) => Some(Ipv4Addr::BROADCAST.into()),
        (Some(text), _) => text.parse::<IpAddr>().ok(),
        (None, _) => None,
    };
    let number = |index: usize| -> PyResult<u32> {
        if index < tuple.len() {
            tuple.get_item(index)?.extract()
        } else {
            Ok(0)
        }
    };
    match numeric {
        Some(IpAddr::V4(ip)) if family == Family::INET => {
            Ok(SocketAddr::new(ip.into(), port).into())
        }
        Some(IpAddr::V6(ip)) if family == Family::INET6 => {
            Ok(SocketAddrV6::new(ip, port, number(2)?, number(3)?).into())
        }
        _ => {
            // What is no text is the resolver's to refuse.
            let host = match text {
                Some(text) => text.into_pyobject(py)?.into_any(),
                None => host,
            };
            let args = (host, port, family.0, libc::SOCK_DGRAM);
            let infos = imports::getaddrinfo(py)?.call1(args)?;
            let resolved = infos.get_item(0)?.get_item(4)?;
            let unknown = || PyOSError::new_err(format!("{call}(): unknown address family"));
            let resolved = address_from_python(&resolved).ok_or_else(unknown)?;
            match resolved {
                SocketAddress::Ip(SocketAddr::V6(found)) if tuple.len() > 2 => {
                    Ok(SocketAddrV6::new(*found.ip(), port, number(2)?, number(3)?).into())
                }
                resolved => Ok(resolved),
            }
        }
    }
}

fn unix_address(address: &Bound<'_, PyAny>, call: &str) -> PyResult<SocketAddress> {
    let path: OsString = if let Ok(path) = address.cast::<PyString>() {
        path.extract()?
    } else {
        let view = View::of(address).map_err(|_| {
            let kind = address.get_type().name().map(|name| name.to_string());
            PyTypeError::new_err(format!(
                "{call}(): AF_UNIX address must be a path, not {}",
                kind.unwrap_or_default()
            ))
        })?;
        OsString::from_vec(view.bytes(address.py()).to_vec())
    };
    if path.is_empty() {
        return Ok(SocketAddress::unnamed());
    }
    SocketAddress::unix(&path).map_err(|error| {
        if error.raw_os_error() == Some(libc::ENAMETOOLONG) {
            PyOSError::new_err("AF_UNIX path too long")
        } else {
            PyValueError::new_err("embedded null byte")
        }
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

/// How long some seconds are: negative ones are none, and too many are as long as there can be.
pub fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

/// The name of an object's type, for messages.
pub fn type_name(object: &Bound<'_, PyAny>) -> String {
    let name = object.get_type().name();
    name.map(|name| name.to_string()).unwrap_or_default()
}

/// `TypeError` for what is not bytes-like, in the words of asyncio's transports.
pub fn not_bytes_like(data: &Bound<'_, PyAny>) -> PyErr {
    let name = type_name(data);
    PyTypeError::new_err(format!(
        "data argument must be a bytes-like object, not '{name}'"
    ))
}
