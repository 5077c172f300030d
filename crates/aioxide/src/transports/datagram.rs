//! Datagrams over a socket: each send is a message of its own, and an error costs one message, not
//! the endpoint.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::{Rc, Weak};

use super::base::{Base, Failures, Shape};
use super::lifecycle::{LifeCycle, Phase};
use super::{DatagramTransport, Output};
use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::event_loop::sources::User;
use crate::protocols::{Failure, MessageProtocol};
use crate::reactor::Socket;
use crate::sys::address::{Family, SocketAddress};
use crate::sys::datagrams::{ANY_DATAGRAM, BATCH, Datagrams, UDP_DATAGRAM};

/// What a queued datagram counts for beside its bytes: so that many empty ones do not count for
/// nothing. CPython's figure (`_SelectorDatagramTransport._header_size`).
const HEADER_SIZE: usize = 8;

/// A transport of datagrams.
pub(crate) struct Datagram<H: Host> {
    this: Weak<Datagram<H>>,
    base: Base<H, dyn MessageProtocol<H>>,
    /// Where everything is sent: the program has named a peer when it made the endpoint.
    remote: Option<SocketAddress>,
    /// Whether the socket itself knows its peer.
    connected: bool,
    /// The most that is taken of one datagram, in bytes.
    slot: usize,
    queue: RefCell<VecDeque<Message<H>>>,
    /// Bytes in the queue, with [`HEADER_SIZE`] for each datagram.
    queued: Cell<usize>,
    /// What was received together, and not delivered because the program has paused reading, or
    /// left the loop, meanwhile.
    held_back: RefCell<VecDeque<(Vec<u8>, Option<SocketAddress>)>>,
}

/// A datagram that waits to be sent.
struct Message<H: Host> {
    bytes: Bytes<H>,
    to: Option<SocketAddress>,
}

enum Bytes<H: Host> {
    Copied(Vec<u8>),
    Kept(H::Payload),
}

impl<H: Host> Message<H> {
    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Copied(bytes) => bytes,
            Bytes::Kept(bytes) => bytes.as_ref(),
        }
    }

    fn size(&self) -> usize {
        self.bytes().len() + HEADER_SIZE
    }
}

/// Why a datagram was not taken.
#[derive(Debug)]
pub enum SendError<E> {
    /// The transport is closed, and this many sends have come since (this one included).
    Lost(u32),
    /// The protocol's `error_received` raised, having been told that the send has failed.
    Raised(E),
}

impl<H: Host> Datagram<H> {
    /// A transport over `socket`, which is non-blocking. Queues `connection_made`, then the start
    /// of receiving. With a `remote` address, everything is sent there.
    pub(crate) fn start(
        event_loop: &EventLoop<H>,
        socket: Socket,
        protocol: Rc<dyn MessageProtocol<H>>,
        remote: Option<SocketAddress>,
    ) -> DatagramTransport<H> {
        let fd = socket.fd();
        let peer = event_loop.reactor().peer_address(fd).ok();
        let family = event_loop.reactor().local_address(fd);
        let slot = match family.map(|local| local.family()) {
            Ok(Family::INET | Family::INET6) => UDP_DATAGRAM,
            _ => ANY_DATAGRAM,
        };
        let connected = peer.is_some();
        let life = LifeCycle::default();
        let base = Base::new(event_loop, socket, protocol, peer.into(), life, None);
        let datagram = Rc::new_cyclic(|this| Datagram {
            this: Weak::clone(this),
            base,
            remote,
            connected,
            slot,
            queue: RefCell::default(),
            queued: Cell::default(),
            held_back: RefCell::default(),
        });
        event_loop.use_fd(fd, &(Rc::clone(&datagram) as Rc<dyn User>));
        let transport = DatagramTransport::new(Rc::clone(&datagram));
        datagram.queue_step(move |datagram| datagram.connection_made(transport));
        datagram.queue_step(|datagram| datagram.update_receiving());
        DatagramTransport::new(datagram)
    }

    /// The address that everything is sent to, if the endpoint was made with one.
    pub(super) fn remote(&self) -> Option<&SocketAddress> {
        self.remote.as_ref()
    }

    fn connection_made(&self, transport: DatagramTransport<H>) {
        if let Some(protocol) = self.base.protocol() {
            let made = protocol.connection_made(transport);
            self.tell_raised(&*protocol, "connection_made", made);
        }
    }

    // ---- receiving ----

    fn receive(&self, datagrams: &mut Datagrams) {
        datagrams.clear(self.slot);
        let reactor = self.base.event_loop.reactor();
        if let Err(error) = reactor.receive_datagrams(self.base.fd, datagrams) {
            if error.kind() != io::ErrorKind::WouldBlock
                && let Some(protocol) = self.base.protocol()
            {
                let told = protocol.error_received(error);
                self.tell_raised(&*protocol, "error_received", told);
            }
            return;
        }
        let mut interrupted = false;
        for index in 0..datagrams.len() {
            let Some((bytes, peer)) = datagrams.get(index) else {
                break;
            };
            if self.base.life().is_closing() {
                break;
            }
            if interrupted || !self.base.life().receives() {
                let datagram = (bytes.to_vec(), peer.cloned());
                self.held_back.borrow_mut().push_back(datagram);
            } else {
                interrupted = self.deliver(bytes, peer);
            }
        }
        if interrupted {
            self.queue_step(Datagram::deliver_held_back);
        }
    }

    /// Delivers a datagram; whether that leaves the loop.
    fn deliver(&self, bytes: &[u8], peer: Option<&SocketAddress>) -> bool {
        let Some(protocol) = self.base.protocol() else {
            return false;
        };
        let received = protocol.datagram_received(bytes, peer);
        self.tell_raised(&*protocol, "datagram_received", received)
    }

    /// Delivers what was held back, and receives again.
    fn deliver_held_back(&self) {
        while self.base.life().receives() {
            let Some((bytes, peer)) = self.held_back.borrow_mut().pop_front() else {
                return self.update_receiving();
            };
            if self.deliver(&bytes, peer.as_ref()) {
                return self.queue_step(Datagram::deliver_held_back);
            }
        }
    }

    /// An exception in a callback of a datagram's is reported; the endpoint lives. Whether it
    /// leaves the loop.
    fn tell_raised(
        &self,
        protocol: &(dyn MessageProtocol<H> + 'static),
        callback: &'static str,
        called: Result<(), H::Error>,
    ) -> bool {
        let Err(error) = called else { return false };
        let leaves = self.base.event_loop.host().escapes(&error);
        self.base
            .tell_failure(protocol, Failure::Callback(callback), error);
        leaves
    }

    // ---- sending ----

    /// Takes a datagram to send, to `to` or to the peer that the endpoint was made for.
    pub(super) fn send_to(
        &self,
        output: Output<'_, H>,
        to: Option<&SocketAddress>,
    ) -> Result<(), SendError<H::Error>> {
        let phase = self.base.life().phase();
        // Until connection_lost is called the socket is there, and CPython's loop sends through it;
        // but for an endpoint with a peer of its own.
        let closed = match phase {
            Phase::Open | Phase::Draining => false,
            Phase::Losing => self.remote.is_some(),
            Phase::Lost => true,
        };
        if closed {
            return Err(SendError::Lost(self.base.count_lost_write()));
        }
        let to = if self.connected {
            None
        } else {
            to.or(self.remote.as_ref())
        };
        if self.queued.get() == 0 {
            let reactor = self.base.event_loop.reactor();
            match reactor.send_to(self.base.fd, output.bytes, to) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if phase == Phase::Losing {
                        return Ok(());
                    }
                }
                Err(error) => {
                    let told = self.base.protocol().map(|told| told.send_failed(error));
                    return told.unwrap_or(Ok(())).map_err(SendError::Raised);
                }
            }
        }
        let message = Message {
            bytes: match output.keep {
                Some(keep) => Bytes::Kept(keep()),
                None => Bytes::Copied(output.bytes.to_vec()),
            },
            to: to.cloned(),
        };
        self.queued.set(self.queued.get() + message.size());
        self.queue.borrow_mut().push_back(message);
        self.update_sending();
        Ok(())
    }

    /// Offers the front of the queue; how many datagrams were sent.
    fn offer(&self) -> io::Result<usize> {
        let queue = self.queue.borrow();
        let reactor = self.base.event_loop.reactor();
        let fd = self.base.fd;
        match queue.len() {
            0 => Ok(0),
            1 => {
                let message = &queue[0];
                reactor
                    .send_to(fd, message.bytes(), message.to.as_ref())
                    .map(|_| 1)
            }
            _ => {
                let messages: Vec<_> = queue
                    .iter()
                    .take(BATCH)
                    .map(|message| (IoSlice::new(message.bytes()), message.to.as_ref()))
                    .collect();
                reactor.send_datagrams(fd, &messages)
            }
        }
    }

    /// Takes datagrams off the front of the queue.
    fn advance(&self, count: usize) {
        let sent: Vec<_> = {
            let mut queue = self.queue.borrow_mut();
            let count = count.min(queue.len());
            queue.drain(..count).collect()
        };
        let size: usize = sent.iter().map(Message::size).sum();
        self.queued.set(self.queued.get().saturating_sub(size));
    }
}

impl<H: Host> Shape for Datagram<H> {
    type Host = H;
    type Protocol = dyn MessageProtocol<H>;

    fn base(&self) -> &Base<H, dyn MessageProtocol<H>> {
        &self.base
    }

    fn shared(&self) -> Option<Rc<Datagram<H>>> {
        self.this.upgrade()
    }

    fn readable(&self) {
        if self.base.life().receives() {
            let event_loop = self.base.event_loop.clone();
            event_loop.with_datagrams(|datagrams| self.receive(datagrams));
        }
    }

    fn wants_input(&self) -> bool {
        let receives = self.base.life().receives();
        if receives && !self.held_back.borrow().is_empty() {
            self.queue_step(Datagram::deliver_held_back);
            return false;
        }
        receives
    }

    fn offer_output(&self) {
        loop {
            match self.offer() {
                Ok(0) => break,
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    // It costs one datagram.
                    self.advance(1);
                    if let Some(protocol) = self.base.protocol() {
                        let told = protocol.error_received(error);
                        self.tell_raised(&*protocol, "error_received", told);
                    }
                    if !self.base.life().sends() {
                        return;
                    }
                }
            }
        }
        self.update_sending();
    }

    // Nothing waits for the end of the iteration: a send that fails says so at once, as on
    // CPython's loop.
    fn flush_output(&self) {}

    fn offer_unflushed(&self) {}

    fn output_size(&self) -> usize {
        self.queued.get()
    }

    fn clear_output(&self) {
        let messages = self.queue.take();
        drop(messages);
        self.queued.set(0);
    }

    fn failures(&self) -> Failures {
        Failures {
            read: "Fatal read error on datagram transport",
            write: "Fatal write error on datagram transport",
        }
    }
}

impl<H: Host> DatagramTransport<H> {
    /// Gives up the endpoint because of `error`: it is reported with `message`, and
    /// `connection_lost` gets it.
    pub fn fail(&self, message: &'static str, error: H::Error) {
        self.0.give_up(Failure::Fatal(message), error);
    }

    /// The engine's side of its protocol, until the connection is lost.
    #[must_use]
    pub fn message_protocol(&self) -> Option<Rc<dyn MessageProtocol<H>>> {
        self.0.base.protocol()
    }

    /// Gives what is received from now on to another protocol.
    pub fn set_message_protocol(&self, protocol: Rc<dyn MessageProtocol<H>>) {
        self.0.base.set_protocol(protocol);
    }
}
