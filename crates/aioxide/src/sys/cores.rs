//! Which cores a thread may run on.

use std::io;

use rustix::thread::CpuSet;

/// The cores that this thread may run on, by number.
///
/// # Errors
/// When the machine has more cores than a set has room for (1024).
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|core| set.is_set(*core))
        .collect())
}

/// Lets this thread run on one core only.
///
/// # Errors
/// `EINVAL` when there is no such core, or the process may not use it.
pub fn pin_to(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}
