//! The table of open sockets.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use super::end::Role;
use super::errno;
use super::network::Network;
use crate::sys::clock::Time;

/// The lowest simulated descriptor. Kernels number from 0 and stop at `fs.nr_open` (2^20 by
/// default): a descriptor that strays from one network into the other is `EBADF` there.
pub const FIRST_DESCRIPTOR: RawFd = 1 << 20;

/// A socket that is open.
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

/// The sockets by descriptor. A new one gets the lowest number that is free, as a kernel's does:
/// numbers are soon used again, and code that holds on to a closed one is found out.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    slots: Vec<Option<SimulatedSocket>>,
    free: BTreeSet<usize>,
}

impl Descriptors {
    pub(super) fn open(&mut self, socket: SimulatedSocket) -> RawFd {
        let index = self.free.pop_first().unwrap_or(self.slots.len());
        if index == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[index] = Some(socket);
        // A table of 2^31 entries would need 2^38 bytes.
        FIRST_DESCRIPTOR + index as RawFd
    }

    pub(super) fn close(&mut self, fd: RawFd) -> Option<SimulatedSocket> {
        let index = index(fd)?;
        let socket = self.slots.get_mut(index)?.take()?;
        self.free.insert(index);
        Some(socket)
    }

    pub(super) fn get_mut(&mut self, fd: RawFd) -> io::Result<&mut SimulatedSocket> {
        let slot = index(fd).and_then(|index| self.slots.get_mut(index));
        slot.and_then(Option::as_mut)
            .ok_or_else(|| errno(libc::EBADF))
    }

    pub(super) fn get(&self, fd: RawFd) -> io::Result<&SimulatedSocket> {
        let slot = index(fd).and_then(|index| self.slots.get(index));
        slot.and_then(Option::as_ref)
            .ok_or_else(|| errno(libc::EBADF))
    }

    pub(super) fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The open ones, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RawFd, &SimulatedSocket)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            slot.as_ref()
                .map(|socket| (FIRST_DESCRIPTOR + index as RawFd, socket))
        })
    }
}

/// Closes a simulated descriptor when it is dropped. The network holds none of these, so none is
/// dropped while the network is borrowed.
pub(super) struct Owner {
    pub(super) fd: RawFd,
    pub(super) network: Rc<RefCell<Network>>,
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
