//! What every transport over a descriptor has in common, whatever its shape: who owns the
//! descriptor, when it is watched, what its protocol is told of flow control and of the end.
//!
//! # Rules of this folder and of every shape
//!
//! * No borrow is held while a protocol is called: it may call any method of the transport.
//! * Everything that a protocol is told comes from the loop, with the exceptions that asyncio
//!   makes: `pause_writing` may come from inside `write` and `set_write_buffer_limits`,
//!   `error_received` from inside `sendto`.
//! * Every way to the end leads through [`lose`](Shape::lose), once; [`LifeCycle`] sees to that.

mod held;
mod upper;

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::ops::Deref;
use std::os::fd::RawFd;
use std::rc::{Rc, Weak};

pub(crate) use held::Held;
pub(crate) use upper::Upper;

use super::flow_control::{FlowControl, WaterMarks};
use super::lifecycle::{LifeCycle, Next, Phase};
use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::event_loop::sources::User;
use crate::protocols::{BaseProtocol, Failure};
use crate::reactor::{MaybeToken, Op, Socket, Token};
use crate::sys::address::SocketAddress;

/// What is known of a socket without asking it.
#[derive(Default)]
pub(crate) struct Origin {
    pub(crate) peer: Option<SocketAddress>,
    /// The address of the listener that has accepted it, where that is the socket's too.
    pub(crate) local: Option<SocketAddress>,
}

impl From<Option<SocketAddress>> for Origin {
    fn from(peer: Option<SocketAddress>) -> Origin {
        Origin {
            peer,
            ..Origin::default()
        }
    }
}

/// The state that every shape has: the upper side of every transport, and a descriptor below.
pub struct Base<H: Host, P: ?Sized> {
    upper: Upper<H, P>,
    pub(crate) fd: RawFd,
    /// `None` when the connection is lost.
    socket: Cell<Option<Socket>>,
    /// Set while the loop waits for something to receive.
    receiving: Cell<MaybeToken>,
    /// Set while the loop waits for room to send: the kernel took less than it was offered.
    sending: Cell<MaybeToken>,
    addresses: Cell<Addresses>,
    /// Whether the socket's own address is the listener's, which the socket has not confirmed.
    presumed: Cell<bool>,
    /// Who is told when the descriptor is closed: the server, of its client of this number.
    clients: Cell<Option<Weak<dyn Clients>>>,
    client: u32,
}

/// Who counts transports: a server.
pub(crate) trait Clients {
    /// The descriptor of a client was closed.
    fn detach(&self, client: u32);
}

/// The client of this number.
pub(crate) struct Client(pub(crate) Weak<dyn Clients>, pub(crate) u32);

/// Both addresses of a socket. Those of IPv4, which most connections have, take no memory of their own.
enum Addresses {
    V4 {
        local: Option<SocketAddrV4>,
        peer: Option<SocketAddrV4>,
    },
    Any(Box<(Option<SocketAddress>, Option<SocketAddress>)>),
}

impl Default for Addresses {
    fn default() -> Addresses {
        let (local, peer) = (None, None);
        Addresses::V4 { local, peer }
    }
}

impl Addresses {
    fn new(local: Option<SocketAddress>, peer: Option<SocketAddress>) -> Addresses {
        let v4 = |address: &Option<SocketAddress>| match address {
            None => Some(None),
            Some(SocketAddress::Ip(SocketAddr::V4(address))) => Some(Some(*address)),
            Some(_) => None,
        };
        match (v4(&local), v4(&peer)) {
            (Some(local), Some(peer)) => Addresses::V4 { local, peer },
            _ => Addresses::Any(Box::new((local, peer))),
        }
    }

    fn get(&self) -> (Option<SocketAddress>, Option<SocketAddress>) {
        let any =
            |address: &Option<SocketAddrV4>| address.map(|address| SocketAddr::V4(address).into());
        match self {
            Addresses::V4 { local, peer } => (any(local), any(peer)),
            Addresses::Any(both) => (**both).clone(),
        }
    }
}

impl<H: Host, P: ?Sized> Deref for Base<H, P> {
    type Target = Upper<H, P>;

    fn deref(&self) -> &Upper<H, P> {
        &self.upper
    }
}

impl<H: Host, P: ?Sized> Base<H, P> {
    pub(crate) fn new(
        event_loop: &EventLoop<H>,
        socket: Socket,
        protocol: Rc<P>,
        origin: Origin,
        life: LifeCycle,
        client: Option<Client>,
    ) -> Base<H, P> {
        let (clients, client) = client.map_or((None, 0), |Client(of, number)| (Some(of), number));
        Base {
            upper: Upper::new(event_loop, protocol, life, FlowControl::default()),
            fd: socket.fd(),
            socket: Cell::new(Some(socket)),
            receiving: Cell::default(),
            sending: Cell::default(),
            presumed: Cell::new(origin.local.is_some()),
            addresses: Cell::new(Addresses::new(origin.local, origin.peer)),
            clients: Cell::new(clients),
            client,
        }
    }

    pub(crate) fn is_receiving(&self) -> bool {
        self.receiving.get().get().is_some()
    }

    pub(crate) fn is_sending(&self) -> bool {
        self.sending.get().get().is_some()
    }

    /// Asks for the socket's address while there is a socket. When it is closed, the listener's is good
    /// enough: few programs ask then, and each would pay.
    fn remember_local_address(&self, closing: bool) {
        let (local, peer) = self.addresses();
        let known = local.is_some() && (closing || !self.presumed.get());
        if !known && self.is_open() {
            self.presumed.set(false);
            let local = self.event_loop.reactor().local_address(self.fd).ok();
            self.addresses.set(Addresses::new(local, peer));
        }
    }

    /// The socket's own address, and the peer's.
    fn addresses(&self) -> (Option<SocketAddress>, Option<SocketAddress>) {
        let addresses = self.addresses.take();
        let both = addresses.get();
        self.addresses.set(addresses);
        both
    }

    /// Whether there is a descriptor.
    fn is_open(&self) -> bool {
        let socket = self.socket.take();
        let open = socket.is_some();
        self.socket.set(socket);
        open
    }

    /// Tells the server that its client has gone, once.
    fn detach(&self) {
        if let Some(clients) = self.clients.take().and_then(|clients| clients.upgrade()) {
            clients.detach(self.client);
        }
    }
}

impl<H: Host, P: BaseProtocol<H> + ?Sized> Base<H, P> {
    fn close_descriptor(&self, user: &dyn User) {
        self.remember_local_address(true);
        self.event_loop.disuse_fd(self.fd, user);
        let socket = self.socket.take();
        // What the program was given of it may live on under another number.
        let closes = socket.as_ref().is_some_and(Socket::is_ours);
        self.event_loop.reactor().forget(self.fd, closes);
        drop(socket);
        self.detach();
        self.forget_protocol();
    }

    fn stop_watching(&self) {
        for watched in [&self.receiving, &self.sending] {
            if let Some(token) = watched.take().get() {
                self.event_loop.unwatch_at_end(token);
            }
        }
    }
}

impl<H: Host, P: ?Sized> Drop for Base<H, P> {
    fn drop(&mut self) {
        // The loop holds nothing of it any more; the descriptor closes by itself.
        self.detach();
    }
}

/// A shape of transport: what moves how, around a [`Base`]. The required methods are the shape's
/// own; the others are the rules that hold for all of them.
pub trait Shape: Sized + 'static {
    type Host: Host;
    type Protocol: BaseProtocol<Self::Host> + ?Sized;

    fn base(&self) -> &Base<Self::Host, Self::Protocol>;

    /// One more reference to it, unless it is being dropped.
    fn shared(&self) -> Option<Rc<Self>>;

    /// Something can be received.
    fn readable(&self);

    /// Output can be offered again.
    fn offer_output(&self);

    /// Offers what no system call has been made for yet.
    fn flush_output(&self);

    /// Offers what waits for the end of the iteration; what follows from that is for the caller.
    fn offer_unflushed(&self);

    /// Bytes that the kernel has not taken.
    fn output_size(&self) -> usize;

    /// Drops what the kernel has not taken.
    fn clear_output(&self);

    /// What the exception handler is told when reading, or writing, has failed.
    fn failures(&self) -> Failures;

    /// Whether the loop has to wait for something to receive.
    fn wants_input(&self) -> bool {
        self.base().life().receives()
    }

    /// What that wait is for.
    fn input(&self) -> Op {
        Op::Receive
    }

    /// What the loop waits for when it waits for room to send.
    fn output(&self) -> Op {
        Op::Send
    }

    /// Follows when the output was sent, before the end.
    fn output_gone(&self) {}

    /// Whether writing resumes at the low-water mark, not only when everything was sent.
    fn resumes_early(&self) -> bool {
        true
    }

    /// Follows when the end has begun.
    fn losing(&self) {}

    // ---- receiving ----

    /// Waits for something to receive exactly while it is wanted.
    fn update_receiving(&self) {
        let base = self.base();
        match (self.wants_input(), base.receiving.get().get()) {
            (true, None) => match self.watch(self.input()) {
                Ok(token) => base.receiving.set(token.into()),
                // No news of the peer's: the descriptor cannot be waited for.
                Err(error) => self.give_up(Failure::Unusual(self.failures().read), error.into()),
            },
            (false, Some(token)) => {
                base.receiving.set(MaybeToken::NONE);
                base.event_loop.unwatch(token);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    // ---- sending ----

    /// Waits for room to send exactly while there is something to send.
    fn update_sending(&self) {
        let base = self.base();
        let left = self.output_size();
        match (left > 0, base.sending.get().get()) {
            (false, None) => return,
            (true, None) => match self.watch(self.output()) {
                Ok(token) => base.sending.set(token.into()),
                Err(error) => {
                    self.clear_output();
                    return self.give_up(Failure::Unusual(self.failures().write), error.into());
                }
            },
            (false, Some(token)) => {
                base.sending.set(MaybeToken::NONE);
                base.event_loop.unwatch(token);
            }
            (true, Some(_)) => {}
        }
        base.tell_flow(|flow| flow.buffered(left));
    }

    /// The loop found room to send.
    fn writable(&self) {
        let base = self.base();
        if !base.life().sends() {
            return;
        }
        self.offer_output();
        if !base.life().sends() {
            return;
        }
        let left = self.output_size();
        if left == 0 || self.resumes_early() {
            base.tell_flow(|flow| flow.drained(left));
        }
        self.output_sent();
    }

    /// What waits for the queue to be empty happens if it is.
    fn output_sent(&self) {
        let base = self.base();
        if self.output_size() > 0 {
            return;
        }
        if base.update_life(LifeCycle::drained) == Next::Lose {
            self.lose(None);
        } else {
            self.output_gone();
        }
    }

    // ---- the end ----

    /// Gives up the connection because of `error`.
    fn give_up(&self, what: Failure, error: <Self::Host as Host>::Error) {
        let base = self.base();
        if base.event_loop.host().escapes(&error) {
            base.event_loop.interrupt(error);
            return;
        }
        if let Some(protocol) = base.protocol() {
            protocol.report(what, &error);
        }
        self.force_close(Some(error));
    }

    /// Gives up what is queued, and the connection.
    fn force_close(&self, error: Option<<Self::Host as Host>::Error>) {
        if self.base().update_life(LifeCycle::fail) == Next::Lose {
            self.clear_output();
            self.lose(error);
        }
    }

    /// Queues `connection_lost`. The life cycle says that it has not been queued yet.
    fn lose(&self, error: Option<<Self::Host as Host>::Error>) {
        self.queue_step(move |transport| transport.connection_lost(error));
        self.base().stop_watching();
        self.losing();
    }

    fn connection_lost(&self, error: Option<<Self::Host as Host>::Error>) {
        let base = self.base();
        base.update_life(LifeCycle::lost);
        if let Some(protocol) = base.protocol()
            && let Err(error) = protocol.connection_lost(error)
        {
            base.tell_failure(&*protocol, Failure::Callback("connection_lost"), error);
        }
        base.close_descriptor(self);
    }

    // ---- the loop ----

    /// Queues a step; the loop holds the transport until it has run.
    fn queue_step(&self, step: impl FnOnce(&Self) + 'static) {
        if let Some(held) = Held::new(self) {
            self.base().event_loop.queue_step(move || step(&held.0));
        }
    }

    fn watch(&self, op: Op) -> io::Result<Token> {
        let this = self.shared().ok_or(io::ErrorKind::NotConnected)?;
        let base = self.base();
        base.event_loop.watch(base.fd, op, this)
    }
}

/// The messages of a shape's failures.
#[derive(Clone, Copy)]
pub struct Failures {
    pub(crate) read: &'static str,
    pub(crate) write: &'static str,
}

/// What every transport can do, whatever its shape.
pub trait BaseTransport<H: Host> {
    /// The loop that moves its bytes.
    fn event_loop(&self) -> &EventLoop<H>;

    /// Closes: receives no more, sends what is buffered, then ends the connection and calls
    /// `connection_lost(None)`, later, from the loop.
    fn close(&self);

    /// Ends the connection now; what is buffered and does not fit into the kernel is lost.
    /// `connection_lost(None)` is called later, from the loop.
    fn abort(&self);

    /// Closes the descriptor of a transport that nobody can reach any more, without a word to its
    /// protocol: for a host whose object for it is being freed.
    fn abandon(&self);

    /// Stops receiving until [`resume_reading`](BaseTransport::resume_reading): the peer is held back
    /// by the kernel.
    fn pause_reading(&self);

    /// Receives again.
    fn resume_reading(&self);

    /// Whether the transport is closing or lost.
    fn is_closing(&self) -> bool;

    /// Whether `connection_lost` was called.
    fn is_lost(&self) -> bool;

    /// Whether the program wants what is received.
    fn is_reading(&self) -> bool;

    /// Whether the loop waits for something to receive.
    fn is_receiving(&self) -> bool;

    /// Whether the loop waits for room to send.
    fn is_sending(&self) -> bool;

    /// Changes the marks of flow control.
    fn set_water_marks(&self, marks: WaterMarks);

    /// The marks of flow control.
    fn water_marks(&self) -> WaterMarks;

    /// Whether the protocol was told to pause writing, and not yet to resume.
    fn is_writing_paused(&self) -> bool;

    /// Bytes that the kernel has not taken. What this iteration wrote is offered to it first.
    fn write_buffer_size(&self) -> usize;

    /// The descriptor, until the connection is lost.
    fn fd(&self) -> Option<RawFd>;

    /// The number of the descriptor, which may be another's when the connection is lost: to show,
    /// not to use.
    fn fd_number(&self) -> RawFd;

    /// Lets a host put its own object in the place of the transport's socket: `exchange` is called
    /// with it unless the connection is lost, and gives the one to use from now on, over the same
    /// descriptor.
    fn with_socket(&self, exchange: &mut dyn FnMut(Socket) -> Socket);

    /// The socket's own address; kept when the connection is lost.
    fn local_address(&self) -> Option<SocketAddress>;

    /// The peer's address; kept when the connection is lost.
    fn peer_address(&self) -> Option<SocketAddress>;
}

impl<S: Shape> BaseTransport<S::Host> for S {
    fn event_loop(&self) -> &EventLoop<S::Host> {
        &self.base().event_loop
    }

    fn close(&self) {
        let base = self.base();
        if base.life().is_closing() {
            return;
        }
        self.offer_unflushed();
        let output_left = self.output_size() > 0;
        match base.update_life(|life| life.close(output_left)) {
            Next::Nothing => {}
            Next::StopReceiving => self.update_receiving(),
            Next::Lose => self.lose(None),
        }
    }

    fn abort(&self) {
        // What was written before an abort has been offered to the kernel on CPython's loop.
        self.offer_unflushed();
        self.force_close(None);
    }

    fn abandon(&self) {
        let base = self.base();
        if base.life().phase() == Phase::Lost {
            return;
        }
        self.offer_unflushed();
        base.stop_watching();
        base.update_life(LifeCycle::lost);
        base.close_descriptor(self);
    }

    fn pause_reading(&self) {
        if self.base().update_life(LifeCycle::pause_reading) {
            self.update_receiving();
        }
    }

    fn resume_reading(&self) {
        if self.base().update_life(LifeCycle::resume_reading) {
            self.update_receiving();
        }
    }

    fn is_closing(&self) -> bool {
        self.base().life().is_closing()
    }

    fn is_lost(&self) -> bool {
        self.base().life().phase() == Phase::Lost
    }

    fn is_reading(&self) -> bool {
        self.base().life().is_reading()
    }

    fn is_receiving(&self) -> bool {
        self.base().is_receiving()
    }

    fn is_sending(&self) -> bool {
        self.base().is_sending()
    }

    fn set_water_marks(&self, marks: WaterMarks) {
        let buffered = self.write_buffer_size();
        self.base().tell_flow(|flow| {
            flow.set_marks(marks);
            flow.buffered(buffered)
        });
    }

    fn water_marks(&self) -> WaterMarks {
        self.base().flow().marks()
    }

    fn is_writing_paused(&self) -> bool {
        self.base().flow().is_paused()
    }

    fn write_buffer_size(&self) -> usize {
        self.offer_unflushed();
        self.output_size()
    }

    fn fd(&self) -> Option<RawFd> {
        self.base().is_open().then_some(self.base().fd)
    }

    fn fd_number(&self) -> RawFd {
        self.base().fd
    }

    fn with_socket(&self, exchange: &mut dyn FnMut(Socket) -> Socket) {
        let socket = self.base().socket.take();
        let socket = socket.map(exchange);
        self.base().socket.set(socket);
    }

    fn local_address(&self) -> Option<SocketAddress> {
        self.base().remember_local_address(false);
        self.base().addresses().0
    }

    fn peer_address(&self) -> Option<SocketAddress> {
        self.base().addresses().1
    }
}

impl<S: Shape> User for S {
    fn abandon(&self) {
        BaseTransport::abandon(self);
    }

    fn visit(&self, visit: &mut dyn FnMut(&dyn Any)) {
        if let Some(protocol) = self.base().protocol() {
            protocol.show(visit);
        }
    }
}
