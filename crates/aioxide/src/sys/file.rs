//! Files that are no sockets: pipes, terminals, and regular files that are sent.

use std::io::{self, IoSlice};
use std::os::fd::RawFd;

use rustix::fs::FileType;

use super::borrow;
use super::buffer::Buffer;

/// What a descriptor is, as far as it matters to whoever waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One end of a pipe, named or not.
    Pipe,
    /// A socket.
    Socket,
    /// A character device, a terminal above all.
    Device,
    /// Anything else: a regular file, a directory, ... They are always ready.
    Other,
}

/// What `fd` is.
///
/// # Errors
/// `EBADF`.
pub fn kind(fd: RawFd) -> io::Result<Kind> {
    let status = rustix::fs::fstat(borrow(fd)?)?;
    Ok(match FileType::from_raw_mode(status.st_mode) {
        FileType::Fifo => Kind::Pipe,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::Device,
        _ => Kind::Other,
    })
}

/// Reads into `buffer`; 0 is the end.
///
/// # Errors
/// `WouldBlock` when there is nothing; `EIO` from a terminal that has gone.
pub fn read(fd: RawFd, buffer: &mut Buffer<'_>) -> io::Result<usize> {
    let fd = borrow(fd)?;
    loop {
        // SAFETY: the kernel writes as many bytes as the call says.
        let read = unsafe {
            buffer.write_with(|memory| rustix::io::read(fd, memory).map(|(read, _)| read.len()))
        };
        match read {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Writes from `slices` in their order; the count may be short.
///
/// # Errors
/// `WouldBlock` when there is no room; `EPIPE` when nobody reads (and a signal, `SIGPIPE`, which
/// both Rust's and Python's runtimes ignore).
pub fn write(fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let fd = borrow(fd)?;
    loop {
        let written = match slices {
            [one] => rustix::io::write(fd, one),
            many => rustix::io::writev(fd, many),
        };
        match written {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Sends `count` bytes of `file` from `offset` on to the socket `fd`; how many were sent, 0 at the
/// file's end.
///
/// # Errors
/// `WouldBlock` when there is no room; `EINVAL` for a file that cannot be sent like this; what the
/// connection says.
pub fn send_file(fd: RawFd, file: RawFd, offset: u64, count: usize) -> io::Result<usize> {
    let (fd, file) = (borrow(fd)?, borrow(file)?);
    loop {
        let mut offset = offset;
        match rustix::fs::sendfile(fd, file, Some(&mut offset), count) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Sets the position of a file, in bytes from its beginning.
///
/// # Errors
/// `ESPIPE` for a file that has none.
pub fn seek(file: RawFd, position: u64) -> io::Result<()> {
    Ok(rustix::fs::seek(borrow(file)?, rustix::fs::SeekFrom::Start(position)).map(drop)?)
}

/// Reads from `offset` on into `memory`, and leaves the file's own position alone; 0 is the end.
///
/// # Errors
/// `ESPIPE` for a file that has no positions.
pub fn read_at(file: RawFd, memory: &mut [u8], offset: u64) -> io::Result<usize> {
    let file = borrow(file)?;
    loop {
        match rustix::io::pread(file, &mut *memory, offset) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}
