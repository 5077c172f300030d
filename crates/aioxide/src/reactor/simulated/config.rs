//! What a simulated network is like.

use std::time::Duration;

use super::fifo::PIPE_BUF;

/// Bytes that a sender may have on their way, by default. Small beside the kernel's (2.5 MiB on
/// loopback), so that ordinary tests meet short sends and `WouldBlock`.
pub const SEND_BUFFER: usize = 16 * 1024;

/// Bytes that wait for a receiver, by default: below the 256 KiB that the layers above take in one
/// receive, so that tests meet messages in several parts.
pub const RECEIVE_BUFFER: usize = 16 * 1024;

/// Datagrams that wait for a receiver, by default: more than one call takes (16), fewer than a
/// kernel has room for, so that a test can fill it.
pub const DATAGRAM_QUEUE: usize = 64;

/// Bytes that a pipe holds, by default: two pages. A kernel's holds sixteen.
pub const PIPE_CAPACITY: usize = 2 * PIPE_BUF;

/// Open descriptors, by default: Linux's usual soft limit (`RLIMIT_NOFILE`).
pub const DESCRIPTORS: usize = 1024;

/// What a simulated network is like. It does not change during its life; what goes wrong does, by
/// [`SimulatedNetwork`](super::SimulatedNetwork).
#[derive(Clone, Debug)]
pub struct Config {
    pub(super) seed: u64,
    /// Never 0: nothing would ever pass.
    pub(super) send_buffer: usize,
    /// Never 0.
    pub(super) receive_buffer: usize,
    /// Never 0.
    pub(super) datagram_queue: usize,
    /// At least [`PIPE_BUF`].
    pub(super) pipe_capacity: usize,
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    pub(super) descriptors: usize,
    pub(super) partial_waits: bool,
}

impl Config {
    /// The default network: no latency, [`SEND_BUFFER`], [`RECEIVE_BUFFER`], [`DATAGRAM_QUEUE`],
    /// [`PIPE_CAPACITY`], [`DESCRIPTORS`], all events in every wait. The seed decides their order.
    #[must_use]
    pub fn new(seed: u64) -> Config {
        Config {
            seed,
            send_buffer: SEND_BUFFER,
            receive_buffer: RECEIVE_BUFFER,
            datagram_queue: DATAGRAM_QUEUE,
            pipe_capacity: PIPE_CAPACITY,
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            descriptors: DESCRIPTORS,
            partial_waits: false,
        }
    }

    /// How many bytes a sender may have on their way; at least 1. A datagram leaves whole as long
    /// as fewer are.
    #[must_use]
    pub fn send_buffer(self, bytes: usize) -> Config {
        Config {
            send_buffer: bytes.max(1),
            ..self
        }
    }

    /// How many bytes wait for a receiver; at least 1. The rest stays on its way.
    #[must_use]
    pub fn receive_buffer(self, bytes: usize) -> Config {
        Config {
            receive_buffer: bytes.max(1),
            ..self
        }
    }

    /// How many datagrams wait for a receiver; at least 1. With UDP those that find no room are
    /// lost; a Unix socket's sender meets `WouldBlock`.
    #[must_use]
    pub fn datagram_queue(self, count: usize) -> Config {
        Config {
            datagram_queue: count.max(1),
            ..self
        }
    }

    /// How many bytes a pipe holds; at least 4096, which are written whole or not at all.
    #[must_use]
    pub fn pipe_capacity(self, bytes: usize) -> Config {
        Config {
            pipe_capacity: bytes.max(PIPE_BUF),
            ..self
        }
    }

    /// How long a segment or a UDP datagram travels; a connect takes two of them. In virtual time.
    #[must_use]
    pub fn latency(self, latency: Duration) -> Config {
        Config { latency, ..self }
    }

    /// How much longer some connections are than others: each has its own length, up to this much
    /// above the latency, and so has each socket of UDP. They overtake each other; segments of one
    /// connection, and datagrams of one socket, never do.
    #[must_use]
    pub fn jitter(self, jitter: Duration) -> Config {
        Config { jitter, ..self }
    }

    /// How many descriptors may be open before `EMFILE`.
    #[must_use]
    pub fn descriptors(self, count: usize) -> Config {
        Config {
            descriptors: count,
            ..self
        }
    }

    /// Whether a wait may keep some events for the next one, by chance, as a kernel does that has
    /// seen only some of the packets. There is always one, and none is kept for ever.
    #[must_use]
    pub fn partial_waits(self, yes: bool) -> Config {
        Config {
            partial_waits: yes,
            ..self
        }
    }
}
