//! The client's loop: all connections on one epoll descriptor. When a turn's window is over, the requests that are
//! outstanding are finished, and the connections rest until the next turn, or are closed.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustls::ClientConfig;

use crate::connection::{Connection, Progress};
use crate::failure::{Failure, STALL};
use crate::histogram::Histogram;
use crate::link::Memory;
use crate::payload::Payload;
use crate::phases::{Phases, Timing, Watch};
use crate::report::{Load, Report};
use crate::socket::Address;

/// How long a connection may take to close after the end of file, and how long the others may once
/// one did not.
pub const CLOSE_PATIENCE: Duration = Duration::from_secs(1);
const CLOSE_IMPATIENCE: Duration = Duration::from_millis(1);

/// Events taken per epoll_wait.
const EVENTS: usize = 256;

/// What to measure.
pub struct Plan {
    pub address: Address,
    /// Bytes of a request and of its reply, at least 1.
    pub size: usize,
    /// At least 1.
    pub connections: usize,
    /// TLS over each connection.
    pub tls: Option<Arc<ClientConfig>>,
    /// Requests and responses of HTTP; `size` is that of a response's body.
    pub http: bool,
    /// A connection for each request: a request is counted when its connection has ended.
    pub reconnect: bool,
}

/// The connections and what they have in common.
pub struct Client {
    plan: Plan,
    epoll: OwnedFd,
    payload: Payload,
    /// Indexed by event data.
    connections: Vec<Connection>,
    memory: Memory,
    latencies: Histogram,
    /// Connections with a request under way.
    waiting: usize,
}

impl Load for Client {
    fn turn(&mut self, timing: Timing) -> Result<Report, Failure> {
        self.latencies = Histogram::new();
        let start = Instant::now();
        for index in 0..self.connections.len() {
            self.resume(index, start)?;
        }
        let mut phases = Phases::begin(timing, start)?;
        let mut watch = Watch::new(start);
        let mut events = [MaybeUninit::uninit(); EVENTS];
        loop {
            let timeout = phases.timeout(Instant::now(), STALL);
            let (ready, _) = epoll::wait(&self.epoll, &mut events, Some(&timeout))?;
            let now = Instant::now();
            if !ready.is_empty() {
                watch.moved(now);
            } else if watch.is_stalled(now) {
                return Err(Failure::Stalled {
                    waiting: self.waiting,
                    connections: self.connections.len(),
                });
            }
            phases.advance(now)?;
            for event in ready {
                self.serve(event.data.u64() as usize, event.flags, &phases)?;
            }
            if let (Some(between), 0) = (phases.measured(), self.waiting) {
                return Ok(Report::of(between, &self.latencies));
            }
        }
    }

    fn finish(self: Box<Self>) -> Result<usize, Failure> {
        let mut this = *self;
        let mut left_open = 0;
        // Connections that lasted for a request have ended with it.
        if this.plan.reconnect {
            this.connections.clear();
        }
        for connection in this.connections {
            let patience = if left_open == 0 {
                CLOSE_PATIENCE
            } else {
                CLOSE_IMPATIENCE
            };
            left_open += usize::from(!connection.close(patience, &mut this.memory)?);
        }
        Ok(left_open)
    }
}

impl Client {
    /// Opens the plan's connections.
    pub fn connect(plan: Plan) -> Result<Self, Failure> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let connections = (0..plan.connections)
            .map(|index| Connection::open(index, &plan.address, plan.tls.as_ref()))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            epoll,
            payload: match plan.http {
                true => Payload::http(plan.size),
                false => Payload::new(plan.size),
            },
            connections,
            memory: Memory::new(),
            latencies: Histogram::new(),
            waiting: 0,
            plan,
        })
    }

    /// A connection's first request of a turn.
    fn resume(&mut self, index: usize, now: Instant) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        if connection.has_ended() {
            connection.reopen(&self.plan.address, self.plan.tls.as_ref())?;
        }
        add(&self.epoll, index, connection)?;
        self.begin(index, now)
    }

    fn serve(&mut self, index: usize, flags: EventFlags, phases: &Phases) -> Result<(), Failure> {
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
        if phases.measured().is_some() {
            // It rests: a connection that has ended would be readable for ever.
            return Ok(epoll::delete(&self.epoll, connection.socket())?);
        }
        if phases.counts() {
            self.latencies.record(latency);
        }
        if self.plan.reconnect {
            let connection = &mut self.connections[index];
            connection.reopen(&self.plan.address, self.plan.tls.as_ref())?;
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

    fn watch(&self, index: usize, interest: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(index as u64);
        Ok(epoll::modify(
            &self.epoll,
            self.connections[index].socket(),
            data,
            interest,
        )?)
    }
}

fn add(epoll: &OwnedFd, index: usize, connection: &Connection) -> io::Result<()> {
    let data = EventData::new_u64(index as u64);
    Ok(epoll::add(
        epoll,
        connection.socket(),
        data,
        EventFlags::IN,
    )?)
}
