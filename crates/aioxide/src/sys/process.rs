//! When a child process ends, and when this process has become one.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, PidfdFlags, WaitOptions};

fn pid(id: u32) -> io::Result<Pid> {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw);
    id.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// A descriptor that becomes readable when the child `id` has ended; closed on exec (Linux 5.3).
///
/// # Errors
/// `ENOSYS` or `EPERM` where there is no such thing, `EMFILE`; `ESRCH` when there is no such
/// process.
pub fn open(id: u32) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(pid(id)?, PidfdFlags::NONBLOCK)?)
}

/// How the child `id` has ended, without waiting: `None` while it lives. It is a zombie no more
/// when that is known.
///
/// # Errors
/// `ECHILD` when somebody else has been told, or it is no child of this process.
pub fn reap(id: u32) -> io::Result<Option<ExitStatus>> {
    let status = rustix::process::waitpid(Some(pid(id)?), WaitOptions::NOHANG)?;
    Ok(status.map(|(_, status)| ExitStatus::from_raw(status.as_raw())))
}

/// Sleeps until the child `id` has ended; it stays a zombie. For a thread of its own.
///
/// # Errors
/// `ECHILD`, as with [`reap`].
pub fn wait_until_ended(id: u32) -> io::Result<()> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(pid(id)?), options) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// Sends a signal to the child `id`, which was not reaped.
///
/// # Errors
/// `EINVAL` for a number that is no signal; `EPERM`; `ESRCH`.
pub fn kill(id: u32, signal: i32) -> io::Result<()> {
    let id = libc::pid_t::try_from(id).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: the call takes two numbers.
    if unsafe { libc::kill(id, signal) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// How many of the forks that led to this process were counted.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// From now on [`forks`] counts.
///
/// # Errors
/// `ENOMEM`.
pub fn count_forks() -> io::Result<()> {
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static REGISTERED: OnceLock<i32> = OnceLock::new();
    let result = *REGISTERED.get_or_init(|| {
        // SAFETY: the handler does what is allowed between fork(2) and exec(2): it adds to a number. It
        // lives as long as this library, whose end takes it back.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) }
    });
    match result {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// A number that is another one in a child of fork(2): cheaper than to ask the kernel for the
/// process's.
#[must_use]
pub fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}
