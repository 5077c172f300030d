//! The readiness queue.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use super::borrow;

/// What a descriptor is watched for, or is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Bytes, connections, an end or an error can be received.
    pub read: bool,
    /// Bytes can be sent, or a connect is over.
    pub write: bool,
}

impl Readiness {
    /// Nothing at all.
    pub const NONE: Readiness = Readiness {
        read: false,
        write: false,
    };

    fn flags(self) -> epoll::EventFlags {
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN, self.read);
        flags.set(epoll::EventFlags::OUT, self.write);
        flags
    }

    /// A hang-up or an error makes both sides ready: whichever tries next learns of it. This is
    /// the rule of CPython's `selectors.EpollSelector`.
    fn from_flags(flags: epoll::EventFlags) -> Readiness {
        Readiness {
            read: flags.intersects(!epoll::EventFlags::OUT),
            write: flags.intersects(!epoll::EventFlags::IN),
        }
    }
}

/// The kernel's events of one wait.
pub struct Events(Vec<epoll::Event>);

impl Events {
    /// Room for `capacity` events.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Events {
        Events(Vec::with_capacity(capacity))
    }

    /// The events: each registration's data, and what it is ready for.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Readiness)> + '_ {
        self.0.iter().map(|event| {
            let flags = event.flags;
            (event.data.u64(), Readiness::from_flags(flags))
        })
    }
}

/// One epoll instance. Registrations are level-triggered.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// A new instance, closed on exec.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn new() -> io::Result<Epoll> {
        Ok(Epoll(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Starts watching `fd`; its events carry `data`.
    ///
    /// # Errors
    /// `EBADF` for a closed descriptor, `EPERM` for one that is always ready (a regular file),
    /// `EEXIST` for one that is watched already.
    pub fn add(&self, fd: RawFd, data: u64, interest: Readiness) -> io::Result<()> {
        let data = epoll::EventData::new_u64(data);
        Ok(epoll::add(&self.0, borrow(fd)?, data, interest.flags())?)
    }

    /// Changes what `fd` is watched for.
    ///
    /// # Errors
    /// `EBADF` for a closed descriptor, `ENOENT` for one that is not watched.
    pub fn modify(&self, fd: RawFd, data: u64, interest: Readiness) -> io::Result<()> {
        let data = epoll::EventData::new_u64(data);
        Ok(epoll::modify(&self.0, borrow(fd)?, data, interest.flags())?)
    }

    /// Stops watching `fd`.
    ///
    /// # Errors
    /// `EBADF` for a closed descriptor, `ENOENT` for one that is not watched.
    pub fn delete(&self, fd: RawFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, borrow(fd)?)?)
    }

    /// Fills `events`, at most to its capacity, sleeping until there is one or `timeout` (to the
    /// nanosecond; `None` is for ever) is over.
    ///
    /// # Errors
    /// `EINTR` when a signal came first.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        events.0.clear();
        let spare: &mut [MaybeUninit<epoll::Event>] = events.0.spare_capacity_mut();
        let count = epoll::wait(self.0.as_fd(), spare, timeout.as_ref())?
            .0
            .len();
        // SAFETY: the kernel has written the first `count` events, and `count` is at most the
        // spare capacity.
        unsafe { events.0.set_len(count) };
        Ok(())
    }
}
