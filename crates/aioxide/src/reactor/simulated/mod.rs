//! A network in memory: TCP, datagrams and pipes with bounded buffers, a virtual clock, seeded
//! order, injected faults.
//!
//! # Facts
//!
//! What goes wrong on a network is rare, late and never twice the same. A test over a kernel waits
//! for it in real time and still does not choose it: when a peer resets, how many bytes fit, which
//! of two events comes first.
//!
//! # What follows
//!
//! Here all of that is chosen: time is a number that moves only in [`wait`](Reactor::wait), and
//! everything that could fall either way is drawn from one seeded generator. A seed names a run;
//! a run that fails, fails again. The layers above use nothing but [`Reactor`], so they are tested
//! here as they are.
//!
//! ```text
//! SimulatedReactor ─▶ Network ─┬─ descriptors   fd ─▶ file
//!        ▲                     ├─ names         port ─▶ fds       connecting: how connects end
//!        │ faults,             ├─ connections   two ends, two pipes, two bounds each
//!                              ├─ post          datagrams between mailboxes
//! SimulatedNetwork             ├─ pipes         one way, within the host
//!                              ├─ waiting       (fd, side) ─▶ operation, token
//!                              └─ faults, random                  time: what a wait finds
//! ```
//!
//! # What it is not
//!
//! It has TCP and UDP over IPv4 and IPv6, on loopback, the datagrams of Unix sockets, and pipes,
//! and behaves as Linux does where a program can see it. There are no byte streams of Unix
//! sockets, no dual-stack sockets, no options beyond `SO_REUSEPORT` and `SO_BROADCAST` (the others
//! are accepted and change nothing), no urgent data, no datagrams to a whole network: with the
//! option they are taken, and reach nobody. A full buffer is writable again as soon as one byte
//! fits; Linux waits for a third. UDP's receivers are bounded by a count of datagrams, Linux's by
//! the memory that they take. A wait costs time in proportion to everything that is open:
//! thousands of connections are too many.

mod alarm;
mod config;
mod connecting;
mod connection;
mod control;
mod descriptors;
mod end;
mod faults;
mod fifo;
mod mailbox;
mod names;
mod network;
mod pipe;
mod post;
mod random;
#[cfg(test)]
mod tests;
mod time;
mod waiting;

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use config::{Config, DATAGRAM_QUEUE, DESCRIPTORS, PIPE_CAPACITY, RECEIVE_BUFFER, SEND_BUFFER};
pub use connecting::CONNECT_TIMEOUT;
pub use control::SimulatedNetwork;
pub use descriptors::FIRST_DESCRIPTOR;
pub use faults::Call;

use self::alarm::Alarm;
use self::descriptors::Owner;
use self::network::Network;
use super::{AroundSleep, Event, Op, Reactor, Side, Socket, Token, Waker};
use crate::sys::address::{Family, SocketAddress};
use crate::sys::buffer::Buffer;
use crate::sys::clock::Time;
use crate::sys::datagrams::Datagrams;
use crate::sys::file::Kind;
use crate::sys::socket::SocketOption;

/// How long a wait that only another thread can end sleeps before it fails, in real time. A thread
/// of the blocking pool answers in milliseconds; a test that hangs should say so while one looks.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Not a descriptor: for faults of calls that have none.
const NO_DESCRIPTOR: RawFd = -1;

/// The reactor over a network in memory. A clone is the same reactor: a test can keep one and play
/// the peer by hand.
#[derive(Clone, Debug)]
pub struct SimulatedReactor {
    network: Rc<RefCell<Network>>,
    alarm: Arc<Alarm>,
    /// See [`expect_threads`](SimulatedReactor::expect_threads).
    grace: Rc<Cell<Duration>>,
}

impl SimulatedReactor {
    /// The default network of [`Config::new`].
    #[must_use]
    pub fn new(seed: u64) -> SimulatedReactor {
        SimulatedReactor::with(Config::new(seed))
    }

    /// A network of one's own.
    #[must_use]
    pub fn with(config: Config) -> SimulatedReactor {
        SimulatedReactor {
            network: Rc::new(RefCell::new(Network::new(config))),
            alarm: Arc::default(),
            grace: Rc::default(),
        }
    }

    /// Lets every jump of the clock wait this long, in real time, for another thread to use the
    /// waker. Threads live in real time: without a grace (the default), a virtual timeout of an
    /// hour is over before a thread has answered. The cost is that much sleep per jump.
    pub fn expect_threads(&self, grace: Duration) {
        self.grace.set(grace);
    }

    /// The test's side of the network.
    #[must_use]
    pub fn network(&self) -> SimulatedNetwork {
        SimulatedNetwork(Rc::clone(&self.network))
    }

    /// The socket that closes `fd` when it is dropped.
    fn socket(&self, fd: RawFd) -> Socket {
        Owner::socket(fd, &self.network)
    }

    /// Sleeps for at most `patience`. True when the waker ended it. Nothing is borrowed.
    fn sleep(&self, patience: Duration, around_sleep: AroundSleep<'_>) -> bool {
        let mut woken = false;
        if !patience.is_zero() {
            around_sleep(&mut || woken = self.alarm.sleep(patience));
        }
        woken
    }
}

impl Reactor for SimulatedReactor {
    fn now(&self) -> Time {
        self.network.borrow().now
    }

    fn wait(
        &self,
        deadline: Option<Time>,
        events: &mut Vec<Event>,
        around_sleep: AroundSleep<'_>,
    ) -> io::Result<()> {
        self.network
            .borrow_mut()
            .faults
            .check(Call::Wait, NO_DESCRIPTOR)?;
        let deadline = deadline.filter(|deadline| *deadline < Time::MAX);
        let mut woken = self.alarm.take();
        loop {
            let now = self.now();
            let at_once = woken || deadline.is_some_and(|deadline| deadline <= now);
            if self.network.borrow_mut().look(at_once, events) {
                return Ok(());
            }
            let next = self.network.borrow().next_time(deadline);
            let patience = if next.is_some() {
                self.grace.get()
            } else {
                PATIENCE
            };
            woken = self.sleep(patience, around_sleep);
            match next {
                _ if woken => {}
                Some(time) => self.network.borrow_mut().advance(time),
                None => return Err(self.network.borrow().asleep_for_ever()),
            }
        }
    }

    fn waker(&self) -> Arc<dyn Waker> {
        self.alarm.clone()
    }

    fn submit(&self, fd: RawFd, op: Op, token: Token) -> io::Result<()> {
        let mut network = self.network.borrow_mut();
        network.faults.check(Call::Submit, fd)?;
        network.descriptors.file(fd)?;
        network.waiting.start(fd, op, token)
    }

    fn cancel(&self, fd: RawFd, side: Side) {
        self.network.borrow_mut().waiting.stop(fd, side);
    }

    fn receive(&self, fd: RawFd, buffer: &mut Buffer<'_>) -> io::Result<usize> {
        let mut network = self.network.borrow_mut();
        network.faults.check(Call::Receive, fd)?;
        network.receive(fd, buffer)
    }

    fn send(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut network = self.network.borrow_mut();
        network.faults.check(Call::Send, fd)?;
        network.send(fd, slices)
    }

    fn read(&self, fd: RawFd, buffer: &mut Buffer<'_>) -> io::Result<usize> {
        let mut network = self.network.borrow_mut();
        network.faults.check(Call::Receive, fd)?;
        network.read(fd, buffer)
    }

    fn write(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut network = self.network.borrow_mut();
        network.faults.check(Call::Send, fd)?;
        network.write(fd, slices)
    }

    fn kind(&self, fd: RawFd) -> io::Result<Kind> {
        self.network.borrow().kind(fd)
    }

    fn receive_datagrams(&self, fd: RawFd, datagrams: &mut Datagrams) -> io::Result<()> {
        let mut network = self.network.borrow_mut();
        network.faults.check(Call::Receive, fd)?;
        network.receive_datagrams(fd, datagrams)
    }

    fn send_to(&self, fd: RawFd, bytes: &[u8], peer: Option<&SocketAddress>) -> io::Result<usize> {
        let mut network = self.network.borrow_mut();
        network.faults.check(Call::Send, fd)?;
        network.send_to(fd, bytes, peer)
    }

    fn send_datagrams(
        &self,
        fd: RawFd,
        datagrams: &[(IoSlice<'_>, Option<&SocketAddress>)],
    ) -> io::Result<usize> {
        self.network.borrow_mut().send_datagrams(fd, datagrams)
    }

    fn send_file(&self, fd: RawFd, file: RawFd, offset: u64, count: usize) -> io::Result<usize> {
        let mut network = self.network.borrow_mut();
        network.faults.check(Call::Send, fd)?;
        network.send_file(fd, file, offset, count)
    }

    fn accept(&self, fd: RawFd) -> io::Result<(Socket, Option<SocketAddress>)> {
        let mut network = self.network.borrow_mut();
        network.faults.check(Call::Accept, fd)?;
        let (fd, peer) = network.accept(fd)?;
        Ok((self.socket(fd), Some(peer.into())))
    }

    fn connect(&self, fd: RawFd, address: &SocketAddress) -> io::Result<()> {
        let mut network = self.network.borrow_mut();
        network.faults.check(Call::Connect, fd)?;
        network.connect(fd, address)
    }

    fn take_error(&self, fd: RawFd) -> io::Result<()> {
        self.network.borrow_mut().take_error(fd)
    }

    fn open(&self, family: Family, kind: i32, protocol: i32) -> io::Result<Socket> {
        let mut network = self.network.borrow_mut();
        network.faults.check(Call::Open, NO_DESCRIPTOR)?;
        Ok(self.socket(network.open(family, kind, protocol)?))
    }

    fn bind(&self, fd: RawFd, address: &SocketAddress) -> io::Result<()> {
        let mut network = self.network.borrow_mut();
        network.faults.check(Call::Bind, fd)?;
        network.bind(fd, address)
    }

    fn listen(&self, fd: RawFd, backlog: i32) -> io::Result<()> {
        let mut network = self.network.borrow_mut();
        network.faults.check(Call::Listen, fd)?;
        network.listen(fd, backlog)
    }

    fn shutdown_write(&self, fd: RawFd) -> io::Result<()> {
        let mut network = self.network.borrow_mut();
        network.faults.check(Call::ShutdownWrite, fd)?;
        network.shutdown_write(fd)
    }

    fn set_option(&self, fd: RawFd, option: SocketOption) -> io::Result<()> {
        let mut network = self.network.borrow_mut();
        network.faults.check(Call::SetOption, fd)?;
        network.set_option(fd, option)
    }

    fn local_address(&self, fd: RawFd) -> io::Result<SocketAddress> {
        self.network.borrow().local_address(fd)
    }

    fn peer_address(&self, fd: RawFd) -> io::Result<SocketAddress> {
        self.network.borrow().peer_address(fd)
    }
}

/// The error of a system call.
fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}
