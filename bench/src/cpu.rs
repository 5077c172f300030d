//! Which core a process runs on, and how much CPU time it has used.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};

/// Keeps this process on one core. Call it before any thread is started: threads inherit the
/// choice.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// The CPU clock of another process: user and system time of all its threads, living or ended, in
/// nanoseconds.
///
/// `/proc/PID/stat` counts in ticks of 10 ms, too coarse for windows of half a second;
/// `/proc/PID/schedstat` is exact but covers the main thread only.
#[derive(Debug, Clone, Copy)]
pub struct ProcessClock(libc::clockid_t);

impl ProcessClock {
    /// Finds the clock of the process with this id.
    pub fn of(pid: libc::pid_t) -> io::Result<Self> {
        let mut clock = 0;
        // SAFETY: `clock` is a valid place for a clockid_t, and the call writes nothing else.
        match unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) } {
            0 => Ok(Self(clock)),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// The clock of this process.
    pub fn own() -> io::Result<Self> {
        Self::of(rustix::process::getpid().as_raw_pid())
    }

    /// CPU time used since the process began. An error once the process is gone.
    pub fn read(self) -> io::Result<Duration> {
        let mut time = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: `time` is a valid place for a timespec, and the call writes nothing else.
        if unsafe { libc::clock_gettime(self.0, time.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: clock_gettime succeeded, so it has filled the timespec.
        let time = unsafe { time.assume_init() };
        // The kernel gives seconds ≥ 0 and 0 ≤ nanoseconds < 10⁹.
        Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_uses_cpu_time() -> io::Result<()> {
        let clock = ProcessClock::own()?;
        let before = clock.read()?;
        let mut sum = 0_u64;
        while clock.read()? < before + Duration::from_millis(1) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0);
        Ok(())
    }
}
