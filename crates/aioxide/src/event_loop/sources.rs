//! Who is told when a descriptor is ready.
//!
//! A source stands between a waiting operation and its [`Token`]. Three kinds of owners wait:
//! callbacks of the program (`add_reader`), tasks (`sock_recv` and its like), and the engine's own
//! objects (transports, servers). A token holds a generation, so an event that was queued before
//! its source was removed finds nothing: removing a reader takes effect at once.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::reactor::{Op, Side, Token};
use crate::sys::clock::Time;

use super::EventLoop;
use super::host::{Host, Slow};

/// One of the engine's own objects that waits for a descriptor.
pub(crate) trait Ready {
    /// An attempt on `side` is worth making.
    fn ready(&self, side: Side);

    /// The loop refers to it from a source once more.
    fn watched(&self) {}

    /// The loop refers to it from a source once less.
    fn unwatched(&self) {}

    /// What debug mode calls it when it is slow.
    fn name(&self) -> &'static str;
}

/// One of the engine's own objects that the loop refers to, whether it waits for anything or not.
/// Most own a descriptor.
pub(crate) trait User: Any {
    /// Closes what it owns, without a word to anyone.
    fn abandon(&self);

    /// The loop was closed: it refers to this no more. What owns a descriptor learns of it when
    /// its source is dropped.
    fn loop_closed(&self) {}

    /// Shows what it holds of the host's.
    fn visit(&self, visit: &mut dyn FnMut(&dyn Any));
}

/// The sources of one loop.
pub(super) struct Sources<H: Host> {
    slab: RefCell<Slab<Source<H>>>,
    next_generation: Cell<u32>,
    /// The sources of callbacks and tasks, by what they wait for.
    polls: RefCell<HashMap<(RawFd, Side), Token, BuildHasherDefault<NumberHasher>>>,
    /// Who owns which descriptor.
    users: RefCell<Users>,
    /// Objects that the loop refers to and that own no descriptor.
    holders: RefCell<Slab<Weak<dyn User>>>,
}

/// Who owns which descriptor: in pages of neighbours, since the kernel gives the lowest numbers that are
/// free, and those of the simulated network begin high up. A table of hashes is half empty, and has each
/// number too: two and a half times the memory.
#[derive(Default)]
struct Users(HashMap<RawFd, Box<Page>, BuildHasherDefault<NumberHasher>>);

/// The owners of neighbouring descriptors.
type Page = [Option<Weak<dyn User>>; PAGE];

/// Descriptors in a page: 1 KiB of memory.
const PAGE: usize = 64;

impl Users {
    fn place(fd: RawFd) -> Option<(RawFd, usize)> {
        let number = usize::try_from(fd).ok()?;
        Some((fd / PAGE as RawFd, number % PAGE))
    }

    fn insert(&mut self, fd: RawFd, user: Weak<dyn User>) {
        if let Some((page, index)) = Users::place(fd) {
            let empty = || Box::new([const { None }; PAGE]);
            self.0.entry(page).or_insert_with(empty)[index] = Some(user);
        }
    }

    fn get(&self, fd: RawFd) -> Option<&Weak<dyn User>> {
        let (page, index) = Users::place(fd)?;
        self.0.get(&page)?[index].as_ref()
    }

    fn remove(&mut self, fd: RawFd) {
        if let Some((page, index)) = Users::place(fd)
            && let Some(page) = self.0.get_mut(&page)
        {
            page[index] = None;
        }
    }

    fn values(&self) -> impl Iterator<Item = &Weak<dyn User>> {
        self.0.values().flat_map(|page| page.iter().flatten())
    }
}

/// Hashes a descriptor and a side, by a multiplication. They are the kernel's lowest free numbers: nobody
/// can choose them to collide, and the standard hash, which is made for that, costs more than the
/// rest of a look.
#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_i32(&mut self, number: i32) {
        self.write_u64(u64::from(number.cast_unsigned()));
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number.cast_unsigned() as u64);
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio: neighbours end up far from each other.
        self.0 = (self.0.rotate_left(32) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        // The table takes the lowest bits, and the highest.
        self.0 ^ self.0 >> 32
    }
}

/// Names an object that was given to [`EventLoop::add_holder`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct HolderKey(usize);

impl<H: Host> Default for Sources<H> {
    fn default() -> Self {
        Sources {
            slab: RefCell::default(),
            next_generation: Cell::new(0),
            polls: RefCell::default(),
            users: RefCell::default(),
            holders: RefCell::default(),
        }
    }
}

struct Source<H: Host> {
    generation: u32,
    fd: RawFd,
    side: Side,
    owner: Owner<H>,
}

enum Owner<H: Host> {
    /// `add_reader`, `add_writer`: called again and again.
    Callback(Rc<H::Callback>),
    /// Those that wait once, each for an attempt of its own.
    Waiters(Vec<Waiter<H>>),
    /// A transport or a server.
    Object(Watching),
}

/// The reference of a source to one of the engine's objects, which is told of it.
struct Watching(Rc<dyn Ready>);

impl Watching {
    fn new(object: Rc<dyn Ready>) -> Watching {
        object.watched();
        Watching(object)
    }
}

impl Clone for Watching {
    fn clone(&self) -> Watching {
        Watching::new(Rc::clone(&self.0))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.unwatched();
    }
}

/// Whoever waits for one event.
enum Waiter<H: Host> {
    /// A task, woken by it.
    Task(Waker),
    /// An operation of the host's, which makes its attempt in the event's own step.
    Operation(H::Operation),
}

/// Names the wait of an operation of the host's.
#[derive(Clone, Copy, Debug)]
pub struct Waiting(Token);

impl<H: Host> Sources<H> {
    pub(super) fn visit_callbacks(&self, mut visit: impl FnMut(&H::Callback)) {
        for (_, source) in self.slab.borrow().iter() {
            if let Owner::Callback(callback) = &source.owner {
                visit(callback);
            }
        }
    }

    pub(super) fn visit_operations(&self, mut visit: impl FnMut(&H::Operation)) {
        for (_, source) in self.slab.borrow().iter() {
            if let Owner::Waiters(waiters) = &source.owner {
                for waiter in waiters {
                    if let Waiter::Operation(operation) = waiter {
                        visit(operation);
                    }
                }
            }
        }
    }

    fn insert(&self, fd: RawFd, side: Side, owner: Owner<H>) -> Token {
        let generation = self.next_generation.get();
        self.next_generation.set(generation.wrapping_add(1));
        let slot = self.slab.borrow_mut().insert(Source {
            generation,
            fd,
            side,
            owner,
        });
        Token(slot as u64 | u64::from(generation) << 32)
    }

    fn remove(&self, token: Token) -> Option<Source<H>> {
        let mut slab = self.slab.borrow_mut();
        slab.get(slot(token))
            .filter(|source| source.generation == generation(token))?;
        Some(slab.remove(slot(token)))
    }
}

fn slot(token: Token) -> usize {
    (token.0 & u64::from(u32::MAX)) as usize
}

fn generation(token: Token) -> u32 {
    (token.0 >> 32) as u32
}

impl<H: Host> EventLoop<H> {
    /// Calls `callback` whenever `fd` is ready on `side`; in the place of the one before, if any.
    /// True when there was one.
    ///
    /// Tasks and operations that wait on that side are told nothing any more, as on CPython's loop:
    /// they stay pending until they are cancelled.
    ///
    /// # Errors
    /// What the kernel says of the descriptor: `EBADF`, or `EPERM` for a regular file.
    pub fn add_poll(&self, fd: RawFd, side: Side, callback: H::Callback) -> io::Result<bool> {
        let before = self.take_poll(fd, side);
        let op = match side {
            Side::Read => Op::PollRead,
            Side::Write => Op::PollWrite,
        };
        let token = match self.submit(fd, op, Owner::Callback(Rc::new(callback))) {
            Ok(token) => token,
            Err(error) => {
                self.try_again(before);
                return Err(error);
            }
        };
        self.core
            .sources
            .polls
            .borrow_mut()
            .insert((fd, side), token);
        // What waited may end with this, and run the host's code.
        Ok(matches!(before, Some(Owner::Callback(_))))
    }

    /// Takes the callback of [`add_poll`](EventLoop::add_poll) back. True when there was one. Tasks and
    /// operations that wait on the same side try again.
    pub fn remove_poll(&self, fd: RawFd, side: Side) -> bool {
        self.take_poll(fd, side)
            .is_some_and(|owner| self.try_again(Some(owner)))
    }

    /// Forgets who waits on a side through [`add_poll`](EventLoop::add_poll) or once.
    fn take_poll(&self, fd: RawFd, side: Side) -> Option<Owner<H>> {
        let token = self.core.sources.polls.borrow_mut().remove(&(fd, side))?;
        self.core.reactor().cancel(fd, side);
        Some(self.core.sources.remove(token)?.owner)
    }

    /// Lets those that waited once try again. True when it was a callback.
    fn try_again(&self, owner: Option<Owner<H>>) -> bool {
        let Some(Owner::Waiters(waiters)) = owner else {
            return owner.is_some();
        };
        for waiter in waiters {
            match waiter {
                Waiter::Task(waker) => waker.wake(),
                // Whoever removes is in the middle of something.
                Waiter::Operation(operation) => {
                    self.core.push(super::Ready::Operation(operation));
                }
            }
        }
        false
    }

    /// Whether a callback of the program waits on a side of `fd`.
    fn has_callback(&self, fd: RawFd, side: Side) -> bool {
        let Some(&token) = self.core.sources.polls.borrow().get(&(fd, side)) else {
            return false;
        };
        let slab = self.core.sources.slab.borrow();
        let source = slab.get(slot(token));
        source.is_some_and(|source| matches!(source.owner, Owner::Callback(_)))
    }

    /// Whether anybody waits for `fd` through [`add_poll`](EventLoop::add_poll).
    #[must_use]
    pub fn has_poll(&self, fd: RawFd) -> bool {
        let polls = self.core.sources.polls.borrow();
        polls.contains_key(&(fd, Side::Read)) || polls.contains_key(&(fd, Side::Write))
    }

    /// Completes when an attempt on `side` of `fd` is worth making. Dropping it stops waiting.
    pub(crate) fn readiness(&self, fd: RawFd, op: Op) -> Readiness<H> {
        Readiness {
            event_loop: self.clone(),
            fd,
            op,
            token: None,
        }
    }

    /// Starts waiting for one of the engine's objects. A callback that the program had added on
    /// the same side gives way, as on CPython's loop.
    pub(crate) fn watch(&self, fd: RawFd, op: Op, object: Rc<dyn Ready>) -> io::Result<Token> {
        self.remove_poll(fd, op.side());
        let object = Watching::new(object);
        match self.submit(fd, op, Owner::Object(object.clone())) {
            // Another object waits under this number: its file was closed behind its back, or it
            // is over the same file. The last one that asks is told, as on CPython's loop.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.displace(fd, op.side());
                self.submit(fd, op, Owner::Object(object))
            }
            submitted => submitted,
        }
    }

    /// Forgets whoever waits on a side of `fd`.
    fn displace(&self, fd: RawFd, side: Side) {
        let displaced: Vec<_> = {
            let mut slab = self.core.sources.slab.borrow_mut();
            let slots: Vec<_> = slab
                .iter()
                .filter(|(_, source)| source.fd == fd && source.side == side)
                .map(|(slot, _)| slot)
                .collect();
            slots.into_iter().map(|slot| slab.remove(slot)).collect()
        };
        self.core.reactor().cancel(fd, side);
        drop(displaced);
    }

    /// Stops waiting for one of the engine's objects.
    pub(crate) fn unwatch(&self, token: Token) {
        if let Some(source) = self.core.sources.remove(token) {
            self.core.reactor().cancel(source.fd, source.side);
        }
    }

    /// As [`unwatch`](EventLoop::unwatch), where the descriptor will soon be closed.
    pub(crate) fn unwatch_at_end(&self, token: Token) {
        if let Some(source) = self.core.sources.remove(token) {
            self.core.reactor.rest(source.fd, source.side);
        }
    }

    /// Says that `user` owns `fd`: nobody else may wait for it.
    pub(crate) fn use_fd(&self, fd: RawFd, user: &Rc<dyn User>) {
        self.core
            .sources
            .users
            .borrow_mut()
            .insert(fd, Rc::downgrade(user));
    }

    /// Takes [`use_fd`](EventLoop::use_fd) back, unless the number is another object's by now.
    pub(crate) fn disuse_fd(&self, fd: RawFd, user: &dyn User) {
        let mut users = self.core.sources.users.borrow_mut();
        let is_its_own =
            |known: &Weak<dyn User>| std::ptr::addr_eq(known.as_ptr(), std::ptr::from_ref(user));
        if users.get(fd).is_some_and(is_its_own) {
            users.remove(fd);
        }
    }

    /// Says that the loop refers to `holder`, which owns no descriptor.
    pub(crate) fn add_holder(&self, holder: &Rc<dyn User>) -> HolderKey {
        let mut holders = self.core.sources.holders.borrow_mut();
        HolderKey(holders.insert(Rc::downgrade(holder)))
    }

    /// Takes [`add_holder`](EventLoop::add_holder) back.
    pub(crate) fn remove_holder(&self, key: HolderKey) {
        self.core.sources.holders.borrow_mut().try_remove(key.0);
    }

    /// Who owns `fd`, if one of the engine's objects does.
    pub(crate) fn user_of(&self, fd: RawFd) -> Option<Rc<dyn Any>> {
        let user = self.core.sources.users.borrow().get(fd)?.upgrade()?;
        Some(user)
    }

    /// Visits what the engine's objects hold of the host's, each object once: for a host with a
    /// garbage collector. Those are transports until their connection is lost, and servers while
    /// they serve.
    pub fn visit_users(&self, visit: &mut dyn FnMut(&dyn Any)) {
        let users = self.core.sources.users.borrow();
        let holders = self.core.sources.holders.borrow();
        for user in users
            .values()
            .chain(holders.iter().map(|(_, holder)| holder))
        {
            if let Some(user) = user.upgrade() {
                user.visit(visit);
            }
        }
    }

    /// Lets every owner of a descriptor close it: for a host without a garbage collector, when
    /// the loop is closed.
    pub fn abandon_users(&self) {
        let users: Vec<_> = {
            let users = self.core.sources.users.borrow();
            let holders = self.core.sources.holders.borrow();
            let holders = holders.iter().map(|(_, holder)| holder);
            users
                .values()
                .chain(holders)
                .filter_map(Weak::upgrade)
                .collect()
        };
        users.iter().for_each(|user| user.abandon());
    }

    /// Runs whoever waits under `token`, unless it has been removed.
    pub(super) fn run_source(&self, token: Token) -> Result<(), H::Error> {
        let owner = {
            let mut slab = self.core.sources.slab.borrow_mut();
            let Some(source) = slab.get_mut(slot(token)) else {
                return Ok(());
            };
            if source.generation != generation(token) {
                return Ok(());
            }
            match &source.owner {
                // A source refers to it already, so nothing but a count follows.
                Owner::Object(object) => Ok((object.clone(), source.side)),
                Owner::Callback(callback) => Err(Some(Rc::clone(callback))),
                Owner::Waiters(_) => Err(None),
            }
        };
        match owner {
            Ok((object, side)) => object.0.ready(side),
            Err(Some(callback)) => return self.core.host.run(&callback),
            Err(None) => return self.run_waiters(token),
        }
        Ok(())
    }

    /// Debug mode's [`run_source`](EventLoop::run_source).
    pub(super) fn run_source_timed(&self, token: Token, begun: Time) -> Result<(), H::Error> {
        let (callback, name) = {
            let slab = self.core.sources.slab.borrow();
            match slab.get(slot(token)).map(|source| &source.owner) {
                Some(Owner::Callback(callback)) => (Some(Rc::clone(callback)), "reader"),
                Some(Owner::Object(object)) => (None, object.0.name()),
                Some(Owner::Waiters(_)) | None => (None, "wake-up"),
            }
        };
        let result = self.run_source(token);
        match &callback {
            Some(callback) => self.tell_if_slow(begun, Slow::Callback(&**callback)),
            None => self.tell_if_slow(begun, Slow::Step(name)),
        }
        result
    }

    pub(super) fn forget_users(&self) {
        let users = self.core.sources.users.take();
        let holders = self.core.sources.holders.take();
        drop(users);
        for (_, holder) in holders {
            if let Some(holder) = holder.upgrade() {
                holder.loop_closed();
            }
        }
    }

    pub(super) fn clear_sources(&self) {
        self.core.sources.polls.borrow_mut().clear();
        let sources: Vec<_> = self.core.sources.slab.borrow_mut().drain().collect();
        for source in &sources {
            self.core.reactor().cancel(source.fd, source.side);
        }
        drop(sources);
    }

    fn submit(&self, fd: RawFd, op: Op, owner: Owner<H>) -> io::Result<Token> {
        self.submit_by(fd, op, owner, |token| {
            self.core.reactor().submit(fd, op, token)
        })
    }

    fn submit_by(
        &self,
        fd: RawFd,
        op: Op,
        owner: Owner<H>,
        submit: impl FnOnce(Token) -> io::Result<()>,
    ) -> io::Result<Token> {
        if self.is_closed() {
            let message = "the event loop is closed: it waits for nothing any more";
            return Err(io::Error::new(io::ErrorKind::NotConnected, message));
        }
        let token = self.core.sources.insert(fd, op.side(), owner);
        if let Err(error) = submit(token) {
            self.core.sources.remove(token);
            return Err(error);
        }
        Ok(token)
    }

    /// Lets an operation of the host's wait on `fd`: [`Host::attempt`] is called with it, once, when
    /// an attempt is worth making, unless it is taken back before. `known` is what
    /// [`Reactor::submit_once`](crate::reactor::Reactor::submit_once) says.
    ///
    /// # Errors
    /// What the kernel says of the descriptor.
    pub fn add_operation(
        &self,
        fd: RawFd,
        op: Op,
        operation: H::Operation,
        known: bool,
    ) -> io::Result<Waiting> {
        self.add_waiter(fd, op, Waiter::Operation(operation), known)
            .map(Waiting)
    }

    /// Lets an operation whose attempt would block wait on, as
    /// [`add_operation`](EventLoop::add_operation) does. `None` when a callback has been added on that
    /// side since the operation began to wait: the last one that asks is told, and the operation stays
    /// pending.
    ///
    /// # Errors
    /// What the kernel says of the descriptor.
    pub fn add_operation_again(
        &self,
        fd: RawFd,
        op: Op,
        operation: H::Operation,
        known: bool,
    ) -> io::Result<Option<Waiting>> {
        if self.has_callback(fd, op.side()) {
            return Ok(None);
        }
        self.add_operation(fd, op, operation, known).map(Some)
    }

    /// Takes an operation back: the one that `is_it`. Nothing happens where its event has come.
    pub fn remove_operation(&self, waiting: Waiting, is_it: impl Fn(&H::Operation) -> bool) {
        self.remove_waiter(waiting.0, |waiter| match waiter {
            Waiter::Operation(operation) => is_it(operation),
            Waiter::Task(_) => false,
        });
    }

    /// Forgets a source of waiters, who are given back.
    fn end_waiting(&self, token: Token, rests: bool) -> Vec<Waiter<H>> {
        let Some(source) = self.core.sources.remove(token) else {
            return Vec::new();
        };
        let (fd, side) = (source.fd, source.side);
        self.core.sources.polls.borrow_mut().remove(&(fd, side));
        if rests {
            self.core.reactor().rest(fd, side);
        } else {
            self.core.reactor().cancel(fd, side);
        }
        match source.owner {
            Owner::Waiters(waiters) => waiters,
            Owner::Callback(_) | Owner::Object(_) => Vec::new(),
        }
    }

    /// The event has come that they have waited for. All of them try: it is not known for how many
    /// there is something.
    fn run_waiters(&self, token: Token) -> Result<(), H::Error> {
        let mut escaped = Ok(());
        for waiter in self.end_waiting(token, true) {
            match waiter {
                Waiter::Task(waker) => waker.wake(),
                Waiter::Operation(operation) if escaped.is_ok() => {
                    escaped = self.core.host.attempt(&operation);
                }
                // An error leaves the loop: the others come when it runs again.
                Waiter::Operation(operation) => {
                    self.core.push(super::Ready::Operation(operation));
                }
            }
        }
        escaped
    }

    /// Adds one to those that wait on a side.
    fn add_waiter(&self, fd: RawFd, op: Op, waiter: Waiter<H>, known: bool) -> io::Result<Token> {
        let waiting = self
            .core
            .sources
            .polls
            .borrow()
            .get(&(fd, op.side()))
            .copied();
        if let Some(token) = waiting {
            {
                let mut slab = self.core.sources.slab.borrow_mut();
                if let Some(Source {
                    owner: Owner::Waiters(waiters),
                    ..
                }) = slab.get_mut(slot(token))
                {
                    waiters.push(waiter);
                    return Ok(token);
                }
            }
            // A callback that was added on this side gives way, as on CPython's loop.
            self.remove_poll(fd, op.side());
        }
        let token = self.submit_by(fd, op, Owner::Waiters(vec![waiter]), |token| {
            self.core.reactor().submit_once(fd, op, token, known)
        })?;
        self.core
            .sources
            .polls
            .borrow_mut()
            .insert((fd, op.side()), token);
        Ok(token)
    }

    fn remove_task(&self, token: Token, waker: &Waker) {
        self.remove_waiter(token, |waiter| match waiter {
            Waiter::Task(other) => other.will_wake(waker),
            Waiter::Operation(_) => false,
        });
    }

    /// Takes one from those that wait; the last one stops the waiting.
    fn remove_waiter(&self, token: Token, is_it: impl Fn(&Waiter<H>) -> bool) {
        let (removed, none_left) = {
            let mut slab = self.core.sources.slab.borrow_mut();
            match slab.get_mut(slot(token)) {
                Some(Source {
                    generation: current,
                    owner: Owner::Waiters(waiters),
                    ..
                }) if *current == generation(token) => {
                    let index = waiters.iter().position(is_it);
                    let removed = index.map(|index| waiters.remove(index));
                    (removed, waiters.is_empty())
                }
                _ => (None, false),
            }
        };
        if none_left {
            // Whoever gives up may close the descriptor.
            self.end_waiting(token, false);
        }
        drop(removed);
    }
}

/// See [`EventLoop::readiness`].
pub(crate) struct Readiness<H: Host> {
    event_loop: EventLoop<H>,
    fd: RawFd,
    op: Op,
    /// What it waits under, and whom it wakes.
    token: Option<(Token, Waker)>,
}

impl<H: Host> Future for Readiness<H> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some((token, _)) = &self.token {
            let waits = {
                let slab = self.event_loop.core.sources.slab.borrow();
                slab.get(slot(*token))
                    .is_some_and(|source| source.generation == generation(*token))
            };
            if !waits {
                // Displaced by a callback: see `add_poll`.
                if self.event_loop.has_callback(self.fd, self.op.side()) {
                    return Poll::Pending;
                }
                self.token = None;
                return Poll::Ready(Ok(()));
            }
            if let Some((token, waker)) = self
                .token
                .take_if(|(_, waker)| !waker.will_wake(cx.waker()))
            {
                self.event_loop.remove_task(token, &waker);
            } else {
                return Poll::Pending;
            }
        }
        // Not known: an event may have come since the attempt.
        let waiter = Waiter::Task(cx.waker().clone());
        match self.event_loop.add_waiter(self.fd, self.op, waiter, false) {
            Ok(token) => {
                self.token = Some((token, cx.waker().clone()));
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<H: Host> Drop for Readiness<H> {
    fn drop(&mut self) {
        if let Some((token, waker)) = self.token.take() {
            self.event_loop.remove_task(token, &waker);
        }
    }
}
