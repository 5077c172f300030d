//! The test's side of the simulated network.

use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::descriptors::{File, Owner, SimulatedSocket, State};
use super::end::Role;
use super::faults::Call;
use super::network::Network;
use crate::reactor::Socket;

/// Lets things go wrong, and sees what a program cannot. A clone is the same network.
///
/// ```
/// use aioxide::reactor::{Reactor, simulated::{Call, SimulatedReactor}};
/// use aioxide::sys::address::Family;
///
/// let reactor = SimulatedReactor::new(1);
/// let network = reactor.network();
/// network.fail_next(Call::Open, libc::EMFILE);
/// assert!(reactor.open(Family::INET, libc::SOCK_STREAM, 0).is_err());
/// let socket = reactor.open(Family::INET, libc::SOCK_STREAM, 0)?;
/// assert_eq!(network.open_descriptors(), 1);
/// drop(socket);
/// assert_eq!(network.open_descriptors(), 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimulatedNetwork(pub(super) Rc<RefCell<Network>>);

/// Pipes.
impl SimulatedNetwork {
    /// A pipe on the simulated host: its reading end, its writing end. A kernel is asked for one
    /// without its network, so the reactor has no call for it.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn pipe(&self) -> io::Result<(Socket, Socket)> {
        let [reader, writer] = self.0.borrow_mut().open_pipe()?;
        let socket = |fd| Owner::socket(fd, &self.0);
        Ok((socket(reader), socket(writer)))
    }
}

/// Faults.
impl SimulatedNetwork {
    /// Lets the next call of this kind fail with `errno`, on whatever descriptor it is. Several
    /// happen in the order in which they were planned.
    pub fn fail_next(&self, call: Call, errno: i32) {
        self.0.borrow_mut().faults.plan(call, None, errno);
    }

    /// Lets the next call of this kind on `fd` fail with `errno`. What waits on `fd` to receive,
    /// accept or send becomes ready for it.
    pub fn fail_next_on(&self, fd: RawFd, call: Call, errno: i32) {
        self.0.borrow_mut().faults.plan(call, Some(fd), errno);
    }

    /// Refuses connects to `port`, though somebody listens.
    pub fn refuse(&self, port: u16) {
        self.fail_connects(port, libc::ECONNREFUSED);
    }

    /// Lets connects to `port` fail with `errno`, which `take_error` says after their event.
    pub fn fail_connects(&self, port: u16, errno: i32) {
        self.0.borrow_mut().faults.ports.insert(port, errno);
    }

    /// Takes [`refuse`](Self::refuse) and [`fail_connects`](Self::fail_connects) back.
    pub fn allow(&self, port: u16) {
        self.0.borrow_mut().faults.ports.remove(&port);
    }

    /// Resets the connection of `fd` from within the network: both ends get `ECONNRESET`, after
    /// the bytes that had arrived.
    ///
    /// # Errors
    /// `EBADF`, `ENOTCONN`.
    pub fn reset(&self, fd: RawFd) -> io::Result<()> {
        let network = &mut *self.0.borrow_mut();
        let (connection, _) = network.connected(fd)?;
        network.connections[connection].cut(network.now);
        Ok(())
    }

    /// Delivers nothing to `fd` until [`resume`](Self::resume): no bytes, no end, no reset, no
    /// datagrams. Its peer fills the buffers and meets `WouldBlock`.
    ///
    /// # Errors
    /// `EBADF`, `ENOTCONN`.
    pub fn stall(&self, fd: RawFd) -> io::Result<()> {
        self.set_stalled(fd, true)
    }

    /// Delivers to `fd` again.
    ///
    /// # Errors
    /// `EBADF`, `ENOTCONN`.
    pub fn resume(&self, fd: RawFd) -> io::Result<()> {
        self.set_stalled(fd, false)
    }

    /// Lets every send and receive move at most `bytes` (at least 1): a peer that dribbles. A
    /// datagram moves whole, but not together with others. `usize::MAX` takes it back.
    pub fn limit_transfers(&self, bytes: usize) {
        self.0.borrow_mut().faults.transfer = bytes.max(1);
    }

    /// Lets open and accept fail with `EMFILE` while `count` descriptors are open.
    pub fn limit_descriptors(&self, count: usize) {
        self.0.borrow_mut().config.descriptors = count;
    }

    /// Lets each operation that waits in vain get a spurious event in one of `one_in` waits, by
    /// chance: 1 is always, 0 never. The contract excepts [`Op::PeerGone`](crate::reactor::Op).
    pub fn spurious_events(&self, one_in: u64) {
        self.0.borrow_mut().faults.spurious = one_in;
    }

    /// Loses one of `one_in` UDP datagrams, by chance: 1 is all of them, 0 none. Its sender does
    /// not learn of it.
    pub fn lose_datagrams(&self, one_in: u64) {
        self.0.borrow_mut().faults.lost = one_in;
    }

    /// Delivers one of `one_in` UDP datagrams twice, by chance.
    pub fn double_datagrams(&self, one_in: u64) {
        self.0.borrow_mut().faults.doubled = one_in;
    }

    /// Lets one of `one_in` UDP datagrams, by chance, travel up to a millisecond longer than the
    /// others: those sent after it may overtake it.
    pub fn delay_datagrams(&self, one_in: u64) {
        self.0.borrow_mut().faults.delayed = one_in;
    }

    fn set_stalled(&self, fd: RawFd, stalled: bool) -> io::Result<()> {
        let network = &mut *self.0.borrow_mut();
        if let Ok(mailbox) = network.mailbox_mut(fd) {
            mailbox.stalled = stalled;
            network.settle_post();
            return Ok(());
        }
        let (connection, role) = network.connected(fd)?;
        let connection = &mut network.connections[connection];
        connection.end_mut(role).incoming.stalled = stalled;
        connection.settle(network.now);
        Ok(())
    }
}

/// Observations.
impl SimulatedNetwork {
    /// How many descriptors are open.
    #[must_use]
    pub fn open_descriptors(&self) -> usize {
        self.0.borrow().descriptors.count()
    }

    /// The open descriptors, ascending.
    #[must_use]
    pub fn descriptors(&self) -> Vec<RawFd> {
        self.0
            .borrow()
            .descriptors
            .iter()
            .map(|(fd, _)| fd)
            .collect()
    }

    /// The descriptors of connections that this host has begun and nobody has closed at this end,
    /// to `port`, ascending.
    #[must_use]
    pub fn clients_of(&self, port: u16) -> Vec<RawFd> {
        self.connected_ends(port, Role::Client)
    }

    /// The descriptors of connections that were accepted on `port`, ascending.
    #[must_use]
    pub fn accepted_on(&self, port: u16) -> Vec<RawFd> {
        self.connected_ends(port, Role::Server)
    }

    /// The other end of `fd`'s connection, where it has a descriptor.
    #[must_use]
    pub fn peer_of(&self, fd: RawFd) -> Option<RawFd> {
        let network = self.0.borrow();
        let (connection, role) = network.connected(fd).ok()?;
        let peer = (connection, role.other());
        let mut all = network.descriptors.iter().map(|(fd, _)| fd);
        all.find(|fd| network.connected(*fd).is_ok_and(|end| end == peer))
    }

    /// Bytes that were sent and not received, on all connections and in all pipes.
    #[must_use]
    pub fn bytes_in_flight(&self) -> usize {
        let network = self.0.borrow();
        let connections = network.connections.iter();
        let pipes = network.pipes.iter();
        connections
            .map(|(_, it)| it.bytes_in_flight())
            .chain(pipes.map(|(_, pipe)| pipe.len()))
            .sum()
    }

    /// UDP datagrams that were sent and have not arrived. What has arrived waits in its socket,
    /// and goes with it.
    #[must_use]
    pub fn datagrams_in_flight(&self) -> usize {
        self.0.borrow().post.in_flight()
    }

    /// How many operations wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.borrow().waiting.count()
    }

    /// What the program has done against the reactor's contract: closed a descriptor on which an
    /// operation waited. A kernel forgives it until the number is used again.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.0.borrow().violations.clone()
    }

    fn connected_ends(&self, port: u16, wanted: Role) -> Vec<RawFd> {
        let network = self.0.borrow();
        let is_wanted = |file: &File| match file {
            File::Stream(SimulatedSocket {
                state: State::Connected { connection, role },
                ..
            }) if *role == wanted => {
                network.connections[*connection]
                    .end(Role::Server)
                    .address
                    .port()
                    == port
            }
            _ => false,
        };
        let sockets = network.descriptors.iter();
        sockets
            .filter(|(_, file)| is_wanted(file))
            .map(|(fd, _)| fd)
            .collect()
    }
}
