//! What `call_soon`, `call_later` and `add_reader` give a Rust caller.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::EventLoop;
use super::inbox::{Inbox, Message};
use super::native::{Callback, OnceCallback};
use super::timers::TimerId;
use crate::reactor::Side;
use crate::sys::clock::Time;

/// A callback that waits for its turn. Dropping the handle lets it be called.
pub struct Handle {
    call: Rc<OnceCallback>,
    cancelled: Cell<bool>,
}

impl Handle {
    fn new(call: impl FnOnce() + 'static) -> (Handle, Callback) {
        let call: Rc<OnceCallback> = Rc::new(Cell::new(Some(Box::new(call))));
        (
            Handle {
                call: Rc::clone(&call),
                cancelled: Cell::new(false),
            },
            Callback::Once(call),
        )
    }

    /// Makes the loop pass the callback over; what it holds is dropped now. Too late, and without
    /// effect, once it was called.
    pub fn cancel(&self) {
        if self.call.take().is_some() {
            self.cancelled.set(true);
        }
    }

    /// Whether [`cancel`](Handle::cancel) came in time.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.cancelled.get()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<Handle{}>",
            if self.cancelled() { " cancelled" } else { "" }
        )
    }
}

/// A callback that waits for its deadline.
pub struct TimerHandle {
    handle: Handle,
    event_loop: EventLoop,
    timer: TimerId,
    when: Time,
}

impl TimerHandle {
    /// Takes the timer back. Too late, and without effect, once it has fired.
    pub fn cancel(&self) {
        self.handle.cancel();
        drop(self.event_loop.cancel_timer(self.timer));
    }

    /// Whether [`cancel`](TimerHandle::cancel) came in time.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.handle.cancelled()
    }

    /// The deadline, on the loop's clock.
    #[must_use]
    pub fn when(&self) -> Time {
        self.when
    }
}

impl fmt::Debug for TimerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cancelled = if self.cancelled() { " cancelled" } else { "" };
        write!(
            f,
            "<TimerHandle{cancelled} when={}>",
            self.when.as_secs_f64()
        )
    }
}

/// The way to a loop from other threads. It does not keep the loop alive.
#[derive(Clone)]
pub struct Remote {
    inbox: Arc<Inbox>,
}

impl Remote {
    /// Calls `call` on the loop's thread, soon.
    ///
    /// # Errors
    /// `NotConnected` when the loop is closed; `call` is dropped then.
    pub fn call_soon(&self, call: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.inbox
            .send(Message::Call(Box::new(call)))
            .map_err(|_| io::Error::new(io::ErrorKind::NotConnected, "the event loop is closed"))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Remote>")
    }
}

impl EventLoop {
    /// Calls `call` in the next iteration, after what is queued already.
    pub fn call_soon(&self, call: impl FnOnce() + 'static) -> Handle {
        let (handle, callback) = Handle::new(call);
        self.queue(callback);
        handle
    }

    /// Calls `call` after `delay`; never early.
    pub fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> TimerHandle {
        self.call_at(self.time() + delay, call)
    }

    /// Calls `call` at `when` on the loop's clock; never early. Equal deadlines keep their order.
    pub fn call_at(&self, when: Time, call: impl FnOnce() + 'static) -> TimerHandle {
        let (handle, callback) = Handle::new(call);
        let timer = self.queue_at(when, callback);
        TimerHandle {
            handle,
            event_loop: self.clone(),
            timer,
            when,
        }
    }

    /// The way to this loop from other threads: asyncio's `call_soon_threadsafe`.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote {
            inbox: Arc::clone(&self.core.inbox),
        }
    }

    /// Calls `call` whenever `fd` can be read, until [`remove_reader`](EventLoop::remove_reader). The
    /// descriptor must stay open until then.
    ///
    /// # Errors
    /// `ResourceBusy` when a transport uses the descriptor, `EBADF` when it is not open, `EPERM`
    /// when it cannot be waited for (a regular file).
    pub fn add_reader(&self, fd: &impl AsRawFd, call: impl FnMut() + 'static) -> io::Result<()> {
        self.add_callback(fd.as_raw_fd(), Side::Read, call)
    }

    /// Takes a reader back. True when there was one.
    pub fn remove_reader(&self, fd: &impl AsRawFd) -> bool {
        self.remove_poll(fd.as_raw_fd(), Side::Read)
    }

    /// Calls `call` whenever `fd` can be written, until [`remove_writer`](EventLoop::remove_writer). The
    /// descriptor must stay open until then.
    ///
    /// # Errors
    /// As [`add_reader`](EventLoop::add_reader).
    pub fn add_writer(&self, fd: &impl AsRawFd, call: impl FnMut() + 'static) -> io::Result<()> {
        self.add_callback(fd.as_raw_fd(), Side::Write, call)
    }

    /// Takes a writer back. True when there was one.
    pub fn remove_writer(&self, fd: &impl AsRawFd) -> bool {
        self.remove_poll(fd.as_raw_fd(), Side::Write)
    }

    fn add_callback(&self, fd: RawFd, side: Side, call: impl FnMut() + 'static) -> io::Result<()> {
        if self.user_of(fd).is_some() {
            let message = format!("descriptor {fd} is used by a transport");
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        let callback = Callback::Repeated(Rc::new(RefCell::new(call)));
        self.add_poll(fd, side, callback).map(|_replaced| ())
    }
}
