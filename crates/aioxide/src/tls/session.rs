//! What a TLS library has to do: turn bytes into other bytes. It sees no socket, no clock and no
//! protocol.

use std::any::Any;
use std::io;

use crate::event_loop::host::Host;
use crate::sys::buffer::{self, Buffer};

/// One connection's TLS, sans I/O: ciphertext comes from a [`Wire`] and goes to it.
///
/// Everything about timing, flow control and the ends is the layer's business ([`super::Tls`]),
/// which calls these methods in the order `handshake* (read | write)* close`. Each of them may leave
/// something to send in [`Wire::outgoing`], a failed one too: the alert that tells the peer why.
///
/// A session may run code of the program (a callback that chooses a certificate); whatever that
/// does to the connection meanwhile waits until the session has returned.
pub trait TlsSession<H: Host>: 'static {
    /// Goes on with the handshake, as far as what was received goes.
    ///
    /// # Errors
    /// Why there will be no connection; likewise below.
    fn handshake(&mut self, wire: &mut Wire) -> Result<Progress, H::Error>;

    /// Decrypts what was received, as far as it goes and as there is room for it. It looks at
    /// everything that was received, unless there is no room for more plaintext; the beginning of a
    /// record it may leave where it is.
    ///
    /// # Errors
    /// Why the connection has failed. What was decrypted before is in the buffer.
    fn read(&mut self, wire: &mut Wire, plaintext: &mut Buffer<'_>) -> Result<Reading, H::Error>;

    /// Encrypts; how many bytes of `plaintext` it took. Fewer than all when it must receive
    /// something first.
    ///
    /// # Errors
    /// Why the connection has failed.
    fn write(&mut self, wire: &mut Wire, plaintext: &[u8]) -> Result<usize, H::Error>;

    /// Writes our end, once: `close_notify`.
    ///
    /// # Errors
    /// Why the connection has failed.
    fn close(&mut self, wire: &mut Wire) -> Result<(), H::Error>;

    /// Bytes of plaintext that [`read`](TlsSession::read) would give without more ciphertext than
    /// it has taken, as far as the session knows.
    fn pending(&self) -> usize;

    /// What to say of a peer whose end came without `close_notify`: what it had to say may have
    /// been cut off, and was for certain within a record ([`Incoming::is_within_record`]). `None`
    /// when the program does not want to know.
    fn truncated(&mut self, wire: &Wire) -> Option<H::Error>;

    /// The session itself, for whoever knows its type: what was negotiated.
    fn as_any(&self) -> &dyn Any;
}

/// How far a handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More has to be received.
    Blocked,
    /// It is over.
    Done,
}

/// How a read has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// More has to be received.
    Blocked,
    /// There is no room; there may be more.
    Full,
    /// The peer's end: its `close_notify`.
    End,
}

/// Where the ciphertext of a connection is, on its way in and out.
#[derive(Debug, Default)]
pub struct Wire {
    /// What was received.
    pub incoming: Incoming,
    /// What is to be sent: sessions append to it.
    pub outgoing: Vec<u8>,
}

/// Ciphertext that was received and not taken yet.
#[derive(Debug, Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    /// How many of them were taken.
    taken: usize,
    records: Records,
}

impl Incoming {
    /// What was not taken yet.
    #[inline]
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// [`unread`](Incoming::unread), for a session that decrypts in place.
    #[inline]
    #[must_use]
    pub fn unread_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.taken..).unwrap_or_default()
    }

    /// Takes `count` bytes off the front.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        self.taken = (self.taken + count).min(self.bytes.len());
    }

    /// Whether everything was taken.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }

    /// Bytes that were not taken yet.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Adds bytes that came another way than through the layer.
    pub fn append(&mut self, bytes: &[u8]) {
        self.records.follow(bytes);
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops what was not taken: nobody will.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.taken = 0;
    }

    /// Whether a TLS record has begun that was not received to its end.
    #[must_use]
    pub fn is_within_record(&self) -> bool {
        self.records.is_within()
    }

    /// Lets `receive` add up to `limit` bytes, in `memory`: what was left is moved there.
    pub(super) fn receive<R>(
        &mut self,
        memory: impl FnOnce() -> Vec<u8>,
        limit: usize,
        receive: impl FnOnce(&mut Buffer<'_>) -> R,
    ) -> R {
        if self.bytes.capacity() - self.bytes.len() < limit {
            let mut memory = memory();
            memory.clear();
            memory.extend_from_slice(self.unread());
            self.bytes = memory;
            self.taken = 0;
        }
        self.bytes.reserve(limit);
        let before = self.bytes.len();
        let received = buffer::fill(&mut self.bytes, limit, receive);
        self.records
            .follow(self.bytes.get(before..).unwrap_or_default());
        received
    }

    /// Gives up the memory: all of it if everything was taken, else what is too much.
    pub(super) fn give_up_memory(&mut self) -> Option<Vec<u8>> {
        let left = self.unread().to_vec();
        self.taken = 0;
        let memory = std::mem::replace(&mut self.bytes, left);
        (memory.capacity() > 0).then_some(memory)
    }
}

impl io::Read for Incoming {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.unread();
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.advance(count);
        Ok(count)
    }
}

/// Follows the boundaries of TLS records: five bytes of header, of which the last two say how many
/// follow (RFC 8446, 5.1).
#[derive(Debug, Default)]
struct Records {
    /// How much of the next header has come, and its length as far as it is known.
    header: usize,
    length: usize,
    /// How much of the record is still to come.
    left: usize,
}

impl Records {
    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = self.left.min(bytes.len());
                self.left -= count;
                bytes = &bytes[count..];
                continue;
            }
            if self.header == 0
                && let [_, _, _, high, low, ..] = bytes
            {
                self.left = usize::from(u16::from_be_bytes([*high, *low]));
                bytes = &bytes[5..];
                continue;
            }
            if self.header >= 3 {
                self.length = self.length << 8 | usize::from(bytes[0]);
            }
            self.header += 1;
            bytes = &bytes[1..];
            if self.header == 5 {
                self.left = self.length;
                (self.header, self.length) = (0, 0);
            }
        }
    }

    fn is_within(&self) -> bool {
        self.left > 0 || self.header > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn boundaries_of_records_are_found_however_they_come() {
        let record = |length: u16| {
            let mut record = vec![23, 3, 3];
            record.extend(length.to_be_bytes());
            record.resize(5 + usize::from(length), 0);
            record
        };
        let stream: Vec<u8> = [300, 0, 1, 16_384].into_iter().flat_map(record).collect();
        let boundaries = [0, 305, 310, 316, 316 + 5 + 16_384];
        for size in [1, 2, 4, 5, 6, 7, 100, 1000] {
            let mut records = Records::default();
            let mut come = 0;
            for piece in stream.chunks(size) {
                records.follow(piece);
                come += piece.len();
                assert_eq!(
                    records.is_within(),
                    !boundaries.contains(&come),
                    "{size} {come}"
                );
            }
        }
    }

    #[test]
    fn what_is_left_survives_its_memory() {
        let mut incoming = Incoming::default();
        incoming.receive(
            || Vec::with_capacity(100),
            10,
            |buffer| buffer.append(b"0123456789abc"),
        );
        assert_eq!(incoming.unread(), b"0123456789");
        let mut two = [0; 2];
        assert_eq!(incoming.read(&mut two).ok(), Some(2));
        assert_eq!(
            incoming.give_up_memory().map(|memory| memory.capacity()),
            Some(100)
        );
        assert_eq!((incoming.unread(), incoming.len()), (&b"23456789"[..], 8));
        incoming.advance(8);
        assert!(incoming.is_empty());
        incoming.append(b"x");
        assert_eq!(incoming.unread(), b"x");
    }
}
