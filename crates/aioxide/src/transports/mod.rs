//! Transports: how bytes are moved. A transport is a *shape* (here: a byte stream), not an address
//! family; what bytes mean is its protocol's business.
//!
//! | file | what |
//! |---|---|
//! | [`lifecycle`] | from open to lost; pure |
//! | [`flow_control`] | water marks; pure |
//! | [`write_queue`] | what waits to be sent; pure |
//! | `stream` | the byte stream over a connected socket |

pub mod flow_control;
pub mod lifecycle;
pub(crate) mod stream;
pub mod write_queue;

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

use crate::event_loop::EventLoop;
use crate::event_loop::host::{Host, Report};
use crate::event_loop::native::Native;
use crate::protocols::{AnyProtocol, StreamProtocol};
use crate::reactor::Socket;
use crate::sys::address::SocketAddress;
use flow_control::WaterMarks;

/// A byte-stream transport. Clones are handles to the same one.
///
/// The loop owns the connection: dropping every handle closes nothing as long as the transport
/// receives or has something to send. Call [`close`](Transport::close).
pub struct Transport<H: Host = Native>(Rc<dyn StreamTransport<H>>);

/// What every byte-stream transport can do, whatever lies below it.
pub(crate) trait StreamTransport<H: Host> {
    fn event_loop(&self) -> &EventLoop<H>;
    fn protocol(&self) -> Option<Rc<dyn StreamProtocol<H>>>;
    fn set_protocol(&self, protocol: Rc<dyn StreamProtocol<H>>);
    fn write(&self, output: Output<'_, H>) -> Result<(), WriteError>;
    fn write_eof(&self) -> io::Result<()>;
    fn close(&self);
    fn abort(&self);
    fn abandon(&self);
    fn fail(&self, message: &'static str, error: H::Error);
    fn pause_reading(&self);
    fn resume_reading(&self);
    fn is_closing(&self) -> bool;
    fn is_lost(&self) -> bool;
    fn is_reading(&self) -> bool;
    fn is_receiving(&self) -> bool;
    fn is_sending(&self) -> bool;
    fn set_water_marks(&self, marks: WaterMarks);
    fn water_marks(&self) -> WaterMarks;
    fn write_buffer_size(&self) -> usize;
    fn fd(&self) -> Option<RawFd>;
    fn fd_number(&self) -> RawFd;
    fn with_socket(&self, exchange: &mut dyn FnMut(Socket) -> Socket);
    fn local_address(&self) -> Option<SocketAddress>;
    fn peer_address(&self) -> Option<SocketAddress>;
}

/// Bytes that a program writes.
pub struct Output<'a, H: Host> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Makes what the queue keeps of them when they cannot be sent at once; `None` copies.
    pub keep: Option<&'a dyn Fn() -> H::Payload>,
}

/// Why bytes were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// `write_eof` was called before: the end is the end.
    AfterEof,
    /// The connection was lost, this many writes ago (this one included).
    Lost(u32),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::AfterEof => f.write_str("Cannot call write() after write_eof()"),
            WriteError::Lost(_) => f.write_str("the connection was lost: the bytes were dropped"),
        }
    }
}

impl std::error::Error for WriteError {}

/// Writes to a lost connection are dropped in silence, as in asyncio, until so many have come
/// that the program seems not to have noticed: asyncio's `LOG_THRESHOLD_FOR_CONNLOST_WRITES`.
pub const LOST_WRITES_BEFORE_WARNING: u32 = 5;

impl<H: Host> Transport<H> {
    pub(crate) fn new(transport: Rc<dyn StreamTransport<H>>) -> Transport<H> {
        Transport(transport)
    }

    /// Whether both are handles to the same transport.
    #[must_use]
    pub fn is(&self, other: &Transport<H>) -> bool {
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

    /// Closes the socket of a transport that nobody can reach any more, without a word to its
    /// protocol: for a host whose object for it is being freed.
    pub fn abandon(&self) {
        self.0.abandon();
    }

    /// Gives up the connection because of `error`: it is reported with `message`, and
    /// `connection_lost` gets it.
    pub fn fail(&self, message: &'static str, error: H::Error) {
        self.0.fail(message, error);
    }

    /// Takes bytes to send. What one iteration writes leaves together at its end; what is a lot
    /// leaves at once.
    ///
    /// # Errors
    /// When they were not taken.
    pub fn try_write(&self, output: Output<'_, H>) -> Result<(), WriteError> {
        self.0.write(output)
    }

    /// Sends an end after what is buffered; the peer can go on sending. Nothing happens when the
    /// transport is closing or has sent one.
    ///
    /// # Errors
    /// What the kernel says of it: `ENOTCONN` when the peer has gone.
    pub fn write_eof(&self) -> io::Result<()> {
        self.0.write_eof()
    }

    /// Stops receiving until [`resume_reading`](Transport::resume_reading): the peer is held back by TCP.
    pub fn pause_reading(&self) {
        self.0.pause_reading();
    }

    /// Receives again.
    pub fn resume_reading(&self) {
        self.0.resume_reading();
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

    /// Whether the program wants what is received.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.0.is_reading()
    }

    /// Whether the loop waits for something to receive.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        self.0.is_receiving()
    }

    /// Whether the loop waits for room to send.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        self.0.is_sending()
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

    /// The number of the descriptor, which may be another's when the connection is lost: to show,
    /// not to use.
    #[must_use]
    pub fn fd_number(&self) -> RawFd {
        self.0.fd_number()
    }

    /// Lets a host put its own socket object in the place of the transport's socket: `exchange`
    /// is called with it unless the connection is lost, and gives the one to use from now on,
    /// over the same descriptor.
    pub fn with_socket(&self, exchange: &mut dyn FnMut(Socket) -> Socket) {
        self.0.with_socket(exchange);
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
        for piece in pieces {
            self.write(piece.as_ref());
        }
    }

    /// Gives what is received from now on to another protocol. It is not told of a connection that
    /// it did not see being made.
    pub fn set_protocol(&self, protocol: impl AnyProtocol) {
        self.set_stream_protocol(protocol.into_stream_protocol());
    }

    /// Whether [`write_eof`](Transport::write_eof) can be used: a byte stream over a socket always can.
    #[must_use]
    pub fn can_write_eof(&self) -> bool {
        true
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
        let marks = WaterMarks::new(high, low).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the low-water mark {low:?} is above the high-water mark {high:?}"),
            )
        })?;
        self.set_water_marks(marks);
        Ok(())
    }

    fn write_output(&self, output: Output<'_, Native>) {
        match self.try_write(output) {
            Ok(()) => {}
            Err(WriteError::Lost(times)) => {
                if times >= LOST_WRITES_BEFORE_WARNING {
                    log::warn!("write to a lost connection, for the {times}th time");
                }
            }
            Err(error @ WriteError::AfterEof) => self.event_loop().report(Report {
                message: "Bytes were written after the end".into(),
                error: Some(io::Error::other(error)),
                subject: Some(format!("{self:?}")),
            }),
        }
    }
}

impl<H: Host> EventLoop<H> {
    /// The transport that uses `fd`, if one does and is not closing.
    #[must_use]
    pub fn transport_using(&self, fd: RawFd) -> Option<Transport<H>> {
        let stream = self.user_of(fd)?.downcast::<stream::Stream<H>>().ok()?;
        let transport = Transport::new(stream);
        (!transport.is_closing()).then_some(transport)
    }
}

impl<H: Host> Clone for Transport<H> {
    fn clone(&self) -> Self {
        Transport(Rc::clone(&self.0))
    }
}

impl<H: Host> fmt::Debug for Transport<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Transport ")?;
        match self.fd() {
            Some(fd) => write!(f, "fd={fd}")?,
            None => f.write_str("closed")?,
        }
        if let Some(peer) = self.peer_address() {
            write!(f, " peer={peer}")?;
        }
        if self.is_closing() && !self.is_lost() {
            f.write_str(" closing")?;
        }
        f.write_str(">")
    }
}
