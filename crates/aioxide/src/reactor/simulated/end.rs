//! One end of a connection.

use std::io;
use std::net::SocketAddr;

use super::errno;
use super::pipe::Pipe;

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It has connected.
    Client,
    /// It was accepted, or is to be.
    Server,
}

impl Role {
    pub(super) const BOTH: [Role; 2] = [Role::Client, Role::Server];

    pub(super) fn other(self) -> Role {
        match self {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        }
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) address: SocketAddr,
    /// What the peer sends.
    pub(super) incoming: Pipe,
    /// A descriptor or a listener's queue holds this end.
    pub(super) open: bool,
    /// To be reported once: `ECONNRESET` or `EPIPE`. Set when a reset arrives.
    pub(super) error: Option<i32>,
    /// An end was sent. Set by `shutdown_write` and by close.
    pub(super) write_ended: bool,
    /// A reset was received, or sent by closing: neither direction works any more.
    pub(super) gone: bool,
}

impl End {
    pub(super) fn new(address: SocketAddr) -> End {
        let incoming = Pipe::default();
        End {
            address,
            incoming,
            open: true,
            error: None,
            write_ended: false,
            gone: false,
        }
    }

    /// Whether receiving would not block.
    pub(super) fn is_readable(&self) -> bool {
        self.incoming.delivered() > 0 || self.incoming.ended() || self.error.is_some() || self.gone
    }

    /// Takes the pending error.
    pub(super) fn take_error(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), |error| Err(errno(error)))
    }
}
