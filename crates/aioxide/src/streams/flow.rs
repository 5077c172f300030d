//! Whether a writer may go on: what asyncio calls `FlowControlMixin`.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};

use crate::event_loop::native::same_error;

/// What a protocol was told of its connection's sending side, and who waits for it to change.
#[derive(Default)]
pub(super) struct WriterFlow {
    /// Between `pause_writing` and `resume_writing`.
    paused: Cell<bool>,
    /// Set by `connection_lost`, with its error.
    lost: RefCell<Option<Option<io::Error>>>,
    waiters: RefCell<Vec<Waker>>,
}

impl WriterFlow {
    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.set(paused);
        if !paused {
            self.wake();
        }
    }

    pub(super) fn set_lost(&self, error: Option<io::Error>) {
        self.lost.replace(Some(error));
        self.wake();
    }

    /// Completes when the buffer has room.
    pub(super) async fn drained(&self) -> io::Result<()> {
        if self.is_lost() {
            return Err(connection_lost());
        }
        poll_fn(|cx| self.poll_drained(cx)).await
    }

    /// A connection that ends without an error while somebody waits is no error to them: asyncio's
    /// rule. Who comes later, and has more to write, gets one.
    pub(super) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.paused.get() {
            return Poll::Ready(Ok(()));
        }
        self.poll_lost(cx)
    }

    /// Completes when the connection is lost, with its error.
    pub(super) fn poll_lost(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = &*self.lost.borrow() {
            return Poll::Ready(
                error
                    .as_ref()
                    .map_or(Ok(()), |error| Err(same_error(error))),
            );
        }
        let mut waiters = self.waiters.borrow_mut();
        if !waiters.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiters.push(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.borrow().is_some()
    }

    fn wake(&self) {
        let waiters = self.waiters.take();
        waiters.into_iter().for_each(Waker::wake);
    }
}

pub(super) fn connection_lost() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "Connection lost")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn kind(polled: Poll<io::Result<()>>) -> Poll<Result<(), io::ErrorKind>> {
        polled.map_err(|error| error.kind())
    }

    #[test]
    fn draining_waits_only_while_paused() {
        let (flow, count) = (WriterFlow::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let cx = &mut Context::from_waker(&waker);
        assert_eq!(kind(flow.poll_drained(cx)), Poll::Ready(Ok(())));
        flow.set_paused(true);
        assert_eq!(kind(flow.poll_drained(cx)), Poll::Pending);
        assert_eq!(kind(flow.poll_drained(cx)), Poll::Pending);
        flow.set_paused(false);
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "one task is woken once");
        assert_eq!(kind(flow.poll_drained(cx)), Poll::Ready(Ok(())));
    }

    #[test]
    fn a_lost_connection_ends_the_waiting() {
        let cx = &mut Context::from_waker(Waker::noop());
        for (error, expected) in [
            (None, Ok(())),
            (
                Some(io::ErrorKind::BrokenPipe.into()),
                Err(io::ErrorKind::BrokenPipe),
            ),
        ] {
            let flow = WriterFlow::default();
            flow.set_paused(true);
            assert!(flow.poll_drained(cx).is_pending());
            flow.set_lost(error);
            assert_eq!(kind(flow.poll_drained(cx)), Poll::Ready(expected));
            let mut later = std::pin::pin!(flow.drained());
            let later = std::future::Future::poll(later.as_mut(), cx);
            assert_eq!(
                kind(later),
                Poll::Ready(Err(io::ErrorKind::ConnectionReset))
            );
        }
    }
}
