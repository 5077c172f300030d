//! The reading half of a stream.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncBufRead, AsyncRead};

use super::DEFAULT_LIMIT;
use super::buffer::{ReadBuffer, Search};
use super::error::ReadError;
use super::inlet::Inlet;

/// Reads what a connection receives.
///
/// Every read takes `&mut self`, so two never wait at once; and a read that is dropped before it
/// is done has taken nothing. Once the connection has failed, every read gives its error.
pub struct StreamReader {
    /// What was looked at and not read.
    buffer: ReadBuffer,
    inlet: Rc<Inlet>,
}

impl StreamReader {
    /// A reader that belongs to no connection yet: feed it by hand, or with a
    /// [`StreamReaderProtocol`](super::StreamReaderProtocol). Separators are found within `limit`
    /// bytes (at least 1); the transport is paused when twice as many are unread, and resumed
    /// when not more than `limit` are.
    #[must_use]
    pub fn new(limit: usize) -> StreamReader {
        let limit = limit.max(1);
        StreamReader {
            buffer: ReadBuffer::new(limit),
            inlet: Rc::new(Inlet::new(limit)),
        }
    }

    /// Up to `count` bytes, as soon as there are any; none at the end, or when `count` is 0.
    ///
    /// # Errors
    /// How the connection has failed.
    pub async fn read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        self.ask(|buffer| match count {
            0 => Some(Vec::new()),
            count => buffer.read(count),
        })
        .await
    }

    /// Everything until the end. The limit does not apply.
    ///
    /// # Errors
    /// How the connection has failed: then nothing is given of what came before. Over TLS, `UnexpectedEof` when the
    /// peer has ended its stream without `close_notify`: it may have been cut off. Who wants what came of such a
    /// one reads it as it comes, with [`read`](StreamReader::read).
    pub async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        self.ask(ReadBuffer::read_to_end).await
    }

    /// A line with its `\n`. At the end it may lack it, and is empty when there is none.
    ///
    /// # Errors
    /// [`ReadError::LimitOverrun`] when the line is longer than the limit: it is dropped, or as
    /// much of it as has come. How the connection has failed.
    pub async fn readline(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut search = Search::new(&[b"\n"]).ok_or_else(no_separator)?;
        self.ask(|buffer| buffer.read_line(&mut search)).await?
    }

    /// Exactly `count` bytes. The limit does not apply.
    ///
    /// # Errors
    /// [`ReadError::IncompleteRead`] when the end comes first; how the connection has failed.
    pub async fn readexactly(&mut self, count: usize) -> Result<Vec<u8>, ReadError> {
        self.ask(|buffer| buffer.read_exactly(count)).await?
    }

    /// Everything up to `separator`, which is part of it.
    ///
    /// # Errors
    /// [`ReadError::LimitOverrun`] when more than the limit stands before it: the bytes stay, and
    /// can be read in another way. [`ReadError::IncompleteRead`] when the end comes first. How
    /// the connection has failed. `InvalidInput` when the separator is empty.
    pub async fn readuntil(&mut self, separator: &[u8]) -> Result<Vec<u8>, ReadError> {
        self.readuntil_any(&[separator]).await
    }

    /// Everything up to whichever of `separators` ends first: the shortest piece that ends with one.
    ///
    /// # Errors
    /// As [`readuntil`](StreamReader::readuntil); `InvalidInput` when there are no separators too.
    pub async fn readuntil_any(&mut self, separators: &[&[u8]]) -> Result<Vec<u8>, ReadError> {
        let mut search = Search::new(separators).ok_or_else(no_separator)?;
        self.ask(|buffer| buffer.read_until(&mut search)).await?
    }

    /// The lines that come: asyncio's `async for line in reader`.
    ///
    /// ```
    /// # async fn count(reader: &mut aioxide::StreamReader) -> Result<usize, aioxide::ReadError> {
    /// let mut count = 0;
    /// let mut lines = reader.lines();
    /// while let Some(_line) = lines.next().await? {
    ///     count += 1;
    /// }
    /// # Ok(count)
    /// # }
    /// ```
    pub fn lines(&mut self) -> Lines<'_> {
        Lines { reader: self }
    }

    /// Appends bytes, as if they had been received. They are dropped after the end.
    pub fn feed_data(&self, bytes: &[u8]) {
        self.inlet.feed_data(bytes);
    }

    /// Says that nothing comes any more.
    pub fn feed_eof(&self) {
        self.inlet.feed_eof();
    }

    /// Says that the connection has failed: every read gives this error from now on.
    pub fn set_exception(&self, error: io::Error) {
        self.inlet.set_exception(error);
    }

    /// Whether the end has come and everything before it was read.
    #[must_use]
    pub fn at_eof(&self) -> bool {
        self.buffer.is_empty() && self.inlet.at_eof()
    }

    /// How the connection has failed, if it has.
    #[must_use]
    pub fn exception(&self) -> Option<io::Error> {
        self.inlet.exception()
    }

    /// Takes everything that has come and was not read.
    #[cfg(feature = "rustls")]
    pub(super) fn take_unread(&mut self) -> Vec<u8> {
        self.inlet.pull(&mut self.buffer);
        let unread = self.buffer.unread().to_vec();
        self.buffer.consume(unread.len());
        self.inlet.read(0);
        unread
    }

    pub(super) fn inlet(&self) -> &Rc<Inlet> {
        &self.inlet
    }

    /// Asks the buffer until it answers.
    async fn ask<T>(
        &mut self,
        mut question: impl FnMut(&mut ReadBuffer) -> Option<T>,
    ) -> io::Result<T> {
        poll_fn(|cx| self.poll_ask(cx, &mut question)).await
    }

    fn poll_ask<T>(
        &mut self,
        cx: &mut Context<'_>,
        question: impl FnOnce(&mut ReadBuffer) -> Option<T>,
    ) -> Poll<io::Result<T>> {
        if let Some(error) = self.inlet.exception() {
            return Poll::Ready(Err(error));
        }
        self.inlet.pull(&mut self.buffer);
        match question(&mut self.buffer) {
            Some(answer) => {
                self.inlet.read(self.buffer.len());
                Poll::Ready(Ok(answer))
            }
            None => {
                self.inlet.wait(cx.waker());
                Poll::Pending
            }
        }
    }
}

fn no_separator() -> ReadError {
    let message = "a separator must be at least one byte, and there must be one";
    ReadError::Io(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// See [`StreamReader::lines`].
#[derive(Debug)]
pub struct Lines<'r> {
    reader: &'r mut StreamReader,
}

impl Lines<'_> {
    /// The next line with its `\n`; `None` at the end.
    ///
    /// # Errors
    /// As [`StreamReader::readline`].
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        let line = self.reader.readline().await?;
        Ok((!line.is_empty()).then_some(line))
    }
}

impl AsyncBufRead for StreamReader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        let there = |buffer: &mut ReadBuffer| (!buffer.is_empty() || buffer.is_eof()).then_some(());
        ready!(this.poll_ask(cx, there))?;
        Poll::Ready(Ok(this.buffer.unread()))
    }

    fn consume(self: Pin<&mut Self>, count: usize) {
        let this = self.get_mut();
        this.buffer.consume(count);
        this.inlet.read(this.buffer.len());
    }
}

impl AsyncRead for StreamReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        memory: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = ready!(self.as_mut().poll_fill_buf(cx))?;
        let count = bytes.len().min(memory.len());
        for (to, from) in memory.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.consume(count);
        Poll::Ready(Ok(count))
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.inlet.abandon();
    }
}

impl Default for StreamReader {
    fn default() -> Self {
        StreamReader::new(DEFAULT_LIMIT)
    }
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<StreamReader")?;
        if self.at_eof() {
            f.write_str(" eof")?;
        }
        if let Some(error) = self.exception() {
            write!(f, " exception={error}")?;
        }
        if let Some(transport) = self.inlet.transport() {
            write!(f, " transport={transport:?}")?;
        }
        f.write_str(">")
    }
}
