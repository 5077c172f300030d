//! Signals as callbacks of the loop: asyncio's `add_signal_handler`.
//!
//! ```text
//! signal ─▶ C handler ─▶ pipe ─▶ reactor ─▶ Listener ─▶ queue ─▶ the program's callback
//! └── on any thread ────────┘    └──────────── on the loop's thread ─────────────────┘
//! ```
//!
//! The C handlers, and the pipe, are those of [`sys::signals`](crate::sys::signals). Each loop that
//! handles signals has a pipe of its own, so several loops are told of the same signal.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use crate::event_loop::EventLoop;
use crate::event_loop::sources::Ready;
use crate::reactor::{Op, Side, Token};
use crate::sys::signals::{Hearing, Signal, SignalPipe};

/// Numbers that are read from the pipe at once.
const AT_ONCE: usize = 1024;

/// The signals of one loop.
#[derive(Default)]
struct Signals {
    /// Invariant: not empty exactly when there is a listener. Dropped before its pipe.
    handlers: RefCell<BTreeMap<Signal, Handler>>,
    listener: RefCell<Option<(Rc<Listener>, Token)>>,
}

struct Handler {
    call: Rc<RefCell<dyn FnMut()>>,
    hearing: Rc<Hearing>,
}

/// Waits for the pipe.
struct Listener(SignalPipe);

impl EventLoop {
    /// Calls `call` in the loop whenever `signal` comes, in the place of the callback before, if
    /// any. Handlers of other loops are called as well.
    ///
    /// A signal that comes while the loop does not run is told in the next run. The kernel makes
    /// one of several equal signals that wait to be delivered (real-time signals excepted); each
    /// that was delivered is a call.
    ///
    /// ```
    /// use aioxide::{EventLoop, Signal};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let event_loop = EventLoop::new()?;
    /// let stopped = event_loop.create_future();
    /// for signal in [Signal::INT, Signal::TERM] {
    ///     let stopped = stopped.clone();
    ///     event_loop.add_signal_handler(signal, move || {
    ///         let _ = stopped.set_result(signal); // The second signal finds it done.
    ///     })?;
    /// }
    /// # signal_hook::low_level::raise(Signal::TERM.0)?;
    /// let signal = event_loop.run(async move { stopped.await })?;
    /// assert_eq!(signal.unwrap(), Signal::TERM);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when there is no such signal, or it is none that can be caught (`SIGKILL`,
    /// `SIGSTOP`), or none that a loop can handle (`SIGSEGV`, `SIGFPE`, `SIGILL`); `EMFILE` or
    /// `ENFILE`; when the loop is closed, or its reactor is not the kernel's.
    pub fn add_signal_handler(
        &self,
        signal: Signal,
        call: impl FnMut() + 'static,
    ) -> io::Result<()> {
        let signals = self.kept::<Signals>();
        let handler = Handler {
            hearing: signals.hearing(self, signal)?,
            call: Rc::new(RefCell::new(call)),
        };
        let replaced = signals.handlers.borrow_mut().insert(signal, handler);
        drop(replaced);
        Ok(())
    }

    /// Takes the callback of [`add_signal_handler`](EventLoop::add_signal_handler) back, at once: a
    /// signal that has come and was not told is forgotten. True when there was one.
    ///
    /// When no loop handles the signal any more, it does what it did before: what it does by default
    /// above all, so that a second Ctrl-C ends a program that has removed its handler at the first.
    /// (A real-time signal is ignored from then on.)
    pub fn remove_signal_handler(&self, signal: Signal) -> bool {
        let signals = self.kept::<Signals>();
        let removed = signals.handlers.borrow_mut().remove(&signal);
        signals.listen_no_more(self);
        removed.is_some()
    }
}

impl Signals {
    fn hearing(&self, event_loop: &EventLoop, signal: Signal) -> io::Result<Rc<Hearing>> {
        if let Some(handler) = self.handlers.borrow().get(&signal) {
            return Ok(Rc::clone(&handler.hearing));
        }
        let hearing = self.listener(event_loop)?.0.hear(signal);
        if hearing.is_err() {
            self.listen_no_more(event_loop);
        }
        hearing.map(Rc::new)
    }

    fn listener(&self, event_loop: &EventLoop) -> io::Result<Rc<Listener>> {
        if let Some((listener, _)) = &*self.listener.borrow() {
            return Ok(Rc::clone(listener));
        }
        let listener = Rc::new(Listener(SignalPipe::new()?));
        let fd = listener.0.as_raw_fd();
        let token = event_loop.watch(fd, Op::PollRead, Rc::clone(&listener) as Rc<dyn Ready>)?;
        let listening = (Rc::clone(&listener), token);
        self.listener.replace(Some(listening));
        Ok(listener)
    }

    /// Closes the pipe when there are no handlers.
    fn listen_no_more(&self, event_loop: &EventLoop) {
        if self.handlers.borrow().is_empty()
            && let Some((listener, token)) = self.listener.take()
        {
            event_loop.unwatch(token);
            drop(listener);
        }
    }

    fn call(&self, signal: Signal) {
        let call = self
            .handlers
            .borrow()
            .get(&signal)
            .map(|handler| Rc::clone(&handler.call));
        // Never borrowed by another call: a loop does not run inside its own callbacks.
        if let Some(call) = call
            && let Ok(mut call) = call.try_borrow_mut()
        {
            call();
        }
    }
}

impl Ready for Listener {
    fn ready(&self, _side: Side) {
        let Some(event_loop) = EventLoop::running() else {
            return;
        };
        let mut numbers = [0; AT_ONCE];
        while let Ok(count @ 1..) = self.0.read(&mut numbers) {
            for number in &numbers[..count] {
                let signal = Signal(i32::from(*number));
                let signals = event_loop.kept::<Signals>();
                event_loop.call_soon(move || signals.call(signal));
            }
        }
    }

    fn name(&self) -> &'static str {
        "signal"
    }
}
