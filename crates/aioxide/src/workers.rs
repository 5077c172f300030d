//! Workers: one event loop on each core.
//!
//! A loop uses one core. A program that wants more runs several loops, each on a thread of its own,
//! which share nothing. To serve one port together, each binds a socket of its own to it with
//! `SO_REUSEPORT`; the kernel gives each new connection to one of them, chosen by a hash of both
//! addresses. So connections are spread evenly when they are many, and a connection stays with its
//! worker.
//!
//! ```text
//!              ┌─ thread 0: loop ─ work(Worker 0) ─┐
//! Workers::run ┼─ thread 1: loop ─ work(Worker 1) ─┼─▶ [result 0, result 1, ...]
//!              └─ ...                              ┘
//! ```
//!
//! *Stopping* is asked for and not forced: [`Worker::shutdown`] completes [`Worker::stopped`] in all
//! of them, and a worker that awaits it can let its clients finish. The same happens when a worker
//! fails, so that a program does not go on with some of its workers.
//!
//! *Cost.* Nobody moves connections from a busy worker to an idle one. And connections that wait to
//! be accepted by a worker that closes its socket are reset, while others go on.

use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};

use slab::Slab;

use crate::event_loop::EventLoop;
use crate::event_loop::native::{guard, panic_message};
use crate::sys::address::{Family, SocketAddress};
use crate::sys::cores;
use crate::sys::socket::{self, SocketOption};

/// How many workers there are, and where they run.
///
/// A server on every core:
///
/// ```
/// use std::io;
///
/// use aioxide::{BindOptions, ReservedPort, ServerOptions, StreamReader, StreamWriter, Workers};
///
/// async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
///     loop {
///         let data = reader.read(64 * 1024).await?;
///         if data.is_empty() {
///             return Ok(());
///         }
///         writer.write(&data);
///         writer.drain().await?;
///     }
/// }
///
/// # fn main() -> io::Result<()> {
/// let port = ReservedPort::new(([127, 0, 0, 1], 0))?;
/// Workers::default().run(async move |worker| {
///     let options = ServerOptions {
///         bind: BindOptions { reuse_port: true, ..BindOptions::default() },
///         ..ServerOptions::default()
///     };
///     let limit = aioxide::streams::DEFAULT_LIMIT;
///     let server = aioxide::running()?
///         .start_server_with(echo, Some("127.0.0.1"), port.number(), &options, limit)
///         .await?;
///     # worker.shutdown();
///     worker.stopped().await; // Somebody calls worker.shutdown().
///     server.close();
///     server.wait_closed().await; // The clients finish.
///     Ok(())
/// })?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Workers {
    /// How many; by default one for each core that the process may use.
    pub count: Option<NonZeroUsize>,
    /// Whether each worker stays on a core of its own. When there are more workers than cores, some
    /// share one. Off by default: the kernel's scheduler knows what else is running.
    pub pin_to_cores: bool,
}

impl Workers {
    /// Runs `work` on each worker, and waits for all of them. Their results come in the order of the
    /// workers.
    ///
    /// Each worker is a thread with a loop of its own, on which what `work` gives runs as by
    /// [`run`](crate::run()); it need not be `Send`. When one fails, the others are told to stop.
    ///
    /// # Errors
    /// The first failure: of a worker, which has [`WorkerError`] for its source; its panic too. What
    /// others fail with after it is logged. When a loop runs on this thread (it would be blocked);
    /// when a thread cannot be started.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl AsyncFn(Worker) -> io::Result<T> + Send + Sync + 'static,
    ) -> io::Result<Vec<T>> {
        if EventLoop::running().is_some() {
            return Err(io::Error::other(
                "workers cannot be run from a running loop, which would be blocked",
            ));
        }
        let cores = match self.pin_to_cores {
            true => cores::allowed()?,
            false => Vec::new(),
        };
        let count = match self.count {
            Some(count) => count,
            None => thread::available_parallelism()?,
        };
        let work = Arc::new(work);
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::with_capacity(count.get());
        for index in 0..count.get() {
            let worker = Worker {
                index,
                count,
                shared: Arc::clone(&shared),
            };
            let core = cores.iter().cycle().nth(index).copied();
            match start(worker, core, Arc::clone(&work)) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    shared.fail(error);
                    break;
                }
            }
        }
        let results: Vec<_> = threads
            .into_iter()
            .filter_map(|thread| join(thread, &shared))
            .collect();
        match shared.take_failure() {
            Some(error) => Err(error),
            None => Ok(results),
        }
    }
}

/// Starts the thread of a worker. It gives nothing when the worker fails.
fn start<T: Send + 'static>(
    worker: Worker,
    core: Option<usize>,
    work: Arc<impl AsyncFn(Worker) -> io::Result<T> + Send + Sync + 'static>,
) -> io::Result<JoinHandle<Option<T>>> {
    let name = format!("aioxide-worker-{}", worker.index);
    thread::Builder::new().name(name).spawn(move || {
        let (index, shared) = (worker.index, Arc::clone(&worker.shared));
        let run = || {
            if let Some(core) = core {
                cores::pin_to(core)?;
            }
            EventLoop::new()?.run(async move { work(worker).await })?
        };
        match guard(run).flatten() {
            Ok(result) => Some(result),
            Err(error) => {
                shared.fail(WorkerError { index, error }.into());
                None
            }
        }
    })
}

fn join<T>(thread: JoinHandle<Option<T>>, shared: &Shared) -> Option<T> {
    thread.join().unwrap_or_else(|panic| {
        shared.fail(io::Error::other(panic_message(&*panic)));
        None
    })
}

/// One of the workers that [`Workers::run`] runs. Clones are handles to the same one, for any
/// thread.
#[derive(Clone)]
pub struct Worker {
    index: usize,
    count: NonZeroUsize,
    shared: Arc<Shared>,
}

impl Worker {
    /// Which one this is, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many workers there are.
    #[must_use]
    pub fn count(&self) -> NonZeroUsize {
        self.count
    }

    /// Tells all workers to stop, this one too: completes [`stopped`](Worker::stopped) in each.
    pub fn shutdown(&self) {
        self.shared.stop();
    }

    /// Whether the workers were told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.lock().stopping
    }

    /// Completes when the workers are told to stop: by [`shutdown`](Worker::shutdown), or because one
    /// has failed. A worker that does not await it goes on, and [`Workers::run`] waits for it.
    pub fn stopped(&self) -> Stopped {
        Stopped {
            shared: Arc::clone(&self.shared),
            key: None,
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Worker {} of {}>", self.index, self.count)
    }
}

/// Why [`Workers::run`] has no results.
#[derive(Debug)]
pub struct WorkerError {
    /// The worker that failed first.
    pub index: usize,
    /// What it failed with.
    pub error: io::Error,
}

impl fmt::Display for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}: {}", self.index, self.error)
    }
}

impl std::error::Error for WorkerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<WorkerError> for io::Error {
    fn from(error: WorkerError) -> Self {
        io::Error::new(error.error.kind(), error)
    }
}

/// What the workers share.
#[derive(Default)]
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    /// Set once, by `stop`.
    stopping: bool,
    /// Whom stopping wakes. Invariant: empty when it is set.
    waiting: Slab<Waker>,
    /// The first failure.
    failure: Option<io::Error>,
}

impl Shared {
    fn stop(&self) {
        let waiting = {
            let mut state = self.lock();
            state.stopping = true;
            mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn fail(&self, error: io::Error) {
        let later = {
            let mut state = self.lock();
            match state.failure {
                None => {
                    state.failure = Some(error);
                    None
                }
                Some(_) => Some(error),
            }
        };
        if let Some(error) = later {
            log::error!("{error}");
        }
        self.stop();
    }

    fn take_failure(&self) -> Option<io::Error> {
        self.lock().failure.take()
    }

    /// Nothing under this lock runs code of the program: a poisoned one is as good as another.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Worker::stopped`].
pub struct Stopped {
    shared: Arc<Shared>,
    /// Where its waker is while it waits.
    key: Option<usize>,
}

impl Future for Stopped {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let waker = cx.waker().clone();
        let before;
        {
            let mut state = this.shared.lock();
            if state.stopping {
                return Poll::Ready(());
            }
            match this.key.and_then(|key| state.waiting.get_mut(key)) {
                Some(waiting) => before = Some(mem::replace(waiting, waker)),
                None => {
                    this.key = Some(state.waiting.insert(waker));
                    before = None;
                }
            }
        }
        drop(before);
        Poll::Pending
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.shared.lock().waiting.try_remove(key);
            drop(waker);
        }
    }
}

/// A port that is kept free for workers: when the kernel shall choose its number, all of them have to
/// know it.
///
/// A socket is bound to it, with `SO_REUSEPORT`, and does not listen: it gets no connections.
#[derive(Debug)]
pub struct ReservedPort {
    address: SocketAddress,
    _socket: OwnedFd,
}

impl ReservedPort {
    /// Reserves the port of `address`; 0 lets the kernel choose one. It is reserved until this is
    /// dropped. Whoever binds to it needs [`reuse_port`](crate::BindOptions::reuse_port), and the
    /// same user.
    ///
    /// # Errors
    /// `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`, ...
    pub fn new(address: impl Into<SocketAddr>) -> io::Result<ReservedPort> {
        let address = address.into();
        let family = match address {
            SocketAddr::V4(_) => Family::INET,
            SocketAddr::V6(_) => Family::INET6,
        };
        let socket = socket::open(family, libc::SOCK_STREAM, 0)?;
        let fd = socket.as_raw_fd();
        socket::set_option(fd, SocketOption::ReusePort)?;
        if address.port() != 0 {
            // Old connections of the port may be in TIME_WAIT. The kernel chooses none that has
            // any, and without the option it lets nobody else bind to its choice.
            socket::set_option(fd, SocketOption::ReuseAddress)?;
        }
        if address.is_ipv6() {
            socket::set_option(fd, SocketOption::Ipv6Only)?;
        }
        socket::bind(fd, &address.into())?;
        Ok(ReservedPort {
            address: socket::local_address(fd)?,
            _socket: socket,
        })
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.address.port().unwrap_or_default()
    }

    /// The address that the socket is bound to.
    #[must_use]
    pub fn address(&self) -> &SocketAddress {
        &self.address
    }
}
