//! What a test lets go wrong.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;

use super::errno;

/// A call that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Reactor::open`](crate::reactor::Reactor::open)
    Open,
    /// [`Reactor::bind`](crate::reactor::Reactor::bind)
    Bind,
    /// [`Reactor::listen`](crate::reactor::Reactor::listen)
    Listen,
    /// [`Reactor::connect`](crate::reactor::Reactor::connect), at once. For a failure that is
    /// learned later see [`fail_connects`](super::SimulatedNetwork::fail_connects).
    Connect,
    /// [`Reactor::accept`](crate::reactor::Reactor::accept)
    Accept,
    /// [`Reactor::receive`](crate::reactor::Reactor::receive), and likewise
    /// [`read`](crate::reactor::Reactor::read) and
    /// [`receive_datagrams`](crate::reactor::Reactor::receive_datagrams).
    Receive,
    /// [`Reactor::send`](crate::reactor::Reactor::send), and likewise
    /// [`write`](crate::reactor::Reactor::write), [`send_to`](crate::reactor::Reactor::send_to),
    /// each datagram of [`send_datagrams`](crate::reactor::Reactor::send_datagrams), and
    /// [`send_file`](crate::reactor::Reactor::send_file).
    Send,
    /// [`Reactor::shutdown_write`](crate::reactor::Reactor::shutdown_write)
    ShutdownWrite,
    /// [`Reactor::set_option`](crate::reactor::Reactor::set_option)
    SetOption,
    /// [`Reactor::submit`](crate::reactor::Reactor::submit)
    Submit,
    /// [`Reactor::wait`](crate::reactor::Reactor::wait)
    Wait,
}

/// What is to go wrong.
#[derive(Debug)]
pub(super) struct Faults {
    /// Each happens once, the oldest first.
    planned: Vec<Planned>,
    /// How connects to these ports end, until taken back.
    pub(super) ports: BTreeMap<u16, i32>,
    /// The most that one send or receive moves. Never 0.
    pub(super) transfer: usize,
    /// Every how many-th wait of an operation gives a spurious event, by chance; 0 is never.
    pub(super) spurious: u64,
    /// Every how many-th UDP datagram is lost, by chance; 0 is never. Likewise the next two.
    pub(super) lost: u64,
    /// Arrives twice.
    pub(super) doubled: u64,
    /// Is overtaken by others.
    pub(super) delayed: u64,
}

#[derive(Debug)]
struct Planned {
    call: Call,
    /// The one descriptor to fail on; `None` is the next that comes.
    fd: Option<RawFd>,
    errno: i32,
}

impl Planned {
    fn meets(&self, call: Call, fd: RawFd) -> bool {
        self.call == call && self.fd.is_none_or(|planned| planned == fd)
    }
}

impl Faults {
    pub(super) fn none() -> Faults {
        Faults {
            planned: Vec::new(),
            ports: BTreeMap::new(),
            transfer: usize::MAX,
            spurious: 0,
            lost: 0,
            doubled: 0,
            delayed: 0,
        }
    }

    pub(super) fn plan(&mut self, call: Call, fd: Option<RawFd>, errno: i32) {
        self.planned.push(Planned { call, fd, errno });
    }

    /// Lets `call` on `fd` fail if that was planned.
    pub(super) fn check(&mut self, call: Call, fd: RawFd) -> io::Result<()> {
        let due = self
            .planned
            .iter()
            .position(|planned| planned.meets(call, fd));
        match due {
            Some(index) => Err(errno(self.planned.remove(index).errno)),
            None => Ok(()),
        }
    }

    /// Whether the next `call` on `fd` is planned to fail.
    pub(super) fn is_planned(&self, call: Call, fd: RawFd) -> bool {
        self.planned.iter().any(|planned| planned.meets(call, fd))
    }

    /// Whether one of `calls` is planned to fail on this very descriptor. A kernel that has an
    /// error to report makes the descriptor ready, so a waiting operation must learn of it.
    pub(super) fn is_planned_on(&self, fd: RawFd, calls: &[Call]) -> bool {
        self.planned
            .iter()
            .any(|planned| planned.fd == Some(fd) && calls.contains(&planned.call))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planned_fault_happens_once_and_on_its_descriptor() {
        let mut faults = Faults::none();
        faults.plan(Call::Accept, None, libc::EMFILE);
        faults.plan(Call::Send, Some(7), libc::ENOBUFS);
        assert!(
            faults.is_planned_on(7, &[Call::Send]) && !faults.is_planned_on(7, &[Call::Accept])
        );
        let happens = |faults: &mut Faults, call, fd| {
            faults
                .check(call, fd)
                .err()
                .and_then(|error| error.raw_os_error())
        };
        assert_eq!(happens(&mut faults, Call::Send, 8), None);
        assert_eq!(happens(&mut faults, Call::Send, 7), Some(libc::ENOBUFS));
        assert_eq!(happens(&mut faults, Call::Send, 7), None);
        assert_eq!(happens(&mut faults, Call::Accept, 3), Some(libc::EMFILE));
        assert_eq!(happens(&mut faults, Call::Accept, 3), None);
    }
}
