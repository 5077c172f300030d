//! The byte stream over a connected socket.
//!
//! # Rules of this file
//!
//! * No borrow is held while a protocol is called: it may call any method of the transport.
//! * Everything that a protocol is told comes from the loop, with the exception that asyncio makes:
//!   `pause_writing` may come from inside `write` and `set_write_buffer_limits`.
//! * Every way to the end leads through [`lose`](Stream::lose), once; [`LifeCycle`] sees to that.

mod held;
mod sending;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::rc::{Rc, Weak};

use held::Held;

use super::flow_control::{FlowControl, WaterMarks};
use super::lifecycle::{LifeCycle, Next, Phase};
use super::write_queue::WriteQueue;
use super::{Output, StreamTransport, Transport, WriteError};
use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::event_loop::sources::User;
use crate::protocols::{Failure, Input, Received, StreamProtocol};
use crate::reactor::{Op, Socket, Token};
use crate::sys::address::SocketAddress;
use crate::sys::socket::SocketOption;

/// A transport over a connected stream socket.
pub(crate) struct Stream<H: Host> {
    this: Weak<Stream<H>>,
    event_loop: EventLoop<H>,
    fd: RawFd,
    /// `None` when the connection is lost.
    socket: RefCell<Option<Socket>>,
    /// `None` when the connection is lost.
    protocol: RefCell<Option<Rc<dyn StreamProtocol<H>>>>,
    life: Cell<LifeCycle>,
    flow: Cell<FlowControl>,
    queue: RefCell<WriteQueue<H::Payload>>,
    /// Set while the loop waits for something to receive.
    receiving: Cell<Option<Token>>,
    /// Set while the loop waits for room to send: the kernel took less than it was offered.
    sending: Cell<Option<Token>>,
    /// Whether the queue holds bytes that the kernel was not offered yet.
    unflushed: Cell<bool>,
    /// Whether the protocol is being given what was received: what it writes is flushed after.
    dispatching: Cell<bool>,
    /// Writes since the connection was lost.
    lost_writes: Cell<u32>,
    /// How many sources and queued steps of the loop refer to this transport.
    holds: Cell<u32>,
    local: RefCell<Option<SocketAddress>>,
    peer: RefCell<Option<SocketAddress>>,
    /// Called when the socket is closed: the server's count.
    on_closed: Cell<Option<Box<dyn FnOnce()>>>,
}

impl<H: Host> Stream<H> {
    /// A transport over `socket`, which is connected and non-blocking. Queues, in this order:
    /// `connection_made`, then the start of receiving. `peer` is asked of the socket if not given.
    pub(crate) fn start(
        event_loop: &EventLoop<H>,
        socket: Socket,
        protocol: Rc<dyn StreamProtocol<H>>,
        peer: Option<SocketAddress>,
        on_closed: Option<Box<dyn FnOnce()>>,
    ) -> Transport<H> {
        let fd = socket.fd();
        // Not every byte stream is TCP.
        let _ = event_loop.reactor().set_option(fd, SocketOption::NoDelay);
        let peer = peer.or_else(|| event_loop.reactor().peer_address(fd).ok());
        let stream = Rc::new_cyclic(|this| Stream {
            this: Weak::clone(this),
            event_loop: event_loop.clone(),
            fd,
            socket: RefCell::new(Some(socket)),
            protocol: RefCell::new(Some(protocol)),
            life: Cell::default(),
            flow: Cell::default(),
            queue: RefCell::new(WriteQueue::new(event_loop.spare_output())),
            receiving: Cell::default(),
            sending: Cell::default(),
            unflushed: Cell::default(),
            dispatching: Cell::default(),
            lost_writes: Cell::default(),
            holds: Cell::default(),
            local: RefCell::default(),
            peer: RefCell::new(peer),
            on_closed: Cell::new(on_closed),
        });
        let transport = Transport::new(Rc::clone(&stream) as Rc<dyn StreamTransport<H>>);
        event_loop.use_fd(fd, &(Rc::clone(&stream) as Rc<dyn User>));
        stream.queue_step({
            let transport = transport.clone();
            move |stream| stream.connection_made(transport)
        });
        stream.queue_step(|stream| stream.update_receiving());
        transport
    }

    /// Queues a step; the loop holds the transport until it has run.
    fn queue_step(&self, step: impl FnOnce(&Stream<H>) + 'static) {
        if let Some(held) = Held::new(self) {
            self.event_loop.queue_step(move || step(&held.0));
        }
    }

    fn connection_made(&self, transport: Transport<H>) {
        let Some(protocol) = self.current_protocol() else {
            return;
        };
        if let Err(error) = protocol.connection_made(transport) {
            self.tell_failure(&*protocol, Failure::Callback("connection_made"), error);
        }
    }

    // ---- receiving ----

    /// Waits for something to receive exactly while it is wanted.
    fn update_receiving(&self) {
        match (self.life.get().receives(), self.receiving.get()) {
            (true, None) => match self.watch(Op::Receive) {
                Ok(token) => self.receiving.set(Some(token)),
                Err(error) => self.fail("Fatal read error on socket transport", error.into()),
            },
            (false, Some(token)) => {
                self.receiving.set(None);
                self.event_loop.unwatch(token);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn receive(&self) {
        if !self.life.get().receives() {
            return;
        }
        let Some(protocol) = self.current_protocol() else {
            return;
        };
        let nested = self.dispatching.replace(true);
        match protocol.receive(&Input {
            event_loop: &self.event_loop,
            fd: self.fd,
        }) {
            Received::Data | Received::Nothing => {}
            Received::End => self.end_received(&*protocol),
            Received::Failed(error) => {
                self.fail("Fatal read error on socket transport", error.into());
            }
            Received::Raised(message, error) => self.fail(message, error),
        }
        self.dispatching.set(nested);
        self.flush_output();
    }

    fn end_received(&self, protocol: &dyn StreamProtocol<H>) {
        self.update_life(LifeCycle::eof_received);
        match protocol.eof_received() {
            Ok(true) => self.update_receiving(),
            Ok(false) => self.close(),
            Err(error) => self.fail("Fatal error: protocol.eof_received() call failed.", error),
        }
    }

    // ---- the end ----

    /// Gives up what is queued, and the connection.
    fn force_close(&self, error: Option<H::Error>) {
        if self.update_life(LifeCycle::fail) == Next::Lose {
            self.queue.borrow_mut().clear();
            self.unflushed.set(false);
            self.lose(error);
        }
    }

    /// Queues `connection_lost`. The life cycle says that it has not been queued yet.
    fn lose(&self, error: Option<H::Error>) {
        self.queue_step(move |stream| stream.connection_lost(error));
        self.stop_watching();
    }

    fn connection_lost(&self, error: Option<H::Error>) {
        self.update_life(LifeCycle::lost);
        if let Some(protocol) = self.current_protocol()
            && let Err(error) = protocol.connection_lost(error)
        {
            self.tell_failure(&*protocol, Failure::Callback("connection_lost"), error);
        }
        self.close_socket();
    }

    fn close_socket(&self) {
        self.remember_local_address();
        self.event_loop.disuse_fd(self.fd);
        let socket = self.socket.take();
        drop(socket);
        if let Some(on_closed) = self.on_closed.take() {
            on_closed();
        }
        let protocol = self.protocol.take();
        if let Some(protocol) = protocol
            && self.holds.get() > 0
        {
            protocol.held(false);
        }
    }

    fn stop_watching(&self) {
        for watched in [&self.receiving, &self.sending] {
            if let Some(token) = watched.take() {
                self.event_loop.unwatch(token);
            }
        }
    }

    // ---- helpers ----

    fn watch(&self, op: Op) -> io::Result<Token> {
        let held = Held::new(self).ok_or(io::ErrorKind::NotConnected)?;
        self.event_loop.watch(self.fd, op, Rc::new(held))
    }

    fn tell_failure(&self, protocol: &dyn StreamProtocol<H>, what: Failure, error: H::Error) {
        if self.event_loop.host().escapes(&error) {
            self.event_loop.interrupt(error);
        } else {
            protocol.report(what, &error);
        }
    }

    fn current_protocol(&self) -> Option<Rc<dyn StreamProtocol<H>>> {
        self.protocol.borrow().clone()
    }

    fn update_life<R>(&self, change: impl FnOnce(&mut LifeCycle) -> R) -> R {
        let mut life = self.life.get();
        let result = change(&mut life);
        self.life.set(life);
        result
    }

    fn remember_local_address(&self) {
        if self.local.borrow().is_none() && self.socket.borrow().is_some() {
            let address = self.event_loop.reactor().local_address(self.fd).ok();
            self.local.replace(address);
        }
    }
}

impl<H: Host> StreamTransport<H> for Stream<H> {
    fn event_loop(&self) -> &EventLoop<H> {
        &self.event_loop
    }

    fn protocol(&self) -> Option<Rc<dyn StreamProtocol<H>>> {
        self.current_protocol()
    }

    fn set_protocol(&self, protocol: Rc<dyn StreamProtocol<H>>) {
        if self.life.get().phase() == Phase::Lost {
            return;
        }
        if self.holds.get() > 0 {
            protocol.held(true);
        }
        let before = self.protocol.replace(Some(protocol));
        if self.holds.get() > 0
            && let Some(before) = &before
        {
            before.held(false);
        }
    }

    fn write(&self, output: Output<'_, H>) -> Result<(), WriteError> {
        self.write_output(output)
    }

    fn write_eof(&self) -> io::Result<()> {
        if !self.update_life(LifeCycle::write_eof) {
            return Ok(());
        }
        if self.unflushed.get() {
            self.send(None);
        }
        if self.queue.borrow().is_empty() && self.life.get().takes_output() {
            return self.event_loop.reactor().shutdown_write(self.fd);
        }
        Ok(())
    }

    fn close(&self) {
        if self.life.get().is_closing() {
            return;
        }
        if self.unflushed.get() {
            self.send(None);
        }
        let output_left = !self.queue.borrow().is_empty();
        match self.update_life(|life| life.close(output_left)) {
            Next::Nothing => {}
            Next::StopReceiving => self.update_receiving(),
            Next::Lose => self.lose(None),
        }
    }

    fn abort(&self) {
        // What was written before an abort has been offered to the kernel on CPython's loop.
        self.flush_now();
        self.force_close(None);
    }

    fn abandon(&self) {
        if self.life.get().phase() == Phase::Lost {
            return;
        }
        self.flush_now();
        self.stop_watching();
        self.update_life(LifeCycle::lost);
        self.close_socket();
    }

    fn fail(&self, message: &'static str, error: H::Error) {
        if self.event_loop.host().escapes(&error) {
            self.event_loop.interrupt(error);
            return;
        }
        if let Some(protocol) = self.current_protocol() {
            protocol.report(Failure::Fatal(message), &error);
        }
        self.force_close(Some(error));
    }

    fn pause_reading(&self) {
        if self.update_life(LifeCycle::pause_reading) {
            self.update_receiving();
        }
    }

    fn resume_reading(&self) {
        if self.update_life(LifeCycle::resume_reading) {
            self.update_receiving();
        }
    }

    fn is_closing(&self) -> bool {
        self.life.get().is_closing()
    }

    fn is_lost(&self) -> bool {
        self.life.get().phase() == Phase::Lost
    }

    fn is_reading(&self) -> bool {
        self.life.get().is_reading()
    }

    fn is_receiving(&self) -> bool {
        self.receiving.get().is_some()
    }

    fn is_sending(&self) -> bool {
        self.sending.get().is_some()
    }

    fn set_water_marks(&self, marks: WaterMarks) {
        let buffered = self.write_buffer_size();
        self.tell_flow(|flow| {
            flow.set_marks(marks);
            flow.buffered(buffered)
        });
    }

    fn water_marks(&self) -> WaterMarks {
        self.flow.get().marks()
    }

    fn write_buffer_size(&self) -> usize {
        self.flush_now();
        self.queue.borrow().len()
    }

    fn fd(&self) -> Option<RawFd> {
        self.socket.borrow().as_ref().map(Socket::fd)
    }

    fn fd_number(&self) -> RawFd {
        self.fd
    }

    fn with_socket(&self, exchange: &mut dyn FnMut(Socket) -> Socket) {
        let socket = self.socket.take();
        let socket = socket.map(exchange);
        self.socket.replace(socket);
    }

    fn local_address(&self) -> Option<SocketAddress> {
        self.remember_local_address();
        self.local.borrow().clone()
    }

    fn peer_address(&self) -> Option<SocketAddress> {
        self.peer.borrow().clone()
    }
}

impl<H: Host> User for Stream<H> {
    fn abandon(&self) {
        StreamTransport::abandon(self);
    }

    fn visit(&self, visit: &mut dyn FnMut(&dyn Any)) {
        if let Some(protocol) = self.protocol.borrow().as_deref().and_then(|p| p.as_any()) {
            visit(protocol);
        }
    }
}

impl<H: Host> Drop for Stream<H> {
    fn drop(&mut self) {
        // The loop holds nothing of it any more; the socket closes by itself. `mem::take` because
        // the hook may look for this transport.
        if let Some(on_closed) = mem::take(&mut self.on_closed).into_inner() {
            on_closed();
        }
    }
}
