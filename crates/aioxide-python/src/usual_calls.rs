//! The usual calls of the busiest methods of transports: `write`, `sendto` and `is_closing`.
//!
//! # Facts
//!
//! Each request is answered by a call of one of the first two, and servers ask the third before. PyO3's general way to one takes the arguments by their names, asks
//! whether the object's class, which stands in Python, is below the compiled one, and counts the thread's nesting:
//! some 25 ns, a tenth of what this module costs for a small request.
//!
//! # What was chosen
//!
//! As in `quick.rs`: the methods that send have a function before PyO3's, which recognises a call with a `bytes`
//! object, and passes everything else on as it came. So errors and checks stand in `transport.rs` and `datagram.rs`
//! alone. `is_closing`, which takes nothing and cannot fail, has one in its place.

use std::panic::{self, AssertUnwindSafe};
use std::slice;
use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes};
use pyo3::{Borrowed, ffi};

use crate::datagram::DatagramTransport;
use crate::quick::{Method, conclude, put_before, put_without_arguments, without_arguments};
use crate::transport::{PyTransport, SocketTransport, TlsTransport, WritePipeTransport};

/// `write(data)`; false is for PyO3's function.
#[inline(always)]
fn write<'py>(
    transport: Borrowed<'_, 'py, PyAny>,
    given: &[Bound<'py, PyAny>],
    _py: Python<'py>,
) -> PyResult<bool> {
    let [data] = given else {
        return Ok(false);
    };
    let Ok(bytes) = data.cast_exact::<PyBytes>() else {
        return Ok(false);
    };
    // SAFETY: the method's descriptor has checked the class of the object: it is one that `install` names, all of
    // which are below this one.
    let transport = unsafe { transport.cast_unchecked::<PyTransport>() };
    transport.get().write_whole(bytes)?;
    Ok(true)
}

/// `sendto(data, addr)`; likewise.
#[inline(always)]
fn sendto<'py>(
    transport: Borrowed<'_, 'py, PyAny>,
    given: &[Bound<'py, PyAny>],
    _py: Python<'py>,
) -> PyResult<bool> {
    let [data, addr] = given else {
        return Ok(false);
    };
    let Ok(bytes) = data.cast_exact::<PyBytes>() else {
        return Ok(false);
    };
    // SAFETY: as above.
    let transport = unsafe { transport.cast_unchecked::<DatagramTransport>() };
    DatagramTransport::answer(&transport, bytes, addr)
}

unsafe extern "C" fn is_closing(
    transport: *mut ffi::PyObject,
    _none: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this as a method of the class.
    unsafe {
        without_arguments(transport, |transport: &Bound<'_, PyTransport>| {
            let py = transport.py();
            let closing = transport.get().is_closing(py);
            Ok(PyBool::new(py, closing).to_owned().into_any())
        })
    }
}

/// Attempts a usual call, and otherwise makes that of PyO3.
///
/// # Safety
/// The interpreter calls it with the GIL held, as a method of a class that `install` names.
#[inline(always)]
unsafe fn call(
    attempt: impl for<'py> Fn(
        Borrowed<'_, 'py, PyAny>,
        &[Bound<'py, PyAny>],
        Python<'py>,
    ) -> PyResult<bool>,
    general: &OnceLock<Method>,
    transport: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's word. `count` objects stand in `args`, and all of them live until this returns.
    let (py, object, given) = unsafe {
        let py = Python::assume_attached();
        let object = Borrowed::from_ptr(py, transport);
        let given = match usize::try_from(count) {
            Ok(count @ 1..) if names.is_null() => {
                slice::from_raw_parts(args.cast::<Bound<'_, PyAny>>(), count)
            }
            _ => &[],
        };
        (py, object, given)
    };
    let attempted = panic::catch_unwind(AssertUnwindSafe(|| {
        let done = attempt(object, given, py)?;
        Ok(done.then(|| py.None().into_bound(py)))
    }));
    // SAFETY: the caller's word.
    unsafe { conclude(py, attempted, general, transport, args, count, names) }
}

/// Puts functions before those of PyO3.
macro_rules! methods {
    ($($class:ident.$name:ident),*) => {
        /// Gives the classes of transports these methods. Called once, before there are classes over them.
        pub fn install(py: Python<'_>) -> PyResult<()> {
            $({
                static GENERAL: OnceLock<Method> = OnceLock::new();
                unsafe extern "C" fn method(
                    transport: *mut ffi::PyObject,
                    args: *const *mut ffi::PyObject,
                    count: ffi::Py_ssize_t,
                    names: *mut ffi::PyObject,
                ) -> *mut ffi::PyObject {
                    // SAFETY: the interpreter calls this as a method of the class.
                    unsafe { call($name, &GENERAL, transport, args, count, names) }
                }
                put_before(&py.get_type::<$class>(), stringify!($name), method, &GENERAL)?;
            })*
            put_without_arguments(&py.get_type::<PyTransport>(), "is_closing", is_closing)
        }
    };
}

methods!(
    SocketTransport.write,
    TlsTransport.write,
    WritePipeTransport.write,
    DatagramTransport.sendto
);
