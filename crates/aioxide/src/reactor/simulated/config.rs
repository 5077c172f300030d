//! What a simulated network is like.

use std::time::Duration;

/// Bytes that a sender may have on their way, by default. Small beside the kernel's (2.5 MiB on
/// loopback), so that ordinary tests meet short sends and `WouldBlock`.
pub const SEND_BUFFER: usize = 16 * 1024;

/// Bytes that wait for a receiver, by default: below the 256 KiB that the layers above take in one
/// receive, so that tests meet messages in several parts.
pub const RECEIVE_BUFFER: usize = 16 * 1024;

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
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    pub(super) descriptors: usize,
    pub(super) partial_waits: bool,
}

impl Config {
    /// The default network: no latency, [`SEND_BUFFER`], [`RECEIVE_BUFFER`], [`DESCRIPTORS`], all
    /// events in every wait. The seed decides their order.
    #[must_use]
    pub fn new(seed: u64) -> Config {
        Config {
            seed,
            send_buffer: SEND_BUFFER,
            receive_buffer: RECEIVE_BUFFER,
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            descriptors: DESCRIPTORS,
            partial_waits: false,
        }
    }

    /// How many bytes a sender may have on their way; at least 1.
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

    /// How long a segment travels; a connect takes two of them. In virtual time.
    #[must_use]
    pub fn latency(self, latency: Duration) -> Config {
        Config { latency, ..self }
    }

    /// How much longer some connections are than others: each has its own length, up to this much
    /// above the latency. Connections overtake each other; segments of one never do.
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
