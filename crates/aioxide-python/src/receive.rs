//! Receiving into new `bytes` objects.
//!
//! An object of the most that could come, shrunk to what came, costs an allocation of that size
//! each time; with a fresh C heap that is a mapping made and removed (asyncio's transports do it:
//! 20 µs instead of 6 for each KiB received). So either the size is known to be small, or the
//! kernel is asked for it.

use std::io;

use aioxide::sys::buffer::Buffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::convert::new_bytes;
use crate::errors::from_io;

/// Where asking the kernel for the size pays, in bytes. Below it, copying from a buffer, or
/// shrinking an object, takes less than the system call (a quarter of a microsecond).
pub const DIRECTLY: usize = 16 * 1024;

/// How a receive has failed.
pub enum Failed {
    /// The socket's error; `WouldBlock` when there is nothing.
    Socket(io::Error),
    /// There is no memory.
    Memory(PyErr),
}

impl From<PyErr> for Failed {
    fn from(error: PyErr) -> Self {
        Failed::Memory(error)
    }
}

impl From<Failed> for PyErr {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Socket(error) => from_io(error),
            Failed::Memory(error) => error,
        }
    }
}

/// Receives into an object of the size that is waiting, `limit` at the most. An empty object is
/// the peer's end.
pub fn directly<'py>(
    py: Python<'py>,
    waiting: io::Result<usize>,
    limit: usize,
    receive: impl FnOnce(&mut Buffer<'_>) -> io::Result<usize>,
) -> Result<Bound<'py, PyBytes>, Failed> {
    // Nothing waiting is the peer's end or a spurious event: a byte of room tells which.
    let size = waiting.unwrap_or(limit).max(1).min(limit);
    exactly(py, size, receive)
}

/// Receives into an object of `size`, which is shrunk to what came.
pub fn exactly<'py>(
    py: Python<'py>,
    size: usize,
    receive: impl FnOnce(&mut Buffer<'_>) -> io::Result<usize>,
) -> Result<Bound<'py, PyBytes>, Failed> {
    new_bytes(py, size, |buffer| {
        receive(buffer).map(drop).map_err(Failed::Socket)
    })
}
