//! `connect_read_pipe` and `connect_write_pipe`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use super::native::CloseOnDrop;
use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::event_loop::native::guard;
use crate::protocols::{AnyProtocol, StreamProtocol};
use crate::reactor::Socket;
use crate::sys::socket::set_nonblocking;
use crate::transports::Transport;
use crate::transports::stream::{Channel, Stream};

impl<H: Host> EventLoop<H> {
    /// Whether `fd` can be read through a transport: a pipe, a socket or a character device.
    ///
    /// # Errors
    /// `InvalidInput` for other files, which are always ready and cannot be waited for; `EBADF`.
    pub fn check_read_pipe(&self, fd: RawFd) -> io::Result<()> {
        Channel::reading(self, fd).map(drop)
    }

    /// Whether `fd` can be written through a transport.
    ///
    /// # Errors
    /// As [`check_read_pipe`](EventLoop::check_read_pipe).
    pub fn check_write_pipe(&self, fd: RawFd) -> io::Result<()> {
        Channel::writing(self, fd).map(drop)
    }

    /// Makes a transport of the reading end of a pipe, which is non-blocking. The future is done
    /// when `connection_made` was called.
    ///
    /// # Errors
    /// As [`check_read_pipe`](EventLoop::check_read_pipe); the pipe is closed then.
    pub fn start_read_pipe(
        &self,
        pipe: Socket,
        protocol: Rc<dyn StreamProtocol<H>>,
    ) -> io::Result<(Transport<H>, impl Future<Output = ()> + use<H>)> {
        let channel = Channel::reading(self, pipe.fd())?;
        Ok((
            Stream::start_pipe(self, channel, pipe, protocol),
            self.turn(),
        ))
    }

    /// Makes a transport of the writing end of a pipe, which is non-blocking. The future is done
    /// when `connection_made` was called.
    ///
    /// # Errors
    /// As [`check_read_pipe`](EventLoop::check_read_pipe); the pipe is closed then.
    pub fn start_write_pipe(
        &self,
        pipe: Socket,
        protocol: Rc<dyn StreamProtocol<H>>,
    ) -> io::Result<(Transport<H>, impl Future<Output = ()> + use<H>)> {
        let channel = Channel::writing(self, pipe.fd())?;
        Ok((
            Stream::start_pipe(self, channel, pipe, protocol),
            self.turn(),
        ))
    }
}

impl EventLoop {
    /// Reads from the end of a pipe, a socket or a terminal through a transport. Its `write` does
    /// nothing but report a mistake.
    ///
    /// # Errors
    /// `InvalidInput` for a file of another kind, a regular one above all.
    pub async fn connect_read_pipe<P: AnyProtocol>(
        &self,
        factory: impl FnOnce() -> P,
        pipe: impl Into<OwnedFd>,
    ) -> io::Result<Transport> {
        let pipe = adopt(pipe.into())?;
        self.check_read_pipe(pipe.fd())?;
        let protocol = guard(factory)?.into_stream_protocol();
        let (transport, made) = self.start_read_pipe(pipe, protocol)?;
        Ok(CloseOnDrop::until(made, transport).await)
    }

    /// Writes to the end of a pipe, a socket or a terminal through a transport. `connection_lost`
    /// comes when the reader closes its end.
    ///
    /// # Errors
    /// `InvalidInput` for a file of another kind, a regular one above all.
    pub async fn connect_write_pipe<P: AnyProtocol>(
        &self,
        factory: impl FnOnce() -> P,
        pipe: impl Into<OwnedFd>,
    ) -> io::Result<Transport> {
        let pipe = adopt(pipe.into())?;
        self.check_write_pipe(pipe.fd())?;
        let protocol = guard(factory)?.into_stream_protocol();
        let (transport, made) = self.start_write_pipe(pipe, protocol)?;
        Ok(CloseOnDrop::until(made, transport).await)
    }
}

/// A file of the program's, from now on ours: non-blocking.
fn adopt(pipe: OwnedFd) -> io::Result<Socket> {
    set_nonblocking(pipe.as_raw_fd())?;
    Ok(pipe.into())
}
