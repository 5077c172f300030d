//! What the bytes of a stream go through.

use std::io;
use std::os::fd::RawFd;

use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::sys::file::Kind;
use crate::transports::base::Failures;
use crate::transports::lifecycle::Direction;

/// What lies below a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// A connected socket.
    Socket,
    /// The reading end of a pipe, or what behaves like one.
    ReadPipe,
    /// The writing end of a pipe, or what behaves like one.
    WritePipe {
        /// Whether it becomes readable when its reader is closed: pipes and sockets do, a
        /// terminal becomes readable when somebody types.
        tells_end: bool,
    },
}

impl Channel {
    /// The reading end of a pipe, a socket or a character device.
    ///
    /// # Errors
    /// `InvalidInput` for other files, which are always ready and cannot be waited for.
    pub(crate) fn reading<H: Host>(event_loop: &EventLoop<H>, fd: RawFd) -> io::Result<Channel> {
        match event_loop.reactor().kind(fd)? {
            Kind::Pipe | Kind::Socket | Kind::Device => Ok(Channel::ReadPipe),
            Kind::Other => Err(refusal("Pipe transport is for pipes/sockets only.")),
        }
    }

    /// The writing end of a pipe, a socket or a character device.
    ///
    /// # Errors
    /// `InvalidInput` for other files.
    pub(crate) fn writing<H: Host>(event_loop: &EventLoop<H>, fd: RawFd) -> io::Result<Channel> {
        let kind = event_loop.reactor().kind(fd)?;
        match kind {
            Kind::Pipe | Kind::Socket | Kind::Device => Ok(Channel::WritePipe {
                tells_end: kind != Kind::Device,
            }),
            Kind::Other => Err(refusal(
                "Pipe transport is only for pipes, sockets and character devices",
            )),
        }
    }

    pub(super) fn direction(self) -> Direction {
        match self {
            Channel::Socket => Direction::Both,
            Channel::ReadPipe => Direction::ReadOnly,
            Channel::WritePipe { .. } => Direction::WriteOnly,
        }
    }

    pub(super) fn failures(self) -> Failures {
        match self {
            Channel::Socket => Failures {
                read: "Fatal read error on socket transport",
                write: "Fatal write error on socket transport",
            },
            Channel::ReadPipe | Channel::WritePipe { .. } => Failures {
                read: "Fatal read error on pipe transport",
                write: "Fatal write error on pipe transport",
            },
        }
    }
}

fn refusal(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
