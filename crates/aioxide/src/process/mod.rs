//! Child processes: a transport for the process, one for each of its pipes.
//!
//! ```text
//! start ─▶ connection_made ─▶ pipe_data_received* ─▶ pipe_connection_lost (each pipe) ─┐
//!                          └▶ process_exited ──────────────────────────────────────────┴▶ connection_lost
//! ```
//!
//! The two ways are independent: a process may end while a grandchild holds its pipes open, or
//! close its pipes and live on. `connection_lost` comes when both are over.
//!
//! The end of a child is learned from its pidfd, which becomes readable: no signal handler, no
//! thread, on any thread's loop. Where the system has none, a thread waits for each child.
//!
//! # Who ends a child, and who reaps it
//!
//! The loop waits for each child that it has started, whether or not the program still has a handle
//! to it, and takes its status: none becomes a zombie. It is killed by
//! [`close`](SubprocessTransport::close), by dropping the future that starts it, and, in Rust, by
//! closing the loop while it runs: then a thread takes its status, because nobody else can. (On
//! CPython's loop likewise: a transport that is given up kills its child.) A child that is to live
//! longer than the loop is started with `std::process::Command` itself.

pub(crate) mod native;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

pub use native::SubprocessProtocol;

use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::event_loop::native::Native;
use crate::event_loop::sources::{HolderKey, User};
use crate::protocols::{BaseProtocol, Failure, Input, Received, StreamProtocol};
use crate::reactor::{Op, Socket};
use crate::sys;
use crate::sys::signals::Signal;
use crate::transports::Transport;

/// The exit code of a child whose status somebody else has taken: CPython's figure.
pub const UNKNOWN_EXIT_CODE: i32 = 255;

/// How often the loop looks whether a child has ended when it can neither wait for it (no pidfd, or
/// no room in the queue for one) nor start a thread that does. A system call ten times a second is
/// no load, and the end of a process nothing that is urgent.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How a process has ended, as one number: its exit code, or the negative number of the signal that
/// has ended it. asyncio's `returncode`.
#[must_use]
pub fn return_code(status: ExitStatus) -> i32 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => -signal,
        (None, None) => UNKNOWN_EXIT_CODE,
    }
}

/// A status that nobody has learned.
fn unknown_status() -> ExitStatus {
    // The code stands in the second byte (wait(2)).
    ExitStatus::from_raw(UNKNOWN_EXIT_CODE << 8)
}

/// A protocol of a child process, as the engine calls it.
pub trait ProcessProtocol<H: Host>: BaseProtocol<H> {
    /// The process was started, and its pipes are connected.
    ///
    /// # Errors
    /// What the program's callback raised; likewise below.
    fn connection_made(&self, transport: SubprocessTransport<H>) -> Result<(), H::Error>;

    /// What receives from the pipe `number` (0, 1 or 2), and is held for its transport. What is
    /// said to it of the end and of flow control comes to this protocol instead.
    fn pipe(&self, number: usize) -> Rc<dyn StreamProtocol<H>>;

    /// The pipe `number` is closed.
    ///
    /// # Errors
    /// What the program's callback raised.
    fn pipe_connection_lost(&self, number: usize, error: Option<H::Error>) -> Result<(), H::Error>;

    /// The process has ended, and the protocol is about to be told: for a host that keeps books.
    fn exiting(&self, status: ExitStatus) {
        let _ = status;
    }

    /// The process has ended.
    ///
    /// # Errors
    /// What the program's callback raised.
    fn process_exited(&self, status: ExitStatus) -> Result<(), H::Error>;

    /// How the process has ended, where the host has taken the status itself, on behalf of the
    /// program.
    fn known_status(&self) -> Option<ExitStatus> {
        None
    }

    /// Kills the child `id`, whose transport is being closed.
    ///
    /// # Errors
    /// `EPERM` when it runs as somebody else.
    fn kill(&self, id: u32) -> io::Result<()> {
        sys::process::kill(id, libc::SIGKILL)
    }

    /// Somebody else has taken the status of the child `id`: what the protocol will be told is
    /// [`UNKNOWN_EXIT_CODE`].
    fn status_unknown(&self, id: u32) {
        log::warn!(
            "the exit status of child process {id} was taken by somebody else: it counts as \
             {UNKNOWN_EXIT_CODE}"
        );
    }

    /// Nobody waits for the child `id` any more, which has not ended: its loop was closed. Called
    /// at most once, and nothing else is called after it. A host whose own objects see to the child
    /// leaves it to them.
    fn abandoned(&self, id: u32) {
        let _ = id;
    }
}

/// A child process. Clones are handles to the same one. The loop owns it until it has ended and
/// its pipes are closed.
pub struct SubprocessTransport<H: Host = Native>(Rc<Subprocess<H>>);

struct Subprocess<H: Host> {
    this: Weak<Subprocess<H>>,
    event_loop: EventLoop<H>,
    id: u32,
    /// Gives the descriptor that tells of its end: a pidfd, but in a test. `None` when the host
    /// learns of it by itself.
    open: Option<fn(u32) -> io::Result<OwnedFd>>,
    /// Whether `connection_made` was called: without it nothing else is.
    made: Cell<bool>,
    /// `None` when the connection is lost.
    protocol: RefCell<Option<Rc<dyn ProcessProtocol<H>>>>,
    pipes: RefCell<[Pipe<H>; 3]>,
    /// How it has ended.
    status: Cell<Option<ExitStatus>>,
    /// Whether `close()` was called.
    closed: Cell<bool>,
    /// Whether `connection_lost` was queued.
    finished: Cell<bool>,
    /// Who waits for the end.
    waiters: RefCell<Vec<Waker>>,
    /// By which the loop shows what this holds, until `connection_lost` was called.
    holder: Cell<Option<HolderKey>>,
}

/// One of a process's standard streams.
enum Pipe<H: Host> {
    /// It is no pipe of ours.
    None,
    Open(Transport<H>),
    /// The transport is kept: the program may ask for it.
    Lost(Transport<H>),
}

impl<H: Host> Pipe<H> {
    fn transport(&self) -> Option<&Transport<H>> {
        match self {
            Pipe::None => None,
            Pipe::Open(transport) | Pipe::Lost(transport) => Some(transport),
        }
    }
}

impl<H: Host> EventLoop<H> {
    /// The transport of the child process `id`, which was just started, and which nobody else
    /// waits for. `pipes` are this side's ends of its standard streams, as far as they are pipes:
    /// non-blocking, the first to write to. The future is done when `connection_made` was called.
    ///
    /// # Errors
    /// What the kernel says of a pipe. The child is killed then, reaped when it has ended, and the
    /// protocol told nothing.
    pub fn start_subprocess(
        &self,
        id: u32,
        pipes: [Option<Socket>; 3],
        protocol: Rc<dyn ProcessProtocol<H>>,
    ) -> io::Result<(SubprocessTransport<H>, impl Future<Output = ()> + use<H>)> {
        self.start_subprocess_with(id, pipes, protocol, Some(sys::process::open))
    }

    /// [`start_subprocess`](EventLoop::start_subprocess), for a host that learns by itself how the
    /// process ends, and then calls [`exited`](SubprocessTransport::exited).
    ///
    /// # Errors
    /// As that.
    pub fn start_watched_subprocess(
        &self,
        id: u32,
        pipes: [Option<Socket>; 3],
        protocol: Rc<dyn ProcessProtocol<H>>,
    ) -> io::Result<(SubprocessTransport<H>, impl Future<Output = ()> + use<H>)> {
        self.start_subprocess_with(id, pipes, protocol, None)
    }

    fn start_subprocess_with(
        &self,
        id: u32,
        pipes: [Option<Socket>; 3],
        protocol: Rc<dyn ProcessProtocol<H>>,
        open: Option<fn(u32) -> io::Result<OwnedFd>>,
    ) -> io::Result<(SubprocessTransport<H>, impl Future<Output = ()> + use<H>)> {
        let subprocess = Rc::new_cyclic(|this| Subprocess {
            this: Weak::clone(this),
            event_loop: self.clone(),
            id,
            open,
            made: Cell::default(),
            protocol: RefCell::new(Some(Rc::clone(&protocol))),
            pipes: RefCell::new([Pipe::None, Pipe::None, Pipe::None]),
            status: Cell::default(),
            closed: Cell::default(),
            finished: Cell::default(),
            waiters: RefCell::default(),
            holder: Cell::default(),
        });
        let transport = SubprocessTransport(Rc::clone(&subprocess));
        let holder = self.add_holder(&(Rc::clone(&subprocess) as Rc<dyn User>));
        subprocess.holder.set(Some(holder));
        protocol.held(true);
        let connected = subprocess.connect_pipes(pipes, &*protocol);
        {
            let subprocess = Rc::clone(&subprocess);
            let transport = transport.clone();
            let made = connected.is_ok();
            self.queue_step(move || {
                if made {
                    subprocess.made.set(true);
                    subprocess.call("connection_made", |told| told.connection_made(transport));
                }
                if subprocess.open.is_some() {
                    subprocess.watch();
                }
            });
        }
        if let Err(error) = connected {
            transport.close();
            return Err(error);
        }
        Ok((transport, self.turn()))
    }
}

impl<H: Host> Subprocess<H> {
    fn connect_pipes(
        self: &Rc<Self>,
        pipes: [Option<Socket>; 3],
        protocol: &dyn ProcessProtocol<H>,
    ) -> io::Result<()> {
        for (number, pipe) in pipes.into_iter().enumerate() {
            let Some(pipe) = pipe else { continue };
            let receiver = Rc::new(PipeProtocol {
                process: Rc::clone(self),
                number,
                receiver: protocol.pipe(number),
            });
            let transport = if number == 0 {
                self.event_loop.start_write_pipe(pipe, receiver)?.0
            } else {
                self.event_loop.start_read_pipe(pipe, receiver)?.0
            };
            self.pipes.borrow_mut()[number] = Pipe::Open(transport);
        }
        Ok(())
    }

    // ---- the process's end ----

    /// Waits for the end of the process, from now on.
    fn watch(self: Rc<Self>) {
        let event_loop = self.event_loop.clone();
        let mut watch = Watch(Some(self));
        event_loop.spawn(async move {
            let Some(subprocess) = watch.0.clone() else {
                return;
            };
            let status = subprocess.learn_status().await;
            drop(watch.0.take());
            subprocess.exited(status);
        });
    }

    /// How it has ended, as soon as it has; `None` when somebody else has been told.
    async fn learn_status(&self) -> Option<ExitStatus> {
        loop {
            if let Err(error) = self.wait_until_ended().await {
                log::debug!("process {} cannot be waited for: {error}", self.id);
                self.event_loop.sleep(LOOK_AGAIN).await;
            }
            match sys::process::reap(self.id) {
                Ok(Some(status)) => return Some(status),
                // It lives: whoever waits for a descriptor may be woken for nothing.
                Ok(None) => {}
                Err(_) => return None,
            }
        }
    }

    async fn wait_until_ended(&self) -> io::Result<()> {
        let opened = self.open.map_or_else(
            || Err(io::ErrorKind::Unsupported.into()),
            |open| open(self.id),
        );
        match opened {
            Ok(pidfd) => {
                let fd = pidfd.as_raw_fd();
                self.event_loop.wait_until_ready(fd, Op::PollRead).await
            }
            // There is no such process: somebody else has taken its status.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            Err(_) => {
                let id = self.id;
                self.event_loop
                    .run_on_thread(move || sys::process::wait_until_ended(id))
                    .await?
                    // Somebody else has taken its status.
                    .or(Ok(()))
            }
        }
    }

    fn exited(&self, status: Option<ExitStatus>) {
        let known = || self.protocol().and_then(|protocol| protocol.known_status());
        let status = status.or_else(known);
        if status.is_none()
            && let Some(protocol) = self.protocol()
        {
            protocol.status_unknown(self.id);
        }
        let status = status.unwrap_or_else(unknown_status);
        if let Some(protocol) = self.protocol() {
            protocol.exiting(status);
        }
        self.status.set(Some(status));
        self.call("process_exited", |told| told.process_exited(status));
        self.finish();
        self.wake_waiters();
    }

    fn wake_waiters(&self) {
        let waiters = self.waiters.take();
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Nobody learns any more how it ends.
    fn forsake(&self) {
        if self.status.get().is_some() {
            return;
        }
        self.status.set(Some(unknown_status()));
        if let Some(protocol) = self.protocol() {
            protocol.abandoned(self.id);
        }
        self.wake_waiters();
    }

    /// A pipe is closed.
    fn pipe_lost(&self, number: usize, error: Option<H::Error>) {
        {
            let mut pipes = self.pipes.borrow_mut();
            if let Some(transport) = pipes[number].transport().cloned() {
                pipes[number] = Pipe::Lost(transport);
            }
        }
        self.call("pipe_connection_lost", |told| {
            told.pipe_connection_lost(number, error)
        });
        self.finish();
    }

    /// Queues `connection_lost` when the process has ended and its pipes are closed.
    fn finish(&self) {
        let open = |pipe: &Pipe<H>| matches!(pipe, Pipe::Open(_));
        if self.status.get().is_none()
            || self.pipes.borrow().iter().any(open)
            || self.finished.replace(true)
        {
            return;
        }
        if let Some(this) = self.this.upgrade() {
            self.event_loop.queue_step(move || this.connection_lost());
        }
    }

    fn connection_lost(&self) {
        self.call("connection_lost", |told| told.connection_lost(None));
        self.let_go();
    }

    /// The loop refers to the process no more.
    fn let_go(&self) {
        if let Some(holder) = self.holder.take() {
            self.event_loop.remove_holder(holder);
        }
        let protocol = self.protocol.take();
        if let Some(protocol) = protocol {
            protocol.held(false);
        }
    }

    // ---- helpers ----

    fn protocol(&self) -> Option<Rc<dyn ProcessProtocol<H>>> {
        self.protocol.borrow().clone()
    }

    /// Calls the protocol, if it was told of the process; what it raises is reported.
    fn call(
        &self,
        callback: &'static str,
        call: impl FnOnce(&dyn ProcessProtocol<H>) -> Result<(), H::Error>,
    ) {
        let Some(protocol) = self.protocol().filter(|_| self.made.get()) else {
            return;
        };
        if let Err(error) = call(&*protocol) {
            self.tell_failure(&*protocol, Failure::Callback(callback), error);
        }
    }

    fn tell_failure(&self, protocol: &dyn ProcessProtocol<H>, what: Failure, error: H::Error) {
        if self.event_loop.host().escapes(&error) {
            self.event_loop.interrupt(error);
        } else {
            protocol.report(what, &error);
        }
    }

    fn kill(&self, signal: i32) -> io::Result<()> {
        if self.status.get().is_some() {
            return Ok(());
        }
        match sys::process::kill(self.id, signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    fn close(&self) {
        if self.closed.replace(true) {
            return;
        }
        let pipes: Vec<_> = {
            let pipes = self.pipes.borrow();
            pipes.iter().filter_map(Pipe::transport).cloned().collect()
        };
        if !self.event_loop.is_closed() {
            pipes.iter().for_each(Transport::close);
        }
        if self.status.get().is_some() {
            return;
        }
        let killed = match self.protocol() {
            Some(protocol) => protocol.kill(self.id),
            None => self.kill(libc::SIGKILL),
        };
        // It may run as somebody else by now: then it is not ours to kill.
        if let Err(error) = killed {
            log::debug!("killing process {} failed: {error}", self.id);
        }
    }
}

impl<H: Host> SubprocessTransport<H> {
    /// The process's number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id
    }

    /// How it has ended; `None` while it runs.
    #[must_use]
    pub fn status(&self) -> Option<ExitStatus> {
        self.0.status.get()
    }

    /// The transport of its standard input (0), output (1) or error (2), if that is a pipe.
    #[must_use]
    pub fn pipe_transport(&self, number: usize) -> Option<Transport<H>> {
        self.0.pipes.borrow().get(number)?.transport().cloned()
    }

    /// Waits for its end. When the loop is closed first, what is told is [`UNKNOWN_EXIT_CODE`].
    pub async fn wait(&self) -> ExitStatus {
        poll_fn(|cx| {
            if let Some(status) = self.0.status.get() {
                return Poll::Ready(status);
            }
            let mut waiters = self.0.waiters.borrow_mut();
            if !waiters.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiters.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Sends it a signal. Nothing happens when it has ended.
    ///
    /// # Errors
    /// `EINVAL` for a number that is no signal, `EPERM` when it runs as somebody else.
    pub fn send_signal(&self, signal: Signal) -> io::Result<()> {
        self.0.kill(signal.0)
    }

    /// Asks it to end: `SIGTERM`.
    ///
    /// # Errors
    /// `EPERM` when it runs as somebody else.
    pub fn terminate(&self) -> io::Result<()> {
        self.send_signal(Signal::TERM)
    }

    /// Ends it: `SIGKILL`.
    ///
    /// # Errors
    /// `EPERM` when it runs as somebody else.
    pub fn kill(&self) -> io::Result<()> {
        self.send_signal(Signal::KILL)
    }

    /// Closes its pipes, and kills it if it runs. `connection_lost` follows when it has ended and
    /// what was written to it has gone, or can go nowhere any more.
    pub fn close(&self) {
        self.0.close();
    }

    /// For a host that watches the process: it has ended like this, and was reaped. Only the first
    /// call counts.
    pub fn exited(&self, status: ExitStatus) {
        if self.0.status.get().is_none() {
            self.0.exited(Some(status));
        }
    }

    /// Whether [`close`](SubprocessTransport::close) was called.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.0.closed.get()
    }

    /// Whether `connection_lost` was called.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0.protocol.borrow().is_none()
    }

    /// The loop that waits for it.
    #[must_use]
    pub fn event_loop(&self) -> &EventLoop<H> {
        &self.0.event_loop
    }

    /// The engine's side of its protocol, until the connection is lost.
    #[must_use]
    pub fn process_protocol(&self) -> Option<Rc<dyn ProcessProtocol<H>>> {
        self.0.protocol()
    }
}

impl<H: Host> User for Subprocess<H> {
    fn abandon(&self) {
        self.forsake();
        self.let_go();
    }

    fn loop_closed(&self) {
        if let Some(protocol) = self.protocol() {
            protocol.held(false);
        }
    }

    fn visit(&self, visit: &mut dyn FnMut(&dyn Any)) {
        let protocol = self.protocol.borrow();
        if let Some(protocol) = &*protocol {
            protocol.show(visit);
        }
    }
}

impl<H: Host> Drop for Subprocess<H> {
    fn drop(&mut self) {
        self.forsake();
    }
}

/// The wait for a process's end. It is no task of the program's: cancelled with those
/// ([`EventLoop::cancel_tasks`]), it begins anew, unless the loop is closed.
struct Watch<H: Host>(Option<Rc<Subprocess<H>>>);

impl<H: Host> Drop for Watch<H> {
    fn drop(&mut self) {
        if let Some(subprocess) = self.0.take() {
            let event_loop = subprocess.event_loop.clone();
            event_loop.queue_step(move || subprocess.watch());
        }
    }
}

impl<H: Host> Clone for SubprocessTransport<H> {
    fn clone(&self) -> Self {
        SubprocessTransport(Rc::clone(&self.0))
    }
}

impl<H: Host> fmt::Debug for SubprocessTransport<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<SubprocessTransport pid={}", self.id())?;
        match self.status() {
            Some(status) => write!(f, " {status}")?,
            None => f.write_str(" running")?,
        }
        f.write_str(">")
    }
}

/// The protocol of one pipe: what it receives goes to its receiver, the rest to the process.
struct PipeProtocol<H: Host> {
    process: Rc<Subprocess<H>>,
    number: usize,
    receiver: Rc<dyn StreamProtocol<H>>,
}

impl<H: Host> BaseProtocol<H> for PipeProtocol<H> {
    fn connection_lost(&self, error: Option<H::Error>) -> Result<(), H::Error> {
        self.process.pipe_lost(self.number, error);
        self.receiver.connection_lost(None)
    }

    fn pause_writing(&self) -> Result<(), H::Error> {
        let protocol = self.process.protocol();
        protocol.map_or(Ok(()), |protocol| protocol.pause_writing())
    }

    fn resume_writing(&self) -> Result<(), H::Error> {
        let protocol = self.process.protocol();
        protocol.map_or(Ok(()), |protocol| protocol.resume_writing())
    }

    fn report(&self, what: Failure, error: &H::Error) {
        self.receiver.report(what, error);
    }

    fn held(&self, held: bool) {
        self.receiver.held(held);
    }

    fn show(&self, look: &mut dyn FnMut(&dyn Any)) {
        self.receiver.show(look);
    }
}

impl<H: Host> StreamProtocol<H> for PipeProtocol<H> {
    fn connection_made(&self, transport: Transport<H>) -> Result<(), H::Error> {
        self.receiver.connection_made(transport)
    }

    fn receive(&self, input: &Input<'_, H>) -> Received<H::Error> {
        match self.receiver.receive(input) {
            // The pipe lives, as on CPython's loop.
            Received::Raised(_, error) => {
                self.process.call("pipe_data_received", |_| Err(error));
                Received::Data
            }
            received => received,
        }
    }

    fn eof_received(&self) -> Result<bool, H::Error> {
        Ok(false)
    }

    fn pipe_closed(&self) {
        self.receiver.pipe_closed();
    }
}
