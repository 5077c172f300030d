//! The iteration: the only place where anything is run.
//!
//! ```text
//! 1. decide how long to sleep    not at all while something is ready; else until the next timer
//! 2. wait                        the reactor sleeps, and gives the events of operations
//! 3. queue messages              what other threads sent
//! 4. queue events                in the reactor's order
//! 5. queue timers                those that are due, earliest first
//! 6. run                         what stood in the queue at this moment, not what it adds
//! 7. flush                       what transports were given to write
//! ```
//!
//! The order 4, 5 behind what was ready before is CPython's (`BaseEventLoop._run_once`): programs
//! see the same sequence of callbacks on both loops. Step 6 runs a snapshot, so a chain of
//! `call_soon` cannot keep the loop from its sockets; which iterations of such a chain look at the
//! network at all is said in `looks`. Step 7 turns the many small writes of an
//! iteration into one system call per transport; no write waits longer than its iteration.

use std::io;
use std::mem;
use std::time::Duration;

use crate::sys::clock::Time;

use super::host::{Host, Slow};
use super::inbox::Message;
use super::{EventLoop, Ready, State, Timer};

/// For how many outputs of an iteration the memory of their list is kept for the next: 16 KiB. An
/// iteration handles that many events.
const KEPT_OUTPUTS: usize = 1024;

impl<H: Host> EventLoop<H> {
    /// Runs until [`stop`](EventLoop::stop).
    ///
    /// # Errors
    /// When the loop runs already or is closed; what [`interrupt`](EventLoop::interrupt) was
    /// given; what the reactor could not go on with.
    pub fn run_forever(&self) -> Result<(), H::Error> {
        let refusal = match self.core.state.get() {
            State::Idle => None,
            State::Running => Some("this event loop is already running"),
            State::Closed => Some("the event loop is closed"),
        };
        if let Some(refusal) = refusal {
            return Err(io::Error::other(refusal).into());
        }
        let _running = Running::begin(self);
        loop {
            self.run_once()?;
            if self.core.stopping.get() {
                return Ok(());
            }
        }
    }

    fn run_once(&self) -> Result<(), H::Error> {
        let core = &*self.core;

        // 1. Decide how long to sleep.
        let busy = !core.ready.borrow().is_empty();
        if busy && !core.stopping.get() && !core.looks.is_due(|| core.reactor.now()) {
            // 2. and 4. are left out.
            // 3. Queue messages.
            if core.inbox.has_messages() {
                self.queue_messages();
            }
        } else if busy || core.stopping.get() {
            self.wait(Some(Time::ZERO))?;
        } else {
            core.looks.begin();
            self.wait(self.next_deadline()?)?;
        }

        // 5. Queue timers.
        self.queue_due_timers()?;

        // 6. Run.
        let _iterating = Iterating::begin(self);
        let count = core.ready.borrow().len();
        for _ in 0..count {
            let Some(ready) = core.ready.borrow_mut().pop_front() else {
                break;
            };
            if core.debug.get() {
                self.run_timed(ready)?;
            } else if let Ready::Callback(callback) = ready {
                core.host.run_last(callback)?;
            } else {
                self.run_ready(ready)?;
            }
            if core.interrupted.replace(false)
                && let Some(error) = core.interrupt.take()
            {
                return Err(error);
            }
        }
        // 7. Flush: when `_iterating` ends, however it ends.
        Ok(())
    }

    /// Steps 2 to 4.
    fn wait(&self, deadline: Option<Time>) -> Result<(), H::Error> {
        let core = &*self.core;

        // 2. Wait.
        let mut events = core.events.take();
        let waited = core.reactor.wait(deadline, &mut events, &|sleep| {
            core.host.around_sleep(sleep)
        });

        // 3. Queue messages.
        self.queue_messages();

        // 4. Queue events.
        core.looks.found(events.len());
        if !events.is_empty() {
            let mut ready = core.ready.borrow_mut();
            ready.extend(events.drain(..).map(|event| Ready::Io(event.0)));
        }
        core.events.set(events);
        match waited {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => core.host.interrupted(),
            Err(error) => Err(error.into()),
        }
    }

    fn queue_messages(&self) {
        let mut messages = self.core.inbox.take(self.core.messages.take());
        if !messages.is_empty() {
            let mut ready = self.core.ready.borrow_mut();
            ready.extend(messages.drain(..).map(|message| match message {
                Message::Call(call) => Ready::Step(call),
                Message::Wake(task) => Ready::Task(task),
            }));
        }
        self.core.messages.set(messages);
    }

    /// When the next timer is due, on the reactor's clock.
    fn next_deadline(&self) -> Result<Option<Time>, H::Error> {
        let Some(deadline) = self.core.timers.borrow_mut().next_deadline() else {
            return Ok(None);
        };
        let own = self.core.host.time()?;
        Ok(Some(own.map_or(deadline, |now| {
            self.core.reactor.now() + now.until(deadline)
        })))
    }

    #[inline]
    fn queue_due_timers(&self) -> Result<(), H::Error> {
        if self.core.timers.borrow_mut().next_deadline().is_none() {
            return Ok(());
        }
        let now = self.host_time()?;
        let mut timers = self.core.timers.borrow_mut();
        let mut ready = self.core.ready.borrow_mut();
        while let Some(timer) = timers.pop_due(now) {
            ready.push_back(match timer {
                Timer::Callback(callback) => Ready::Callback(callback),
                Timer::Wake(waker) => Ready::Wake(waker),
            });
        }
        Ok(())
    }

    fn run_ready(&self, ready: Ready<H>) -> Result<(), H::Error> {
        match ready {
            Ready::Callback(callback) => return self.core.host.run_last(callback),
            Ready::Io(token) => return self.run_source(token),
            Ready::Operation(operation) => return self.core.host.attempt(&operation),
            Ready::Task(task) => self.poll_task(task),
            Ready::Wake(waker) => waker.wake(),
            Ready::Step(step) => step(),
        }
        Ok(())
    }

    /// Debug mode's way to run something: by the clock.
    fn run_timed(&self, ready: Ready<H>) -> Result<(), H::Error> {
        let begun = self.time();
        let step = match ready {
            Ready::Callback(callback) => {
                let result = self.core.host.run(&callback);
                self.tell_if_slow(begun, Slow::Callback(&callback));
                return result;
            }
            Ready::Io(token) => return self.run_source_timed(token, begun),
            Ready::Task(_) | Ready::Wake(_) => "task",
            Ready::Operation(_) | Ready::Step(_) => "step",
        };
        let result = self.run_ready(ready);
        self.tell_if_slow(begun, Slow::Step(step));
        result
    }

    pub(super) fn tell_if_slow(&self, begun: Time, what: Slow<'_, H>) {
        let took: Duration = self.time() - begun;
        if took >= self.core.slow_callback_duration.get() {
            self.core.host.slow(what, took);
        }
    }

    fn flush(&self) {
        loop {
            if self.core.unflushed.borrow().is_empty() {
                return;
            }
            let mut unflushed = mem::take(&mut *self.core.unflushed.borrow_mut());
            // Flushing may call `pause_writing`, which may write to others.
            for output in unflushed.drain(..) {
                output.0.flush();
            }
            let mut next = self.core.unflushed.borrow_mut();
            if next.capacity() == 0 && unflushed.capacity() <= KEPT_OUTPUTS {
                *next = unflushed;
            }
        }
    }
}

/// Marks the loop as running, until dropped.
struct Running<'a, H: Host>(&'a EventLoop<H>);

impl<'a, H: Host> Running<'a, H> {
    fn begin(event_loop: &'a EventLoop<H>) -> Self {
        event_loop.core.state.set(State::Running);
        event_loop.core.looks.begin_run();
        event_loop.core.host.running(event_loop, true);
        Running(event_loop)
    }
}

impl<H: Host> Drop for Running<'_, H> {
    fn drop(&mut self) {
        self.0.core.stopping.set(false);
        self.0.core.state.set(State::Idle);
        self.0.core.host.running(self.0, false);
    }
}

/// Marks that callbacks run, until dropped; then sends what they wrote.
struct Iterating<'a, H: Host>(&'a EventLoop<H>);

impl<'a, H: Host> Iterating<'a, H> {
    fn begin(event_loop: &'a EventLoop<H>) -> Self {
        event_loop.core.iterating.set(true);
        Iterating(event_loop)
    }
}

impl<H: Host> Drop for Iterating<'_, H> {
    fn drop(&mut self) {
        self.0.flush();
        self.0.core.iterating.set(false);
    }
}
