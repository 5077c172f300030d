//! A TCP connection: two ends, two pipes, and what ends and resets do to them.
//!
//! # Facts
//!
//! The errors are Linux's, read from `net/ipv4/tcp.c`:
//!
//! * Bytes that were delivered before a reset stay receivable. Then the pending error is reported,
//!   once, to whichever call comes first; afterwards receiving gives 0 and sending `EPIPE`.
//! * A reset means `ECONNRESET`; after the peer's end it means `EPIPE`, and receiving goes on to
//!   give 0 (`SOCK_DONE`).
//! * Closing with bytes unreceived sends a reset at once. Otherwise closing sends an end, and
//!   whatever the peer sends from then on is answered by a reset: its first send succeeds.
//!
//! ```text
//! open ─ shutdown_write ─▶ write_ended            the sender's life; the peer's pipe ends
//! open ─ reset arrives, or close resets ─▶ gone   never leaves; nothing more is sent
//! ```
//!
//! Time is an argument and descriptors are unknown here; the tests need neither.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;

use super::end::{End, Role};
use super::errno;
use crate::sys::buffer::Buffer;
use crate::sys::clock::Time;

/// The bounds and the length of one connection's wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    /// Bytes that a sender may have on their way.
    pub(super) send_buffer: usize,
    /// Bytes that wait for a receiver.
    pub(super) receive_buffer: usize,
    /// How long every segment travels. It is one for all, so segments stay in order.
    pub(super) latency: Duration,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    wire: Wire,
    client: End,
    server: End,
}

impl Connection {
    pub(super) fn new(wire: Wire, client: SocketAddr, server: SocketAddr) -> Connection {
        Connection {
            wire,
            client: End::new(client),
            server: End::new(server),
        }
    }

    /// Sends at most `limit` bytes.
    pub(super) fn send(
        &mut self,
        role: Role,
        slices: &[IoSlice<'_>],
        limit: usize,
        now: Time,
    ) -> io::Result<usize> {
        let Wire {
            send_buffer,
            latency,
            ..
        } = self.wire;
        let (own, peer) = self.pair(role);
        own.take_error()?;
        if own.gone || own.write_ended {
            return Err(errno(libc::EPIPE));
        }
        if slices.iter().all(|slice| slice.is_empty()) {
            return Ok(0);
        }
        let room = send_buffer.saturating_sub(peer.incoming.unsent());
        if room == 0 {
            return Err(errno(libc::EAGAIN));
        }
        let count = peer.incoming.push(slices, room.min(limit), now + latency);
        self.settle(now);
        Ok(count)
    }

    /// Receives at most `limit` bytes.
    pub(super) fn receive(
        &mut self,
        role: Role,
        buffer: &mut Buffer<'_>,
        limit: usize,
        now: Time,
    ) -> io::Result<usize> {
        let (own, _) = self.pair(role);
        let count = own.incoming.receive(buffer, limit);
        if count > 0 {
            // The room lets bytes in that travelled.
            self.settle(now);
            return Ok(count);
        }
        if buffer.room() == 0 || own.incoming.ended() {
            return Ok(0);
        }
        own.take_error()?;
        if own.gone {
            Ok(0)
        } else {
            Err(errno(libc::EAGAIN))
        }
    }

    /// Sends an end.
    pub(super) fn shutdown_write(&mut self, role: Role, now: Time) -> io::Result<()> {
        let latency = self.wire.latency;
        let (own, peer) = self.pair(role);
        if own.gone {
            return Err(errno(libc::ENOTCONN));
        }
        if !own.write_ended {
            own.write_ended = true;
            peer.incoming.push_end(now + latency);
        }
        self.settle(now);
        Ok(())
    }

    /// Nobody holds this end any more.
    pub(super) fn close(&mut self, role: Role, now: Time) {
        let (own, _) = self.pair(role);
        own.open = false;
        if own.incoming.delivered() > 0 {
            self.abort(role, now);
        } else {
            // A connection that is gone needs no end.
            let _ = self.shutdown_write(role, now);
        }
    }

    /// Closes with a reset: a listener that is closed does it to its queue.
    pub(super) fn abort(&mut self, role: Role, now: Time) {
        let latency = self.wire.latency;
        let (own, peer) = self.pair(role);
        own.open = false;
        own.incoming.lose_delivered();
        if !own.gone {
            own.gone = true;
            peer.incoming.push_reset(now + latency);
        }
        self.settle(now);
    }

    /// A reset comes from the network itself, to both ends, now.
    pub(super) fn cut(&mut self, now: Time) {
        for end in [&mut self.client, &mut self.server] {
            end.incoming.stalled = false;
            end.incoming.push_reset(now);
        }
        self.settle(now);
    }

    /// Delivers everything whose time has come.
    pub(super) fn settle(&mut self, now: Time) {
        // An answer may arrive at once, and be answered.
        while Role::BOTH
            .map(|role| self.deliver(role, now))
            .contains(&true)
        {}
    }

    pub(super) fn end(&self, role: Role) -> &End {
        match role {
            Role::Client => &self.client,
            Role::Server => &self.server,
        }
    }

    pub(super) fn end_mut(&mut self, role: Role) -> &mut End {
        self.pair(role).0
    }

    /// Whether sending would not block.
    pub(super) fn is_writable(&self, role: Role) -> bool {
        let (own, peer) = (self.end(role), self.end(role.other()));
        own.error.is_some()
            || own.gone
            || own.write_ended
            || peer.incoming.unsent() < self.wire.send_buffer
    }

    /// Whether both ends are closed.
    pub(super) fn is_over(&self) -> bool {
        !self.client.open && !self.server.open
    }

    /// Bytes that were sent and not received.
    pub(super) fn bytes_in_flight(&self) -> usize {
        let pipes = [&self.client.incoming, &self.server.incoming];
        pipes
            .iter()
            .map(|pipe| pipe.unsent() + pipe.delivered())
            .sum()
    }

    /// When time alone changes something after `now`.
    pub(super) fn next_arrival(&self, now: Time) -> Option<Time> {
        let pipes = [&self.client.incoming, &self.server.incoming];
        pipes
            .iter()
            .filter_map(|pipe| pipe.next_arrival())
            .filter(|time| *time > now)
            .min()
    }

    /// An end and its peer.
    fn pair(&mut self, role: Role) -> (&mut End, &mut End) {
        match role {
            Role::Client => (&mut self.client, &mut self.server),
            Role::Server => (&mut self.server, &mut self.client),
        }
    }

    /// Delivers to one end. True when it has answered with a reset.
    fn deliver(&mut self, role: Role, now: Time) -> bool {
        let Wire {
            receive_buffer,
            latency,
            ..
        } = self.wire;
        let (own, peer) = self.pair(role);
        if own.gone {
            own.incoming.lose_travelling();
            return false;
        }
        let capacity = if own.open { receive_buffer } else { usize::MAX };
        let delivery = own.incoming.deliver(now, capacity);
        if delivery.reset {
            own.gone = true;
            own.error = Some(if own.incoming.ended() {
                libc::EPIPE
            } else {
                libc::ECONNRESET
            });
            peer.incoming.lose_travelling();
            return false;
        }
        let unwanted = delivery.bytes > 0 && !own.open;
        if unwanted {
            own.gone = true;
            own.incoming.lose_delivered();
            peer.incoming.push_reset(now + latency);
        }
        unwanted
    }
}
