//! What a reader has received and its program has not read yet. Pure: no socket, no clock, no task.
//!
//! Every way to read is a question to the buffer: the bytes, or `None` when more must come first.
//! A question that is not answered changes nothing, so a read that is cancelled loses nothing.

use super::error::ReadError;

/// Bytes in order, and whether the end has come behind them.
#[derive(Debug)]
pub struct ReadBuffer {
    /// Invariant: `start <= bytes.len()`, and both are 0 when nothing is unread.
    bytes: Vec<u8>,
    /// How many bytes at the front were read.
    start: usize,
    eof: bool,
    /// The most bytes before a separator.
    limit: usize,
}

impl ReadBuffer {
    /// An empty buffer, which finds separators within `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> ReadBuffer {
        ReadBuffer {
            bytes: Vec::new(),
            start: 0,
            eof: false,
            limit,
        }
    }

    /// Appends `bytes`, and leaves memory for the next ones in their place. An empty buffer
    /// swaps: what is read as it came is never copied.
    pub fn feed(&mut self, bytes: &mut Vec<u8>) {
        if self.is_empty() {
            std::mem::swap(&mut self.bytes, bytes);
        } else {
            // At least as much is freed as is moved, so each byte is moved at most once.
            if self.start > self.bytes.len() / 2 {
                self.bytes.drain(..self.start);
                self.start = 0;
            }
            self.bytes.extend_from_slice(bytes);
        }
        bytes.clear();
    }

    /// Nothing comes any more.
    pub fn feed_eof(&mut self) {
        self.eof = true;
    }

    /// Up to `count` bytes; none of them at the end.
    pub fn read(&mut self, count: usize) -> Option<Vec<u8>> {
        let count = count.min(self.len());
        (count > 0 || self.eof).then(|| self.take(count))
    }

    /// Everything, when the end has come.
    pub fn read_to_end(&mut self) -> Option<Vec<u8>> {
        self.eof.then(|| self.take(self.len()))
    }

    /// Exactly `count` bytes.
    ///
    /// # Errors
    /// [`ReadError::IncompleteRead`] with what was there when the end came.
    pub fn read_exactly(&mut self, count: usize) -> Option<Result<Vec<u8>, ReadError>> {
        if self.len() >= count {
            return Some(Ok(self.take(count)));
        }
        self.eof.then(|| Err(self.incomplete(Some(count))))
    }

    /// Everything up to a separator, which is part of it.
    ///
    /// # Errors
    /// [`ReadError::LimitOverrun`]: too much before a separator; the bytes stay.
    /// [`ReadError::IncompleteRead`] with what was there when the end came.
    pub fn read_until(&mut self, search: &mut Search<'_>) -> Option<Result<Vec<u8>, ReadError>> {
        match search.find(self.unread(), self.limit) {
            Found::Within(length) => Some(Ok(self.take(length))),
            Found::TooFar(consumed) => Some(Err(ReadError::LimitOverrun { consumed })),
            Found::Nothing => self.eof.then(|| Err(self.incomplete(None))),
        }
    }

    /// A line with its `\n`; without one, perhaps empty, at the end.
    ///
    /// # Errors
    /// [`ReadError::LimitOverrun`] for a line that is too long. It is dropped, or as much of it as
    /// has come: the next line starts where it ends, or in the middle of it.
    pub fn read_line(&mut self, search: &mut Search<'_>) -> Option<Result<Vec<u8>, ReadError>> {
        let line = self.read_until(search)?;
        Some(match line {
            Err(ReadError::IncompleteRead { partial, .. }) => Ok(partial),
            Err(ReadError::LimitOverrun { consumed }) => {
                let ends_there = self.unread().get(consumed) == Some(&b'\n');
                self.consume(if ends_there { consumed + 1 } else { usize::MAX });
                Err(ReadError::LimitOverrun { consumed })
            }
            line => line,
        })
    }

    /// Drops up to `count` bytes from the front.
    pub fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.bytes.len());
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// What was not read yet.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// How many bytes were not read yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the end has come, though bytes may stand before it.
    #[must_use]
    pub fn is_eof(&self) -> bool {
        self.eof
    }

    /// Takes `count` bytes, which are there.
    fn take(&mut self, count: usize) -> Vec<u8> {
        if self.start == 0 && count == self.bytes.len() {
            return std::mem::take(&mut self.bytes);
        }
        let taken = self.unread().get(..count).unwrap_or_default().to_vec();
        self.consume(count);
        taken
    }

    fn incomplete(&mut self, expected: Option<usize>) -> ReadError {
        let partial = self.take(self.len());
        ReadError::IncompleteRead { partial, expected }
    }
}

/// A search for separators, which remembers how far it has looked.
#[derive(Debug)]
pub struct Search<'s> {
    separators: &'s [&'s [u8]],
    shortest: usize,
    longest: usize,
    /// No separator begins before this offset.
    offset: usize,
}

enum Found {
    /// A separator ends after this many bytes.
    Within(usize),
    /// This many bytes stand before the separator, or before where it can begin: more than the limit.
    TooFar(usize),
    Nothing,
}

impl<'s> Search<'s> {
    /// A search for any of `separators`; `None` when there are none, or one is empty.
    #[must_use]
    pub fn new(separators: &'s [&'s [u8]]) -> Option<Search<'s>> {
        let lengths = separators.iter().map(|separator| separator.len());
        let shortest = lengths.clone().min().filter(|length| *length > 0)?;
        Some(Search {
            separators,
            shortest,
            longest: lengths.max().unwrap_or(shortest),
            offset: 0,
        })
    }

    /// Finds what ends first; of two that end together, the shorter.
    fn find(&mut self, bytes: &[u8], limit: usize) -> Found {
        let unseen = bytes.get(self.offset..).unwrap_or_default();
        if unseen.len() < self.shortest {
            return Found::Nothing;
        }
        let ends = self.separators.iter().filter_map(|separator| {
            let start = self.offset + memchr::memmem::find(unseen, separator)?;
            Some((start + separator.len(), separator.len()))
        });
        if let Some((end, length)) = ends.min() {
            let before = end - length;
            return if before > limit {
                Found::TooFar(before)
            } else {
                Found::Within(end)
            };
        }
        // The beginning of a separator may stand at the end.
        self.offset = (bytes.len() + 1).saturating_sub(self.longest);
        if self.offset > limit {
            Found::TooFar(self.offset)
        } else {
            Found::Nothing
        }
    }
}

#[cfg(test)]
#[path = "buffer_tests.rs"]
mod tests;
