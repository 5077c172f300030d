//! The table of open files: sockets, and the ends of pipes.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use super::end::Role;
use super::errno;
use super::fifo::PipeEnd;
use super::mailbox::Mailbox;
use super::network::Network;
use crate::reactor::Socket;
use crate::sys::clock::Time;

/// The lowest simulated descriptor. Kernels number from 0 and stop at `fs.nr_open` (2^20 by
/// default): a descriptor that strays from one network into the other is `EBADF` there.
pub const FIRST_DESCRIPTOR: RawFd = 1 << 20;

/// What a descriptor stands for.
#[derive(Debug)]
pub(super) enum File {
    /// A socket of TCP.
    Stream(SimulatedSocket),
    /// A socket of datagrams.
    Datagram(Mailbox),
    /// One end of a pipe. Invariant: the pipe lives until both its ends are closed.
    Pipe { pipe: usize, end: PipeEnd },
}

impl From<SimulatedSocket> for File {
    fn from(socket: SimulatedSocket) -> File {
        File::Stream(socket)
    }
}

/// A socket of TCP that is open.
#[derive(Debug)]
pub(super) struct SimulatedSocket {
    pub(super) ipv6: bool,
    /// Set by bind, listen, connect or accept, never cleared.
    pub(super) local: Option<SocketAddr>,
    /// Whether `local` is listed as bound: an accepted socket's is its listener's.
    pub(super) bound: bool,
    pub(super) reuse_port: bool,
    pub(super) state: State,
}

/// What a socket is in.
///
/// ```text
/// idle ─ listen ─▶ listening
///   └─── connect ─▶ connecting ─▶ connected          accept ─▶ connected
///                       └─▶ failed ─ connect ─▶ connecting
/// ```
#[derive(Debug)]
pub(super) enum State {
    Idle,
    /// The queue holds connections whose server end nobody has accepted, oldest first.
    Listening {
        backlog: usize,
        queue: VecDeque<usize>,
    },
    /// Invariant: the descriptor is in the network's list of those that connect.
    Connecting(Attempt),
    /// Invariant: the connection lives until both its ends are closed.
    Connected {
        connection: usize,
        role: Role,
    },
    /// The connect's error, until it is reported. Reads as an end, as on Linux.
    Failed(Option<i32>),
}

/// A connect that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) to: SocketAddr,
    /// How long a segment travels on this connection.
    pub(super) latency: Duration,
    /// When the peer's answer is there: not before it does anything happen.
    pub(super) answers: Time,
    /// When the kernel would stop asking.
    pub(super) gives_up: Time,
}

impl SimulatedSocket {
    pub(super) fn new(ipv6: bool) -> SimulatedSocket {
        SimulatedSocket {
            ipv6,
            local: None,
            bound: false,
            reuse_port: false,
            state: State::Idle,
        }
    }

    /// The family's "any address".
    pub(super) fn any(&self) -> SocketAddr {
        let ip: IpAddr = if self.ipv6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        SocketAddr::new(ip, 0)
    }
}

/// The files by descriptor. A new one gets the lowest number that is free, as a kernel's does:
/// numbers are soon used again, and code that holds on to a closed one is found out.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    slots: Vec<Option<File>>,
    free: BTreeSet<usize>,
}

impl Descriptors {
    pub(super) fn open(&mut self, file: impl Into<File>) -> RawFd {
        let index = self.free.pop_first().unwrap_or(self.slots.len());
        if index == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[index] = Some(file.into());
        // A table of 2^31 entries would need 2^38 bytes.
        FIRST_DESCRIPTOR + index as RawFd
    }

    pub(super) fn close(&mut self, fd: RawFd) -> Option<File> {
        let index = index(fd)?;
        let file = self.slots.get_mut(index)?.take()?;
        self.free.insert(index);
        Some(file)
    }

    pub(super) fn file(&self, fd: RawFd) -> io::Result<&File> {
        let slot = index(fd).and_then(|index| self.slots.get(index));
        slot.and_then(Option::as_ref)
            .ok_or_else(|| errno(libc::EBADF))
    }

    fn file_mut(&mut self, fd: RawFd) -> io::Result<&mut File> {
        let slot = index(fd).and_then(|index| self.slots.get_mut(index));
        slot.and_then(Option::as_mut)
            .ok_or_else(|| errno(libc::EBADF))
    }

    /// The socket of TCP.
    pub(super) fn get(&self, fd: RawFd) -> io::Result<&SimulatedSocket> {
        match self.file(fd)? {
            File::Stream(socket) => Ok(socket),
            other => Err(other.no_stream()),
        }
    }

    /// The socket of TCP.
    pub(super) fn get_mut(&mut self, fd: RawFd) -> io::Result<&mut SimulatedSocket> {
        match self.file_mut(fd)? {
            File::Stream(socket) => Ok(socket),
            other => Err(other.no_stream()),
        }
    }

    /// The socket of datagrams, where `fd` is one.
    pub(super) fn mailbox(&self, fd: RawFd) -> Option<&Mailbox> {
        match self.file(fd) {
            Ok(File::Datagram(mailbox)) => Some(mailbox),
            _ => None,
        }
    }

    /// The socket of datagrams, where `fd` is one.
    pub(super) fn mailbox_mut(&mut self, fd: RawFd) -> Option<&mut Mailbox> {
        match self.file_mut(fd) {
            Ok(File::Datagram(mailbox)) => Some(mailbox),
            _ => None,
        }
    }

    /// The sockets of datagrams, ascending.
    pub(super) fn mailboxes(&self) -> impl Iterator<Item = (RawFd, &Mailbox)> {
        self.iter().filter_map(|(fd, file)| match file {
            File::Datagram(mailbox) => Some((fd, mailbox)),
            _ => None,
        })
    }

    pub(super) fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The open ones, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RawFd, &File)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            slot.as_ref()
                .map(|file| (FIRST_DESCRIPTOR + index as RawFd, file))
        })
    }
}

impl File {
    /// What a call says that is for sockets of TCP alone.
    fn no_stream(&self) -> io::Error {
        errno(match self {
            File::Pipe { .. } => libc::ENOTSOCK,
            File::Stream(_) | File::Datagram(_) => libc::EOPNOTSUPP,
        })
    }
}

/// Closes a simulated descriptor when it is dropped. The network holds none of these, so none is
/// dropped while the network is borrowed.
pub(super) struct Owner {
    fd: RawFd,
    network: Rc<RefCell<Network>>,
}

impl Owner {
    /// The socket that closes `fd` when it is dropped.
    pub(super) fn socket(fd: RawFd, network: &Rc<RefCell<Network>>) -> Socket {
        let network = Rc::clone(network);
        Socket::foreign(fd, Rc::new(Owner { fd, network }))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.network.borrow_mut().close(self.fd);
    }
}

fn index(fd: RawFd) -> Option<usize> {
    usize::try_from(fd.checked_sub(FIRST_DESCRIPTOR)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_next() {
        let mut descriptors = Descriptors::default();
        let [a, b, c] = [(); 3].map(|()| descriptors.open(SimulatedSocket::new(false)));
        assert_eq!(
            (a, b, c),
            (FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + 1, FIRST_DESCRIPTOR + 2)
        );
        assert!(descriptors.close(b).is_some() && descriptors.close(a).is_some());
        assert!(descriptors.close(a).is_none(), "closed once");
        assert_eq!(descriptors.count(), 1);
        assert_eq!(descriptors.open(SimulatedSocket::new(true)), a);
        assert!(descriptors.get(b).is_err() && descriptors.get(c).is_ok());
    }

    #[test]
    fn a_kernel_descriptor_is_not_ours() {
        let descriptors = Descriptors::default();
        for fd in [RawFd::MIN, -1, 0, 3, FIRST_DESCRIPTOR] {
            let error = descriptors
                .get(fd)
                .map(|_| ())
                .map_err(|error| error.raw_os_error());
            assert_eq!(error, Err(Some(libc::EBADF)));
        }
    }
}
