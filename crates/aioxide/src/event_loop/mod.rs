//! The event loop: one queue of things that are ready, and the iteration that fills and empties it.
//!
//! | file | what |
//! |---|---|
//! | `iteration` | the numbered steps of one iteration; the only place where anything is run |
//! | [`sources`] | who is told when a descriptor is ready: `add_reader`, waiting tasks, transports |
//! | [`timers`] | deadlines |
//! | `looks` | which iterations look at the network |
//! | `inbox` | what other threads send |
//! | [`run`] | one future from beginning to end: `run`, `run_until_complete` |
//! | [`sleep`] | waiting by the clock: `sleep`, `timeout` |
//! | [`task`], [`future`] | Rust futures that the loop polls; asyncio's `Future` |
//! | [`blocking`] | the threads of `run_in_executor` |
//! | [`host`], [`native`] | what is asked of a callback's language; Rust's answers |
//! | [`handles`] | what `call_soon` and `call_later` give a Rust caller |

pub mod blocking;
pub mod future;
pub mod handles;
pub mod host;
mod inbox;
mod iteration;
mod looks;
pub mod native;
pub mod run;
pub mod sleep;
pub mod sources;
pub mod task;
pub mod timers;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::reactor::epoll::EpollReactor;
use crate::reactor::{Event, Reactor, Token, Waker};
use crate::sys::buffer::Buffer;
use crate::sys::clock::Time;
use crate::sys::datagrams::Datagrams;

use host::{Host, Report};
use inbox::{Inbox, Message};
use looks::Looks;
use native::Native;
use sources::Sources;
use task::{TaskId, Tasks};
use timers::{TimerId, Timers};

/// How long a callback may take before debug mode calls it slow: asyncio's default.
pub const SLOW_CALLBACK_DURATION: Duration = Duration::from_millis(100);

/// The most that is received at once, in bytes: the memory that a loop lends to a receive.
/// CPython's transports ask for as much at once (`max_size = 256 * 1024`).
pub const RECEIVE_BUFFER: usize = 256 * 1024;

/// An event loop. Clones are handles to the same loop; it stays on the thread that made it.
///
/// The type parameter is the [`Host`]: Rust's own unless another language embeds the engine.
pub struct EventLoop<H: Host = Native> {
    pub(crate) core: Rc<Core<H>>,
}

/// The state of a loop. Everything is behind `&self`: callbacks use the loop that runs them. The
/// rule that makes it sound: no borrow is held while a callback, a host or a drop runs.
pub(crate) struct Core<H: Host> {
    pub(crate) host: H,
    /// The network, reached through [`reactor`](Core::reactor), which is noted in `looks`; the iteration and
    /// the clock go past that.
    reactor: Rc<dyn Reactor>,
    looks: Looks,
    waker: Arc<dyn Waker>,
    /// What runs next, in order. Filled by everyone, emptied by the iteration.
    ready: RefCell<VecDeque<Ready<H>>>,
    timers: RefCell<Timers<Timer<H>>>,
    sources: Sources<H>,
    tasks: Tasks,
    inbox: Arc<Inbox>,
    /// What has output to send before the iteration ends; see [`Flush`].
    unflushed: RefCell<Vec<Unflushed>>,
    /// The memory of the last iteration's events and messages, kept for the next.
    events: Cell<Vec<Event>>,
    messages: Cell<Vec<Message>>,
    /// The loop's receive buffer; taken out while a receive uses it.
    receive_buffer: Cell<Vec<u8>>,
    /// The loop's memory for datagrams; taken out while a receive uses it, made by the first.
    datagrams: Cell<Option<Box<Datagrams>>>,
    state: Cell<State>,
    /// True while callbacks run, so that what they write is sent at the iteration's end.
    iterating: Cell<bool>,
    /// Set by `stop`: the loop stops at the end of the iteration.
    stopping: Cell<bool>,
    /// An error that leaves the loop as soon as what raised it has returned.
    interrupt: Cell<Option<H::Error>>,
    /// Whether there is one: looked at after each callback.
    interrupted: Cell<bool>,
    debug: Cell<bool>,
    slow_callback_duration: Cell<Duration>,
    pool: blocking::Pool,
    /// What the layers above keep with the loop; see [`EventLoop::kept`].
    kept: RefCell<Vec<Rc<dyn Any>>>,
}

/// `Idle ⇄ Running`, then `Closed` for good. A running loop cannot be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Running,
    Closed,
}

/// Something that stands in the queue.
pub(crate) enum Ready<H: Host> {
    /// A callback of the program.
    Callback(H::Callback),
    /// An operation may be worth attempting; its source may be gone by the time it is run.
    Io(Token),
    /// An operation of the host's has been disturbed while it waited.
    Operation(H::Operation),
    /// A task was spawned or woken.
    Task(TaskId),
    /// A sleep is over.
    Wake(std::task::Waker),
    /// A step of the engine's own.
    Step(Box<dyn FnOnce()>),
}

/// What a timer does when it is due.
enum Timer<H: Host> {
    /// Calls the program.
    Callback(H::Callback),
    /// Wakes a task that sleeps.
    Wake(std::task::Waker),
}

/// What collects output during an iteration and sends it at the end.
pub(crate) trait Flush {
    /// Sends. Called once for each [`EventLoop::flush_later`], unless the loop is closed before.
    fn flush(&self);

    /// The loop refers to it once more, until it was flushed.
    fn collecting(&self) {}

    /// The loop refers to it once less.
    fn collected(&self) {}
}

/// The reference of an iteration to what it has to flush, which is told of it.
struct Unflushed(Rc<dyn Flush>);

impl Unflushed {
    fn new(output: Rc<dyn Flush>) -> Unflushed {
        output.collecting();
        Unflushed(output)
    }
}

impl Drop for Unflushed {
    fn drop(&mut self) {
        self.0.collected();
    }
}

impl EventLoop<Native> {
    /// A loop over epoll.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn new() -> io::Result<EventLoop> {
        Ok(EventLoop::with_reactor(Rc::new(EpollReactor::new()?)))
    }

    /// A loop over any reactor, the simulated one for example.
    #[must_use]
    pub fn with_reactor(reactor: Rc<dyn Reactor>) -> EventLoop {
        EventLoop::with_host(Native::default(), reactor)
    }
}

impl<H: Host> EventLoop<H> {
    /// A loop for another language's callbacks.
    #[must_use]
    pub fn with_host(host: H, reactor: Rc<dyn Reactor>) -> EventLoop<H> {
        let waker = reactor.waker();
        EventLoop {
            core: Rc::new(Core {
                host,
                looks: Looks::new(reactor.look_may_be_left_out()),
                reactor,
                ready: RefCell::default(),
                timers: RefCell::default(),
                sources: Sources::default(),
                tasks: Tasks::default(),
                inbox: Arc::new(Inbox::new(Arc::clone(&waker))),
                waker,
                unflushed: RefCell::default(),
                events: Cell::default(),
                messages: Cell::default(),
                receive_buffer: Cell::default(),
                datagrams: Cell::default(),
                state: Cell::new(State::Idle),
                iterating: Cell::new(false),
                stopping: Cell::new(false),
                interrupt: Cell::new(None),
                interrupted: Cell::new(false),
                debug: Cell::new(false),
                slow_callback_duration: Cell::new(SLOW_CALLBACK_DURATION),
                pool: blocking::Pool::default(),
                kept: RefCell::default(),
            }),
        }
    }

    /// Stops the loop at the end of the current iteration, or of the first one if it does not run.
    pub fn stop(&self) {
        self.core.stopping.set(true);
    }

    /// Closes the loop: drops everything that is queued, every timer, task and source. Closing
    /// twice does nothing.
    ///
    /// # Errors
    /// `ResourceBusy` when the loop is running.
    pub fn close(&self) -> io::Result<()> {
        match self.core.state.get() {
            State::Closed => return Ok(()),
            State::Idle => self.core.state.set(State::Closed),
            State::Running => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "cannot close a running event loop: stop it first",
                ));
            }
        }
        self.clear();
        Ok(())
    }

    /// Drops everything that the loop holds for others. Each collection is taken out first: the
    /// drops may use the loop.
    fn clear(&self) {
        drop(self.core.inbox.close());
        let ready = self.core.ready.take();
        drop(ready);
        let timers = self.core.timers.borrow_mut().drain();
        drop(timers);
        drop(self.core.tasks.drain());
        drop(self.core.unflushed.take());
        drop(self.core.kept.take());
        self.core.host.closed(self);
        // Before the sources: a host's garbage collector may look in between, and must not find
        // what nobody owns any more.
        self.forget_users();
        self.clear_sources();
        self.core.pool.shutdown();
        self.core.reactor.close();
    }

    /// Whether the loop runs now.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.core.state.get() == State::Running
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.state.get() == State::Closed
    }

    /// The clock of the loop's deadlines: the reactor's, or the one that the host has in its place.
    #[must_use]
    pub fn time(&self) -> Time {
        self.host_time().unwrap_or_else(|error| {
            self.interrupt(error);
            self.core.reactor.now()
        })
    }

    fn host_time(&self) -> Result<Time, H::Error> {
        let own = self.core.host.time()?;
        Ok(own.unwrap_or_else(|| self.core.reactor.now()))
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &H {
        &self.core.host
    }

    /// The network.
    #[must_use]
    pub fn reactor(&self) -> &dyn Reactor {
        self.core.reactor()
    }

    /// The time on the reactor's clock.
    #[must_use]
    pub fn now(&self) -> Time {
        self.core.reactor.now()
    }

    /// Ends the loop's sleep, from any thread. What was queued by another thread while the host
    /// let it in is run then.
    #[must_use]
    pub fn waker(&self) -> Arc<dyn Waker> {
        Arc::clone(&self.core.waker)
    }

    /// Ends the loop's sleep, on the loop's own thread or on one that the host has let in.
    pub fn wake(&self) {
        self.core.waker.wake();
    }

    /// Queues a callback of the host's language.
    #[inline]
    pub fn queue(&self, callback: H::Callback) {
        if self.core.state.get() == State::Closed {
            return;
        }
        let mut ready = self.core.ready.borrow_mut();
        if ready.len() == ready.capacity() {
            ready.reserve(1);
        }
        ready.push_back(Ready::Callback(callback));
    }

    /// Queues an operation of the host's language, which waits for nothing more: [`Host::attempt`] is called
    /// with it in its turn.
    pub fn queue_operation(&self, operation: H::Operation) {
        self.core.push(Ready::Operation(operation));
    }

    /// Queues a step of the engine's own, in order with the callbacks.
    pub(crate) fn queue_step(&self, step: impl FnOnce() + 'static) {
        self.core.push(Ready::Step(Box::new(step)));
    }

    /// Queues a callback at `deadline`.
    pub fn queue_at(&self, deadline: Time, callback: H::Callback) -> TimerId {
        self.core
            .timers
            .borrow_mut()
            .insert(deadline, Timer::Callback(callback))
    }

    /// Takes a timer back; its callback, unless it has fired.
    pub fn cancel_timer(&self, id: TimerId) -> Option<H::Callback> {
        match self.core.timers.borrow_mut().cancel(id)? {
            Timer::Callback(callback) => Some(callback),
            Timer::Wake(_) => None,
        }
    }

    /// Visits every callback that the loop holds: for a host with a garbage collector.
    pub fn visit_callbacks(&self, mut visit: impl FnMut(&H::Callback)) {
        self.visit_queue(&mut visit);
        self.visit_timers(&mut visit);
        self.core.sources.visit_callbacks(visit);
    }

    /// Visits those that are ready.
    pub fn visit_queue(&self, mut visit: impl FnMut(&H::Callback)) {
        for ready in self.core.ready.borrow().iter() {
            if let Ready::Callback(callback) = ready {
                visit(callback);
            }
        }
    }

    /// Visits those that have a deadline.
    pub fn visit_timers(&self, mut visit: impl FnMut(&H::Callback)) {
        for timer in self.core.timers.borrow().iter() {
            if let Timer::Callback(callback) = timer {
                visit(callback);
            }
        }
    }

    /// Visits every operation that waits: for a host with a garbage collector.
    pub fn visit_operations(&self, mut visit: impl FnMut(&H::Operation)) {
        for ready in self.core.ready.borrow().iter() {
            if let Ready::Operation(operation) = ready {
                visit(operation);
            }
        }
        self.core.sources.visit_operations(visit);
    }

    /// In debug mode slow callbacks are reported and misuse is looked for.
    pub fn set_debug(&self, on: bool) {
        self.core.debug.set(on);
    }

    /// Whether the loop is in debug mode.
    #[must_use]
    pub fn debug(&self) -> bool {
        self.core.debug.get()
    }

    /// How long a callback may take before debug mode calls it slow.
    #[must_use]
    pub fn slow_callback_duration(&self) -> Duration {
        self.core.slow_callback_duration.get()
    }

    /// Changes how long a callback may take before debug mode calls it slow. The default is
    /// [`SLOW_CALLBACK_DURATION`].
    pub fn set_slow_callback_duration(&self, duration: Duration) {
        self.core.slow_callback_duration.set(duration);
    }

    /// Tells the exception handler of something that nobody awaits.
    pub fn report(&self, report: Report<H::Error>) {
        match report.error {
            Some(error) if self.core.host.escapes(&error) => self.interrupt(error),
            error => self.core.host.report(self, Report { error, ..report }),
        }
    }

    /// Makes an error leave the loop as soon as what is running has returned.
    pub fn interrupt(&self, error: H::Error) {
        self.core.interrupt.set(Some(error));
        self.core.interrupted.set(true);
    }

    /// Sends `output` at the end of the iteration, or now when there is none.
    pub(crate) fn flush_later(&self, output: Rc<dyn Flush>) {
        if self.core.iterating.get() {
            let output = Unflushed::new(output);
            self.core.unflushed.borrow_mut().push(output);
        } else {
            output.flush();
        }
    }

    /// What a layer above keeps with the loop: one value of each type, made when it is first asked
    /// for, dropped when the loop is closed.
    pub(crate) fn kept<T: Default + 'static>(&self) -> Rc<T> {
        let kept = self.core.kept.borrow().iter().find_map(downcast::<T>);
        kept.unwrap_or_else(|| {
            let made = Rc::new(T::default());
            let kept = Rc::clone(&made);
            self.core.kept.borrow_mut().push(kept);
            made
        })
    }

    /// Lends the loop's receive buffer, or the first `limit` bytes of it. Nested receives get one
    /// of their own.
    #[inline]
    pub fn with_receive_buffer<R>(
        &self,
        limit: usize,
        receive: impl FnOnce(&mut Buffer<'_>) -> R,
    ) -> R {
        let mut memory = self.core.receive_buffer.take();
        memory.clear();
        memory.reserve(RECEIVE_BUFFER);
        let spare = memory.spare_capacity_mut();
        let limit = limit.min(spare.len());
        let received = receive(&mut Buffer::new(&mut spare[..limit]));
        self.core.receive_buffer.set(memory);
        received
    }
}

impl<H: Host> EventLoop<H> {
    /// Lends the loop's memory for datagrams. Nested receives get one of their own.
    pub(crate) fn with_datagrams<R>(&self, receive: impl FnOnce(&mut Datagrams) -> R) -> R {
        let mut datagrams = self.core.datagrams.take().unwrap_or_default();
        let received = receive(&mut datagrams);
        self.core.datagrams.set(Some(datagrams));
        received
    }
}

fn downcast<T: 'static>(kept: &Rc<dyn Any>) -> Option<Rc<T>> {
    Rc::clone(kept).downcast().ok()
}

impl<H: Host> Core<H> {
    /// The network. Whoever asks for it is about to use it.
    #[inline]
    pub(crate) fn reactor(&self) -> &dyn Reactor {
        self.looks.begin();
        &*self.reactor
    }

    /// A closed loop runs nothing: what it is given is dropped, or it would keep itself alive.
    #[inline]
    fn push(&self, ready: Ready<H>) {
        if self.state.get() != State::Closed {
            self.ready.borrow_mut().push_back(ready);
        }
    }
}

impl<H: Host> Drop for Core<H> {
    fn drop(&mut self) {
        self.pool.shutdown();
    }
}

impl<H: Host> Clone for EventLoop<H> {
    fn clone(&self) -> Self {
        EventLoop {
            core: Rc::clone(&self.core),
        }
    }
}

impl<H: Host> fmt::Debug for EventLoop<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<EventLoop running={} closed={} debug={}>",
            self.is_running(),
            self.is_closed(),
            self.debug()
        )
    }
}
