//! `sock_sendfile`: a file's bytes go to a socket without passing through the program.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::reactor::Op;
use crate::sys::file;

/// The most that is sent at once, in bytes. The kernel sends what fits into the socket's buffer;
/// this is the limit of one call (`MAX_RW_COUNT`, 2 GiB less a page), rounded down.
const AT_ONCE: u64 = 1 << 30;

/// What part of a file is sent, and how far that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRange {
    offset: u64,
    /// `None` is up to the file's end.
    left: Option<u64>,
    sent: u64,
}

impl FileRange {
    /// `count` bytes from `offset` on, or all up to the file's end.
    #[must_use]
    pub fn new(offset: u64, count: Option<u64>) -> FileRange {
        FileRange {
            offset,
            left: count,
            sent: 0,
        }
    }

    /// Bytes that were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Where in the file the next byte to send is.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.offset
    }

    /// Bytes to ask for in one call; 0 when all were sent.
    fn next(&self) -> usize {
        let next = self.left.unwrap_or(AT_ONCE).min(AT_ONCE);
        usize::try_from(next).unwrap_or(usize::MAX)
    }

    fn advance(&mut self, count: usize) {
        let count = count as u64;
        self.offset += count;
        self.sent += count;
        self.left = self.left.map(|left| left.saturating_sub(count));
    }
}

/// A file that is being sent. However the sending ends, the file's own position is left behind the
/// last byte that was sent.
struct Sending<'a> {
    file: RawFd,
    range: &'a mut FileRange,
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        // Also when nothing was sent, as in the newest asyncio: whoever goes on by reading the file
        // reads from there. A file that has no positions keeps none.
        let _ = file::seek(self.file, self.range.position());
    }
}

impl<H: Host> EventLoop<H> {
    /// Sends `count` bytes of `file` from `offset` on, or all up to its end; how many were sent. The
    /// file's position is left behind the last of them, also when it fails or is dropped.
    ///
    /// # Errors
    /// How the connection has failed; `InvalidInput` for a file that cannot be sent like this.
    pub async fn sock_sendfile(
        &self,
        socket: &impl AsRawFd,
        file: &impl AsFd,
        offset: u64,
        count: Option<u64>,
    ) -> io::Result<u64> {
        let mut range = FileRange::new(offset, count);
        self.send_range(
            socket.as_raw_fd(),
            file.as_fd().as_raw_fd(),
            &mut range,
            || Ok(()),
        )
        .await?;
        Ok(range.sent())
    }

    /// [`sock_sendfile`](EventLoop::sock_sendfile), for a host. `range` says how far it has come,
    /// whatever happens. `goes_on` is asked before each attempt: whether the numbers still name what
    /// they did.
    ///
    /// # Errors
    /// As that; what `goes_on` gives.
    pub async fn send_range(
        &self,
        fd: RawFd,
        file: RawFd,
        range: &mut FileRange,
        goes_on: impl Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        let sending = Sending { file, range };
        loop {
            let count = sending.range.next();
            if count == 0 {
                return Ok(());
            }
            let offset = sending.range.position();
            let sent = self
                .attempt(fd, Op::Send, || {
                    goes_on()?;
                    self.reactor().send_file(fd, file, offset, count)
                })
                .await?;
            if sent == 0 {
                return Ok(());
            }
            sending.range.advance(sent);
            // A peer that receives as fast as this sends must not keep the loop from others.
            self.turn().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_where_it_was_told_to() {
        let mut range = FileRange::new(10, Some(5));
        assert_eq!(range.next(), 5);
        range.advance(3);
        assert_eq!((range.position(), range.sent(), range.next()), (13, 3, 2));
        range.advance(2);
        assert_eq!(range.next(), 0);
    }

    #[test]
    fn a_range_without_a_count_goes_on() {
        let mut range = FileRange::new(0, None);
        range.advance(1 << 20);
        assert_eq!(range.next() as u64, AT_ONCE);
    }
}
