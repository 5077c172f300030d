//! The reactor: what the event loop asks of a network, and the contract that every back-end keeps.
//!
//! # Facts
//!
//! Everything above this module moves bytes through the calls of one trait. A back-end that offers
//! them is a whole network: the kernel's ([`epoll`]), or one in memory ([`simulated`]).
//!
//! # The contract
//!
//! *An operation is attempted until it would block, then submitted; the reactor says when it is
//! worth attempting again.*
//!
//! * An **attempt** (to receive, read, send, write, accept or connect, of every kind) never blocks.
//!   `WouldBlock` means that nothing happened. Buffers are lent for the length of the call and
//!   never kept.
//! * [`submit`](Reactor::submit) starts waiting on behalf of an operation ([`Op`]). From then on every
//!   [`wait`](Reactor::wait) yields an [`Event`] with the operation's [`Token`] as long as an
//!   attempt would not block: level-triggered, so a receiver that takes one buffer at a time
//!   needs one system call per wake, not two. An event may be spurious, but for those of
//!   [`Op::PeerGone`], which no attempt could tell from others.
//! * A descriptor whose other end has gone, or that has an error to report, is ready on **both**
//!   sides, whatever it is for. So whoever writes to a pipe waits on its reading side
//!   ([`Op::PeerGone`]) to learn that the reader has closed.
//! * A pending error (a peer has refused a datagram) is reported once, to whichever attempt comes
//!   next, which does nothing else: a datagram that was to be sent is not. Whoever connects hears
//!   of it from [`take_error`](Reactor::take_error).
//! * [`submit_once`](Reactor::submit_once) waits for one event, on behalf of whoever has just made an
//!   attempt that would block, and [`rest`](Reactor::rest) ends it when the event has come. In between
//!   the back-end may keep what it has told the kernel, so that a descriptor on which one short
//!   operation follows the other costs no call for each. Such a descriptor may be closed while nobody
//!   waits, and its number be another file's: the caller says what it knows of that.
//! * [`cancel`](Reactor::cancel) takes effect at once. Events that an earlier wait has already
//!   handed out are the caller's to forget, by their token.
//! * At most one operation waits on each side (reading, writing) of a descriptor.
//! * An operation must be cancelled before its descriptor is closed.
//! * [`wait`](Reactor::wait) is the only call that sleeps, and one thread at a time waits. It returns early
//!   when the [`Waker`] is used. A wake is spent by the wait during which it comes, or by the next
//!   one: whoever waits looks at what other threads have sent after *every* wait.
//! * [`now`](Reactor::now) is the clock of the deadlines that `wait` is given.
//!
//! # What follows, and what it costs
//!
//! Because buffers are only lent, nothing in the kernel refers to the program's memory between
//! calls: cancelling is free, a protocol chooses its buffer at the moment when bytes are there, and
//! no idle connection holds one. A completion-based back-end (io_uring) fits behind the same
//! calls with a receive pool of its own, at the price of a copy. With epoll the cost is none.

pub mod epoll;
pub mod simulated;

use std::any::Any;
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

use crate::sys::address::{Family, SocketAddress};
use crate::sys::buffer::Buffer;
use crate::sys::clock::Time;
use crate::sys::datagrams::Datagrams;
use crate::sys::file::Kind;
use crate::sys::socket::SocketOption;

/// Names a waiting operation in the events that it causes. The caller chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// A token of a loop's source or none, in the memory of a token: each transport has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaybeToken(u64);

impl MaybeToken {
    /// No token. The number is none that a loop chooses: it would be its 2^32nd source at a time.
    pub(crate) const NONE: MaybeToken = MaybeToken(u64::MAX);

    #[inline]
    pub(crate) fn get(self) -> Option<Token> {
        (self != MaybeToken::NONE).then_some(Token(self.0))
    }
}

impl Default for MaybeToken {
    fn default() -> MaybeToken {
        MaybeToken::NONE
    }
}

impl From<Token> for MaybeToken {
    fn from(token: Token) -> MaybeToken {
        MaybeToken(token.0)
    }
}

/// An attempt of the operation with this token is worth making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event(pub Token);

/// The operations that can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Receive, read, or receive datagrams, again and again until cancelled.
    Receive,
    /// As `Receive`, from a connection of which a [receive](Reactor::receive) that leaves room in its
    /// buffer has taken all that was there: TCP's. Nobody else receives from it meanwhile.
    ReceiveStream,
    /// Send, write, send datagrams or a file: what did not fit.
    Send,
    /// As `Send`, on such a connection.
    SendStream,
    /// Accept, again and again until cancelled.
    Accept,
    /// Learn how a connect has ended.
    Connect,
    /// Learn that whoever reads has gone, on the writing end of a pipe.
    PeerGone,
    /// Tell the program whenever the descriptor can be read: `add_reader`.
    PollRead,
    /// Tell the program whenever the descriptor can be written: `add_writer`.
    PollWrite,
}

/// The two sides of a descriptor; one operation may wait on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Receive, accept, learn of the peer's end, poll for reading.
    Read,
    /// Send, connect, poll for writing.
    Write,
}

impl Op {
    /// The side on which the operation waits.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Op::Receive | Op::ReceiveStream | Op::Accept | Op::PeerGone | Op::PollRead => {
                Side::Read
            }
            Op::Send | Op::SendStream | Op::Connect | Op::PollWrite => Side::Write,
        }
    }
}

/// What a host wraps around a sleep: the Python host lets other threads run meanwhile.
pub type AroundSleep<'a> = &'a dyn Fn(&mut dyn FnMut());

/// A network and its clock. See the [module](self) for the contract.
pub trait Reactor {
    /// The clock's time.
    fn now(&self) -> Time;

    /// Waits until an operation is worth attempting, the waker is used or `deadline` is reached;
    /// `None` is for ever, a deadline that is past only looks. Appends to `events`.
    ///
    /// A back-end that sleeps does so inside `around_sleep`, which may let other threads of the
    /// program call any method of this reactor meanwhile: no borrow is held across it.
    ///
    /// # Errors
    /// `Interrupted` when a signal came first. Others mean that the reactor is broken.
    fn wait(
        &self,
        deadline: Option<Time>,
        events: &mut Vec<Event>,
        around_sleep: AroundSleep<'_>,
    ) -> io::Result<()>;

    /// Whether a loop that has enough to run may leave some looks out (a [`wait`](Reactor::wait) that does
    /// not sleep), because a look costs more than what is run.
    fn look_may_be_left_out(&self) -> bool {
        false
    }

    /// Gives back what the reactor itself holds of the system. Nothing can be submitted or waited
    /// for afterwards; wakes do nothing.
    fn close(&self) {}

    /// What ends a wait early, from any thread.
    fn waker(&self) -> Arc<dyn Waker>;

    /// Starts waiting on behalf of `op`.
    ///
    /// # Errors
    /// `AlreadyExists` when an operation waits on that side; what the kernel says of the
    /// descriptor (`EBADF`, `EPERM` for one that cannot be waited for).
    fn submit(&self, fd: RawFd, op: Op, token: Token) -> io::Result<()>;

    /// Stops waiting on a side of `fd`. Nothing happens where nothing waits.
    fn cancel(&self, fd: RawFd, side: Side);

    /// Starts waiting on behalf of `op`, for one event.
    ///
    /// `known` says two things, and is false where one of them is not certain: that `fd` is the same
    /// file as when it was last submitted, and that an attempt would have blocked since the last
    /// [`wait`](Reactor::wait).
    ///
    /// # Errors
    /// As [`submit`](Reactor::submit).
    fn submit_once(&self, fd: RawFd, op: Op, token: Token, known: bool) -> io::Result<()> {
        let _ = known;
        self.submit(fd, op, token)
    }

    /// As [`cancel`](Reactor::cancel), where somebody will soon wait on `fd` again, or
    /// [forget](Reactor::forget) it.
    fn rest(&self, fd: RawFd, side: Side) {
        self.cancel(fd, side);
    }

    /// `fd`, on which nobody waits, is about to be closed. `closes` says that it is the only descriptor
    /// of its file that this process is known to have.
    fn forget(&self, fd: RawFd, closes: bool) {
        let _ = (fd, closes);
    }

    /// Receives into `buffer`; 0 is the peer's end. Of a datagram socket it takes one datagram,
    /// which may be empty; what does not fit is lost.
    ///
    /// # Errors
    /// `WouldBlock`, or how the connection has failed.
    fn receive(&self, fd: RawFd, buffer: &mut Buffer<'_>) -> io::Result<usize>;

    /// Bytes that a receive would give now; 0 when there are none, or only the peer's end.
    ///
    /// # Errors
    /// When the network cannot tell.
    fn receivable(&self, fd: RawFd) -> io::Result<usize> {
        let _ = fd;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Bytes that were sent and have not reached the peer's side of a connection yet: what an abort
    /// would lose. 0 where an abort loses nothing.
    ///
    /// # Errors
    /// When the network cannot tell.
    fn unacknowledged(&self, fd: RawFd) -> io::Result<usize> {
        let _ = fd;
        Ok(0)
    }

    /// Sends from `slices`, in order; the count may be short, but is not 0 unless all are empty. To
    /// the peer of a datagram socket they go as one datagram, whole.
    ///
    /// # Errors
    /// `WouldBlock`, or how the connection has failed.
    fn send(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Reads from a file that need not be a socket, one end of a pipe above all; 0 is the end. From
    /// a socket it receives.
    ///
    /// # Errors
    /// `WouldBlock`; `EBADF` for the writing end; how else it has failed.
    fn read(&self, fd: RawFd, buffer: &mut Buffer<'_>) -> io::Result<usize>;

    /// Writes to a file that need not be a socket, one end of a pipe above all; otherwise as
    /// [`send`](Reactor::send). A pipe takes up to 4,096 bytes whole or not at all, so it may be
    /// writable again only when so many fit.
    ///
    /// # Errors
    /// `WouldBlock`; `EPIPE` when nobody reads, whatever was written before; `EBADF` for the
    /// reading end; how else it has failed.
    fn write(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// What kind of file a descriptor is.
    ///
    /// # Errors
    /// `EBADF`.
    fn kind(&self, fd: RawFd) -> io::Result<Kind>;

    /// Receives datagrams that are there, at least one, up to the room of `datagrams`, which the
    /// caller has [cleared](Datagrams::clear). In the order in which they came; there may be more.
    /// What does not fit a slot is cut off. A sender without a name has no address.
    ///
    /// # Errors
    /// `WouldBlock`, or what a peer has answered to an earlier one (`ECONNREFUSED`): only a socket
    /// that is connected to it hears of that.
    fn receive_datagrams(&self, fd: RawFd, datagrams: &mut Datagrams) -> io::Result<()>;

    /// Receives one datagram into `buffer`; how many bytes, and who sent them: a Unix socket without
    /// a name is nobody. What does not fit is cut off.
    ///
    /// # Errors
    /// As [`receive_datagrams`](Reactor::receive_datagrams).
    fn receive_from(
        &self,
        fd: RawFd,
        buffer: &mut Buffer<'_>,
    ) -> io::Result<(usize, Option<SocketAddress>)> {
        // A slot of all the memory: one datagram is received, and no other.
        let mut one = Datagrams::default();
        one.clear(usize::MAX);
        self.receive_datagrams(fd, &mut one)?;
        let (bytes, peer) = one.get(0).unwrap_or_default();
        Ok((buffer.append(bytes), peer.cloned()))
    }

    /// Sends one datagram, to `peer` or where the socket is connected to; how many bytes: all. That
    /// it was sent does not say that it arrives; a Unix socket's does.
    ///
    /// # Errors
    /// `WouldBlock`; `EMSGSIZE` when it is too large (over IPv4 above 65,507 bytes); `EDESTADDRREQ`
    /// or, of a Unix socket, `ENOTCONN` when there is no address; what a peer has answered.
    fn send_to(&self, fd: RawFd, bytes: &[u8], peer: Option<&SocketAddress>) -> io::Result<usize>;

    /// Sends datagrams in their order; how many, at least one unless there are none. It may be
    /// fewer for any reason: that it would block, or an error behind the first, which may be
    /// forgotten if it was a pending one.
    ///
    /// # Errors
    /// What the first of them meets; see [`send_to`](Reactor::send_to).
    fn send_datagrams(
        &self,
        fd: RawFd,
        datagrams: &[(IoSlice<'_>, Option<&SocketAddress>)],
    ) -> io::Result<usize> {
        match datagrams.first() {
            Some((bytes, peer)) => self.send_to(fd, bytes, *peer).map(|_| 1),
            None => Ok(0),
        }
    }

    /// Sends up to `count` bytes of `file`, from `offset` on; how many, 0 at the file's end. The
    /// file is the kernel's on every network, and its own position does not move.
    ///
    /// # Errors
    /// `WouldBlock`; how the connection has failed; for a file that cannot be sent so, `ESPIPE`
    /// (it has no positions), `EBADF` (it cannot be read), or `EINVAL`.
    fn send_file(&self, fd: RawFd, file: RawFd, offset: u64, count: usize) -> io::Result<usize>;

    /// Takes a connection from a listener's queue.
    ///
    /// # Errors
    /// `WouldBlock`, or why there can be none (`EMFILE` and its like leave it in the queue).
    fn accept(&self, fd: RawFd) -> io::Result<(Socket, Option<SocketAddress>)>;

    /// Starts connecting. After the event of [`Op::Connect`], [`take_error`](Reactor::take_error)
    /// says how it has ended. A datagram socket is connected at once, and may be connected anew:
    /// from then on it receives from this peer alone.
    ///
    /// # Errors
    /// `WouldBlock` while it is under way, or the refusal.
    fn connect(&self, fd: RawFd, address: &SocketAddress) -> io::Result<()>;

    /// Takes the pending error of a socket.
    ///
    /// # Errors
    /// That error.
    fn take_error(&self, fd: RawFd) -> io::Result<()>;

    /// A new socket; `kind` is `SOCK_*`, `protocol` `IPPROTO_*` or 0.
    ///
    /// # Errors
    /// `EMFILE`, or what the network says of the combination.
    fn open(&self, family: Family, kind: i32, protocol: i32) -> io::Result<Socket>;

    /// Gives a socket its own address.
    ///
    /// # Errors
    /// `EADDRINUSE` and its like.
    fn bind(&self, fd: RawFd, address: &SocketAddress) -> io::Result<()>;

    /// Starts queueing connections.
    ///
    /// # Errors
    /// `EADDRINUSE` and its like.
    fn listen(&self, fd: RawFd, backlog: i32) -> io::Result<()>;

    /// Ends the sending side.
    ///
    /// # Errors
    /// `ENOTCONN`.
    fn shutdown_write(&self, fd: RawFd) -> io::Result<()>;

    /// Turns an option on.
    ///
    /// # Errors
    /// When the socket has no such option.
    fn set_option(&self, fd: RawFd, option: SocketOption) -> io::Result<()>;

    /// The socket's own address; the family's wildcard, or a Unix socket's
    /// [no name](SocketAddress::unnamed), when it has none yet.
    ///
    /// # Errors
    /// `EBADF`, `ENOTSOCK`.
    fn local_address(&self, fd: RawFd) -> io::Result<SocketAddress>;

    /// The peer's address.
    ///
    /// # Errors
    /// `ENOTCONN`.
    fn peer_address(&self, fd: RawFd) -> io::Result<SocketAddress>;
}

/// Ends a [`Reactor::wait`] early.
pub trait Waker: Send + Sync {
    /// From any thread, at any time. A reactor that is not waiting returns at once from its next
    /// wait, or knows that it need not (see [`Sleep`](epoll::Sleep)).
    fn wake(&self);
}

/// A socket from birth to close: dropping it closes it, once.
pub struct Socket(Owner);

/// Who closes the descriptor.
enum Owner {
    Kernel(OwnedFd),
    /// A host's object, or the simulated network's: its drop closes the descriptor. In a box, since few
    /// sockets of a server have one and each would have the room for it.
    Foreign(
        RawFd,
        #[expect(dead_code, reason = "held for its drop")] Box<Rc<dyn Any>>,
    ),
}

impl Socket {
    /// The socket `fd`, closed by the drop of `owner`'s last clone: a host's socket object, which
    /// the program may hold as well.
    #[must_use]
    pub fn foreign(fd: RawFd, owner: Rc<dyn Any>) -> Socket {
        Socket(Owner::Foreign(fd, Box::new(owner)))
    }

    /// The descriptor. It stays open as long as this socket.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        match &self.0 {
            Owner::Kernel(fd) => fd.as_raw_fd(),
            Owner::Foreign(fd, _) => *fd,
        }
    }

    /// Whether closing it closes the descriptor, whatever else may refer to it: it is no host's.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self.0, Owner::Kernel(_))
    }

    /// Gives the descriptor away.
    ///
    /// # Errors
    /// The socket itself, when it is not ours to give: a host's or the simulated network's.
    pub fn into_owned_fd(self) -> Result<OwnedFd, Socket> {
        match self.0 {
            Owner::Kernel(fd) => Ok(fd),
            Owner::Foreign(..) => Err(self),
        }
    }
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Socket(Owner::Kernel(fd))
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket(fd={})", self.fd())
    }
}
