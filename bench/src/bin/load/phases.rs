//! The three phases of a measurement, and the clocks at the two ends of its window.
//!
//! ```text
//! warm-up ──(its time)──▶ window ──(its time)──▶ finish
//! ```
//!
//! Requests are begun in the first two phases and counted when they are completed in the second.
//! The few that are under way when the window opens or closes count whole or not at all; with 16
//! connections and tens of thousands of requests that is far below the noise.

use std::io;
use std::time::{Duration, Instant};

use aioxide_bench::ProcessClock;
use rustix::event::Timespec;

use crate::clocks::Clocks;
use crate::failure::STALL;

/// Lengths of the phases, and the process that is measured.
#[derive(Clone, Copy)]
pub struct Timing {
    pub server_pid: i32,
    pub warm_up: Duration,
    pub window: Duration,
}

/// Where a measurement stands.
pub struct Phases {
    start: Instant,
    server: ProcessClock,
    window: Duration,
    phase: Phase,
}

#[derive(Clone, Copy)]
enum Phase {
    WarmUp {
        until: Instant,
    },
    Window {
        until: Instant,
        from: Clocks,
    },
    /// New requests are no longer begun. `between` is what the clocks showed over the window.
    Finish {
        between: Clocks,
    },
}

impl Phases {
    /// The warm-up begins.
    pub fn begin(timing: Timing, start: Instant) -> io::Result<Self> {
        Ok(Self {
            start,
            server: ProcessClock::of(timing.server_pid)?,
            window: timing.window,
            phase: Phase::WarmUp {
                until: start + timing.warm_up,
            },
        })
    }

    /// Goes on to the next phase if it is time.
    pub fn advance(&mut self, now: Instant) -> io::Result<()> {
        self.phase = match self.phase {
            Phase::WarmUp { until } if now >= until => Phase::Window {
                until: now + self.window,
                from: Clocks::read(self.start, self.server)?,
            },
            Phase::Window { until, from } if now >= until => Phase::Finish {
                between: Clocks::read(self.start, self.server)?.since(from),
            },
            phase => phase,
        };
        Ok(())
    }

    /// Whether what is completed now counts.
    pub fn counts(&self) -> bool {
        matches!(self.phase, Phase::Window { .. })
    }

    /// What the clocks showed over the window, once it is over and nothing new is begun.
    pub fn measured(&self) -> Option<Clocks> {
        match self.phase {
            Phase::Finish { between } => Some(between),
            _ => None,
        }
    }

    /// How long epoll may wait: to the end of the phase, and never beyond `longest`.
    pub fn timeout(&self, now: Instant, longest: Duration) -> Timespec {
        let left = match self.phase {
            Phase::WarmUp { until } | Phase::Window { until, .. } => {
                until.saturating_duration_since(now).min(longest)
            }
            Phase::Finish { .. } => longest,
        };
        Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        }
    }
}

/// Notices that nothing moves any more.
pub struct Watch {
    last_event: Instant,
}

impl Watch {
    pub fn new(start: Instant) -> Self {
        Self { last_event: start }
    }

    /// Something has moved.
    pub fn moved(&mut self, now: Instant) {
        self.last_event = now;
    }

    /// Whether nothing has moved for [`STALL`].
    pub fn is_stalled(&self, now: Instant) -> bool {
        now.duration_since(self.last_event) >= STALL
    }
}
