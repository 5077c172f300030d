//! The clocks of a measurement, read together.

use std::io;
use std::time::{Duration, Instant};

use aioxide_bench::ProcessClock;

/// Readings of three clocks, or the time that passed on each between two readings.
#[derive(Clone, Copy)]
pub struct Clocks {
    /// Time since the start of the measurement.
    pub wall: Duration,
    /// CPU time that the server process has used.
    pub server: Duration,
    /// CPU time that this process has used.
    pub client: Duration,
}

impl Clocks {
    /// Reads all clocks.
    pub fn read(start: Instant, server: ProcessClock) -> io::Result<Self> {
        Ok(Self {
            wall: start.elapsed(),
            server: server.read()?,
            client: ProcessClock::own()?.read()?,
        })
    }

    /// What passed between an earlier reading and this one.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            wall: self.wall.saturating_sub(earlier.wall),
            server: self.server.saturating_sub(earlier.server),
            client: self.client.saturating_sub(earlier.client),
        }
    }
}
