//! The byte stream over a connected socket.
//!
//! # Rules of this file
//!
//! * No borrow is held while a protocol is called: it may call any method of the transport.
//! * Everything that a protocol is told comes from the loop, with the exception that asyncio makes:
//!   `pause_writing` may come from inside `write` and `set_write_buffer_limits`.
//! * Every way to the end leads through [`lose`](Stream::lose), once; [`LifeCycle`] sees to that.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::RawFd;
use std::rc::{Rc, Weak};

use super::flow_control::{FlowControl, Signal, WaterMarks};
use super::lifecycle::{LifeCycle, Next, Phase};
use super::write_queue::{KEEP, MAX_SLICES, WriteQueue};
use super::{Output, StreamTransport, Transport, WriteError};
use crate::event_loop::host::Host;
use crate::event_loop::sources::{Ready, User};
use crate::event_loop::{EventLoop, Flush};
use crate::protocols::{Failure, Input, Received, StreamProtocol};
use crate::reactor::{Op, Side, Socket, Token};
use crate::sys::address::SocketAddress;
use crate::sys::socket::SocketOption;

/// Output of more bytes than this is sent at once. Less waits for the end of the callback that was
/// given what was received, or else of the iteration, so that many small writes leave in one
/// system call. Copying 16 KiB takes about a microsecond, a system call several.
const COALESCE: usize = 16 * 1024;

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

    // ---- sending ----

    /// Sends the queue, then `extra`; queues what the kernel does not take.
    fn send(&self, mut extra: Option<Output<'_, H>>) {
        self.unflushed.set(false);
        let sent = loop {
            let mut queue = self.queue.borrow_mut();
            let offer = self.offer(&queue, extra.as_ref());
            let taken = match offer.taken {
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => break Err(error),
            };
            let from_queue = taken.min(queue.len());
            queue.advance(from_queue);
            if offer.with_extra
                && let Some(extra) = extra.take()
            {
                enqueue(&mut queue, extra, taken - from_queue);
            }
            if taken < offer.size || queue.is_empty() && extra.is_none() {
                break Ok(());
            }
        };
        match sent {
            Ok(()) => {
                if let Some(extra) = extra {
                    enqueue(&mut self.queue.borrow_mut(), extra, 0);
                }
                self.update_sending();
            }
            Err(error) => {
                self.queue.borrow_mut().clear();
                self.fail("Fatal write error on socket transport", error.into());
            }
        }
    }

    /// Offers the front of the queue to the kernel, and `extra` if all of the queue goes with it.
    fn offer(&self, queue: &WriteQueue<H::Payload>, extra: Option<&Output<'_, H>>) -> Offer {
        let reactor = self.event_loop.reactor();
        // The usual case; an array of slices takes longer to fill than the rest of this.
        if let (Some(piece), None) = (queue.only_piece(), extra) {
            let taken = reactor.send(self.fd, &[IoSlice::new(piece)]);
            return Offer {
                taken,
                size: piece.len(),
                with_extra: false,
            };
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = queue.slices(&mut slices);
        let extra = extra.filter(|_| queue.fits_slices());
        if let Some(extra) = extra {
            slices[count] = IoSlice::new(extra.bytes);
            count += 1;
        }
        let slices = &slices[..count];
        let taken = if count == 0 {
            Ok(0)
        } else {
            reactor.send(self.fd, slices)
        };
        let size = slices.iter().map(|slice| slice.len()).sum();
        Offer {
            taken,
            size,
            with_extra: extra.is_some(),
        }
    }

    /// Waits for room to send exactly while there is something to send.
    fn update_sending(&self) {
        let left = self.queue.borrow().len();
        match (left > 0, self.sending.get()) {
            (false, None) => return,
            (true, None) => match self.watch(Op::Send) {
                Ok(token) => self.sending.set(Some(token)),
                Err(error) => {
                    self.queue.borrow_mut().clear();
                    return self.fail("Fatal write error on socket transport", error.into());
                }
            },
            (false, Some(token)) => {
                self.sending.set(None);
                self.event_loop.unwatch(token);
            }
            (true, Some(_)) => {}
        }
        self.tell_flow(|flow| if left > 0 { flow.buffered(left) } else { None });
    }

    /// The loop found room to send.
    fn room_to_send(&self) {
        if !self.life.get().takes_output() {
            return;
        }
        self.send(None);
        if !self.life.get().takes_output() {
            return;
        }
        let left = self.queue.borrow().len();
        self.tell_flow(|flow| flow.drained(left));
        self.output_sent();
    }

    /// What waits for the queue to be empty happens if it is.
    fn output_sent(&self) {
        let life = self.life.get();
        if life.phase() == Phase::Open && !life.is_eof_written() {
            return;
        }
        if !self.queue.borrow().is_empty() || self.unflushed.get() {
            return;
        }
        if self.update_life(LifeCycle::drained) == Next::Lose {
            self.lose(None);
        } else if self.life.get().is_eof_written()
            && self.life.get().takes_output()
            && let Err(error) = self.event_loop.reactor().shutdown_write(self.fd)
        {
            // The connection has gone; whoever receives learns of it.
            log::debug!("sending the end failed: {error}");
        }
    }

    /// Sends what has been written since the last send, unless a callback may write more.
    fn flush_output(&self) {
        if self.unflushed.get() && !self.dispatching.get() {
            self.flush_now();
        }
    }

    fn flush_now(&self) {
        if self.unflushed.get() && self.life.get().takes_output() {
            self.send(None);
            self.output_sent();
        }
    }

    /// Tells the protocol to pause or resume, where `change` says so.
    fn tell_flow(&self, change: impl FnOnce(&mut FlowControl) -> Option<Signal>) {
        let mut flow = self.flow.get();
        let signal = change(&mut flow);
        self.flow.set(flow);
        let (Some(signal), Some(protocol)) = (signal, self.current_protocol()) else {
            return;
        };
        let (told, callback) = match signal {
            Signal::Pause => (protocol.pause_writing(), "pause_writing"),
            Signal::Resume => (protocol.resume_writing(), "resume_writing"),
        };
        if let Err(error) = told {
            self.tell_failure(&*protocol, Failure::FlowControl(callback), error);
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

/// What was offered to the kernel, and what it took.
struct Offer {
    taken: io::Result<usize>,
    /// Bytes that were offered.
    size: usize,
    /// Whether the output that is not queued was among them.
    with_extra: bool,
}

/// Queues what is left of `output` after its first `sent` bytes.
fn enqueue<P: AsRef<[u8]>, H: Host<Payload = P>>(
    queue: &mut WriteQueue<P>,
    output: Output<'_, H>,
    sent: usize,
) {
    let left = output.bytes.get(sent..).unwrap_or_default();
    match output.keep {
        _ if left.is_empty() => {}
        Some(keep) if left.len() >= KEEP => queue.keep(keep(), sent),
        _ => queue.copy(left),
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
        let life = self.life.get();
        if life.is_eof_written() {
            return Err(WriteError::AfterEof);
        }
        if output.bytes.is_empty() {
            return Ok(());
        }
        if !life.takes_output() {
            let times = self.lost_writes.get().saturating_add(1);
            self.lost_writes.set(times);
            return Err(WriteError::Lost(times));
        }
        let buffered = self.queue.borrow().len();
        if self.sending.get().is_some() {
            let mut queue = self.queue.borrow_mut();
            enqueue(&mut queue, output, 0);
            let buffered = queue.len();
            drop(queue);
            self.tell_flow(|flow| flow.buffered(buffered));
        } else if buffered + output.bytes.len() > COALESCE.min(self.flow.get().marks().high()) {
            self.send(Some(output));
        } else {
            let mut queue = self.queue.borrow_mut();
            match output.keep {
                // Most often it is the only piece, and is sent before it could change.
                Some(keep) if queue.is_empty() => queue.keep(keep(), 0),
                _ => queue.copy(output.bytes),
            }
            drop(queue);
            if !self.unflushed.replace(true)
                && !self.dispatching.get()
                && let Some(held) = Held::new(self)
            {
                self.event_loop.flush_later(Box::new(held));
            }
        }
        Ok(())
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

/// A reference that the loop has to a transport: from a source or a queued step. While there is
/// one, the host's object for the transport must live.
struct Held<H: Host>(Rc<Stream<H>>);

impl<H: Host> Held<H> {
    /// `None` while the transport is being dropped.
    fn new(stream: &Stream<H>) -> Option<Held<H>> {
        let stream = stream.this.upgrade()?;
        let holds = stream.holds.get();
        stream.holds.set(holds + 1);
        if holds == 0
            && let Some(protocol) = stream.current_protocol()
        {
            protocol.held(true);
        }
        Some(Held(stream))
    }
}

impl<H: Host> Drop for Held<H> {
    fn drop(&mut self) {
        let holds = self.0.holds.get().saturating_sub(1);
        self.0.holds.set(holds);
        if holds == 0
            && let Some(protocol) = self.0.current_protocol()
        {
            protocol.held(false);
        }
    }
}

impl<H: Host> Ready for Held<H> {
    fn ready(self: Rc<Self>, side: Side) {
        match side {
            Side::Read => self.0.receive(),
            Side::Write => self.0.room_to_send(),
        }
    }

    fn name(&self) -> &'static str {
        "transport"
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

impl<H: Host> Flush for Held<H> {
    fn flush(&self) {
        self.0.flush_output();
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
