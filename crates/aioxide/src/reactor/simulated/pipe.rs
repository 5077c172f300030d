//! One direction of a connection: what is on its way, and what has arrived.
//!
//! ```text
//! send ─▶ travelling (bounded by the sender) ─ time, room ─▶ delivered (bounded by the receiver) ─▶ receive
//! ```
//!
//! Nothing here knows what an end or a reset means for a connection: that is
//! [`connection`](super::connection)'s.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::sys::buffer::Buffer;
use crate::sys::clock::Time;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// Sent and not delivered, oldest first. Invariant: arrival times never decrease.
    travelling: VecDeque<Segment>,
    /// The bytes in `travelling`: the sender's buffer is this full.
    unsent: usize,
    /// Delivered and not received. Written by [`deliver`](Pipe::deliver) alone.
    delivered: VecDeque<u8>,
    /// The sender's end has arrived; only a reset can follow it.
    ended: bool,
    /// A test holds everything back that travels, whatever its time.
    pub(super) stalled: bool,
}

/// What is sent by one call.
#[derive(Debug)]
struct Segment {
    arrives: Time,
    payload: Payload,
}

#[derive(Debug)]
enum Payload {
    /// Never empty.
    Bytes(VecDeque<u8>),
    End,
    Reset,
}

/// What one call of [`Pipe::deliver`] has brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) bytes: usize,
    pub(super) reset: bool,
}

impl Pipe {
    /// Takes at most `room` bytes of `slices`, in order, and says how many.
    pub(super) fn push(&mut self, slices: &[IoSlice<'_>], room: usize, arrives: Time) -> usize {
        let mut bytes = VecDeque::new();
        for slice in slices {
            let fits = slice.len().min(room - bytes.len());
            bytes.extend(&slice[..fits]);
        }
        let count = bytes.len();
        if count > 0 {
            self.unsent += count;
            self.travelling.push_back(Segment {
                arrives,
                payload: Payload::Bytes(bytes),
            });
        }
        count
    }

    /// The sender sends no more.
    pub(super) fn push_end(&mut self, arrives: Time) {
        self.travelling.push_back(Segment {
            arrives,
            payload: Payload::End,
        });
    }

    /// The sender has forgotten the connection. What it had not delivered is lost, as the unsent
    /// bytes of a kernel are.
    pub(super) fn push_reset(&mut self, arrives: Time) {
        self.lose_travelling();
        self.travelling.push_back(Segment {
            arrives,
            payload: Payload::Reset,
        });
    }

    /// Loses what is on its way, but for a reset, which its sender will not repeat.
    pub(super) fn lose_travelling(&mut self) {
        self.travelling
            .retain(|segment| matches!(segment.payload, Payload::Reset));
        self.unsent = 0;
    }

    /// Delivers everything whose time has come, as far as `capacity` allows.
    pub(super) fn deliver(&mut self, now: Time, capacity: usize) -> Delivery {
        let mut delivery = Delivery::default();
        while !self.stalled
            && let Some(segment) = self.travelling.front_mut()
            && segment.arrives <= now
        {
            match &mut segment.payload {
                Payload::Bytes(bytes) => {
                    let fits = bytes
                        .len()
                        .min(capacity.saturating_sub(self.delivered.len()));
                    self.delivered.extend(bytes.drain(..fits));
                    self.unsent -= fits;
                    delivery.bytes += fits;
                    if !bytes.is_empty() {
                        break;
                    }
                }
                Payload::End => self.ended = true,
                Payload::Reset => delivery.reset = true,
            }
            self.travelling.pop_front();
        }
        delivery
    }

    /// Moves at most `limit` delivered bytes to `buffer`.
    pub(super) fn receive(&mut self, buffer: &mut Buffer<'_>, limit: usize) -> usize {
        let mut left = limit;
        let (front, back) = self.delivered.as_slices();
        for bytes in [front, back] {
            left -= buffer.append(&bytes[..bytes.len().min(left)]);
        }
        self.delivered.drain(..limit - left);
        limit - left
    }

    /// Loses what was delivered and not received.
    pub(super) fn lose_delivered(&mut self) {
        self.delivered.clear();
    }

    /// Bytes that fill the sender's buffer.
    pub(super) fn unsent(&self) -> usize {
        self.unsent
    }

    /// Bytes that fill the receiver's buffer.
    pub(super) fn delivered(&self) -> usize {
        self.delivered.len()
    }

    /// Whether the sender's end has arrived.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// When time alone changes something next; it may be past where only room is missing.
    pub(super) fn next_arrival(&self) -> Option<Time> {
        self.travelling
            .front()
            .filter(|_| !self.stalled)
            .map(|segment| segment.arrives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_nanos(10);

    fn send(pipe: &mut Pipe, bytes: &[u8], room: usize) -> usize {
        pipe.push(&[IoSlice::new(bytes)], room, NOW)
    }

    fn receive(pipe: &mut Pipe, limit: usize) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        let count = pipe.receive(&mut Buffer::from(&mut bytes[..]), limit);
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn bytes_arrive_in_order_and_in_time() {
        let mut pipe = Pipe::default();
        assert_eq!(
            pipe.push(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")], 3, NOW),
            3
        );
        assert_eq!(pipe.deliver(Time::from_nanos(9), 8), Delivery::default());
        assert_eq!(pipe.next_arrival(), Some(NOW));
        assert_eq!(pipe.deliver(NOW, 8).bytes, 3);
        assert_eq!(receive(&mut pipe, 2), b"ab");
        assert_eq!(receive(&mut pipe, 2), b"c");
        assert_eq!(pipe.next_arrival(), None);
    }

    #[test]
    fn a_full_receiver_holds_the_rest_and_the_end_back() {
        let mut pipe = Pipe::default();
        send(&mut pipe, b"abcd", 8);
        pipe.push_end(NOW);
        assert_eq!(pipe.deliver(NOW, 3).bytes, 3);
        assert_eq!(
            (pipe.unsent(), pipe.delivered(), pipe.ended()),
            (1, 3, false)
        );
        assert_eq!(receive(&mut pipe, 8), b"abc");
        assert_eq!(pipe.deliver(NOW, 3).bytes, 1);
        assert!(pipe.ended());
    }

    #[test]
    fn a_reset_overtakes_what_travels_but_not_what_has_arrived() {
        let mut pipe = Pipe::default();
        send(&mut pipe, b"abcd", 8);
        pipe.deliver(NOW, 2);
        pipe.push_reset(NOW);
        assert_eq!(
            pipe.deliver(NOW, 8),
            Delivery {
                bytes: 0,
                reset: true
            }
        );
        assert_eq!(receive(&mut pipe, 8), b"ab");
    }

    #[test]
    fn nothing_passes_a_stalled_pipe() {
        let mut pipe = Pipe {
            stalled: true,
            ..Pipe::default()
        };
        send(&mut pipe, b"a", 8);
        assert_eq!(pipe.deliver(NOW, 8), Delivery::default());
        assert_eq!(pipe.next_arrival(), None);
        pipe.stalled = false;
        assert_eq!(pipe.deliver(NOW, 8).bytes, 1);
    }
}
