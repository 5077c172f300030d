//! Signals, told through a pipe.
//!
//! *Facts.* A signal interrupts any thread anywhere, so its handler may do next to nothing. A
//! process has one handler for each signal.
//!
//! *Choice.* The handlers are signal-hook's: each calls the actions of everybody who has asked for
//! its signal, several loops and other libraries among them. Our action writes the signal's number
//! to a pipe. A number takes one byte, so 65,536 can wait; one that finds the pipe full is lost,
//! but not the fact that the pipe can be read.
//!
//! signal-hook installs its handlers with `SA_RESTART`: system calls of other threads go on after a
//! signal, where the kernel can do that. (It cannot with `epoll_wait`: a loop's sleep ends, and the
//! loop goes on.)
//!
//! *What follows when nobody listens any more.* signal-hook leaves its handler in place, which
//! would mean that the signal is ignored for good. So a signal that did what it does by default
//! before does that again: a second action sees to it (`Known`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::pipe::PipeFlags;
use signal_hook::SigId;
use signal_hook::low_level;

/// A signal, by its number.
///
/// ```
/// use aioxide::Signal;
///
/// assert_eq!(Signal::TERM.to_string(), "SIGTERM");
/// assert_eq!(Signal::realtime(3).to_string(), "SIGRTMIN+3");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(pub i32);

impl Signal {
    /// The terminal has gone; by custom: read the configuration again.
    pub const HUP: Signal = Signal(libc::SIGHUP);
    /// Ctrl-C.
    pub const INT: Signal = Signal(libc::SIGINT);
    /// Ctrl-\\.
    pub const QUIT: Signal = Signal(libc::SIGQUIT);
    /// The program's to give a meaning.
    pub const USR1: Signal = Signal(libc::SIGUSR1);
    /// The program's to give a meaning.
    pub const USR2: Signal = Signal(libc::SIGUSR2);
    /// A timer of alarm(2) is over.
    pub const ALRM: Signal = Signal(libc::SIGALRM);
    /// End now: it can be sent to a process, and not be caught.
    pub const KILL: Signal = Signal(libc::SIGKILL);
    /// Please end.
    pub const TERM: Signal = Signal(libc::SIGTERM);
    /// A child process has ended.
    pub const CHLD: Signal = Signal(libc::SIGCHLD);
    /// Ctrl-Z.
    pub const TSTP: Signal = Signal(libc::SIGTSTP);
    /// Go on after a stop.
    pub const CONT: Signal = Signal(libc::SIGCONT);
    /// The terminal's window has another size.
    pub const WINCH: Signal = Signal(libc::SIGWINCH);

    /// A real-time signal: `SIGRTMIN` + `offset`.
    #[must_use]
    pub fn realtime(offset: i32) -> Signal {
        Signal(libc::SIGRTMIN().saturating_add(offset))
    }

    /// The byte that stands for the signal in the pipe.
    fn byte(self) -> io::Result<u8> {
        if matches!(self.0, libc::SIGKILL | libc::SIGSTOP) {
            return Err(invalid(format!("{self} cannot be caught")));
        }
        if signal_hook::consts::FORBIDDEN.contains(&self.0) {
            let why = "it tells of an instruction that cannot be executed";
            return Err(invalid(format!(
                "{self} is nothing for an event loop: {why}"
            )));
        }
        u8::try_from(self.0).map_err(|_| self.unknown())
    }

    fn unknown(self) -> io::Error {
        invalid(format!("there is no signal of the number {}", self.0))
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Signal(number) = *self;
        if let Some(name) = low_level::signal_name(number) {
            f.write_str(name)
        } else if (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number) {
            write!(f, "SIGRTMIN+{}", number - libc::SIGRTMIN())
        } else {
            write!(f, "signal {number}")
        }
    }
}

/// A pipe that the numbers of signals are written to when they come.
#[derive(Debug)]
pub struct SignalPipe {
    reader: OwnedFd,
    /// Shared with the actions: it is open as long as one of them may be called.
    writer: Arc<OwnedFd>,
}

impl SignalPipe {
    /// A pipe that hears nothing yet: both ends non-blocking and closed on exec.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE`.
    pub fn new() -> io::Result<SignalPipe> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(SignalPipe {
            reader,
            writer: Arc::new(writer),
        })
    }

    /// Hears `signal` from now on, until the result is dropped.
    ///
    /// # Errors
    /// `InvalidInput` when there is no such signal, or none that can be caught.
    pub fn hear(&self, signal: Signal) -> io::Result<Hearing> {
        let byte = signal.byte()?;
        let mut known = Known::all();
        let known = match known.entry(signal.0) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Known::new(signal)?),
        };
        let writer = Arc::clone(&self.writer);
        let tell = move || {
            // Full: it can be read, which is what counts.
            let _ = rustix::io::write(&writer, &[byte]);
        };
        // SAFETY: the action runs in a signal handler, at any time on any thread. All it does is one
        // write(2), which is async-signal-safe, from memory that never changes: it takes no lock,
        // allocates nothing, frees nothing and cannot panic. signal-hook keeps errno. The writer
        // is dropped with the action, which happens outside of handlers, when none runs any more.
        let action = unsafe { low_level::register(signal.0, tell) }?;
        known.pipes += 1;
        known.unheard.store(false, Ordering::SeqCst);
        Ok(Hearing { signal, action })
    }

    /// Takes the numbers of signals that have come, in their order; how many.
    ///
    /// # Errors
    /// `WouldBlock` when there are none.
    pub fn read(&self, numbers: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(&self.reader, &mut *numbers) {
                Err(rustix::io::Errno::INTR) => {}
                read => return Ok(read?),
            }
        }
    }
}

impl AsRawFd for SignalPipe {
    fn as_raw_fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }
}

/// A pipe's interest in a signal, until dropped.
#[derive(Debug)]
pub struct Hearing {
    signal: Signal,
    action: SigId,
}

impl Drop for Hearing {
    fn drop(&mut self) {
        let mut known = Known::all();
        if let Some(known) = known.get_mut(&self.signal.0) {
            known.pipes -= 1;
            // First: a signal in between does what it will do from now on.
            known.unheard.store(known.pipes == 0, Ordering::SeqCst);
        }
        low_level::unregister(self.action);
    }
}

/// What this process knows of a signal that some pipe has heard.
struct Known {
    /// How many hear it now.
    pipes: usize,
    /// Whether that is none: then the signal does what it does by default.
    unheard: Arc<AtomicBool>,
}

impl Known {
    /// Every signal that was heard once. signal-hook's handler for it stays for good.
    fn all() -> MutexGuard<'static, BTreeMap<i32, Known>> {
        static KNOWN: Mutex<BTreeMap<i32, Known>> = Mutex::new(BTreeMap::new());
        // No code that could panic runs under the lock: a poisoned one is as good as another.
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called before the first pipe hears the signal.
    fn new(signal: Signal) -> io::Result<Known> {
        let unheard = Arc::new(AtomicBool::new(true));
        // Another handler, or one that ignores the signal, goes on when the pipes are gone. The
        // default of real-time signals cannot be had again: they are ignored then.
        if is_default(signal)? && low_level::signal_name(signal.0).is_some() {
            signal_hook::flag::register_conditional_default(signal.0, Arc::clone(&unheard))?;
        }
        Ok(Known { pipes: 0, unheard })
    }
}

/// Whether nobody has installed a handler for the signal.
fn is_default(signal: Signal) -> io::Result<bool> {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: nothing is installed; the kernel writes what there is to `action`.
    let asked = unsafe { libc::sigaction(signal.0, std::ptr::null(), action.as_mut_ptr()) };
    if asked != 0 {
        return Err(signal.unknown());
    }
    // SAFETY: the call has succeeded, so it has filled `action`.
    let action = unsafe { action.assume_init() };
    Ok(action.sa_sigaction == libc::SIG_DFL)
}
