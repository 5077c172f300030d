//! A pipe of pipe(2): bytes that go one way, between two ends on one host.
//!
//! # Facts
//!
//! From pipe(7): a write of at most `PIPE_BUF` bytes is taken whole or not at all; a larger one is
//! taken as far as it fits. So a writer is told that there is room when `PIPE_BUF` bytes fit, and
//! not before.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use super::errno;
use crate::reactor::Side;
use crate::sys::buffer::Buffer;

/// Bytes that are written whole or not at all: Linux's `PIPE_BUF`.
pub(super) const PIPE_BUF: usize = 4096;

/// Which end of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PipeEnd {
    Reader,
    Writer,
}

/// A pipe.
#[derive(Debug)]
pub(super) struct Fifo {
    /// Written and not read.
    bytes: VecDeque<u8>,
    /// How many bytes fit. At least [`PIPE_BUF`].
    capacity: usize,
    /// Whether somebody holds the reading end.
    reader: bool,
    /// Whether somebody holds the writing end.
    writer: bool,
}

impl Fifo {
    pub(super) fn new(capacity: usize) -> Fifo {
        Fifo {
            bytes: VecDeque::new(),
            capacity,
            reader: true,
            writer: true,
        }
    }

    /// Reads at most `limit` bytes.
    pub(super) fn read(&mut self, buffer: &mut Buffer<'_>, limit: usize) -> io::Result<usize> {
        if buffer.room() == 0 {
            return Ok(0);
        }
        let mut count = 0;
        let (front, back) = self.bytes.as_slices();
        for bytes in [front, back] {
            count += buffer.append(&bytes[..bytes.len().min(limit - count)]);
        }
        self.bytes.drain(..count);
        if count == 0 && self.writer {
            return Err(errno(libc::EAGAIN));
        }
        Ok(count)
    }

    /// Writes at most `limit` bytes.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>], limit: usize) -> io::Result<usize> {
        let size: usize = slices.iter().map(|slice| slice.len()).sum();
        if size == 0 {
            return Ok(0);
        }
        if !self.reader {
            return Err(errno(libc::EPIPE));
        }
        let room = self.capacity.saturating_sub(self.bytes.len());
        if room < size.min(PIPE_BUF) {
            return Err(errno(libc::EAGAIN));
        }
        let mut left = room.min(limit);
        for slice in slices {
            let fits = slice.len().min(left);
            self.bytes.extend(&slice[..fits]);
            left -= fits;
        }
        Ok(room.min(limit) - left)
    }

    /// Nobody holds this end any more.
    pub(super) fn close(&mut self, end: PipeEnd) {
        match end {
            PipeEnd::Reader => {
                self.reader = false;
                self.bytes.clear();
            }
            PipeEnd::Writer => self.writer = false,
        }
    }

    /// Whether both ends are closed.
    pub(super) fn is_over(&self) -> bool {
        !self.reader && !self.writer
    }

    /// Whether an end is ready on a side. When the other end is closed it is so on both, whatever
    /// it is for: epoll's `EPOLLHUP` and `EPOLLERR`.
    pub(super) fn is_ready(&self, end: PipeEnd, side: Side) -> bool {
        match (end, side) {
            (PipeEnd::Reader, Side::Read) => !self.bytes.is_empty() || !self.writer,
            (PipeEnd::Reader, Side::Write) => !self.writer,
            (PipeEnd::Writer, Side::Read) => !self.reader,
            (PipeEnd::Writer, Side::Write) => {
                !self.reader || self.capacity.saturating_sub(self.bytes.len()) >= PIPE_BUF
            }
        }
    }

    /// Bytes that were written and not read.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(fifo: &mut Fifo, count: usize) -> Result<usize, i32> {
        let written = fifo.write(&[IoSlice::new(&vec![b'x'; count])], usize::MAX);
        written.map_err(|error| error.raw_os_error().unwrap_or(0))
    }

    fn read(fifo: &mut Fifo, count: usize) -> Result<usize, i32> {
        let read = fifo.read(&mut Buffer::from(&mut vec![0; count][..]), usize::MAX);
        read.map_err(|error| error.raw_os_error().unwrap_or(0))
    }

    #[test]
    fn what_is_small_is_written_whole_and_what_is_large_as_far_as_it_fits() {
        let mut fifo = Fifo::new(PIPE_BUF + 10);
        assert_eq!(write(&mut fifo, PIPE_BUF), Ok(PIPE_BUF));
        assert_eq!(write(&mut fifo, 11), Err(libc::EAGAIN));
        assert_eq!(write(&mut fifo, 4), Ok(4));
        assert!(!fifo.is_ready(PipeEnd::Writer, Side::Write));
        assert_eq!(read(&mut fifo, 9), Ok(9));
        assert_eq!(write(&mut fifo, PIPE_BUF + 1), Err(libc::EAGAIN));
        assert_eq!(read(&mut fifo, PIPE_BUF), Ok(PIPE_BUF - 5));
        assert!(fifo.is_ready(PipeEnd::Writer, Side::Write));
        assert_eq!(write(&mut fifo, 3 * PIPE_BUF), Ok(PIPE_BUF + 10));
    }

    #[test]
    fn the_other_end_is_missed() {
        let mut fifo = Fifo::new(PIPE_BUF);
        assert_eq!(read(&mut fifo, 1), Err(libc::EAGAIN));
        assert_eq!(write(&mut fifo, 1), Ok(1));
        fifo.close(PipeEnd::Writer);
        assert_eq!((read(&mut fifo, 2), read(&mut fifo, 2)), (Ok(1), Ok(0)));
        let mut fifo = Fifo::new(PIPE_BUF);
        assert!(!fifo.is_ready(PipeEnd::Writer, Side::Read));
        fifo.close(PipeEnd::Reader);
        assert!(fifo.is_ready(PipeEnd::Writer, Side::Read));
        assert_eq!(
            (write(&mut fifo, 0), write(&mut fifo, 1)),
            (Ok(0), Err(libc::EPIPE))
        );
    }
}
