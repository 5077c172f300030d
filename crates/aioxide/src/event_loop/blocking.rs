//! The threads of `run_in_executor`: for calls that block, like getaddrinfo.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use super::EventLoop;
use super::host::Host;
use super::native::panic_message;
use super::task::TaskError;

/// The most threads of a pool: processors + 4, at most 32. The rule is that of Python's
/// `ThreadPoolExecutor`: enough for waiting calls, few enough for busy ones.
fn max_threads() -> usize {
    let processors = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    (processors + 4).min(32)
}

/// How long a thread without work stays. Starting one costs some 20 µs, so a burst after a pause
/// is not worth keeping it for longer.
const IDLE_TIME: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// The threads of one loop, started when there is work.
#[derive(Default)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    /// Set by `shutdown`: threads end when the jobs are done, and no job is taken.
    closed: bool,
}

impl Shared {
    /// Jobs run outside the lock and catch their panics: a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                job();
                queue = self.lock();
                continue;
            }
            if queue.closed {
                break;
            }
            queue.idle += 1;
            let (woken, timeout) = self
                .work
                .wait_timeout(queue, IDLE_TIME)
                .unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            queue.idle -= 1;
            if timeout.timed_out() && queue.jobs.is_empty() {
                break;
            }
        }
        queue.threads -= 1;
    }
}

impl Pool {
    fn submit(&self, job: Job) -> io::Result<()> {
        let mut queue = self.shared.lock();
        if queue.closed {
            return Err(io::Error::other(
                "the event loop is closed: it runs nothing any more",
            ));
        }
        queue.jobs.push_back(job);
        if queue.idle >= queue.jobs.len() || queue.threads >= max_threads() {
            self.shared.work.notify_one();
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let started = thread::Builder::new()
            .name("aioxide-blocking".into())
            .spawn(move || shared.work());
        match started {
            Ok(_) => queue.threads += 1,
            // Others will come to it.
            Err(_) if queue.threads > 0 => {}
            Err(error) => {
                queue.jobs.pop_back();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes no more jobs. Those that were taken are finished, by threads that nobody waits for.
    pub(super) fn shutdown(&self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl<H: Host> EventLoop<H> {
    /// Runs a call that blocks on a thread of the loop's pool. The call goes on when the returned
    /// future is dropped; its result is dropped then.
    ///
    /// # Errors
    /// When no thread can be started, the loop is closed, or `call` panics.
    pub async fn run_in_executor<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (job, result) = job(call);
        self.core.pool.submit(job)?;
        result.await
    }

    /// [`run_in_executor`](EventLoop::run_in_executor), on a thread of its own: for a call that may
    /// take as long as the program, and would keep the pool from others.
    ///
    /// # Errors
    /// When the thread cannot be started, or `call` panics.
    pub(crate) async fn run_on_thread<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (job, result) = job(call);
        thread::Builder::new()
            .name("aioxide-waiting".into())
            .spawn(job)?;
        result.await
    }
}

/// A call for another thread, and what becomes of it.
fn job<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> (Job, BlockingCall<T>) {
    let result = Arc::new(Mutex::new(Slot {
        value: None,
        waker: None,
    }));
    let slot = Arc::clone(&result);
    let job = Box::new(move || {
        let value = panic::catch_unwind(AssertUnwindSafe(call))
            .map_err(|panic| TaskError::Panicked(panic_message(&*panic)).into());
        let waker = {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.value = Some(value);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    });
    (job, BlockingCall(result))
}

struct Slot<T> {
    value: Option<io::Result<T>>,
    waker: Option<Waker>,
}

struct BlockingCall<T>(Arc<Mutex<Slot<T>>>);

impl<T> Future for BlockingCall<T> {
    type Output = io::Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
