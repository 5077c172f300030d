//! asyncio's `Future`: a result that somebody will set, and callbacks for when it is there.

use std::cell::{Ref, RefCell};
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::EventLoop;

/// A result that is not there yet. Clones are handles to the same future; awaiting one gives a
/// clone of the result.
///
/// ```text
/// pending ─┬─ set_result ────▶ finished
///          ├─ set_exception ─▶ failed
///          └─ cancel ────────▶ cancelled
/// ```
pub struct Future<T> {
    event_loop: EventLoop,
    inner: Rc<RefCell<Inner<T>>>,
}

struct Inner<T> {
    state: State<T>,
    /// Called by `call_soon` when the future is done, in order.
    callbacks: Vec<(CallbackId, DoneCallback<T>)>,
    next_callback: u64,
    wakers: Vec<Waker>,
}

type DoneCallback<T> = Box<dyn FnOnce(&Future<T>)>;

enum State<T> {
    Pending,
    Finished(T),
    Failed(Rc<dyn Error>),
    Cancelled,
}

/// Names a done callback, for its removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallbackId(u64);

/// Why a future gives no result.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FutureError {
    /// It was asked for a result that is not there, or given a second one.
    InvalidState(&'static str),
    /// It was cancelled.
    Cancelled,
    /// [`Future::set_exception`] was given this.
    Exception(Rc<dyn Error>),
}

impl fmt::Display for FutureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FutureError::InvalidState(what) => write!(f, "invalid state: {what}"),
            FutureError::Cancelled => write!(f, "the future was cancelled"),
            FutureError::Exception(error) => write!(f, "{error}"),
        }
    }
}

impl Error for FutureError {}

impl EventLoop {
    /// A future whose callbacks run on this loop.
    #[must_use]
    pub fn create_future<T: 'static>(&self) -> Future<T> {
        let inner = Inner {
            state: State::Pending,
            callbacks: Vec::new(),
            next_callback: 0,
            wakers: Vec::new(),
        };
        Future {
            event_loop: self.clone(),
            inner: Rc::new(RefCell::new(inner)),
        }
    }
}

impl<T: 'static> Future<T> {
    /// Sets the result.
    ///
    /// # Errors
    /// [`FutureError::InvalidState`] when the future is done.
    pub fn set_result(&self, result: T) -> Result<(), FutureError> {
        self.finish(State::Finished(result))
    }

    /// Sets an error in the place of a result.
    ///
    /// # Errors
    /// [`FutureError::InvalidState`] when the future is done.
    pub fn set_exception(&self, error: impl Error + 'static) -> Result<(), FutureError> {
        self.finish(State::Failed(Rc::new(error)))
    }

    /// Cancels the future. False when it is done already.
    pub fn cancel(&self) -> bool {
        self.finish(State::Cancelled).is_ok()
    }

    /// Calls `callback` when the future is done; soon, if it is. It is never called from inside
    /// this method.
    pub fn add_done_callback(&self, callback: impl FnOnce(&Future<T>) + 'static) -> CallbackId {
        let mut inner = self.inner.borrow_mut();
        let id = CallbackId(inner.next_callback);
        inner.next_callback += 1;
        inner.callbacks.push((id, Box::new(callback)));
        let done = !matches!(inner.state, State::Pending);
        drop(inner);
        if done {
            self.schedule_callbacks();
        }
        id
    }

    /// Takes a callback back; how many were removed: 1, or 0 when it was called or scheduled.
    pub fn remove_done_callback(&self, id: CallbackId) -> usize {
        let mut inner = self.inner.borrow_mut();
        let index = inner.callbacks.iter().position(|(other, _)| *other == id);
        let removed = index.map(|index| inner.callbacks.remove(index));
        drop(inner);
        usize::from(removed.is_some())
    }

    /// Whether there is a result or an error, or it was cancelled.
    #[must_use]
    pub fn done(&self) -> bool {
        !matches!(self.inner.borrow().state, State::Pending)
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        matches!(self.inner.borrow().state, State::Cancelled)
    }

    /// The result, borrowed.
    ///
    /// # Errors
    /// The error that was set, [`FutureError::Cancelled`], or [`FutureError::InvalidState`] when
    /// the future is not done.
    pub fn result(&self) -> Result<Ref<'_, T>, FutureError> {
        let inner = self.inner.borrow();
        match &inner.state {
            State::Pending => Err(FutureError::InvalidState("the result is not ready")),
            State::Failed(error) => Err(FutureError::Exception(Rc::clone(error))),
            State::Cancelled => Err(FutureError::Cancelled),
            State::Finished(_) => Ref::filter_map(inner, |inner| match &inner.state {
                State::Finished(result) => Some(result),
                State::Pending | State::Failed(_) | State::Cancelled => None,
            })
            .map_err(|_| FutureError::InvalidState("the result is not ready")),
        }
    }

    /// The error that was set; `None` when there is a result.
    ///
    /// # Errors
    /// [`FutureError::Cancelled`], or [`FutureError::InvalidState`] when it is not done.
    pub fn exception(&self) -> Result<Option<Rc<dyn Error>>, FutureError> {
        match &self.inner.borrow().state {
            State::Pending => Err(FutureError::InvalidState("the exception is not set")),
            State::Finished(_) => Ok(None),
            State::Failed(error) => Ok(Some(Rc::clone(error))),
            State::Cancelled => Err(FutureError::Cancelled),
        }
    }

    fn finish(&self, state: State<T>) -> Result<(), FutureError> {
        let wakers = {
            let mut inner = self.inner.borrow_mut();
            if !matches!(inner.state, State::Pending) {
                return Err(FutureError::InvalidState("the future is done already"));
            }
            inner.state = state;
            std::mem::take(&mut inner.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
        self.schedule_callbacks();
        Ok(())
    }

    fn schedule_callbacks(&self) {
        let callbacks = std::mem::take(&mut self.inner.borrow_mut().callbacks);
        for (_, callback) in callbacks {
            let future = self.clone();
            self.event_loop.call_soon(move || callback(&future));
        }
    }
}

impl<T> Clone for Future<T> {
    fn clone(&self) -> Self {
        Future {
            event_loop: self.event_loop.clone(),
            inner: Rc::clone(&self.inner),
        }
    }
}

impl<T: Clone + 'static> std::future::Future for Future<T> {
    type Output = Result<T, FutureError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.done() {
            return Poll::Ready(self.result().map(|result| result.clone()));
        }
        let mut inner = self.inner.borrow_mut();
        if !inner.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            inner.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl<T> fmt::Debug for Future<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.inner.borrow().state {
            State::Pending => "pending",
            State::Finished(_) => "finished",
            State::Failed(_) => "failed",
            State::Cancelled => "cancelled",
        };
        write!(f, "<Future {state}>")
    }
}
