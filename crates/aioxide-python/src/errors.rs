//! The engine's errors as Python exceptions, with CPython's types and messages.

use std::io;
use std::marker::PhantomData;
use std::path::Path;

use aioxide::AddressErrors;
use aioxide::endpoints::{AddressError, Stage};
use pyo3::exceptions::{
    PyBaseException, PyKeyboardInterrupt, PyOSError, PyRuntimeError, PySystemExit, PyValueError,
};
use pyo3::intern;
use pyo3::prelude::*;

use crate::convert::address_to_python;
use crate::imports;

/// The host's error type: an exception. A type of its own, because the engine makes it of
/// `io::Error`s where no token is at hand.
#[derive(Debug)]
pub struct Exception(pub PyErr);

impl From<io::Error> for Exception {
    fn from(error: io::Error) -> Self {
        Exception(from_io(error))
    }
}

impl From<PyErr> for Exception {
    fn from(error: PyErr) -> Self {
        Exception(error)
    }
}

impl Exception {
    /// The exception, with its traceback.
    pub fn value<'py>(&self, py: Python<'py>) -> Bound<'py, PyBaseException> {
        self.0.clone_ref(py).into_value(py).into_bound(py)
    }

    /// Whether asyncio lets it through every `except`: it ends the program.
    pub fn escapes(&self, py: Python<'_>) -> bool {
        self.0.is_instance_of::<PyKeyboardInterrupt>(py)
            || self.0.is_instance_of::<PySystemExit>(py)
    }
}

/// Something was raised, and is set in the interpreter.
///
/// A `PyErr` is six words, and so is the result of a call that may fail with one: each function that hands it on
/// copies them, whether there is an error or not. What is called for each event has this in its place, so that such a
/// result is a byte or a pointer; who handles it [fetches](Raised::fetch) the exception.
#[derive(Debug)]
#[must_use]
pub struct Raised(PhantomData<*mut ()>);

impl Raised {
    /// After a call of the interpreter that has failed, which has set what it raised.
    #[inline]
    pub fn is_set(_py: Python<'_>) -> Raised {
        Raised(PhantomData)
    }

    /// Takes it out of the interpreter.
    #[cold]
    pub fn fetch(self, py: Python<'_>) -> PyErr {
        PyErr::fetch(py)
    }

    /// Raises an error.
    #[cold]
    pub fn set(py: Python<'_>, error: PyErr) -> Raised {
        error.restore(py);
        Raised(PhantomData)
    }

    /// The result of what has its error in its hands.
    #[inline]
    pub fn of<T>(py: Python<'_>, result: PyResult<T>) -> Result<T, Raised> {
        result.map_err(|error| Raised::set(py, error))
    }
}

/// Does something that may use the interpreter while an exception may be set in it, which stays so.
#[inline]
pub fn apart<R>(py: Python<'_>, run: impl FnOnce() -> R) -> R {
    if !PyErr::occurred(py) {
        return run();
    }
    let error = PyErr::fetch(py);
    let result = run();
    error.restore(py);
    result
}

/// An `OSError` of the subclass and with the text that its number has in Python.
pub fn from_io(error: io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, strerror(number))),
        // What the engine itself says has no number: PyO3 chooses by its kind.
        None => error.into(),
    }
}

/// An `OSError` with a number and a text of ours.
pub fn os_error(error: &io::Error, message: String) -> PyErr {
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, message)),
        None => PyOSError::new_err(message),
    }
}

/// The text of an error number, as Python's `os.strerror` gives it.
pub fn strerror(number: i32) -> String {
    let text = io::Error::from_raw_os_error(number).to_string();
    // Rust adds the number.
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Why an address did not do, in CPython's words.
pub fn address_error(py: Python<'_>, failed: &AddressError) -> PyResult<PyErr> {
    let address =
        || -> PyResult<String> { Ok(address_to_python(py, &failed.address)?.repr()?.to_string()) };
    let reason = failed.error.raw_os_error().map(strerror);
    let reason = reason.unwrap_or_else(|| failed.error.to_string());
    Ok(match failed.stage {
        Stage::Connect => os_error(&failed.error, format!("Connect call failed {}", address()?)),
        Stage::Bind => {
            let number = failed.error.raw_os_error().unwrap_or_default();
            let reason = format!("[errno {number}] {}", reason.to_lowercase());
            let message = format!(
                "error while attempting to bind on address {}: {reason}",
                address()?
            );
            os_error(&failed.error, message)
        }
        Stage::NoLocalAddress => {
            let family = imports::address_family(py)?.call1((failed.address.family().0,))?;
            let family = family.repr()?;
            PyOSError::new_err(format!(
                "no matching local address with family={family} found"
            ))
        }
        _ => os_error(&failed.error, reason),
    })
}

/// The first reason, in the words of the `socket` module.
pub fn first_address_error(errors: &AddressErrors) -> PyErr {
    match errors.errors().first() {
        // The one option that a kind of socket can refuse.
        Some(first) if first.stage == Stage::Option => PyValueError::new_err(
            "reuse_port not supported by socket module, \
             SO_REUSEPORT defined but not implemented.",
        ),
        Some(first) => {
            let reason = first.error.raw_os_error().map(strerror);
            os_error(
                &first.error,
                reason.unwrap_or_else(|| first.error.to_string()),
            )
        }
        None => PyOSError::new_err("no address was given"),
    }
}

/// Logs that something could not be done with the file of a Unix socket, in asyncio's words.
pub fn log_file_error(py: Python<'_>, what: &str, path: &Path, error: io::Error) -> PyResult<()> {
    let message = format!("Unable to {what} UNIX socket %r: %r");
    let path = path.as_os_str();
    imports::logger(py)?.call_method1(
        intern!(py, "error"),
        (message, path, from_io(error).into_value(py)),
    )?;
    Ok(())
}

/// `RuntimeError('Event loop is closed')`.
pub fn loop_is_closed() -> PyErr {
    PyRuntimeError::new_err("Event loop is closed")
}
