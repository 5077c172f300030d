//! Layer 2's other half: what bytes mean.
//!
//! A program implements [`Protocol`], which is given each received piece, or [`BufferedProtocol`],
//! which lends the memory that is received into. The order of the calls is asyncio's:
//!
//! ```text
//! start ─▶ connection_made [─▶ data_received]* [─▶ eof_received]? ─▶ connection_lost ─▶ end
//! ```
//!
//! A [`DatagramProtocol`] is given datagrams.
//!
//! For bytes the engine itself speaks [`StreamProtocol`], one step below: it hands over the readable
//! socket, and the protocol's side chooses the memory at the moment when bytes are there. So a
//! Rust protocol borrows the loop's buffer, a buffered one lends its own, and the Python host
//! receives what is large straight into a `bytes` object, all through one door.

pub(crate) mod native;

use std::any::Any;
use std::io;
use std::os::fd::RawFd;

use crate::event_loop::host::Host;
use crate::event_loop::{EventLoop, RECEIVE_BUFFER};
use crate::sys::address::SocketAddress;
use crate::sys::buffer::Buffer;
use crate::transports::stream::Channel;
use crate::transports::{DatagramTransport, Transport};

pub(crate) use native::into_message_protocol;
pub use native::{AnyProtocol, Buffered};

/// A protocol that is given what is received.
///
/// Every method has a default that does what asyncio's does. A method that panics is reported to
/// the exception handler and ends its connection, not the program.
pub trait Protocol: 'static {
    /// The connection stands. Keep `transport` to write to it.
    fn connection_made(&mut self, transport: Transport) {
        drop(transport);
    }

    /// Bytes were received: at least one.
    fn data_received(&mut self, data: &[u8]) {
        let _ = data;
    }

    /// The peer has sent its end. True keeps the connection open for writing; false closes it.
    fn eof_received(&mut self) -> bool {
        false
    }

    /// The connection is over: by [`Transport::close`], [`Transport::abort`] or the peer's end
    /// (`None`), or by an error.
    fn connection_lost(&mut self, error: Option<io::Error>) {
        drop(error);
    }

    /// The transport's buffer is above its high-water mark: stop writing. Comes while a callback
    /// of this protocol runs only after that callback has returned.
    fn pause_writing(&mut self) {}

    /// The transport's buffer is at or below its low-water mark: write again.
    fn resume_writing(&mut self) {}
}

/// A protocol that lends the memory which is received into.
pub trait BufferedProtocol: 'static {
    /// As [`Protocol::connection_made`].
    fn connection_made(&mut self, transport: Transport) {
        drop(transport);
    }

    /// The memory for the next bytes; it must not be empty. `size_hint` is how many may come, 0
    /// when nothing is known.
    fn get_buffer(&mut self, size_hint: usize) -> &mut [u8];

    /// The first `count` bytes of the last [`get_buffer`](BufferedProtocol::get_buffer) were written: at least one.
    fn buffer_updated(&mut self, count: usize);

    /// As [`Protocol::eof_received`].
    fn eof_received(&mut self) -> bool {
        false
    }

    /// As [`Protocol::connection_lost`].
    fn connection_lost(&mut self, error: Option<io::Error>) {
        drop(error);
    }

    /// As [`Protocol::pause_writing`].
    fn pause_writing(&mut self) {}

    /// As [`Protocol::resume_writing`].
    fn resume_writing(&mut self) {}
}

/// A protocol for datagrams.
///
/// Every method has a default that does what asyncio's does. A method that panics is reported to
/// the exception handler; the endpoint lives on.
pub trait DatagramProtocol: 'static {
    /// The endpoint stands. Keep `transport` to send through it.
    fn connection_made(&mut self, transport: DatagramTransport) {
        drop(transport);
    }

    /// A datagram was received, which may be empty. `peer` is who sent it; a Unix socket without
    /// a name has none.
    fn datagram_received(&mut self, data: &[u8], peer: Option<&SocketAddress>) {
        let _ = (data, peer);
    }

    /// A datagram could not be sent, or a peer has refused one. The endpoint lives on.
    fn error_received(&mut self, error: io::Error) {
        drop(error);
    }

    /// As [`Protocol::connection_lost`].
    fn connection_lost(&mut self, error: Option<io::Error>) {
        drop(error);
    }

    /// As [`Protocol::pause_writing`].
    fn pause_writing(&mut self) {}

    /// As [`Protocol::resume_writing`].
    fn resume_writing(&mut self) {}
}

/// What the engine asks of every protocol, whatever the shape of its transport. Methods take
/// `&self`: `pause_writing` may come from inside a write that the protocol itself makes.
pub trait BaseProtocol<H: Host> {
    /// The connection is over.
    ///
    /// # Errors
    /// What the program's callback raised; likewise below.
    fn connection_lost(&self, error: Option<H::Error>) -> Result<(), H::Error>;

    /// Stop writing.
    ///
    /// # Errors
    /// What the program's callback raised.
    fn pause_writing(&self) -> Result<(), H::Error>;

    /// Write again.
    ///
    /// # Errors
    /// What the program's callback raised.
    fn resume_writing(&self) -> Result<(), H::Error>;

    /// Something failed; the exception handler's business.
    fn report(&self, what: Failure, error: &H::Error);

    /// The loop begins (`true`) or ceases to refer to the transport: whether it could be lost
    /// when the program drops it.
    fn held(&self, held: bool);

    /// Shows a host its own object behind this trait. A layer between a transport and a program's
    /// protocol shows that of the program.
    fn show(&self, look: &mut dyn FnMut(&dyn Any)) {
        let _ = look;
    }
}

/// A protocol of a byte stream, as the engine calls it.
pub trait StreamProtocol<H: Host>: BaseProtocol<H> {
    /// The connection stands.
    ///
    /// # Errors
    /// What the program's callback raised.
    fn connection_made(&self, transport: Transport<H>) -> Result<(), H::Error>;

    /// The transport is readable: receive once through `input`, and deliver.
    fn receive(&self, input: &Input<'_, H>) -> Received<H::Error>;

    /// The peer has sent its end; true keeps the connection open for writing.
    ///
    /// # Errors
    /// What the program's callback raised.
    fn eof_received(&self) -> Result<bool, H::Error>;

    /// The other end of a pipe was closed: for a host that says so in debug mode.
    fn pipe_closed(&self) {}

    /// It wants to write on after the peer's end, over TLS, which has no such thing.
    fn cannot_keep_open(&self) {
        log::warn!("returning true from eof_received() has no effect over TLS");
    }

    /// The transport that the program has, where this protocol is a layer below it.
    fn upper_transport(&self) -> Option<Transport<H>> {
        None
    }
}

/// A protocol of datagrams, as the engine calls it.
pub trait MessageProtocol<H: Host>: BaseProtocol<H> {
    /// The endpoint stands.
    ///
    /// # Errors
    /// What the program's callback raised; likewise below. The endpoint lives on.
    fn connection_made(&self, transport: DatagramTransport<H>) -> Result<(), H::Error>;

    /// A datagram was received.
    ///
    /// # Errors
    /// What the program's callback raised.
    fn datagram_received(&self, data: &[u8], peer: Option<&SocketAddress>) -> Result<(), H::Error>;

    /// Sending or receiving has failed.
    ///
    /// # Errors
    /// What the program's callback raised.
    fn error_received(&self, error: io::Error) -> Result<(), H::Error>;

    /// As [`error_received`](MessageProtocol::error_received), from inside the program's own call
    /// that has failed to send.
    ///
    /// # Errors
    /// What the program's callback raised: its call raises it.
    fn send_failed(&self, error: io::Error) -> Result<(), H::Error> {
        self.error_received(error)
    }
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection is given up, for this reason. An error of the system's is no news: it
    /// reaches `connection_lost`.
    Fatal(&'static str),
    /// The connection is given up, for this reason, and by an error that nobody expects.
    Unusual(&'static str),
    /// A callback raised that is called on its own: `connection_made`, `connection_lost`, those
    /// of datagrams.
    Callback(&'static str),
    /// `pause_writing` or `resume_writing` raised.
    FlowControl(&'static str),
}

/// How a receive has ended.
#[derive(Debug)]
pub enum Received<E> {
    /// Bytes were delivered.
    Data,
    /// There was nothing to receive.
    Nothing,
    /// The peer's end.
    End,
    /// The connection has failed.
    Failed(io::Error),
    /// The program's callback raised; the message says which.
    Raised(&'static str, E),
}

impl<E> Received<E> {
    /// How a receive that gave `result` has ended, unless there are bytes to deliver.
    ///
    /// # Errors
    /// The end it has come to, for `?`.
    pub fn count(result: io::Result<usize>) -> Result<usize, Received<E>> {
        match result {
            Ok(0) => Err(Received::End),
            Ok(count) => Ok(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Received::Nothing),
            Err(error) => Err(Received::Failed(error)),
        }
    }
}

/// Something readable, for one receive: a socket, a pipe, or a layer that has bytes for its protocol.
pub struct Input<'a, H: Host> {
    pub(crate) event_loop: &'a EventLoop<H>,
    pub(crate) source: Source<'a>,
}

/// Where bytes are received from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Descriptor(RawFd, Channel),
    Layer(&'a dyn Layer),
}

/// A layer between a transport and a protocol, as the protocol receives from it.
pub(crate) trait Layer {
    /// As [`Input::receive`]. An error of the host's own the layer keeps, and gives another.
    fn receive(&self, buffer: &mut Buffer<'_>) -> io::Result<usize>;

    /// As [`Input::receivable`]; it may be a few more.
    fn receivable(&self) -> usize;
}

impl<H: Host> Input<'_, H> {
    /// The loop that the socket belongs to.
    #[must_use]
    pub fn event_loop(&self) -> &EventLoop<H> {
        self.event_loop
    }

    /// Receives into `buffer`; 0 is the peer's end.
    ///
    /// # Errors
    /// `WouldBlock`, or how the connection has failed.
    #[inline]
    pub fn receive(&self, buffer: &mut Buffer<'_>) -> io::Result<usize> {
        let reactor = self.event_loop.reactor();
        match self.source {
            Source::Descriptor(fd, Channel::Socket) => reactor.receive(fd, buffer),
            Source::Descriptor(fd, _) => reactor.read(fd, buffer),
            Source::Layer(layer) => layer.receive(buffer),
        }
    }

    /// The room that a receive needs to take all that waits, and a byte more: room that is left says
    /// that it was all (see [`Op::ReceiveStream`](crate::reactor::Op)).
    ///
    /// # Errors
    /// When the network cannot tell.
    pub fn receivable(&self) -> io::Result<usize> {
        match self.source {
            Source::Descriptor(fd, _) => {
                let waiting = self.event_loop.reactor().receivable(fd)?;
                Ok(waiting.saturating_add(1))
            }
            Source::Layer(layer) => Ok(layer.receivable()),
        }
    }

    /// Lends the loop's receive buffer, empty.
    #[inline]
    pub fn with_receive_buffer<R>(&self, receive: impl FnOnce(&mut Buffer<'_>) -> R) -> R {
        self.event_loop.with_receive_buffer(RECEIVE_BUFFER, receive)
    }
}
