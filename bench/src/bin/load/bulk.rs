//! Bulk: one connection, as many bytes as it takes, in one direction.
//!
//! In both directions the bytes are one block over and over. Where the server receives, it says at the end how
//! many bytes it has had. Where it sends, the client gives it the block and compares whatever comes back. What is
//! counted is KiB that the client's socket took, or gave, in the window: what the sockets hold at its two ends
//! is far below a window's bytes.

use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use aioxide_bench::RECEIVE_BUFFER;
use rustix::event::{PollFd, PollFlags, poll};

use crate::client::CLOSE_PATIENCE;
use crate::failure::{Failure, STALL};
use crate::histogram::Histogram;
use crate::payload::Payload;
use crate::phases::{Phases, Timing};
use crate::report::Report;
use crate::socket::{Address, Socket};

/// Bytes of one of the units that are counted.
const KIB: u64 = 1024;

/// What the server does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Receive,
    Send,
}

impl FromStr for Direction {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "receive" => Ok(Self::Receive),
            "send" => Ok(Self::Send),
            _ => Err(()),
        }
    }
}

/// Goes through all phases and says what was measured. `size` is that of the block.
pub fn run(
    address: &Address,
    size: usize,
    direction: Direction,
    timing: Timing,
) -> Result<Report, Failure> {
    let payload = Payload::new(size);
    let mut bulk = Bulk {
        socket: Socket::connect(address, Ipv4Addr::LOCALHOST)?,
        block: payload.request(0, 0),
        total: 0,
        memory: vec![0; RECEIVE_BUFFER],
    };
    if direction == Direction::Send {
        let mut unsent = bulk.block;
        while !unsent.is_empty() {
            unsent = &unsent[bulk.send(unsent)?..];
        }
    }
    let mut phases = Phases::begin(timing, Instant::now())?;
    let mut counted = 0;
    let between = loop {
        phases.advance(Instant::now())?;
        if let Some(between) = phases.measured() {
            break between;
        }
        let moved = match direction {
            Direction::Receive => {
                let from = bulk.position();
                let sent = bulk.send(&bulk.block[from..])?;
                bulk.total += sent as u64;
                sent
            }
            Direction::Send => bulk.receive()?.ok_or(bulk.closed_early())?,
        };
        if phases.counts() {
            counted += moved as u64;
        }
    };
    bulk.socket.end()?;
    let closed = match direction {
        Direction::Receive => bulk.check_count().map(|()| true)?,
        Direction::Send => bulk.is_closed()?,
    };
    Ok(Report {
        elapsed: between.wall,
        server_cpu: between.server,
        client_cpu: between.client,
        requests: counted / KIB,
        latencies: Histogram::new(),
        left_open: usize::from(!closed),
        resent: 0,
    })
}

struct Bulk<'a> {
    socket: Socket,
    block: &'a [u8],
    /// Bytes that were sent, or received, so far.
    total: u64,
    memory: Vec<u8>,
}

impl Bulk<'_> {
    /// Where in the block the next byte stands.
    fn position(&self) -> usize {
        (self.total % self.block.len() as u64) as usize
    }

    /// Sends some, as soon as there is room.
    fn send(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        loop {
            match self.socket.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT)?;
                }
                sent => return Ok(sent?),
            }
        }
    }

    /// Receives some, as soon as there is some, and compares it. None at the server's end of file.
    fn receive(&mut self) -> Result<Option<usize>, Failure> {
        let received = self.receive_raw()?;
        let mut rest = &self.memory[..received];
        let mut position = self.position();
        while !rest.is_empty() {
            let count = rest.len().min(self.block.len() - position);
            let (piece, others) = rest.split_at(count);
            if piece != &self.block[position..position + count] {
                return Err(Failure::WrongByte {
                    connection: 0,
                    position,
                });
            }
            rest = others;
            position = 0;
        }
        self.total += received as u64;
        Ok((received > 0).then_some(received))
    }

    /// Whether the server closes within its time, when it has been told to. What it still sends is compared.
    fn is_closed(&mut self) -> Result<bool, Failure> {
        let until = Instant::now() + STALL;
        while Instant::now() < until {
            if !self.is_ready(PollFlags::IN, CLOSE_PATIENCE)? {
                return Ok(false);
            }
            if self.receive()?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Receives into the memory, as soon as there is something.
    fn receive_raw(&mut self) -> Result<usize, Failure> {
        loop {
            match self.socket.read(&mut self.memory) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::IN)?;
                }
                received => return Ok(received?),
            }
        }
    }

    /// The server's answer is the number of bytes that it has received.
    fn check_count(&mut self) -> Result<(), Failure> {
        let mut answer = Vec::new();
        loop {
            let received = self.receive_raw()?;
            if received == 0 {
                break;
            }
            answer.extend_from_slice(&self.memory[..received]);
        }
        match answer == self.total.to_string().as_bytes() {
            true => Ok(()),
            false => Err(Failure::WrongCount { sent: self.total }),
        }
    }

    fn wait(&self, flags: PollFlags) -> Result<(), Failure> {
        match self.is_ready(flags, STALL)? {
            true => Ok(()),
            false => Err(Failure::Stalled {
                waiting: 1,
                connections: 1,
            }),
        }
    }

    /// Whether something can be received, or sent, within this time.
    fn is_ready(&self, flags: PollFlags, patience: Duration) -> io::Result<bool> {
        let mut polled = [PollFd::new(&self.socket, flags)];
        let patience = rustix::event::Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: patience.subsec_nanos().into(),
        };
        Ok(poll(&mut polled, Some(&patience))? > 0)
    }

    fn closed_early(&self) -> Failure {
        Failure::ClosedEarly {
            connection: 0,
            received: self.position(),
            size: self.block.len(),
        }
    }
}
