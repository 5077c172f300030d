//! Datagrams: each client has a socket of its own, sends one, waits for its echo, sends the next.
//!
//! A datagram may be lost, even on one machine: a full socket buffer is enough. A client whose echo does not
//! come sends it again, and the report says how often that was. An echo that comes late belongs to a request
//! that is over, and is dropped: every request has bytes of its own.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::payload::Payload;
use crate::phases::{Phases, Timing, Watch};
use crate::report::Report;

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

/// Goes through all phases and says what was measured.
pub fn run(port: u16, size: usize, clients: usize, timing: Timing) -> Result<Report, Failure> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let payload = Payload::new(size);
    let start = Instant::now();
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
            began: start,
            sent: None,
        });
    }
    let mut latencies = Histogram::new();
    let mut resent = 0;
    let mut phases = Phases::begin(timing, start)?;
    let mut watch = Watch::new(start);
    let mut events = [MaybeUninit::uninit(); EVENTS];
    let mut memory = vec![0; DATAGRAM];
    for (index, peer) in peers.iter_mut().enumerate() {
        peer.begin(&payload, index, start)?;
    }
    let mut swept = start;
    loop {
        let timeout = phases.timeout(Instant::now(), LOST);
        let (ready, _) = epoll::wait(&epoll, &mut events, Some(&timeout))?;
        let now = Instant::now();
        phases.advance(now)?;
        for event in ready {
            let index = event.data.u64() as usize;
            let peer = &mut peers[index];
            if !peer.receive(&payload, index, &mut memory)? {
                continue;
            }
            watch.moved(now);
            if phases.counts() {
                latencies.record(now.duration_since(peer.began));
            }
            if phases.measured().is_none() {
                peer.begin(&payload, index, now)?;
            }
        }
        let waiting = peers.iter().filter(|peer| peer.sent.is_some()).count();
        if let (Some(between), 0) = (phases.measured(), waiting) {
            return Ok(Report {
                elapsed: between.wall,
                server_cpu: between.server,
                client_cpu: between.client,
                requests: latencies.total(),
                latencies,
                left_open: 0,
                resent,
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
                    peer.send(&payload, index, now)?;
                    resent += 1;
                }
            }
        }
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
