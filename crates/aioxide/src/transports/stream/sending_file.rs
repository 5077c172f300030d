//! A file, sent through a transport: after what was written before, and before what is written
//! after.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::task::{Poll, Waker};

use super::{Channel, Stream};
use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::reactor::Side;
use crate::sock::sendfile::FileRange;
use crate::transports::{BaseTransport, Transport};

/// A transport that a file is being sent through, until this is dropped: reading is paused, writing
/// refused.
pub struct FileSender<H: Host> {
    transport: Transport<H>,
    /// Whether the program was reading.
    was_reading: bool,
}

impl<H: Host> FileSender<H> {
    /// Sends a range of a file; `range` says how far it has come, whatever happens. The file's
    /// position is left behind the last byte that was sent.
    ///
    /// # Errors
    /// How the connection has failed; `ConnectionAborted` when the transport is closed meanwhile.
    pub async fn send(self, file: RawFd, range: &mut FileRange) -> io::Result<()> {
        let transport = &self.transport;
        poll_fn(|cx| {
            if transport.is_closing() || transport.write_buffer_size() == 0 {
                return Poll::Ready(());
            }
            transport.0.wake_when_empty(cx.waker());
            Poll::Pending
        })
        .await;
        let closed = || io::Error::new(io::ErrorKind::ConnectionAborted, "the transport is closed");
        let fd = transport.fd().ok_or_else(closed)?;
        let goes_on = || {
            if transport.is_closing() {
                Err(closed())
            } else {
                Ok(())
            }
        };
        transport
            .event_loop()
            .send_range(fd, file, range, goes_on)
            .await
    }
}

impl<H: Host> Drop for FileSender<H> {
    fn drop(&mut self) {
        self.transport.0.end_file();
        if self.was_reading {
            self.transport.resume_reading();
        }
    }
}

impl<H: Host> Transport<H> {
    /// Begins to send a file, after what is buffered; reading is paused and writing refused until
    /// what this gives is dropped.
    ///
    /// # Errors
    /// `NotConnected` when the transport is closing, `Unsupported` when it is no socket's, or has TLS,
    /// `ResourceBusy` when another file is being sent.
    pub fn begin_sendfile(&self) -> io::Result<FileSender<H>> {
        self.0.begin_file()?;
        let was_reading = self.is_reading();
        self.pause_reading();
        Ok(FileSender {
            transport: self.clone(),
            was_reading,
        })
    }
}

impl<H: Host> EventLoop<H> {
    /// Sends `count` bytes of `file` from `offset` on, or all up to its end, through a transport;
    /// how many were sent. Reading is paused meanwhile, and writing refused. The file's position
    /// is left behind the last byte that was sent, also when it fails or is dropped.
    ///
    /// Over TLS there is no such way: the kernel would send what nobody has encrypted. It is `Unsupported` there,
    /// read the file and write it.
    ///
    /// # Errors
    /// As [`Transport::begin_sendfile`] and [`FileSender::send`].
    pub async fn sendfile(
        &self,
        transport: &Transport<H>,
        file: &impl AsFd,
        offset: u64,
        count: Option<u64>,
    ) -> io::Result<u64> {
        let mut range = FileRange::new(offset, count);
        let sender = transport.begin_sendfile()?;
        sender.send(file.as_fd().as_raw_fd(), &mut range).await?;
        Ok(range.sent())
    }
}

impl<H: Host> Stream<H> {
    pub(super) fn begin_sending_file(&self) -> io::Result<()> {
        let refusal = |kind, message: &str| Err(io::Error::new(kind, message));
        if self.is_closing() {
            return refusal(io::ErrorKind::NotConnected, "the transport is closing");
        }
        if self.channel != Channel::Socket {
            let message = "a file can only be sent through the transport of a socket";
            return refusal(io::ErrorKind::Unsupported, message);
        }
        if self.sending_file.replace(true) {
            let message = "another file is being sent through this transport";
            return refusal(io::ErrorKind::ResourceBusy, message);
        }
        Ok(())
    }

    pub(super) fn end_sending_file(&self) {
        self.sending_file.set(false);
        self.empty_waker.take();
    }

    pub(super) fn set_empty_waker(&self, waker: &Waker) {
        self.empty_waker.set(Some(Box::new(waker.clone())));
    }

    /// What waits for the queue to be empty, or for room to send a file, looks again.
    pub(super) fn wake_file_sender(&self) {
        if !self.sending_file.get() {
            return;
        }
        let waker = self.empty_waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
        if self.base.life().is_closing() {
            // Nobody may wait for a descriptor that is about to be closed.
            self.base.event_loop.remove_poll(self.base.fd, Side::Write);
        }
    }
}
