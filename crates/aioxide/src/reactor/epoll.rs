//! The kernel's network, through epoll.
//!
//! Each descriptor has one registration, which covers both sides. There are three kinds:
//!
//! * **Of [`submit`](Reactor::submit)**: level-triggered, made when the first side is submitted and
//!   removed when the last is cancelled. A descriptor that nobody waits for must be out of the
//!   queue then, because epoll reports hang-ups whether asked or not.
//! * **Of [`submit_once`](Reactor::submit_once)**: edge-triggered, for both sides, and it stays while
//!   nobody waits. What comes then is told once; that removes it, so a socket that is used
//!   elsewhere by now disturbs this loop once. The kernel removes it when the file is closed. Of a
//!   file that lives on under another number (dup(2), fork(2)) it goes on telling, at most once
//!   for each arrival: each registration has a number of its own, so that whoever has the
//!   descriptor's number by then is not told.
//! * **Of [`Op::ReceiveStream`] and [`Op::SendStream`]**: edge-triggered, and level-triggered for those
//!   who wait. The kernel tells once; the reactor sees the attempts, and repeats what it was told until
//!   one of them says that it is no longer so: a receive that leaves room, a send that is short.
//!   Level-triggered epoll would look at each connection a second time to learn as much, and each send
//!   that is short would change the registration twice.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{AroundSleep, Event, Op, Reactor, Side, Socket, Token, Waker};
use crate::sys::address::{Family, SocketAddress};
use crate::sys::buffer::Buffer;
use crate::sys::clock::{self, Time};
use crate::sys::datagrams::{self, Datagrams};
use crate::sys::epoll::{Epoll, Events, Readiness, Trigger};
use crate::sys::eventfd::EventFd;
use crate::sys::file::{self, Kind};
use crate::sys::process;
use crate::sys::socket::{self, SocketOption};

/// Events taken in one wait. A busier loop takes the rest in its next iteration, after the
/// callbacks of these: the bound keeps one iteration short. 1,024 events are 12 KiB.
const EVENTS_PER_WAIT: usize = 1024;

/// The data of the wake-up descriptor's registration; descriptors are never negative.
const WAKE_UP: u64 = u64::MAX;

/// The data of a descriptor's registration: its number, and above it the registration's.
fn data_of(fd: RawFd, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(fd as u32)
}

/// The reactor over epoll.
pub struct EpollReactor {
    /// `None` when the reactor is closed.
    epoll: RefCell<Option<Rc<Epoll>>>,
    /// What waits on each descriptor, indexed by its number: the kernel gives the lowest number
    /// that is free, so the table is as long as the program has descriptors.
    watched: RefCell<Vec<Watched>>,
    /// The streams of which what the kernel has told may still be so. Invariant: exactly those that
    /// are `listed`.
    told: RefCell<Vec<RawFd>>,
    /// The kernel's events. Taken out during a wait: no borrow is held while other threads run.
    events: RefCell<Option<Events>>,
    sleep: Arc<Sleep>,
    /// What [`forks`](process::forks) has said when the queue was made.
    forks: Cell<u32>,
}

/// The operations that wait on one descriptor.
#[derive(Clone, Copy, Default)]
struct Watched {
    /// The sides that are waited for, and the tokens: of a side that is not, it says nothing.
    waits: Readiness,
    read: u64,
    write: u64,
    kind: Registered,
    /// What a stream's registration covers: what has been waited for since it was made.
    covers: Readiness,
    /// What the kernel has told of a stream, and no attempt has denied.
    ready: Readiness,
    /// Whether the kernel has told of an end, an error or something urgent: then a receive that leaves
    /// room has not taken everything.
    unusual: bool,
    /// Whether a send was short since the kernel has told of room: it will tell when there is some.
    full: bool,
    /// Whether the stream stands in the reactor's list.
    listed: bool,
    /// Which registration of this number it is. A file that was closed and lives on elsewhere keeps
    /// its own: what is told of that belongs to nobody here.
    generation: u32,
}

/// The kinds of registrations.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Registered {
    /// Level-triggered, for what is waited for.
    #[default]
    Level,
    /// Edge-triggered, for both sides, and staying while nobody waits.
    Staying,
    /// Edge-triggered, for what has been waited for.
    Stream,
}

/// What the kernel was told of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Registration {
    interest: Readiness,
    trigger: Trigger,
}

impl Registration {
    const NONE: Registration = Registration {
        interest: Readiness::NONE,
        trigger: Trigger::Level,
    };
}

impl Watched {
    fn read(&self) -> Option<Token> {
        self.waits.read.then_some(Token(self.read))
    }

    fn write(&self) -> Option<Token> {
        self.waits.write.then_some(Token(self.write))
    }

    /// Waits on a side, or no longer; whether it has waited.
    fn wait(&mut self, side: Side, token: Option<Token>) -> bool {
        let (waits, place) = match side {
            Side::Read => (&mut self.waits.read, &mut self.read),
            Side::Write => (&mut self.waits.write, &mut self.write),
        };
        if let Some(Token(token)) = token {
            *place = token;
        }
        mem::replace(waits, token.is_some())
    }

    fn is_idle(&self) -> bool {
        self.waits == Readiness::NONE
    }

    fn registration(&self) -> Registration {
        match self.kind {
            Registered::Level => Registration {
                interest: self.wanted(),
                trigger: Trigger::Level,
            },
            Registered::Staying => Registration {
                interest: Readiness::BOTH,
                trigger: Trigger::Edge,
            },
            Registered::Stream => Registration {
                interest: self.covers,
                trigger: Trigger::EdgeAndEnds,
            },
        }
    }

    /// What is waited for.
    fn wanted(&self) -> Readiness {
        self.waits
    }

    /// Whether a stream's receiver, or its sender, has to be told again of what the kernel told.
    fn repeats(&self) -> bool {
        self.kind == Registered::Stream
            && (self.ready.read && self.waits.read || self.ready.write && self.waits.write)
    }

    /// The kind that the registration becomes when somebody starts to wait who would like it to be
    /// `wanted`.
    fn kind_with(&self, wanted: Registered) -> Registered {
        match (self.kind, wanted) {
            _ if self.is_idle() => wanted,
            // What is told until it is no longer so can be waited for once, too.
            (Registered::Stream, Registered::Staying) => Registered::Stream,
            (kind, wanted) if kind == wanted => kind,
            // Whoever waits for every event cannot share a registration that tells of each once.
            _ => Registered::Level,
        }
    }
}

impl EpollReactor {
    /// A reactor with two descriptors: the queue and the wake-up counter.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn new() -> io::Result<EpollReactor> {
        process::count_forks()?;
        let (epoll, wake_up) = new_queue()?;
        Ok(EpollReactor {
            epoll: RefCell::new(Some(Rc::new(epoll))),
            forks: Cell::new(process::forks()),
            watched: RefCell::default(),
            told: RefCell::default(),
            events: RefCell::new(Some(Events::with_capacity(EVENTS_PER_WAIT))),
            sleep: Arc::new(Sleep {
                wake_up: Mutex::new(Some(wake_up)),
                asleep: AtomicBool::new(false),
                woken: AtomicBool::new(false),
            }),
        })
    }

    /// In a child of fork(2), once: makes a queue for it, with what it waits for. The one that it was born
    /// with is its parent's, who still waits with it, and would be woken by what is meant for the child.
    #[inline]
    fn follow_fork(&self) -> io::Result<()> {
        let forks = process::forks();
        if forks == self.forks.get() {
            return Ok(());
        }
        self.leave_parent(forks)
    }

    #[cold]
    fn leave_parent(&self, forks: u32) -> io::Result<()> {
        if self.epoll.borrow().is_none() {
            return Ok(());
        }
        let (epoll, wake_up) = new_queue()?;
        for (fd, watched) in (0..).zip(&*self.watched.borrow()) {
            let now = watched.registration();
            if now != Registration::NONE {
                let data = data_of(fd, watched.generation);
                // Fails only where the program closed the descriptor.
                let _ = epoll.add(fd, data, now.interest, now.trigger);
            }
        }
        let before = self.sleep.wake_up().replace(wake_up);
        drop(before);
        let before = self.epoll.replace(Some(Rc::new(epoll)));
        drop(before);
        self.forks.set(forks);
        Ok(())
    }

    fn epoll(&self) -> io::Result<Rc<Epoll>> {
        let epoll = self.epoll.borrow().clone();
        epoll.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    /// Makes the registration what `watched` says, having been `before`.
    fn register(&self, fd: RawFd, before: Registration, watched: &mut Watched) -> io::Result<()> {
        let epoll = self.epoll()?;
        let after = watched.registration();
        let current = watched.generation;
        let next = current.wrapping_add(1);
        let modify = |number| epoll.modify(fd, data_of(fd, number), after.interest, after.trigger);
        let mut add = || {
            let added = epoll.add(fd, data_of(fd, next), after.interest, after.trigger);
            let added = match added {
                // Of an earlier descriptor of this number, and of the same file.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => modify(next),
                added => added,
            };
            if added.is_ok() {
                watched.generation = next;
            }
            added
        };
        match (before == Registration::NONE, after == Registration::NONE) {
            (true, true) => Ok(()),
            (true, false) => add(),
            // The child of fork(2) that has no queue of its own: its parent still waits with this one.
            (false, _) if process::forks() != self.forks.get() => Ok(()),
            (false, true) => epoll.delete(fd),
            (false, false) => match modify(current) {
                // The program closed the descriptor while it was watched, which removed it, and
                // has opened another of the same number.
                Err(error) if error.kind() == io::ErrorKind::NotFound => add(),
                modified => modified,
            },
        }
    }

    /// Makes `token` wait on a side of `fd`. `wanted` is the kind of the registration, `known` what
    /// [`submit_once`](Reactor::submit_once) says.
    fn start(
        &self,
        fd: RawFd,
        op: Op,
        token: Token,
        wanted: Registered,
        known: bool,
    ) -> io::Result<()> {
        let index = usize::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
        self.follow_fork()?;
        let mut table = self.watched.borrow_mut();
        let mut watched = table.get(index).copied().unwrap_or_default();
        let before = watched.registration();
        let idle = watched.is_idle();
        watched.kind = watched.kind_with(wanted);
        if watched.wait(op.side(), Some(token)) {
            // What was changed is a copy.
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let known = match watched.kind {
            Registered::Level => false,
            Registered::Staying => known && before == watched.registration(),
            Registered::Stream if idle || before.trigger != Trigger::EdgeAndEnds => {
                watched.covers = watched.wanted();
                watched.ready = Readiness::NONE;
                watched.unusual = false;
                watched.full = false;
                false
            }
            Registered::Stream => match op.side() {
                Side::Read => mem::replace(&mut watched.covers.read, true),
                Side::Write => {
                    let covered = mem::replace(&mut watched.covers.write, true);
                    // The kernel is asked anew, unless it is sure to tell.
                    watched.ready.write = false;
                    covered && watched.full
                }
            },
        };
        // The kernel first: the table grows only for descriptors that exist.
        if !known {
            self.register(fd, before, &mut watched)?;
        }
        if watched.repeats() && !mem::replace(&mut watched.listed, true) {
            self.told.borrow_mut().push(fd);
        }
        if index >= table.len() {
            table.resize(index + 1, Watched::default());
        }
        table[index] = watched;
        Ok(())
    }

    /// Takes the token of a side. The registration goes with the last one, unless it `rests`.
    fn end(&self, fd: RawFd, side: Side, rests: bool) {
        // As the next wait will say, if it fails.
        let _ = self.follow_fork();
        let mut table = self.watched.borrow_mut();
        let Some(watched) = usize::try_from(fd)
            .ok()
            .and_then(|index| table.get_mut(index))
        else {
            return;
        };
        let before = watched.registration();
        if !watched.wait(side, None) {
            return;
        }
        let stays = match watched.kind {
            Registered::Level => false,
            Registered::Staying => rests || !watched.is_idle(),
            Registered::Stream => rests || !watched.is_idle(),
        };
        if !stays {
            watched.kind = Registered::Level;
        }
        if before != watched.registration() {
            // Fails only where the program closed the descriptor first, which removed it.
            let _ = self.register(fd, before, watched);
        }
    }

    /// Forgets a descriptor that nobody waits for; `closes` says that closing it ends its registration.
    fn leave(&self, fd: RawFd, closes: bool) {
        // As in `end`.
        let _ = self.follow_fork();
        let mut table = self.watched.borrow_mut();
        let watched = usize::try_from(fd)
            .ok()
            .and_then(|index| table.get_mut(index));
        let Some(watched) = watched.filter(|watched| watched.is_idle()) else {
            return;
        };
        let before = watched.registration();
        watched.kind = Registered::Level;
        if !closes {
            // As in `end`.
            let _ = self.register(fd, before, watched);
        }
    }

    /// Repeats what the kernel has told of streams and is still so; whether there is any.
    fn repeat(&self, events: &mut Vec<Event>) -> bool {
        let mut table = self.watched.borrow_mut();
        let mut told = self.told.borrow_mut();
        told.retain(|fd| {
            let watched = usize::try_from(*fd)
                .ok()
                .and_then(|index| table.get_mut(index));
            let Some(watched) = watched else {
                return false;
            };
            watched.listed = watched.repeats();
            if watched.listed {
                let read = watched.read().filter(|_| watched.ready.read);
                let write = watched.write().filter(|_| watched.ready.write);
                events.extend(read.into_iter().chain(write).map(Event));
            }
            watched.listed
        });
        !told.is_empty()
    }

    /// Sorts out what the kernel tells.
    fn take(&self, ready: &Events, events: &mut Vec<Event>) {
        let mut table = self.watched.borrow_mut();
        for told in ready.iter() {
            if told.data == WAKE_UP {
                self.sleep.clear();
                continue;
            }
            let fd = told.data as u32 as RawFd;
            let watched = usize::try_from(fd)
                .ok()
                .and_then(|index| table.get_mut(index))
                .filter(|watched| told.data == data_of(fd, watched.generation));
            let Some(watched) = watched else {
                continue;
            };
            let mut news = told.readiness;
            if watched.kind == Registered::Stream {
                // What is repeated in this wait is no news.
                if watched.listed {
                    news.read &= !watched.ready.read;
                    news.write &= !watched.ready.write;
                }
                watched.ready.read |= told.readiness.read;
                watched.ready.write |= told.readiness.write;
                watched.unusual |= told.unusual;
                watched.full &= !told.readiness.write;
                if watched.repeats() && !mem::replace(&mut watched.listed, true) {
                    self.told.borrow_mut().push(fd);
                }
            }
            let unwanted = match watched.kind {
                Registered::Level => false,
                Registered::Staying => watched.is_idle(),
                // Each arrival would end a sleep.
                Registered::Stream => told.readiness.read && !watched.waits.read,
            };
            if unwanted {
                let before = watched.registration();
                watched.kind = Registered::Level;
                // As in `end`.
                let _ = self.register(fd, before, watched);
            }
            if let Some(token) = watched.read().filter(|_| news.read) {
                events.push(Event(token));
            }
            if let Some(token) = watched.write().filter(|_| news.write) {
                events.push(Event(token));
            }
        }
    }

    /// What is known of a stream, to be changed by an attempt that was made.
    fn with_stream(&self, fd: RawFd, change: impl FnOnce(&mut Watched)) {
        let mut table = self.watched.borrow_mut();
        let watched = usize::try_from(fd)
            .ok()
            .and_then(|index| table.get_mut(index));
        if let Some(watched) = watched
            && watched.kind == Registered::Stream
        {
            change(watched);
        }
    }

    /// A receive has been made with `room` in its buffer.
    #[inline]
    fn note_receive(&self, fd: RawFd, room: usize, received: &io::Result<usize>) {
        self.with_stream(fd, |watched| match received {
            Ok(count) => watched.ready.read &= watched.unusual || *count >= room,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                watched.ready.read = false;
                watched.unusual = false;
            }
            Err(_) => {}
        });
    }

    /// A send of `size` bytes has been made.
    #[inline]
    fn note_send(&self, fd: RawFd, size: usize, sent: &io::Result<usize>) {
        let short = match sent {
            Ok(count) => *count < size,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => return,
        };
        if short || sent.is_err() {
            self.with_stream(fd, |watched| {
                watched.ready.write = false;
                // What was sent will be acknowledged. The kernel may also refuse because it has no
                // memory, and tells nobody when it has some.
                watched.full = short;
            });
        }
    }
}

/// A queue, and the counter that ends its waits.
fn new_queue() -> io::Result<(Epoll, EventFd)> {
    let epoll = Epoll::new()?;
    let wake_up = EventFd::new()?;
    let interest = Readiness {
        read: true,
        write: false,
    };
    epoll.add(wake_up.as_raw_fd(), WAKE_UP, interest, Trigger::Level)?;
    Ok((epoll, wake_up))
}

impl Reactor for EpollReactor {
    fn now(&self) -> Time {
        clock::now()
    }

    fn wait(
        &self,
        deadline: Option<Time>,
        events: &mut Vec<Event>,
        around_sleep: AroundSleep<'_>,
    ) -> io::Result<()> {
        self.follow_fork()?;
        let epoll = self.epoll()?;
        let mut ready = self
            .events
            .take()
            .unwrap_or_else(|| Events::with_capacity(EVENTS_PER_WAIT));
        let repeated = self.repeat(events);
        let timeout = deadline.map(|deadline| {
            if deadline == Time::ZERO {
                std::time::Duration::ZERO
            } else {
                clock::now().until(deadline)
            }
        });
        let timeout = if repeated {
            Some(std::time::Duration::ZERO)
        } else {
            timeout
        };
        let waited = if timeout.is_some_and(|timeout| timeout.is_zero()) {
            self.sleep.woken.store(false, Ordering::Relaxed);
            epoll.wait(&mut ready, timeout)
        } else {
            let mut waited = Ok(());
            around_sleep(&mut || {
                if self.sleep.begin() {
                    waited = epoll.wait(&mut ready, timeout);
                } else {
                    waited = epoll.wait(&mut ready, Some(std::time::Duration::ZERO));
                }
                self.sleep.end();
            });
            waited
        };
        if waited.is_ok() {
            self.take(&ready, events);
        }
        self.events.replace(Some(ready));
        waited
    }

    fn look_may_be_left_out(&self) -> bool {
        true
    }

    fn close(&self) {
        let epoll = self.epoll.take();
        drop(epoll);
        self.sleep.close();
    }

    fn waker(&self) -> Arc<dyn Waker> {
        self.sleep.clone()
    }

    fn submit(&self, fd: RawFd, op: Op, token: Token) -> io::Result<()> {
        let kind = match op {
            Op::ReceiveStream | Op::SendStream => Registered::Stream,
            _ => Registered::Level,
        };
        self.start(fd, op, token, kind, false)
    }

    fn submit_once(&self, fd: RawFd, op: Op, token: Token, known: bool) -> io::Result<()> {
        self.start(fd, op, token, Registered::Staying, known)
    }

    fn cancel(&self, fd: RawFd, side: Side) {
        self.end(fd, side, false);
    }

    fn rest(&self, fd: RawFd, side: Side) {
        self.end(fd, side, true);
    }

    fn forget(&self, fd: RawFd, closes: bool) {
        self.leave(fd, closes);
    }

    #[inline]
    fn receive(&self, fd: RawFd, buffer: &mut Buffer<'_>) -> io::Result<usize> {
        let room = buffer.room();
        let received = socket::receive(fd, buffer);
        self.note_receive(fd, room, &received);
        received
    }

    fn receivable(&self, fd: RawFd) -> io::Result<usize> {
        socket::receivable(fd)
    }

    fn unacknowledged(&self, fd: RawFd) -> io::Result<usize> {
        socket::unacknowledged(fd)
    }

    #[inline]
    fn send(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let sent = socket::send(fd, slices);
        let size = match slices {
            [one] => one.len(),
            many => many.iter().map(|slice| slice.len()).sum(),
        };
        self.note_send(fd, size, &sent);
        sent
    }

    fn read(&self, fd: RawFd, buffer: &mut Buffer<'_>) -> io::Result<usize> {
        file::read(fd, buffer)
    }

    fn write(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        file::write(fd, slices)
    }

    fn kind(&self, fd: RawFd) -> io::Result<Kind> {
        file::kind(fd)
    }

    fn receive_datagrams(&self, fd: RawFd, datagrams: &mut Datagrams) -> io::Result<()> {
        datagrams.receive(fd)
    }

    fn receive_from(
        &self,
        fd: RawFd,
        buffer: &mut Buffer<'_>,
    ) -> io::Result<(usize, Option<SocketAddress>)> {
        datagrams::receive_from(fd, buffer)
    }

    fn send_to(&self, fd: RawFd, bytes: &[u8], peer: Option<&SocketAddress>) -> io::Result<usize> {
        datagrams::send_to(fd, bytes, peer)
    }

    fn send_datagrams(
        &self,
        fd: RawFd,
        datagrams: &[(IoSlice<'_>, Option<&SocketAddress>)],
    ) -> io::Result<usize> {
        datagrams::send_many(fd, datagrams)
    }

    fn send_file(&self, fd: RawFd, file: RawFd, offset: u64, count: usize) -> io::Result<usize> {
        let sent = file::send_file(fd, file, offset, count);
        // One that is short may have come to the file's end.
        self.note_send(fd, 0, &sent);
        sent
    }

    fn accept(&self, fd: RawFd) -> io::Result<(Socket, Option<SocketAddress>)> {
        let (socket, peer) = socket::accept(fd)?;
        Ok((socket.into(), peer))
    }

    fn connect(&self, fd: RawFd, address: &SocketAddress) -> io::Result<()> {
        socket::connect(fd, address)
    }

    fn take_error(&self, fd: RawFd) -> io::Result<()> {
        socket::take_error(fd)
    }

    fn open(&self, family: Family, kind: i32, protocol: i32) -> io::Result<Socket> {
        Ok(socket::open(family, kind, protocol)?.into())
    }

    fn bind(&self, fd: RawFd, address: &SocketAddress) -> io::Result<()> {
        socket::bind(fd, address)
    }

    fn listen(&self, fd: RawFd, backlog: i32) -> io::Result<()> {
        socket::listen(fd, backlog)
    }

    fn shutdown_write(&self, fd: RawFd) -> io::Result<()> {
        socket::shutdown_write(fd)
    }

    fn set_option(&self, fd: RawFd, option: SocketOption) -> io::Result<()> {
        socket::set_option(fd, option)
    }

    fn local_address(&self, fd: RawFd) -> io::Result<SocketAddress> {
        socket::local_address(fd)
    }

    fn peer_address(&self, fd: RawFd) -> io::Result<SocketAddress> {
        socket::peer_address(fd)
    }
}

/// Whether the loop's thread sleeps, so that a wake costs a system call only when it does.
///
/// ```text
/// loop:   woken? ── yes ─▶ look, do not sleep          other:  woken = true
///           │ no                                               asleep? ── yes ─▶ signal
///         asleep = true ─▶ woken? again ─▶ sleep ─▶ asleep = false
/// ```
///
/// Both sides write their own flag first and read the other's after (sequentially consistent), so
/// at least one of them sees the other.
pub struct Sleep {
    /// `None` when the reactor is closed. Behind a lock, so that nobody signals a number that is
    /// another's by then.
    wake_up: Mutex<Option<EventFd>>,
    asleep: AtomicBool,
    woken: AtomicBool,
}

impl Sleep {
    fn wake_up(&self) -> MutexGuard<'_, Option<EventFd>> {
        self.wake_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) {
        if let Some(wake_up) = &*self.wake_up() {
            wake_up.clear();
        }
    }

    fn close(&self) {
        let wake_up = self.wake_up().take();
        drop(wake_up);
    }

    /// Whether to sleep: false when a wake has come since the last [`end`](Sleep::end).
    fn begin(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        !self.woken.load(Ordering::SeqCst)
    }

    fn end(&self) {
        // What was sent before `woken` is cleared is found by the look that follows every wait: the
        // inbox's lock orders the two. A waker that still sees `asleep` signals for nothing.
        self.asleep.store(false, Ordering::Relaxed);
        self.woken.store(false, Ordering::Relaxed);
    }
}

impl Waker for Sleep {
    fn wake(&self) {
        // Who finds it set need not set it, which costs much more: if the loop clears it meanwhile, it has not yet
        // taken what was sent before this, for the reason that `end` gives.
        if !self.woken.load(Ordering::SeqCst)
            && !self.woken.swap(true, Ordering::SeqCst)
            && self.asleep.load(Ordering::SeqCst)
            && let Some(wake_up) = &*self.wake_up()
        {
            wake_up.signal();
        }
    }
}
