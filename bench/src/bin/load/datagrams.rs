//! Datagrams: each client has a socket of its own, sends one, waits for its echo, sends the next.
//!
//! A datagram may be lost, even on one machine: a full socket buffer is enough. A client whose echo does not
//! come sends it again, and the report says how often that was. An echo that comes late belongs to a request
//! that is over, and is dropped: every request has bytes of its own.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::payload::Payload;
use crate::phases::{Phases, Timing, Watch};
use crate::report::{Load, Report};

/// How long an echo may take before its datagram counts as lost: far above the latency of a server that is
/// busy with all other clients.
const LOST: Duration = Duration::from_millis(100);

/// Events taken per epoll_wait.
const EVENTS: usize = 256;

/// Bytes received at once: more than any datagram has, so that one that has grown is seen.
const DATAGRAM: usize = 64 * 1024;

struct Peer {
    socket: UdpSocket,
    /// Requests begun so far.
    number: usize,
    /// When the present request was first sent.
    began: Instant,
    /// When it was last sent; none while no request is under way.
    sent: Option<Instant>,
}

/// The clients and what they have in common.
pub struct Datagrams {
    epoll: OwnedFd,
    payload: Payload,
    peers: Vec<Peer>,
    memory: Vec<u8>,
}

impl Datagrams {
    /// Makes this many clients.
    pub fn connect(port: u16, size: usize, clients: usize) -> Result<Self, Failure> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut peers = Vec::with_capacity(clients);
        for index in 0..clients {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect((Ipv4Addr::LOCALHOST, port))?;
            socket.set_nonblocking(true)?;
            let data = EventData::new_u64(index as u64);
            epoll::add(&epoll, &socket, data, EventFlags::IN)?;
            peers.push(Peer {
                socket,
                number: 0,
                began: Instant::now(),
                sent: None,
            });
        }
        Ok(Self {
            epoll,
            payload: Payload::new(size),
            peers,
            memory: vec![0; DATAGRAM],
        })
    }
}

impl Load for Datagrams {
    fn turn(&mut self, timing: Timing) -> Result<Report, Failure> {
        let (payload, peers) = (&self.payload, &mut self.peers);
        let start = Instant::now();
        let mut latencies = Histogram::new();
        let mut resent = 0;
        let mut phases = Phases::begin(timing, start)?;
        let mut watch = Watch::new(start);
        let mut events = [MaybeUninit::uninit(); EVENTS];
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.begin(payload, index, start)?;
        }
        let mut swept = start;
        loop {
            let timeout = phases.timeout(Instant::now(), LOST);
            let (ready, _) = epoll::wait(&self.epoll, &mut events, Some(&timeout))?;
            let now = Instant::now();
            phases.advance(now)?;
            for event in ready {
                let index = event.data.u64() as usize;
                let peer = &mut peers[index];
                if !peer.receive(payload, index, &mut self.memory)? {
                    continue;
                }
                watch.moved(now);
                if phases.counts() {
                    latencies.record(now.duration_since(peer.began));
                }
                if phases.measured().is_none() {
                    peer.begin(payload, index, now)?;
                }
            }
            let waiting = peers.iter().filter(|peer| peer.sent.is_some()).count();
            if let (Some(between), 0) = (phases.measured(), waiting) {
                return Ok(Report {
                    resent,
                    ..Report::of(between, &latencies)
                });
            }
            if watch.is_stalled(now) {
                return Err(Failure::Stalled {
                    waiting,
                    connections: peers.len(),
                });
            }
            if now.duration_since(swept) >= LOST {
                swept = now;
                for (index, peer) in peers.iter_mut().enumerate() {
                    if peer
                        .sent
                        .is_some_and(|sent| now.duration_since(sent) >= LOST)
                    {
                        peer.send(payload, index, now)?;
                        resent += 1;
                    }
                }
            }
        }
    }

    fn finish(self: Box<Self>) -> Result<usize, Failure> {
        Ok(0)
    }
}

impl Peer {
    fn begin(&mut self, payload: &Payload, index: usize, now: Instant) -> io::Result<()> {
        self.number += 1;
        self.began = now;
        self.send(payload, index, now)
    }

    fn send(&mut self, payload: &Payload, index: usize, now: Instant) -> io::Result<()> {
        self.sent = Some(now);
        match self.socket.send(payload.request(index, self.number)) {
            // As good as lost: it is sent again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// Whether the echo of the present request has come.
    fn receive(
        &mut self,
        payload: &Payload,
        index: usize,
        memory: &mut [u8],
    ) -> Result<bool, Failure> {
        let received = match self.socket.recv(memory) {
            Ok(received) => &memory[..received],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if self.sent.is_some() && received == payload.request(index, self.number) {
            self.sent = None;
            return Ok(true);
        }
        // The echo of a datagram that was thought lost, and so was sent more often than once.
        match received == payload.request(index, self.number)
            || received == payload.request(index, self.number.wrapping_sub(1))
        {
            true => Ok(false),
            false => Err(Failure::WrongDatagram { client: index }),
        }
    }
}
