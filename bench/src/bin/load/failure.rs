//! What a server can do wrong.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// How long nothing may move before the server counts as stalled: far above any pause of a busy
/// machine.
pub const STALL: Duration = Duration::from_secs(5);

/// Why a measurement is void.
#[derive(Debug)]
pub enum Failure {
    /// A system call failed: the connection was refused or reset, or the server's process is gone.
    Io(io::Error),
    /// The server closed a connection in the middle of a request.
    ClosedEarly {
        connection: usize,
        received: usize,
        size: usize,
    },
    /// A byte of the reply differs from the byte sent.
    WrongByte { connection: usize, position: usize },
    /// A datagram is neither the echo of the present request nor a late one of the last.
    WrongDatagram { client: usize },
    /// A response is not the one that every request has.
    BadResponse {
        connection: usize,
        why: &'static str,
    },
    /// The server has counted other than it was sent.
    WrongCount { sent: u64 },
    /// More bytes came back than were sent.
    TooMuch { connection: usize, surplus: usize },
    /// No byte moved on any connection for [`STALL`].
    Stalled { waiting: usize, connections: usize },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::ClosedEarly {
                connection,
                received,
                size,
            } => {
                write!(
                    f,
                    "connection {connection}: closed by the server after {received} of {size} bytes of a reply"
                )
            }
            Self::WrongByte {
                connection,
                position,
            } => {
                write!(
                    f,
                    "connection {connection}: byte {position} of a reply is not the byte sent"
                )
            }
            Self::WrongDatagram { client } => {
                write!(f, "client {client}: a datagram is not the one sent")
            }
            Self::BadResponse { connection, why } => {
                write!(f, "connection {connection}: bad response: {why}")
            }
            Self::WrongCount { sent } => {
                write!(
                    f,
                    "the server did not count the {sent} bytes that it was sent"
                )
            }
            Self::TooMuch {
                connection,
                surplus,
            } => {
                write!(
                    f,
                    "connection {connection}: at least {surplus} bytes more came back than were sent"
                )
            }
            Self::Stalled {
                waiting,
                connections,
            } => write!(
                f,
                "stalled: nothing received for {} s, {waiting} of {connections} connections wait for a reply",
                STALL.as_secs()
            ),
        }
    }
}

impl Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}
