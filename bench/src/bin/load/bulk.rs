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
use crate::report::{Load, Report};
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

/// The connection, and what goes over it.
pub struct Bulk {
    direction: Direction,
    socket: Socket,
    block: Vec<u8>,
    /// Bytes that were sent, or received, so far.
    total: u64,
    memory: Vec<u8>,
}

impl Load for Bulk {
    fn turn(&mut self, timing: Timing) -> Result<Report, Failure> {
        let mut phases = Phases::begin(timing, Instant::now())?;
        let mut counted = 0;
        loop {
            phases.advance(Instant::now())?;
            if let Some(between) = phases.measured() {
                return Ok(Report {
                    requests: counted / KIB,
                    ..Report::of(between, &Histogram::new())
                });
            }
            let moved = match self.direction {
                Direction::Receive => {
                    let sent = self.send(self.position())?;
                    self.total += sent as u64;
                    sent
                }
                Direction::Send => self.receive()?.ok_or(self.closed_early())?,
            };
            if phases.counts() {
                counted += moved as u64;
            }
        }
    }

    fn finish(mut self: Box<Self>) -> Result<usize, Failure> {
        self.socket.end()?;
        let closed = match self.direction {
            Direction::Receive => self.check_count().map(|()| true)?,
            Direction::Send => self.is_closed()?,
        };
        Ok(usize::from(!closed))
    }
}

impl Bulk {
    /// Connects. `size` is that of the block.
    pub fn connect(address: &Address, size: usize, direction: Direction) -> Result<Self, Failure> {
        let mut bulk = Self {
            direction,
            socket: Socket::connect(address, Ipv4Addr::LOCALHOST)?,
            block: Payload::new(size).request(0, 0).to_vec(),
            total: 0,
            memory: vec![0; RECEIVE_BUFFER],
        };
        if direction == Direction::Send {
            let mut sent = 0;
            while sent < size {
                sent += bulk.send(sent)?;
            }
        }
        Ok(bulk)
    }

    /// Where in the block the next byte stands.
    fn position(&self) -> usize {
        (self.total % self.block.len() as u64) as usize
    }

    /// Sends some of the block, from this byte on, as soon as there is room.
    fn send(&mut self, from: usize) -> Result<usize, Failure> {
        loop {
            match self.socket.write(&self.block[from..]) {
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
