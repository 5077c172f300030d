//! The network: files, their names and their connections.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::RawFd;

use slab::Slab;

use super::config::Config;
use super::connection::Connection;
use super::descriptors::{Descriptors, File, SimulatedSocket, State};
use super::end::Role;
use super::errno;
use super::faults::Faults;
use super::fifo::{Fifo, PipeEnd};
use super::names::Names;
use super::post::Post;
use super::random::Random;
use super::waiting::Waiting;
use crate::reactor::Side;
use crate::sys::address::{Family, SocketAddress};
use crate::sys::buffer::Buffer;
use crate::sys::clock::Time;
use crate::sys::file;
use crate::sys::socket::SocketOption;

/// The most that a backlog can be: Linux's `net.core.somaxconn`.
const BACKLOG_MAX: i32 = 4096;

/// The most that is read of a file to be sent at once, in bytes: as much as Linux's `sendfile`
/// moves through its internal pipe.
const FILE_PIECE: usize = 64 * 1024;

/// All that is simulated. Calls on files are here; how connects end is in
/// [`connecting`](super::connecting), how datagrams travel in [`post`](super::post), how time
/// passes in [`time`](super::time).
#[derive(Debug)]
pub(super) struct Network {
    pub(super) config: Config,
    pub(super) random: Random,
    pub(super) faults: Faults,
    /// The virtual clock. Moved in waits alone.
    pub(super) now: Time,
    /// Waits in a row that have left the clock where it was.
    pub(super) standing_still: u32,
    pub(super) waiting: Waiting,
    pub(super) descriptors: Descriptors,
    pub(super) names: Names,
    pub(super) connections: Slab<Connection>,
    pub(super) pipes: Slab<Fifo>,
    pub(super) post: Post,
    /// The descriptors that are `Connecting`, in the order in which they began.
    pub(super) connecting: VecDeque<RawFd>,
    /// What the program has done against the contract.
    pub(super) violations: Vec<String>,
}

impl Network {
    pub(super) fn new(config: Config) -> Network {
        Network {
            random: Random::new(config.seed),
            config,
            faults: Faults::none(),
            now: Time::ZERO,
            standing_still: 0,
            waiting: Waiting::default(),
            descriptors: Descriptors::default(),
            names: Names::new(),
            connections: Slab::new(),
            pipes: Slab::new(),
            post: Post::new(),
            connecting: VecDeque::new(),
            violations: Vec::new(),
        }
    }

    pub(super) fn open(&mut self, family: Family, kind: i32, protocol: i32) -> io::Result<RawFd> {
        let kind = kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
        let only = match (family, kind) {
            (Family::INET | Family::INET6, libc::SOCK_STREAM) => libc::IPPROTO_TCP,
            (Family::INET | Family::INET6, libc::SOCK_DGRAM) => libc::IPPROTO_UDP,
            (Family::UNIX, libc::SOCK_DGRAM) => libc::PF_UNIX,
            (Family::INET | Family::INET6, _) => return Err(errno(libc::ESOCKTNOSUPPORT)),
            _ => return Err(errno(libc::EAFNOSUPPORT)),
        };
        if ![0, only].contains(&protocol) {
            return Err(errno(libc::EPROTONOSUPPORT));
        }
        self.check_room(1)?;
        if kind == libc::SOCK_DGRAM {
            return Ok(self.open_mailbox(family));
        }
        let ipv6 = family == Family::INET6;
        Ok(self.descriptors.open(SimulatedSocket::new(ipv6)))
    }

    /// A pipe: its reading end, its writing end.
    pub(super) fn open_pipe(&mut self) -> io::Result<[RawFd; 2]> {
        self.check_room(2)?;
        let pipe = self.pipes.insert(Fifo::new(self.config.pipe_capacity));
        let ends = [PipeEnd::Reader, PipeEnd::Writer];
        Ok(ends.map(|end| self.descriptors.open(File::Pipe { pipe, end })))
    }

    pub(super) fn bind(&mut self, fd: RawFd, address: &SocketAddress) -> io::Result<()> {
        if self.descriptors.mailbox(fd).is_some() {
            return self.bind_mailbox(fd, address);
        }
        let address = self.address_for(fd, address)?;
        let socket = self.descriptors.get_mut(fd)?;
        if socket.local.is_some() {
            return Err(errno(libc::EINVAL));
        }
        socket.local = Some(self.names.bind(fd, address, socket.reuse_port)?);
        socket.bound = true;
        Ok(())
    }

    pub(super) fn listen(&mut self, fd: RawFd, backlog: i32) -> io::Result<()> {
        let socket = self.descriptors.get(fd)?;
        if !matches!(socket.state, State::Idle | State::Listening { .. }) {
            return Err(errno(libc::EINVAL));
        }
        if socket.local.is_none() {
            self.bind(fd, &socket.any().into())?;
        }
        // A negative backlog is a huge unsigned one. One more than the backlog fits.
        let backlog = if backlog < 0 {
            BACKLOG_MAX
        } else {
            backlog.min(BACKLOG_MAX)
        };
        let backlog = backlog as usize + 1;
        match &mut self.descriptors.get_mut(fd)?.state {
            State::Listening {
                backlog: before, ..
            } => *before = backlog,
            state => {
                *state = State::Listening {
                    backlog,
                    queue: VecDeque::new(),
                }
            }
        }
        self.settle_connects();
        Ok(())
    }

    pub(super) fn accept(&mut self, fd: RawFd) -> io::Result<(RawFd, SocketAddr)> {
        let room = self.check_room(1);
        let listener = self.descriptors.get_mut(fd)?;
        let ipv6 = listener.ipv6;
        let State::Listening { queue, .. } = &mut listener.state else {
            return Err(errno(libc::EINVAL));
        };
        // A kernel looks for a descriptor before it looks for a connection.
        room?;
        let connection = queue.pop_front().ok_or_else(|| errno(libc::EAGAIN))?;
        let ends = &self.connections[connection];
        let accepted = SimulatedSocket {
            local: Some(ends.end(Role::Server).address),
            state: State::Connected {
                connection,
                role: Role::Server,
            },
            ..SimulatedSocket::new(ipv6)
        };
        let peer = ends.end(Role::Client).address;
        let accepted = self.descriptors.open(accepted);
        // Somebody may have waited for the place in the queue.
        self.settle_connects();
        Ok((accepted, peer))
    }

    pub(super) fn close(&mut self, fd: RawFd) {
        for side in [Side::Read, Side::Write] {
            if let Some(op) = self.waiting.stop(fd, side) {
                self.violations
                    .push(format!("{fd} was closed while {op:?} waited on it"));
            }
        }
        let socket = match self.descriptors.close(fd) {
            None => return,
            Some(File::Datagram(mailbox)) => return self.forget_mailbox(fd, &mailbox),
            Some(File::Pipe { pipe, end }) => {
                self.pipes[pipe].close(end);
                if self.pipes[pipe].is_over() {
                    self.pipes.remove(pipe);
                }
                return;
            }
            Some(File::Stream(socket)) => socket,
        };
        if let Some(local) = socket.local.filter(|_| socket.bound) {
            self.names.release(fd, local.port());
        }
        match socket.state {
            State::Idle | State::Failed(_) => {}
            State::Connecting(_) => self.connecting.retain(|connecting| *connecting != fd),
            State::Connected { connection, role } => {
                self.connections[connection].close(role, self.now);
                self.forget_if_over(connection);
            }
            State::Listening { queue, .. } => {
                for connection in queue {
                    self.connections[connection].abort(Role::Server, self.now);
                    self.forget_if_over(connection);
                }
                self.settle_connects();
            }
        }
    }

    pub(super) fn send(&mut self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.descriptors.mailbox(fd).is_some() {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            return self.send_to(fd, &bytes, None);
        }
        match &mut self.descriptors.get_mut(fd)?.state {
            State::Connected { connection, role } => {
                let limit = self.faults.transfer;
                self.connections[*connection].send(*role, slices, limit, self.now)
            }
            State::Connecting(_) => Err(errno(libc::EAGAIN)),
            State::Failed(error) => Err(errno(error.take().unwrap_or(libc::EPIPE))),
            State::Idle | State::Listening { .. } => Err(errno(libc::EPIPE)),
        }
    }

    pub(super) fn receive(&mut self, fd: RawFd, buffer: &mut Buffer<'_>) -> io::Result<usize> {
        if let Some(mailbox) = self.descriptors.mailbox_mut(fd) {
            return mailbox.receive().map(|letter| buffer.append(&letter.bytes));
        }
        match &mut self.descriptors.get_mut(fd)?.state {
            State::Connected { connection, role } => {
                let limit = self.faults.transfer;
                self.connections[*connection].receive(*role, buffer, limit, self.now)
            }
            State::Connecting(_) => Err(errno(libc::EAGAIN)),
            State::Failed(error) => error.take().map_or(Ok(0), |error| Err(errno(error))),
            State::Idle | State::Listening { .. } => Err(errno(libc::ENOTCONN)),
        }
    }

    /// Reads from a pipe's end, or receives: a socket is a file too.
    pub(super) fn read(&mut self, fd: RawFd, buffer: &mut Buffer<'_>) -> io::Result<usize> {
        match *self.descriptors.file(fd)? {
            File::Pipe { pipe, end } => match end {
                PipeEnd::Reader => self.pipes[pipe].read(buffer, self.faults.transfer),
                PipeEnd::Writer => Err(errno(libc::EBADF)),
            },
            File::Stream(_) | File::Datagram(_) => self.receive(fd, buffer),
        }
    }

    /// Writes to a pipe's end, or sends.
    pub(super) fn write(&mut self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self.descriptors.file(fd)? {
            File::Pipe { pipe, end } => match end {
                PipeEnd::Writer => self.pipes[pipe].write(slices, self.faults.transfer),
                PipeEnd::Reader => Err(errno(libc::EBADF)),
            },
            File::Stream(_) | File::Datagram(_) => self.send(fd, slices),
        }
    }

    /// Sends of a file, which is the kernel's own.
    pub(super) fn send_file(
        &mut self,
        fd: RawFd,
        file: RawFd,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        self.descriptors.file(fd)?;
        let mut piece = vec![0; count.min(FILE_PIECE)];
        let count = file::read_at(file, &mut piece, offset)?;
        if count == 0 {
            return Ok(0);
        }
        self.write(fd, &[IoSlice::new(&piece[..count])])
    }

    pub(super) fn kind(&self, fd: RawFd) -> io::Result<file::Kind> {
        Ok(match self.descriptors.file(fd)? {
            File::Pipe { .. } => file::Kind::Pipe,
            File::Stream(_) | File::Datagram(_) => file::Kind::Socket,
        })
    }

    pub(super) fn shutdown_write(&mut self, fd: RawFd) -> io::Result<()> {
        if self.descriptors.mailbox(fd).is_some() {
            return self.shutdown_mailbox(fd);
        }
        let (connection, role) = self.connected(fd)?;
        self.connections[connection].shutdown_write(role, self.now)
    }

    pub(super) fn take_error(&mut self, fd: RawFd) -> io::Result<()> {
        if let Some(mailbox) = self.descriptors.mailbox_mut(fd) {
            return mailbox.take_error();
        }
        match &mut self.descriptors.get_mut(fd)?.state {
            State::Connected { connection, role } => {
                self.connections[*connection].end_mut(*role).take_error()
            }
            State::Failed(error) => error.take().map_or(Ok(()), |error| Err(errno(error))),
            State::Idle | State::Listening { .. } | State::Connecting(_) => Ok(()),
        }
    }

    pub(super) fn set_option(&mut self, fd: RawFd, option: SocketOption) -> io::Result<()> {
        if let Some(mailbox) = self.descriptors.mailbox_mut(fd) {
            match option {
                SocketOption::NoDelay if mailbox.is_unix() => return Err(errno(libc::EOPNOTSUPP)),
                SocketOption::NoDelay => return Err(errno(libc::ENOPROTOOPT)),
                SocketOption::Ipv6Only if !mailbox.is_ipv6() => {
                    return Err(errno(libc::ENOPROTOOPT));
                }
                SocketOption::ReusePort => mailbox.reuse_port = true,
                SocketOption::Broadcast => mailbox.broadcast = true,
                _ => {}
            }
            return Ok(());
        }
        let socket = self.descriptors.get_mut(fd)?;
        match option {
            SocketOption::ReusePort => socket.reuse_port = true,
            SocketOption::Ipv6Only if !socket.ipv6 => return Err(errno(libc::ENOPROTOOPT)),
            // Nothing here depends on the others.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn local_address(&self, fd: RawFd) -> io::Result<SocketAddress> {
        if let Some(mailbox) = self.descriptors.mailbox(fd) {
            return Ok(mailbox.name());
        }
        let socket = self.descriptors.get(fd)?;
        Ok(socket.local.unwrap_or_else(|| socket.any()).into())
    }

    pub(super) fn peer_address(&self, fd: RawFd) -> io::Result<SocketAddress> {
        if let Some(mailbox) = self.descriptors.mailbox(fd) {
            let peer = mailbox.peer.as_ref().map(|peer| peer.address.clone());
            return peer.ok_or_else(|| errno(libc::ENOTCONN));
        }
        let (connection, role) = self.connected(fd)?;
        let connection = &self.connections[connection];
        if connection.end(role).gone {
            return Err(errno(libc::ENOTCONN));
        }
        Ok(connection.end(role.other()).address.into())
    }

    pub(super) fn connected(&self, fd: RawFd) -> io::Result<(usize, Role)> {
        match self.descriptors.get(fd)?.state {
            State::Connected { connection, role } => Ok((connection, role)),
            _ => Err(errno(libc::ENOTCONN)),
        }
    }

    /// `address`, if a socket of this family can have it.
    pub(super) fn address_for(&self, fd: RawFd, address: &SocketAddress) -> io::Result<SocketAddr> {
        internet(self.descriptors.get(fd)?.ipv6, address)
    }

    /// Whether so many descriptors more can be opened.
    fn check_room(&self, count: usize) -> io::Result<()> {
        if self.descriptors.count() + count > self.config.descriptors {
            return Err(errno(libc::EMFILE));
        }
        Ok(())
    }

    fn forget_if_over(&mut self, connection: usize) {
        if self.connections[connection].is_over() {
            self.connections.remove(connection);
        }
    }
}

/// `address`, if it is of this family.
pub(super) fn internet(ipv6: bool, address: &SocketAddress) -> io::Result<SocketAddr> {
    match (ipv6, address.ip()) {
        (true, Some(address @ SocketAddr::V6(_))) => Ok(address),
        (false, Some(address @ SocketAddr::V4(_))) => Ok(address),
        // The kernel finds an IPv4 address too short for an IPv6 one first.
        (true, Some(SocketAddr::V4(_))) => Err(errno(libc::EINVAL)),
        _ => Err(errno(libc::EAFNOSUPPORT)),
    }
}
