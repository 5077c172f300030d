//! Waiting by the clock: `sleep`, `timeout`, and one turn of the loop.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::host::Host;
use super::timers::TimerId;
use super::{EventLoop, Timer};
use crate::sys::clock::Time;

impl<H: Host> EventLoop<H> {
    /// Completes after `duration`; never early.
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> Sleep<H> {
        self.sleep_until(self.time() + duration)
    }

    /// Completes at `deadline` on the loop's clock; never early.
    #[must_use]
    pub fn sleep_until(&self, deadline: Time) -> Sleep<H> {
        Sleep {
            event_loop: self.clone(),
            deadline,
            timer: None,
        }
    }

    /// `future`'s result, if it comes within `duration`; else the future is dropped.
    ///
    /// # Errors
    /// [`TimedOut`].
    pub async fn timeout<F: Future>(
        &self,
        duration: Duration,
        future: F,
    ) -> Result<F::Output, TimedOut> {
        let mut future = pin!(future);
        let mut sleep = pin!(self.sleep(duration));
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            sleep.as_mut().poll(cx).map(|()| Err(TimedOut(duration)))
        })
        .await
    }

    /// Completes when everything that is queued now has run.
    pub(crate) fn turn(&self) -> impl Future<Output = ()> + use<H> {
        let state = Rc::new(RefCell::new(Turn::Queued(None)));
        let step = Rc::clone(&state);
        self.queue_step(move || {
            if let Turn::Queued(Some(waker)) = step.replace(Turn::Over) {
                waker.wake();
            }
        });
        poll_fn(move |cx| match &mut *state.borrow_mut() {
            Turn::Over => Poll::Ready(()),
            Turn::Queued(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
        })
    }
}

enum Turn {
    Queued(Option<Waker>),
    Over,
}

/// A time limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut(pub Duration);

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not done within {} seconds", self.0.as_secs_f64())
    }
}

impl std::error::Error for TimedOut {}

impl From<TimedOut> for io::Error {
    fn from(error: TimedOut) -> Self {
        io::Error::new(io::ErrorKind::TimedOut, error)
    }
}

/// See [`EventLoop::sleep`]. Dropping it takes its timer back.
pub struct Sleep<H: Host = super::native::Native> {
    event_loop: EventLoop<H>,
    deadline: Time,
    /// Set while it waits, with whom it wakes.
    timer: Option<(TimerId, Waker)>,
}

impl<H: Host> Sleep<H> {
    fn stop(&mut self) {
        if let Some((timer, _)) = self.timer.take() {
            let taken = self.event_loop.core.timers.borrow_mut().cancel(timer);
            drop(taken);
        }
    }
}

impl<H: Host> Future for Sleep<H> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.event_loop.time() >= self.deadline {
            self.stop();
            return Poll::Ready(());
        }
        if self
            .timer
            .as_ref()
            .is_none_or(|(_, waker)| !waker.will_wake(cx.waker()))
        {
            self.stop();
            let waker = cx.waker().clone();
            let timer = Timer::Wake(waker.clone());
            let timer = self
                .event_loop
                .core
                .timers
                .borrow_mut()
                .insert(self.deadline, timer);
            self.timer = Some((timer, waker));
        }
        Poll::Pending
    }
}

impl<H: Host> Drop for Sleep<H> {
    fn drop(&mut self) {
        self.stop();
    }
}
