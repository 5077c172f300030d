//! Tasks: Rust futures that the loop polls.
//!
//! ```text
//! spawn ─▶ queued ─▶ polled ─┬─▶ done
//!            ▲               └─▶ waiting ──(its waker, from any thread)──▶ queued
//! cancel: the future is dropped, wherever it stands.
//! ```
//!
//! The loop owns the futures; a waker owns a name and the way to the inbox. So wakers go to any
//! thread while futures stay on theirs, without a line of `unsafe`.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use slab::Slab;

use super::host::{Host, Report};
use super::inbox::{Inbox, Message};
use super::native::panic_message;
use super::{EventLoop, Ready};

/// Names a task in its loop. Never reused: a stale waker wakes nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskId {
    slot: usize,
    sequence: u64,
}

type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

/// The tasks of one loop.
#[derive(Default)]
pub(super) struct Tasks {
    slots: RefCell<Slab<Slot>>,
    next_sequence: std::cell::Cell<u64>,
}

struct Slot {
    sequence: u64,
    /// Taken out while it is polled, so that it may spawn and cancel tasks, itself included.
    future: Option<LocalFuture>,
    waker: Arc<TaskWaker>,
}

impl Tasks {
    /// Takes every future out, for its drop.
    pub(super) fn drain(&self) -> Vec<LocalFuture> {
        let slots: Vec<Slot> = self.slots.borrow_mut().drain().collect();
        slots.into_iter().filter_map(|slot| slot.future).collect()
    }

    fn insert(&self, future: LocalFuture, inbox: &Arc<Inbox>) -> TaskId {
        let sequence = self.next_sequence.get();
        self.next_sequence.set(sequence + 1);
        let mut slots = self.slots.borrow_mut();
        let entry = slots.vacant_entry();
        let id = TaskId {
            slot: entry.key(),
            sequence,
        };
        let waker = TaskWaker {
            id,
            inbox: Arc::clone(inbox),
            queued: AtomicBool::new(true),
        };
        entry.insert(Slot {
            sequence,
            future: Some(future),
            waker: Arc::new(waker),
        });
        id
    }

    /// Takes the future of a task that is about to be polled.
    fn begin(&self, id: TaskId) -> Option<(LocalFuture, Arc<TaskWaker>)> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots
            .get_mut(id.slot)
            .filter(|slot| slot.sequence == id.sequence)?;
        Some((slot.future.take()?, Arc::clone(&slot.waker)))
    }

    /// Puts the future back after a poll that left it waiting; gives it back for its drop when
    /// the task was cancelled meanwhile.
    fn put_back(&self, id: TaskId, future: LocalFuture) -> Option<LocalFuture> {
        let mut slots = self.slots.borrow_mut();
        match slots
            .get_mut(id.slot)
            .filter(|slot| slot.sequence == id.sequence)
        {
            Some(slot) => slot.future.replace(future),
            None => Some(future),
        }
    }

    fn remove(&self, id: TaskId) -> Option<LocalFuture> {
        let mut slots = self.slots.borrow_mut();
        slots
            .get(id.slot)
            .filter(|slot| slot.sequence == id.sequence)?;
        slots.remove(id.slot).future
    }
}

struct TaskWaker {
    id: TaskId,
    inbox: Arc<Inbox>,
    /// Whether the task stands in a queue already: a second wake adds nothing.
    queued: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            // A closed loop polls nothing any more.
            let _ = self.inbox.send(Message::Wake(self.id));
        }
    }
}

impl<H: Host> EventLoop<H> {
    /// Runs `future` on the loop as a task. Dropping the [`Task`] lets it run on; only
    /// [`cancel`](Task::cancel) ends it early.
    ///
    /// A panic ends the task, not the loop: whoever awaits the task gets [`TaskError::Panicked`],
    /// and the exception handler is told when nobody does.
    pub fn spawn<F>(&self, future: F) -> Task<F::Output, H>
    where
        F: Future + 'static,
    {
        let outcome = Rc::new(Outcome::<F::Output> {
            state: RefCell::default(),
        });
        let run = {
            let outcome = Unfinished(Rc::clone(&outcome));
            let event_loop = self.clone();
            async move {
                let result = catch_panics(future).await;
                // The task holds one reference; the other is the awaiter's, if there is one.
                if let Err(TaskError::Panicked(message)) = &result
                    && Rc::strong_count(&outcome.0) == 1
                {
                    event_loop.report(Report {
                        message: "Task panicked and nobody awaits it".into(),
                        error: Some(io::Error::other(message.clone()).into()),
                        subject: None,
                    });
                }
                outcome.0.finish(result);
            }
        };
        // On a closed loop the future is dropped at once, and the task is a cancelled one.
        let id = self.core.tasks.insert(Box::pin(run), &self.core.inbox);
        if self.is_closed() {
            self.cancel_tasks();
        }
        self.core.push(Ready::Task(id));
        Task {
            id,
            outcome,
            event_loop: self.clone(),
        }
    }

    /// Drops every task's future now, as [`Task::cancel`] does.
    pub fn cancel_tasks(&self) {
        drop(self.core.tasks.drain());
    }

    pub(super) fn poll_task(&self, id: TaskId) {
        let Some((mut future, waker)) = self.core.tasks.begin(id) else {
            return;
        };
        waker.queued.store(false, Ordering::Release);
        let waker = Waker::from(waker);
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => drop(self.core.tasks.remove(id)),
            // Dropped here, with no borrow held.
            Poll::Pending => drop(self.core.tasks.put_back(id, future)),
        }
    }
}

/// `future`'s result; its panic is an error like any other.
pub(crate) async fn catch_panics<F: Future>(future: F) -> Result<F::Output, TaskError> {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| {
        let polled = panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(TaskError::Panicked(panic_message(&*panic)))),
        }
    })
    .await
}

/// A future that runs on the loop. Await it for its result.
pub struct Task<T, H: Host = super::native::Native> {
    id: TaskId,
    outcome: Rc<Outcome<T>>,
    event_loop: EventLoop<H>,
}

/// Why a task has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// [`Task::cancel`] ended it.
    Cancelled,
    /// It panicked, with this message.
    Panicked(String),
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Cancelled => write!(f, "the task was cancelled"),
            TaskError::Panicked(message) => write!(f, "the task panicked: {message}"),
        }
    }
}

impl std::error::Error for TaskError {}

impl From<TaskError> for io::Error {
    fn from(error: TaskError) -> Self {
        io::Error::other(error)
    }
}

struct Outcome<T> {
    state: RefCell<OutcomeState<T>>,
}

enum OutcomeState<T> {
    Running(Option<Waker>),
    Finished(Result<T, TaskError>),
    Taken,
}

impl<T> Default for OutcomeState<T> {
    fn default() -> Self {
        OutcomeState::Running(None)
    }
}

impl<T> Outcome<T> {
    /// Only the first result counts: a task that cancels itself goes on to its next await.
    fn finish(&self, result: Result<T, TaskError>) {
        let mut state = self.state.borrow_mut();
        if let OutcomeState::Running(waker) = &mut *state {
            let waker = waker.take();
            *state = OutcomeState::Finished(result);
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn take(&self) -> Option<Result<T, TaskError>> {
        let mut state = self.state.borrow_mut();
        if !matches!(*state, OutcomeState::Finished(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, OutcomeState::Taken) {
            OutcomeState::Finished(result) => Some(result),
            OutcomeState::Running(_) | OutcomeState::Taken => None,
        }
    }
}

/// The task's own reference to its outcome: a task that is dropped before its end was cancelled.
struct Unfinished<T>(Rc<Outcome<T>>);

impl<T> Drop for Unfinished<T> {
    fn drop(&mut self) {
        self.0.finish(Err(TaskError::Cancelled));
    }
}

impl<T, H: Host> Task<T, H> {
    /// Drops the task's future now. Whoever awaits the task gets [`TaskError::Cancelled`].
    /// False when it had ended already.
    pub fn cancel(&self) -> bool {
        if self.is_finished() {
            return false;
        }
        let future = self.event_loop.core.tasks.remove(self.id);
        self.outcome.finish(Err(TaskError::Cancelled));
        drop(future);
        true
    }

    /// Its result, once it has ended; once.
    #[must_use]
    pub fn take_result(&self) -> Option<Result<T, TaskError>> {
        self.outcome.take()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !matches!(*self.outcome.state.borrow(), OutcomeState::Running(_))
    }
}

impl<T, H: Host> Future for Task<T, H> {
    type Output = Result<T, TaskError>;

    /// A task that is awaited again after its result was taken stays pending.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = self.outcome.take() {
            return Poll::Ready(result);
        }
        if let OutcomeState::Running(waker) = &mut *self.outcome.state.borrow_mut() {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl<T, H: Host> fmt::Debug for Task<T, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_finished() {
            "finished"
        } else {
            "running"
        };
        write!(f, "<Task {state}>")
    }
}
