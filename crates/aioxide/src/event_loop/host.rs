//! What the engine asks of the language that its callbacks are written in.
//!
//! The engine decides *when* something is called; a host knows *how*. The Rust host
//! ([`Native`](super::native::Native)) runs closures and catches panics. The Python host, in the
//! binding, runs handles in their contexts, knows exceptions that must leave the loop, and lets
//! other threads run while the loop sleeps.

use std::borrow::Cow;
use std::fmt::Debug;
use std::io;
use std::time::Duration;

use super::EventLoop;
use crate::sys::clock::Time;

/// A language's side of the event loop.
pub trait Host: Sized + 'static {
    /// What `call_soon`, `call_later` and `add_reader` queue.
    type Callback: 'static;
    /// Bytes that a transport's queue keeps without copying them.
    type Payload: AsRef<[u8]> + 'static;
    /// What waits for a descriptor and then makes an attempt of its own: see
    /// [`add_operation`](EventLoop::add_operation).
    type Operation: 'static;
    /// Why a callback failed or a connection was lost.
    type Error: From<io::Error> + Debug + 'static;

    /// Runs a callback; one that is cancelled is passed over. What the callback raises is the
    /// host's to report.
    ///
    /// # Errors
    /// Only an error that must leave the loop at once (Python's `KeyboardInterrupt`).
    fn run(&self, callback: &Self::Callback) -> Result<(), Self::Error>;

    /// The same for a callback that the loop gives up: nobody runs it again.
    ///
    /// # Errors
    /// As [`run`](Host::run).
    fn run_last(&self, callback: Self::Callback) -> Result<(), Self::Error> {
        self.run(&callback)
    }

    /// Attempts what an operation is for. One that would block waits again.
    ///
    /// # Errors
    /// As [`run`](Host::run).
    fn attempt(&self, operation: &Self::Operation) -> Result<(), Self::Error>;

    /// Whether an error must leave the loop at once instead of being reported.
    fn escapes(&self, error: &Self::Error) -> bool;

    /// The same error again: a failed handshake is told more than once.
    fn same_error(&self, error: &Self::Error) -> Self::Error;

    /// Sleeps, by calling `sleep` once. Other threads may use the loop meanwhile if the host
    /// lets them.
    fn around_sleep(&self, sleep: &mut dyn FnMut());

    /// A signal ended a sleep.
    ///
    /// # Errors
    /// When the program's handler of that signal raised: it leaves the loop.
    fn interrupted(&self) -> Result<(), Self::Error>;

    /// The time on a clock of the program's own, if it has put one in the place of the reactor's. It
    /// says when timers are due; the loop still sleeps by the reactor's.
    ///
    /// # Errors
    /// When the clock raised: it leaves the loop.
    fn time(&self) -> Result<Option<Time>, Self::Error> {
        Ok(None)
    }

    /// The loop starts (`true`) or stops (`false`) running on this thread.
    fn running(&self, event_loop: &EventLoop<Self>, running: bool);

    /// The loop was closed. Transports that the program has left open are still open: a host
    /// whose language has no garbage collector abandons them here.
    fn closed(&self, event_loop: &EventLoop<Self>) {
        let _ = event_loop;
    }

    /// Something failed that nobody awaits: the exception handler's business.
    fn report(&self, event_loop: &EventLoop<Self>, report: Report<Self::Error>);

    /// In debug mode, `what` took longer than the slow-callback duration.
    fn slow(&self, what: Slow<'_, Self>, took: Duration);
}

/// What an exception handler is told.
#[derive(Debug)]
pub struct Report<E> {
    /// What was being done, as a sentence.
    pub message: Cow<'static, str>,
    /// Why it failed.
    pub error: Option<E>,
    /// What it was done to: a transport, a listening socket, a task.
    pub subject: Option<String>,
}

/// What was slow.
pub enum Slow<'a, H: Host> {
    /// A callback of the program.
    Callback(&'a H::Callback),
    /// A step of the engine's own: a transport's or a task's.
    Step(&'static str),
}
