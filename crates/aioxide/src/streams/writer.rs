//! The writing half of a stream.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_io::AsyncWrite;

use super::flow::{WriterFlow, connection_lost};
use super::inlet::Inlet;
use super::protocol::StreamReaderProtocol;
use crate::sys::address::SocketAddress;
use crate::transports::{Output, Transport};

/// Writes to a connection: a [`Transport`], and [`drain`](StreamWriter::drain) for its flow control.
///
/// Dropping the writer closes the connection, after what was written.
pub struct StreamWriter {
    pub(super) transport: Transport,
    flow: Rc<WriterFlow>,
    /// The other half's, whose failure is the connection's; a process's input has none.
    inlet: Option<Rc<Inlet>>,
}

impl StreamWriter {
    /// The writer of a connection whose protocol is `protocol`.
    #[must_use]
    pub fn new(transport: Transport, protocol: &StreamReaderProtocol) -> StreamWriter {
        StreamWriter {
            transport,
            flow: Rc::clone(protocol.flow()),
            inlet: Some(Rc::clone(protocol.inlet())),
        }
    }

    /// The writer of one end of a pipe.
    pub(super) fn of_pipe(transport: Transport, flow: &Rc<WriterFlow>) -> StreamWriter {
        StreamWriter {
            transport,
            flow: Rc::clone(flow),
            inlet: None,
        }
    }

    /// Takes bytes to send; never waits. Follow it with [`drain`](StreamWriter::drain).
    pub fn write(&self, bytes: &[u8]) {
        self.transport.write(bytes);
    }

    /// [`write`](StreamWriter::write) of several pieces, in order.
    pub fn writelines<B: AsRef<[u8]>>(&self, pieces: impl IntoIterator<Item = B>) {
        self.transport.writelines(pieces);
    }

    /// Sends an end after what was written; the peer can go on sending.
    ///
    /// # Errors
    /// As [`Transport::write_eof`].
    pub fn write_eof(&self) -> io::Result<()> {
        self.transport.write_eof()
    }

    /// Waits while the transport's buffer is too full to write more.
    ///
    /// # Errors
    /// How the connection has failed, or `ConnectionReset` when it is over.
    pub async fn drain(&self) -> io::Result<()> {
        if let Some(error) = self.exception() {
            return Err(error);
        }
        if self.transport.is_closing() {
            // Lets `connection_lost` be called, or a program that writes and drains for ever
            // would never learn of it.
            self.transport.event_loop().turn().await;
        }
        self.flow.drained().await
    }

    /// Closes the connection, after what was written.
    pub fn close(&self) {
        self.transport.close();
    }

    /// Waits until the connection is over.
    ///
    /// # Errors
    /// The error that ended it.
    pub async fn wait_closed(&self) -> io::Result<()> {
        poll_fn(|cx| self.flow.poll_lost(cx)).await
    }

    /// Whether an end can be sent while the connection goes on.
    #[must_use]
    pub fn can_write_eof(&self) -> bool {
        self.transport.can_write_eof()
    }

    /// Whether the connection is closing or over.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.transport.is_closing()
    }

    /// The peer's address.
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddress> {
        self.transport.peer_address()
    }

    /// This end's address.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddress> {
        self.transport.local_address()
    }

    /// What it writes to.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// How the reading half has failed, if it has.
    fn exception(&self) -> Option<io::Error> {
        self.inlet.as_ref()?.exception()
    }

    /// Completes when bytes will be taken.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.exception() {
            return Poll::Ready(Err(error));
        }
        if self.transport.is_closing() {
            return Poll::Ready(Err(connection_lost()));
        }
        self.flow.poll_drained(cx)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.transport
            .try_write(Output { bytes, keep: None })
            .map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))
    }
}

/// A write is taken whole, unless the buffer is too full to take any. What was taken leaves by
/// itself, so flushing waits for room and for nothing else; closing sends an end.
impl AsyncWrite for StreamWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?;
        Poll::Ready(self.send(bytes).map(|()| bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?;
        let mut count = 0;
        for piece in pieces {
            self.send(piece)?;
            count += piece.len();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.transport.write_eof())
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.transport.close();
    }
}

impl fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<StreamWriter transport={:?}>", self.transport)
    }
}
