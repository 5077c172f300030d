//! Receiving into new `bytes` objects.
//!
//! An object of the most that could come, shrunk to what came, costs an allocation of that size
//! each time; with a fresh C heap that is a mapping made and removed (asyncio's transports do it:
//! 20 µs instead of 6 for each KiB received). So either the size is known to be small, or to be less
//! than what the heap maps by itself, or the kernel is asked for it.

use std::cell::{Cell, RefCell};
use std::{io, ptr};

use aioxide::sys::buffer::Buffer;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::convert::new_bytes;
use crate::errors::from_io;

/// Where asking the kernel for the size pays, in bytes. Below it, copying from a buffer, or
/// shrinking an object, takes less than the system call (a quarter of a microsecond).
pub const DIRECTLY: usize = 16 * 1024;

/// The room for what was smaller the last time, in bytes. It is shrunk to what came: of a block that
/// the heap does not map by itself (128 KiB and more, `M_MMAP_THRESHOLD`) that takes less than to ask
/// the kernel for the size.
pub const GUESSED: usize = 120 * 1024;

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

/// Whether a buffer has no room, by `len()`: that of the usual ones is known without a call.
pub fn is_empty(buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
    if let Ok(array) = buffer.cast_exact::<PyByteArray>() {
        return Ok(array.len() == 0);
    }
    Ok(buffer.len()? == 0)
}

/// The `bytes` object that was delivered last, to be delivered again.
///
/// # Facts
///
/// Most programs look at what they are given and drop it. An object of a KiB is then freed and
/// the next one allocated, which takes some 900 instructions of the C heap: a third of all that
/// a small request costs above the kernel.
///
/// # The choice
///
/// The loop keeps a reference to the object that it delivered last. If, at the next receive, it
/// is the only one, nobody can see the object any more, and it is filled anew. If the program
/// has kept it, a new one is made.
///
/// # What it costs
///
/// One object of at most [`DIRECTLY`] bytes lives a little longer than the program wanted, and
/// `sys.getrefcount` says one more.
#[derive(Default)]
pub struct SpareBytes {
    /// The object, and how many bytes its memory holds.
    object: Cell<Option<(Py<PyBytes>, usize)>>,
}

impl SpareBytes {
    /// A `bytes` object of these bytes.
    pub fn filled<'py>(&self, py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyBytes> {
        let size = bytes.len();
        if let Some((object, capacity)) = self.object.take() {
            // An object much larger than its contents would waste the difference if it is kept.
            if size <= capacity && size > capacity / 2 && size > 1 && refill(py, &object, bytes) {
                let filled = object.bind(py).clone();
                self.object.set(Some((object, capacity)));
                return filled;
            }
        }
        let object = PyBytes::new(py, bytes);
        // Shorter objects are shared by the whole interpreter, and never ours alone.
        if size > 1 {
            self.object.set(Some((object.clone().unbind(), size)));
        }
        object
    }
}

/// The `bytes` objects that readers were given last, to be given again.
///
/// # Facts
///
/// What `read()` gives is held by the program until it has the next, so the object that was delivered last is
/// never free ([`SpareBytes`]); but one that was delivered some requests before mostly is. An object of 512
/// bytes and more comes from the C heap.
///
/// # The choice
///
/// The loop keeps a reference to each object that it delivers, in a ring, and looks at one of them for each
/// delivery: the one that it has not looked at for longest. If nobody else refers to it, it is filled anew.
/// The ring grows while it finds objects that are held, so it becomes as large as the number of busy
/// connections asks for.
///
/// # What it costs
///
/// At most [`RING`] objects of [`RING_SIZE`] bytes, a MiB, for each loop.
#[derive(Default)]
pub struct BytesRing {
    /// The objects, and how many bytes their memory holds.
    objects: RefCell<Vec<(Py<PyBytes>, usize)>>,
    next: Cell<usize>,
}

/// Objects in a ring.
const RING: usize = 256;

/// The largest object that a ring keeps, in bytes.
const RING_SIZE: usize = 4 * 1024;

/// The smallest, in bytes: the interpreter's own heap is quicker below.
const RING_LEAST: usize = 480;

impl BytesRing {
    /// A `bytes` object of these bytes.
    pub fn filled<'py>(&self, py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyBytes> {
        let size = bytes.len();
        if !(RING_LEAST..=RING_SIZE).contains(&size) {
            return PyBytes::new(py, bytes);
        }
        let mut objects = self.objects.borrow_mut();
        let next = self.next.get() % objects.len().max(1);
        self.next.set(next + 1);
        if let Some((object, capacity)) = objects.get(next)
            && size <= *capacity
            && size > capacity / 2
            && refill(py, object, bytes)
        {
            return object.bind(py).clone();
        }
        let object = PyBytes::new(py, bytes);
        let kept = (object.clone().unbind(), size);
        if objects.len() < RING {
            objects.push(kept);
        } else if let Some(oldest) = objects.get_mut(next) {
            // A `bytes` object is dropped without running code.
            *oldest = kept;
        }
        object
    }
}

/// Writes `bytes` to an object with room for them, if nobody else refers to it.
#[expect(deprecated, reason = "the cached hash has no other name")]
fn refill(py: Python<'_>, object: &Py<PyBytes>, bytes: &[u8]) -> bool {
    if object.get_refcnt(py) != 1 {
        return false;
    }
    let object = object.as_ptr().cast::<ffi::PyBytesObject>();
    // SAFETY: the object is a `bytes` (not of a subclass) that was made with room for at least
    // `bytes.len()` bytes and a final zero, and this is the only reference to it: with the GIL held,
    // no other code can read it or gain a reference while it changes. Its size and its cached hash
    // become those of the new contents; its memory is freed by address alone.
    unsafe {
        let memory = (&raw mut (*object).ob_sval).cast::<u8>();
        ptr::copy_nonoverlapping(bytes.as_ptr(), memory, bytes.len());
        memory.add(bytes.len()).write(0);
        (*object).ob_base.ob_size = bytes.len() as ffi::Py_ssize_t;
        (*object).ob_shash = -1;
    }
    true
}
