//! How a connect ends.
//!
//! | to | it |
//! |---|---|
//! | a listener with room in its queue | succeeds |
//! | a listener whose queue is full | waits for room, then gives up |
//! | a port without a listener | is refused |
//! | a port that a test lets fail | fails as the test says |
//! | any address but loopback | is never answered: it gives up |

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::Duration;

use super::connection::{Connection, Wire};
use super::descriptors::{Attempt, State};
use super::end::Role;
use super::errno;
use super::names;
use super::network::Network;
use crate::sys::address::SocketAddress;
use crate::sys::clock::Time;

/// How long a connect asks before `ETIMEDOUT`: Linux's six repetitions of a SYN, 2^7 - 1 seconds.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(127);

impl Network {
    /// Starts a connect. It never ends at once: the layers above must be ready for the longer way,
    /// which is the only one over a real network.
    pub(super) fn connect(&mut self, fd: RawFd, address: &SocketAddress) -> io::Result<()> {
        if self.descriptors.mailbox(fd).is_some() {
            return self.connect_mailbox(fd, address);
        }
        let to = names::destination(self.address_for(fd, address)?);
        let socket = self.descriptors.get_mut(fd)?;
        match &mut socket.state {
            State::Idle => {}
            State::Failed(error) => {
                if let Some(error) = error.take() {
                    return Err(errno(error));
                }
            }
            State::Connecting(_) => return Err(errno(libc::EALREADY)),
            State::Connected { .. } | State::Listening { .. } => return Err(errno(libc::EISCONN)),
        }
        let local = match socket.local {
            Some(local) => local,
            None => {
                let any = socket.any();
                socket.bound = true;
                self.names
                    .bind(fd, any, false)
                    .map_err(|_| errno(libc::EADDRNOTAVAIL))?
            }
        };
        // The route to the peer decides which address an unnamed socket has.
        let ip = if local.ip().is_unspecified() {
            names::loopback(to.ip())
        } else {
            local.ip()
        };
        socket.local = Some(SocketAddr::new(ip, local.port()));
        let latency = self.latency();
        let socket = self.descriptors.get_mut(fd)?;
        socket.state = State::Connecting(Attempt {
            to,
            latency,
            answers: self.now + latency * 2,
            gives_up: self.now + CONNECT_TIMEOUT.max(latency * 2),
        });
        self.connecting.push_back(fd);
        self.settle_connects();
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// How long a wire is.
    pub(super) fn latency(&mut self) -> Duration {
        let jitter = self.random.below(self.config.jitter.as_nanos() as u64 + 1);
        self.config.latency + Duration::from_nanos(jitter)
    }

    /// Ends the connects that can end now, the oldest first.
    pub(super) fn settle_connects(&mut self) {
        let mut going_on = VecDeque::new();
        for fd in std::mem::take(&mut self.connecting) {
            let Some(attempt) = self.attempt(fd) else {
                continue;
            };
            match self.outcome(fd, attempt) {
                Some(state) => {
                    if let Ok(socket) = self.descriptors.get_mut(fd) {
                        socket.state = state;
                    }
                }
                None => going_on.push_back(fd),
            }
        }
        self.connecting = going_on;
    }

    /// When time alone changes something for a connect.
    pub(super) fn next_answer(&self) -> Option<Time> {
        let attempts = self.connecting.iter().filter_map(|fd| self.attempt(*fd));
        let times = attempts.flat_map(|attempt| [attempt.answers, attempt.gives_up]);
        times.filter(|time| *time > self.now).min()
    }

    fn attempt(&self, fd: RawFd) -> Option<Attempt> {
        match self.descriptors.get(fd).ok()?.state {
            State::Connecting(attempt) => Some(attempt),
            _ => None,
        }
    }

    /// The state after the connect; `None` while it goes on.
    fn outcome(&mut self, fd: RawFd, attempt: Attempt) -> Option<State> {
        if self.now < attempt.answers {
            return None;
        }
        let gives_up =
            (self.now >= attempt.gives_up).then_some(State::Failed(Some(libc::ETIMEDOUT)));
        if !names::is_local(attempt.to.ip()) {
            return gives_up;
        }
        if let Some(error) = self.faults.ports.get(&attempt.to.port()) {
            return Some(State::Failed(Some(*error)));
        }
        let mut listeners = self.names.answering(attempt.to);
        listeners.retain(|fd| {
            let socket = self.descriptors.get(*fd);
            socket.is_ok_and(|socket| matches!(socket.state, State::Listening { .. }))
        });
        if listeners.is_empty() {
            return Some(State::Failed(Some(libc::ECONNREFUSED)));
        }
        // Several share the port: the kernel chooses by a hash, the seed chooses here.
        let chosen = listeners[self.random.below(listeners.len() as u64) as usize];
        let client = self.descriptors.get(fd).ok()?.local?;
        let State::Listening { backlog, queue } = &mut self.descriptors.get_mut(chosen).ok()?.state
        else {
            return None;
        };
        if queue.len() >= *backlog {
            return gives_up;
        }
        let wire = Wire {
            send_buffer: self.config.send_buffer,
            receive_buffer: self.config.receive_buffer,
            latency: attempt.latency,
        };
        let connection = self
            .connections
            .insert(Connection::new(wire, client, attempt.to));
        queue.push_back(connection);
        Some(State::Connected {
            connection,
            role: Role::Client,
        })
    }
}
