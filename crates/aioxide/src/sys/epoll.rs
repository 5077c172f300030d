//! The readiness queue.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
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

    /// Both sides.
    pub const BOTH: Readiness = Readiness {
        read: true,
        write: true,
    };

    fn flags(self, trigger: Trigger) -> epoll::EventFlags {
        let mut flags = match trigger {
            Trigger::Level => epoll::EventFlags::empty(),
            Trigger::Edge => epoll::EventFlags::ET,
            Trigger::EdgeAndEnds => {
                epoll::EventFlags::ET | epoll::EventFlags::RDHUP | epoll::EventFlags::PRI
            }
        };
        flags.set(epoll::EventFlags::IN, self.read);
        flags.set(epoll::EventFlags::OUT, self.write);
        flags
    }

    /// A hang-up or an error makes both sides ready: whichever tries next learns of it. This is
    /// the rule of CPython's `selectors.EpollSelector`. A peer that sends no more, and urgent data, are
    /// the reader's.
    fn from_flags(flags: epoll::EventFlags) -> Readiness {
        let readers = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::PRI;
        Readiness {
            read: flags.intersects(!epoll::EventFlags::OUT),
            write: flags.intersects(!readers),
        }
    }
}

/// When the kernel tells that a descriptor is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// In every wait, as long as it is.
    Level,
    /// In one wait, when it has become so, and once at the time when it is said what to watch for.
    Edge,
    /// As `Edge`; and also when the peer sends no more, or has sent something urgent.
    EdgeAndEnds,
}

/// What the kernel tells of a registration.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The registration's data.
    pub data: u64,
    /// What the descriptor is ready for.
    pub readiness: Readiness,
    /// Whether there is more to it than bytes and room: an end, an error, something urgent.
    pub unusual: bool,
}

/// The kernel's events of one wait.
pub struct Events(Vec<epoll::Event>);

impl Events {
    /// Room for `capacity` events.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Events {
        Events(Vec::with_capacity(capacity))
    }

    /// The events.
    pub fn iter(&self) -> impl Iterator<Item = Told> + '_ {
        self.0.iter().map(|event| {
            let flags = event.flags;
            Told {
                data: event.data.u64(),
                readiness: Readiness::from_flags(flags),
                unusual: flags.intersects(!(epoll::EventFlags::IN | epoll::EventFlags::OUT)),
            }
        })
    }
}

/// One epoll instance.
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
    pub fn add(
        &self,
        fd: RawFd,
        data: u64,
        interest: Readiness,
        trigger: Trigger,
    ) -> io::Result<()> {
        let data = epoll::EventData::new_u64(data);
        let flags = interest.flags(trigger);
        Ok(epoll::add(&self.0, borrow(fd)?, data, flags)?)
    }

    /// Changes what `fd` is watched for.
    ///
    /// # Errors
    /// `EBADF` for a closed descriptor, `ENOENT` for one that is not watched.
    pub fn modify(
        &self,
        fd: RawFd,
        data: u64,
        interest: Readiness,
        trigger: Trigger,
    ) -> io::Result<()> {
        let data = epoll::EventData::new_u64(data);
        let flags = interest.flags(trigger);
        Ok(epoll::modify(&self.0, borrow(fd)?, data, flags)?)
    }

    /// Stops watching `fd`.
    ///
    /// # Errors
    /// `EBADF` for a closed descriptor, `ENOENT` for one that is not watched.
    pub fn delete(&self, fd: RawFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, borrow(fd)?)?)
    }

    /// Fills `events`, at most to its capacity, sleeping until there is one or `timeout` is over
    /// (`None` is for ever).
    ///
    /// A timeout is kept to the nanosecond by `epoll_pwait2` (Linux 5.11). Where that is missing,
    /// or kept from the process, it is rounded up to milliseconds.
    ///
    /// # Errors
    /// `EINTR` when a signal came first.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.0.clear();
        let spare: &mut [MaybeUninit<epoll::Event>] = events.0.spare_capacity_mut();
        let count = match timeout {
            Some(timeout) if !timeout.is_zero() && !PWAIT2_MISSING.load(Ordering::Relaxed) => {
                match self.wait_precisely(spare, timeout) {
                    // EPERM is what filters of system calls answer.
                    Err(error)
                        if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) =>
                    {
                        PWAIT2_MISSING.store(true, Ordering::Relaxed);
                        self.wait_roughly(spare, Some(timeout))?
                    }
                    waited => waited?,
                }
            }
            timeout => self.wait_roughly(spare, timeout)?,
        };
        // SAFETY: the kernel has written the first `count` events, and `count` is at most the
        // spare capacity.
        unsafe { events.0.set_len(count) };
        Ok(())
    }

    fn wait_precisely(
        &self,
        spare: &mut [MaybeUninit<epoll::Event>],
        timeout: Duration,
    ) -> io::Result<usize> {
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let capacity = libc::c_int::try_from(spare.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the kernel writes at most `capacity` events to `spare`, whose type has the layout
        // of its own (rustix passes it on likewise), and reads the timeout; there is no signal mask.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.0.as_raw_fd(),
                spare.as_mut_ptr(),
                capacity,
                &raw const timeout,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    fn wait_roughly(
        &self,
        spare: &mut [MaybeUninit<epoll::Event>],
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        let timeout = timeout.map(|timeout| {
            let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
            // The most that the older system call takes is 24 days; whoever waits for longer is
            // woken early and waits again.
            let milliseconds = i64::try_from(milliseconds)
                .unwrap_or(i64::MAX)
                .min(i32::MAX.into());
            Timespec {
                tv_sec: milliseconds / 1000,
                tv_nsec: milliseconds % 1000 * 1_000_000,
            }
        });
        Ok(epoll::wait(self.0.as_fd(), spare, timeout.as_ref())?
            .0
            .len())
    }
}

/// Whether the process cannot use `epoll_pwait2`.
static PWAIT2_MISSING: AtomicBool = AtomicBool::new(false);
