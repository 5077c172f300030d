//! Transports: how bytes are moved. A transport is a *shape* (a byte stream, datagrams), not an address
//! family; what bytes mean is its protocol's business.
//!
//! | file | what |
//! |---|---|
//! | [`lifecycle`] | from open to lost; pure |
//! | [`flow_control`] | water marks; pure |
//! | [`write_queue`] | what waits to be sent; pure |
//! | `base` | what every shape has: its descriptor, its watching, its end |
//! | `stream` | the byte stream, over a connected socket or one end of a pipe |
//! | `datagram` | datagrams, over a socket |

pub(crate) mod base;
mod datagram;
pub mod flow_control;
pub mod lifecycle;
pub(crate) mod stream;
pub mod write_queue;

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::Waker;

pub use base::BaseTransport;
pub(crate) use datagram::Datagram;
pub use datagram::SendError;
pub use stream::FileSender;

use crate::event_loop::EventLoop;
use crate::event_loop::host::{Host, Report};
use crate::event_loop::native::Native;
use crate::protocols::{AnyProtocol, DatagramProtocol, StreamProtocol, into_message_protocol};
use crate::sys::address::SocketAddress;
use flow_control::WaterMarks;
use write_queue::{KEEP, WriteQueue};

/// A byte-stream transport. Clones are handles to the same one.
///
/// Over a socket it moves bytes both ways; over one end of a pipe one way, and what belongs to
/// the other way does nothing or says so.
///
/// The loop owns the connection: dropping every handle closes nothing as long as the transport
/// receives or has something to send. Call [`close`](Transport::close).
pub struct Transport<H: Host = Native>(Rc<dyn StreamTransport<H>>);

/// A transport of datagrams. Clones are handles to the same one.
///
/// The loop owns it: dropping every handle closes nothing. Call [`close`](DatagramTransport::close).
pub struct DatagramTransport<H: Host = Native>(Rc<Datagram<H>>);

/// What every byte-stream transport can do, whatever lies below it.
pub(crate) trait StreamTransport<H: Host>: BaseTransport<H> {
    fn protocol(&self) -> Option<Rc<dyn StreamProtocol<H>>>;
    fn set_protocol(&self, protocol: Rc<dyn StreamProtocol<H>>);
    fn write(&self, output: Output<'_, H>) -> Result<(), WriteError>;
    /// Whether what is written together has to leave together, as far as it can.
    fn joins_lines(&self) -> bool;
    fn can_write_eof(&self) -> bool;
    fn write_eof(&self) -> io::Result<()>;
    /// A file is sent from now on, until `end_file`.
    fn begin_file(&self) -> io::Result<()>;
    fn wake_when_empty(&self, waker: &Waker);
    fn end_file(&self);
    fn fail(&self, message: &'static str, error: H::Error);

    /// The layer that it is, where it lies above another transport.
    fn layer(&self) -> Option<&dyn Any> {
        None
    }
}

/// Bytes that a program writes.
pub struct Output<'a, H: Host> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Makes what the queue keeps of them when they cannot be sent at once; `None` copies.
    pub keep: Option<&'a dyn Fn() -> H::Payload>,
}

impl<H: Host> Output<'_, H> {
    /// Queues what is left after the first `sent` bytes.
    pub(crate) fn enqueue(self, queue: &mut WriteQueue<H::Payload>, sent: usize) {
        let left = self.bytes.get(sent..).unwrap_or_default();
        match self.keep {
            _ if left.is_empty() => {}
            Some(keep) if left.len() >= KEEP => queue.keep(keep(), sent),
            _ => queue.copy(left),
        }
    }

    /// As [`enqueue`](Output::enqueue), in front of what was queued while it was being sent.
    pub(crate) fn enqueue_first(self, queue: &mut WriteQueue<H::Payload>, sent: usize) {
        if queue.is_empty() {
            return self.enqueue(queue, sent);
        }
        let left = self.bytes.get(sent..).unwrap_or_default();
        match self.keep {
            _ if left.is_empty() => {}
            Some(keep) if left.len() >= KEEP => queue.keep_first(keep(), sent),
            _ => queue.copy_first(left),
        }
    }
}

/// Why bytes were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// `write_eof` was called before: the end is the end.
    AfterEof,
    /// The connection was lost, and this many writes have come since (this one included). On a
    /// pipe that was closed without an error the first one does not count.
    Lost(u32),
    /// It is the reading end of a pipe.
    ReadOnly,
    /// A file is being sent through the transport.
    SendingFile,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::AfterEof => f.write_str("Cannot call write() after write_eof()"),
            WriteError::Lost(_) => f.write_str("the connection was lost: the bytes were dropped"),
            WriteError::ReadOnly => f.write_str("the reading end of a pipe cannot be written to"),
            WriteError::SendingFile => f.write_str("unable to write; sendfile is in progress"),
        }
    }
}

impl std::error::Error for WriteError {}

/// Writes to a lost connection are dropped in silence, as in asyncio, until so many have come
/// that the program seems not to have noticed: asyncio's `LOG_THRESHOLD_FOR_CONNLOST_WRITES`.
pub const LOST_WRITES_BEFORE_WARNING: u32 = 5;

/// What handles of every shape can do, forwarded to the transport itself.
macro_rules! forward_base_transport {
    () => {
        /// What it has in common with transports of other shapes.
        #[must_use]
        pub fn base(&self) -> &dyn BaseTransport<H> {
            &*self.0
        }

        /// Whether both are handles to the same transport.
        #[must_use]
        pub fn is(&self, other: &Self) -> bool {
            Rc::ptr_eq(&self.0, &other.0)
        }

        /// Closes: receives no more, sends what is buffered, then ends the connection and calls
        /// `connection_lost(None)`, later, from the loop.
        pub fn close(&self) {
            self.0.close();
        }

        /// Ends the connection now; what is buffered and does not fit into the kernel is lost.
        /// `connection_lost(None)` is called later, from the loop.
        pub fn abort(&self) {
            self.0.abort();
        }

        /// Whether the transport is closing or lost.
        #[must_use]
        pub fn is_closing(&self) -> bool {
            self.0.is_closing()
        }

        /// Whether `connection_lost` was called.
        #[must_use]
        pub fn is_lost(&self) -> bool {
            self.0.is_lost()
        }

        /// Stops receiving until [`resume_reading`](Self::resume_reading).
        pub fn pause_reading(&self) {
            self.0.pause_reading();
        }

        /// Receives again.
        pub fn resume_reading(&self) {
            self.0.resume_reading();
        }

        /// Whether the program wants what is received.
        #[must_use]
        pub fn is_reading(&self) -> bool {
            self.0.is_reading()
        }

        /// Changes the marks of flow control.
        pub fn set_water_marks(&self, marks: WaterMarks) {
            self.0.set_water_marks(marks);
        }

        /// The marks of flow control.
        #[must_use]
        pub fn water_marks(&self) -> WaterMarks {
            self.0.water_marks()
        }

        /// Changes when `pause_writing` and `resume_writing` are called; see [`WaterMarks::new`].
        ///
        /// # Errors
        /// `InvalidInput` when the low mark is above the high one.
        pub fn set_write_buffer_limits(
            &self,
            high: Option<usize>,
            low: Option<usize>,
        ) -> io::Result<()> {
            self.set_water_marks(WaterMarks::checked(high, low)?);
            Ok(())
        }

        /// Bytes that the kernel has not taken. What this iteration wrote is offered to it first.
        #[must_use]
        pub fn write_buffer_size(&self) -> usize {
            self.0.write_buffer_size()
        }

        /// The descriptor, until the connection is lost.
        #[must_use]
        pub fn fd(&self) -> Option<RawFd> {
            self.0.fd()
        }

        /// The socket's own address; kept when the connection is lost.
        #[must_use]
        pub fn local_address(&self) -> Option<SocketAddress> {
            self.0.local_address()
        }

        /// The peer's address; kept when the connection is lost.
        #[must_use]
        pub fn peer_address(&self) -> Option<SocketAddress> {
            self.0.peer_address()
        }

        /// The loop that moves its bytes.
        #[must_use]
        pub fn event_loop(&self) -> &EventLoop<H> {
            self.0.event_loop()
        }
    };
}

impl<H: Host> Transport<H> {
    forward_base_transport!();

    pub(crate) fn new(transport: Rc<dyn StreamTransport<H>>) -> Transport<H> {
        Transport(transport)
    }

    /// Gives up the connection because of `error`: it is reported with `message`, and
    /// `connection_lost` gets it.
    pub fn fail(&self, message: &'static str, error: H::Error) {
        self.0.fail(message, error);
    }

    /// Takes bytes to send. What one iteration writes leaves together at its end; what is a lot
    /// leaves at once, and so does what is written to a pipe.
    ///
    /// # Errors
    /// When they were not taken.
    pub fn try_write(&self, output: Output<'_, H>) -> Result<(), WriteError> {
        self.0.write(output)
    }

    /// Whether several pieces that are written together should be joined first: into a pipe they
    /// leave in one system call, so that what others write to it does not come in between. On a
    /// socket they leave together anyhow.
    #[must_use]
    pub fn joins_lines(&self) -> bool {
        self.0.joins_lines()
    }

    /// Whether [`write_eof`](Transport::write_eof) can be used: not on the reading end of a pipe.
    #[must_use]
    pub fn can_write_eof(&self) -> bool {
        self.0.can_write_eof()
    }

    /// Sends an end after what is buffered; the peer can go on sending. Nothing happens when the
    /// transport is closing or has sent one. A pipe has but this end: it is closed.
    ///
    /// # Errors
    /// What the kernel says of it: `ENOTCONN` when the peer has gone. `Unsupported` for the
    /// reading end of a pipe.
    pub fn write_eof(&self) -> io::Result<()> {
        self.0.write_eof()
    }

    /// The layer that it is, where it lies above another transport: see [`Tls`](crate::tls::Tls).
    #[must_use]
    pub fn layer(&self) -> Option<&dyn Any> {
        self.0.layer()
    }

    /// The engine's side of its protocol, until the connection is lost.
    #[must_use]
    pub fn stream_protocol(&self) -> Option<Rc<dyn StreamProtocol<H>>> {
        self.0.protocol()
    }

    /// Gives what is received from now on to another protocol.
    pub fn set_stream_protocol(&self, protocol: Rc<dyn StreamProtocol<H>>) {
        self.0.set_protocol(protocol);
    }
}

impl<H: Host> DatagramTransport<H> {
    forward_base_transport!();

    fn new(transport: Rc<Datagram<H>>) -> DatagramTransport<H> {
        DatagramTransport(transport)
    }

    /// Takes a datagram to send, to `to` or to the peer that the endpoint was made for.
    ///
    /// # Errors
    /// When it was not taken.
    pub fn try_send(
        &self,
        output: Output<'_, H>,
        to: Option<&SocketAddress>,
    ) -> Result<(), SendError<H::Error>> {
        self.0.send_to(output, to)
    }
}

impl Transport {
    /// Takes `bytes` to send. They are the caller's again when it returns: what does not leave at
    /// once is copied.
    ///
    /// On a lost connection they are dropped, as in asyncio: `connection_lost` says so. After
    /// [`write_eof`](Transport::write_eof) they are dropped too, and the exception handler is told, because that is a
    /// mistake of the program's.
    pub fn write(&self, bytes: &[u8]) {
        self.write_output(Output { bytes, keep: None });
    }

    /// [`write`](Transport::write) of several pieces, in order.
    pub fn writelines<B: AsRef<[u8]>>(&self, pieces: impl IntoIterator<Item = B>) {
        if self.joins_lines() {
            let mut joined = Vec::new();
            for piece in pieces {
                joined.extend_from_slice(piece.as_ref());
            }
            return self.write(&joined);
        }
        for piece in pieces {
            self.write(piece.as_ref());
        }
    }

    /// Gives what is received from now on to another protocol. It is not told of a connection that
    /// it did not see being made.
    pub fn set_protocol(&self, protocol: impl AnyProtocol) {
        self.set_stream_protocol(protocol.into_stream_protocol());
    }

    fn write_output(&self, output: Output<'_, Native>) {
        match self.try_write(output) {
            Ok(()) => {}
            Err(WriteError::Lost(times)) => {
                if times >= LOST_WRITES_BEFORE_WARNING {
                    log::warn!("write to a lost connection, for the {times}th time");
                }
            }
            Err(error) => self.event_loop().report(Report {
                message: match error {
                    WriteError::ReadOnly => "Bytes were written to the reading end of a pipe",
                    WriteError::SendingFile => "Bytes were written while a file is being sent",
                    _ => "Bytes were written after the end",
                }
                .into(),
                error: Some(io::Error::other(error)),
                subject: Some(format!("{self:?}")),
            }),
        }
    }
}

impl DatagramTransport {
    /// Sends a datagram, which may be empty: to `to`, or without one to the peer that the endpoint
    /// was made for. The bytes are the caller's again when it returns. What cannot be sent is
    /// told to [`DatagramProtocol::error_received`].
    ///
    /// # Errors
    /// `InvalidInput` when there is no address, or another one than the endpoint's.
    pub fn send_to<'a>(
        &self,
        bytes: &[u8],
        to: impl Into<Option<&'a SocketAddress>>,
    ) -> io::Result<()> {
        let to = to.into();
        let wrong = match (self.0.remote(), to) {
            (Some(remote), Some(to)) if remote != to => Some(format!(
                "{to} is not the peer of this endpoint, which is {remote}"
            )),
            (None, None) if self.peer_address().is_none() => {
                Some("the endpoint has no peer of its own: an address is needed".to_owned())
            }
            _ => None,
        };
        if let Some(message) = wrong {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        match self.try_send(Output { bytes, keep: None }, to) {
            Ok(()) => {}
            Err(SendError::Lost(times)) if times < LOST_WRITES_BEFORE_WARNING => {}
            Err(SendError::Lost(times)) => {
                log::warn!("a datagram was sent on a closed transport, for the {times}th time");
            }
            Err(SendError::Raised(error)) => self.event_loop().report(Report {
                message: "error_received() panicked".into(),
                error: Some(error),
                subject: Some(format!("{self:?}")),
            }),
        }
        Ok(())
    }

    /// Gives what is received from now on to another protocol. It is not told of an endpoint that
    /// it did not see being made.
    pub fn set_protocol(&self, protocol: impl DatagramProtocol) {
        self.set_message_protocol(into_message_protocol(protocol));
    }
}

impl<H: Host> EventLoop<H> {
    /// The transport that uses `fd`, if one does and is not closing.
    #[must_use]
    pub fn transport_using(&self, fd: RawFd) -> Option<AnyTransport<H>> {
        let user = self.user_of(fd)?;
        let transport = match user.downcast::<stream::Stream<H>>() {
            Ok(stream) => AnyTransport::Stream(Transport::new(stream)),
            Err(user) => {
                AnyTransport::Datagram(DatagramTransport::new(user.downcast::<Datagram<H>>().ok()?))
            }
        };
        (!transport.base().is_closing()).then_some(transport)
    }
}

/// A transport of any shape.
pub enum AnyTransport<H: Host = Native> {
    /// Of bytes.
    Stream(Transport<H>),
    /// Of datagrams.
    Datagram(DatagramTransport<H>),
}

impl<H: Host> AnyTransport<H> {
    /// What the shapes have in common.
    #[must_use]
    pub fn base(&self) -> &dyn BaseTransport<H> {
        match self {
            AnyTransport::Stream(transport) => transport.base(),
            AnyTransport::Datagram(transport) => transport.base(),
        }
    }
}

impl<H: Host> Clone for Transport<H> {
    fn clone(&self) -> Self {
        Transport(Rc::clone(&self.0))
    }
}

impl<H: Host> Clone for DatagramTransport<H> {
    fn clone(&self) -> Self {
        DatagramTransport(Rc::clone(&self.0))
    }
}

impl<H: Host> fmt::Debug for Transport<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show("Transport", self.base(), f)
    }
}

impl<H: Host> fmt::Debug for DatagramTransport<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show("DatagramTransport", self.base(), f)
    }
}

fn show<H: Host>(
    name: &str,
    transport: &dyn BaseTransport<H>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    write!(f, "<{name} ")?;
    match transport.fd() {
        Some(fd) => write!(f, "fd={fd}")?,
        None => f.write_str("closed")?,
    }
    if let Some(peer) = transport.peer_address() {
        write!(f, " peer={peer}")?;
    }
    if transport.is_closing() && !transport.is_lost() {
        f.write_str(" closing")?;
    }
    f.write_str(">")
}
