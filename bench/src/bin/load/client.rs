//! The client's loop: all connections on one epoll descriptor, and the three phases of a
//! measurement.
//!
//! ```text
//! warm-up ──(its time)──▶ window ──(its time)──▶ finish ──(no request outstanding)──▶ close
//! ```
//!
//! Requests are begun in the first two phases and counted when they are completed in the second.
//! The few that are under way when the window opens or closes count whole or not at all; with 16
//! connections and tens of thousands of requests that is far below the noise.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aioxide_bench::ProcessClock;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustls::ClientConfig;

use crate::clocks::Clocks;
use crate::connection::{Connection, Progress};
use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::link::Memory;
use crate::payload::Payload;
use crate::report::Report;

/// How long nothing may move before the server counts as stalled: far above any pause of a busy
/// machine.
pub const STALL: Duration = Duration::from_secs(5);

/// How long a connection may take to close after the end of file, and how long the others may once
/// one did not.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);
const CLOSE_IMPATIENCE: Duration = Duration::from_millis(1);

/// Events taken per epoll_wait.
const EVENTS: usize = 256;

/// What to measure.
pub struct Plan {
    pub port: u16,
    pub server_pid: i32,
    /// Bytes of a request and of its reply, at least 1.
    pub size: usize,
    /// At least 1.
    pub connections: usize,
    pub warm_up: Duration,
    pub window: Duration,
    /// TLS over each connection.
    pub tls: Option<Arc<ClientConfig>>,
    /// A connection for each request: a request is counted when its connection has ended.
    pub reconnect: bool,
}

/// The connections and what they have in common.
pub struct Client {
    plan: Plan,
    server: ProcessClock,
    epoll: OwnedFd,
    payload: Payload,
    /// Indexed by event data.
    connections: Vec<Connection>,
    memory: Memory,
    latencies: Histogram,
    /// Connections with a request under way.
    waiting: usize,
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

impl Client {
    /// Opens the plan's connections.
    pub fn connect(plan: Plan) -> Result<Self, Failure> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(plan.connections);
        for index in 0..plan.connections {
            let connection = Connection::open(index, plan.port, plan.tls.as_ref())?;
            add(&epoll, index, &connection)?;
            connections.push(connection);
        }
        Ok(Self {
            server: ProcessClock::of(plan.server_pid)?,
            epoll,
            payload: Payload::new(plan.size),
            connections,
            memory: Memory::new(),
            latencies: Histogram::new(),
            waiting: 0,
            plan,
        })
    }

    /// Goes through all phases and says what was measured.
    pub fn run(mut self) -> Result<Report, Failure> {
        let start = Instant::now();
        for index in 0..self.connections.len() {
            self.begin(index, start)?;
        }
        let mut phase = Phase::WarmUp {
            until: start + self.plan.warm_up,
        };
        let mut last_event = start;
        let mut events = [MaybeUninit::uninit(); EVENTS];
        loop {
            let (ready, _) = epoll::wait(
                &self.epoll,
                &mut events,
                Some(&timeout(phase, Instant::now())),
            )?;
            let now = Instant::now();
            if !ready.is_empty() {
                last_event = now;
            } else if now.duration_since(last_event) >= STALL {
                return Err(Failure::Stalled {
                    waiting: self.waiting,
                    connections: self.connections.len(),
                });
            }
            phase = self.next_phase(phase, start, now)?;
            for event in ready {
                self.serve(event.data.u64() as usize, event.flags, phase)?;
            }
            if let (Phase::Finish { between }, 0) = (phase, self.waiting) {
                return self.close(between);
            }
        }
    }

    fn next_phase(&self, phase: Phase, start: Instant, now: Instant) -> io::Result<Phase> {
        match phase {
            Phase::WarmUp { until } if now >= until => Ok(Phase::Window {
                until: now + self.plan.window,
                from: Clocks::read(start, self.server)?,
            }),
            Phase::Window { until, from } if now >= until => Ok(Phase::Finish {
                between: Clocks::read(start, self.server)?.since(from),
            }),
            phase => Ok(phase),
        }
    }

    fn serve(&mut self, index: usize, flags: EventFlags, phase: Phase) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        if flags.contains(EventFlags::OUT) {
            connection.send(&self.payload)?;
            if !connection.is_sending(&self.payload) {
                self.watch(index, EventFlags::IN)?;
            }
        }
        if !flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP) {
            return Ok(());
        }
        let connection = &mut self.connections[index];
        match connection.receive(&self.payload, &mut self.memory)? {
            Progress::Waiting => return Ok(()),
            Progress::Echoed if self.plan.reconnect => return Ok(connection.end()?),
            Progress::Echoed | Progress::Ended => {}
        }
        let now = Instant::now();
        let latency = connection.latency(now);
        self.waiting -= 1;
        match phase {
            Phase::WarmUp { .. } => {}
            Phase::Window { .. } => self.latencies.record(latency),
            Phase::Finish { .. } => {
                // A connection that has ended would be readable for ever.
                return Ok(epoll::delete(&self.epoll, connection.stream())?);
            }
        }
        if self.plan.reconnect {
            let connection = &mut self.connections[index];
            connection.reopen(self.plan.port, self.plan.tls.as_ref())?;
            add(&self.epoll, index, connection)?;
        }
        self.begin(index, now)
    }

    fn begin(&mut self, index: usize, now: Instant) -> Result<(), Failure> {
        self.connections[index].begin(&self.payload, now)?;
        self.waiting += 1;
        if self.connections[index].is_sending(&self.payload) {
            self.watch(index, EventFlags::IN | EventFlags::OUT)?;
        }
        Ok(())
    }

    fn close(mut self, between: Clocks) -> Result<Report, Failure> {
        let mut left_open = 0;
        // Connections that lasted for a request have ended with it.
        if self.plan.reconnect {
            self.connections.clear();
        }
        for connection in self.connections {
            let patience = if left_open == 0 {
                CLOSE_PATIENCE
            } else {
                CLOSE_IMPATIENCE
            };
            left_open += usize::from(!connection.close(patience, &mut self.memory)?);
        }
        Ok(Report {
            elapsed: between.wall,
            server_cpu: between.server,
            client_cpu: between.client,
            latencies: self.latencies,
            left_open,
        })
    }

    fn watch(&self, index: usize, interest: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(index as u64);
        Ok(epoll::modify(
            &self.epoll,
            self.connections[index].stream(),
            data,
            interest,
        )?)
    }
}

fn add(epoll: &OwnedFd, index: usize, connection: &Connection) -> io::Result<()> {
    let data = EventData::new_u64(index as u64);
    Ok(epoll::add(
        epoll,
        connection.stream(),
        data,
        EventFlags::IN,
    )?)
}

/// How long epoll may wait: to the end of the phase, and never beyond the moment at which a stall
/// is declared.
fn timeout(phase: Phase, now: Instant) -> Timespec {
    let left = match phase {
        Phase::WarmUp { until } | Phase::Window { until, .. } => {
            until.saturating_duration_since(now).min(STALL)
        }
        Phase::Finish { .. } => STALL,
    };
    Timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: i64::from(left.subsec_nanos()),
    }
}
