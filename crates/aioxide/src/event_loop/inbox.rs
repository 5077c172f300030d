//! What other threads send to a loop: the only part of it that they touch.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::reactor::Waker;

use super::task::TaskId;

/// Something sent to the loop's thread.
pub(super) enum Message {
    /// Call this.
    Call(Box<dyn FnOnce() + Send>),
    /// Poll this task again.
    Wake(TaskId),
}

/// The queue of messages.
pub(super) struct Inbox {
    state: Mutex<State>,
    /// Whether `state` has messages: written with its lock held. For a look that needs no lock, and may
    /// be a moment late: every wait is followed by one that takes it.
    some: AtomicBool,
    waker: Arc<dyn Waker>,
}

#[derive(Default)]
struct State {
    messages: Vec<Message>,
    /// Set when the loop is closed: what comes later is dropped.
    closed: bool,
}

impl Inbox {
    pub(super) fn new(waker: Arc<dyn Waker>) -> Inbox {
        Inbox {
            state: Mutex::default(),
            some: AtomicBool::new(false),
            waker,
        }
    }

    /// Sends a message and wakes the loop; gives it back when the loop is closed.
    pub(super) fn send(&self, message: Message) -> Result<(), Message> {
        {
            let mut state = self.lock();
            if state.closed {
                return Err(message);
            }
            state.messages.push(message);
            self.some.store(true, Ordering::Release);
        }
        self.waker.wake();
        Ok(())
    }

    /// Whether a message has come. Cheap, and only a hint.
    #[inline]
    pub(super) fn has_messages(&self) -> bool {
        self.some.load(Ordering::Acquire)
    }

    /// Takes all messages, oldest first. `spare` is an empty vector whose memory is used next.
    pub(super) fn take(&self, spare: Vec<Message>) -> Vec<Message> {
        let mut state = self.lock();
        if state.messages.is_empty() {
            spare
        } else {
            self.some.store(false, Ordering::Relaxed);
            mem::replace(&mut state.messages, spare)
        }
    }

    /// Refuses what comes from now on, and gives what has come.
    pub(super) fn close(&self) -> Vec<Message> {
        let mut state = self.lock();
        state.closed = true;
        mem::take(&mut state.messages)
    }

    /// No code that could panic runs under this lock, so a poisoned one is as good as another.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
