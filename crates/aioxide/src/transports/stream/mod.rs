//! The byte stream: over a connected socket, or over one end of a pipe.

mod channel;
mod sending;
mod sending_file;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::task::Waker;

pub(crate) use channel::Channel;
pub use sending_file::FileSender;

use super::base::{Base, Client, Failures, Origin, Shape};
use super::lifecycle::{LifeCycle, Next};
use super::write_queue::WriteQueue;
use super::{BaseTransport, Output, StreamTransport, Transport, WriteError};
use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::event_loop::sources::User;
use crate::protocols::{Failure, Input, Received, Source, StreamProtocol};
use crate::reactor::{Op, Socket};
use crate::sys::socket::SocketOption;

/// A transport of bytes.
pub(crate) struct Stream<H: Host> {
    this: Weak<Stream<H>>,
    base: Base<H, dyn StreamProtocol<H>>,
    channel: Channel,
    /// Whether a receive that leaves room in its buffer has taken all that was there. TCP's does; a
    /// Unix socket's ends where another sender, or a descriptor that was sent along, begins.
    takes_all: bool,
    queue: RefCell<WriteQueue<H::Payload>>,
    /// Whether the queue holds bytes that the kernel was not offered yet.
    unflushed: Cell<bool>,
    /// Whether much was sent at once since the last flush: what follows waits for the next.
    sent_much: Cell<bool>,
    /// Whether the protocol is being given what was received: what it writes is flushed after.
    dispatching: Cell<bool>,
    /// Whether a file is being sent: then nothing else is.
    sending_file: Cell<bool>,
    /// Who waits for the queue to be empty, to send a file.
    empty_waker: Cell<Option<Box<Waker>>>,
}

impl<H: Host> Stream<H> {
    /// A transport over `socket`, which is connected and non-blocking. The peer is asked of the socket
    /// if not known.
    pub(crate) fn start(
        event_loop: &EventLoop<H>,
        socket: Socket,
        protocol: Rc<dyn StreamProtocol<H>>,
        mut origin: Origin,
        client: Option<Client>,
    ) -> Transport<H> {
        let fd = socket.fd();
        // Not every byte stream is TCP: the others have no such option.
        let reactor = event_loop.reactor();
        let is_tcp = reactor.set_option(fd, SocketOption::NoDelay).is_ok();
        if origin.peer.is_none() {
            origin.peer = reactor.peer_address(fd).ok();
        }
        let channel = Channel::Socket;
        let life = LifeCycle::of(channel.direction());
        let base = Base::new(event_loop, socket, protocol, origin, life, client);
        Stream::start_over(channel, is_tcp, base)
    }

    /// A transport over one end of a pipe, which is non-blocking.
    pub(crate) fn start_pipe(
        event_loop: &EventLoop<H>,
        channel: Channel,
        pipe: Socket,
        protocol: Rc<dyn StreamProtocol<H>>,
    ) -> Transport<H> {
        let life = LifeCycle::of(channel.direction());
        let base = Base::new(event_loop, pipe, protocol, Origin::default(), life, None);
        Stream::start_over(channel, false, base)
    }

    /// Queues, in this order: `connection_made`, then the start of receiving.
    fn start_over(
        channel: Channel,
        takes_all: bool,
        base: Base<H, dyn StreamProtocol<H>>,
    ) -> Transport<H> {
        let stream = Rc::new_cyclic(|this| Stream {
            this: Weak::clone(this),
            channel,
            takes_all,
            queue: RefCell::new(WriteQueue::new(base.event_loop.kept())),
            unflushed: Cell::default(),
            sent_much: Cell::default(),
            dispatching: Cell::default(),
            sending_file: Cell::default(),
            empty_waker: Cell::default(),
            base,
        });
        let transport = Transport::new(Rc::clone(&stream) as Rc<dyn StreamTransport<H>>);
        let base = &stream.base;
        base.event_loop
            .use_fd(base.fd, &(Rc::clone(&stream) as Rc<dyn User>));
        stream.queue_step({
            let transport = transport.clone();
            move |stream| stream.connection_made(transport)
        });
        stream.queue_step(|stream| stream.update_receiving());
        transport
    }

    fn connection_made(&self, transport: Transport<H>) {
        let Some(protocol) = self.base.protocol() else {
            return;
        };
        if let Err(error) = protocol.connection_made(transport) {
            self.base
                .tell_failure(&*protocol, Failure::Callback("connection_made"), error);
        }
    }

    // ---- receiving ----

    fn receive(&self) {
        if !self.base.life().receives() {
            return;
        }
        let Some(protocol) = self.base.protocol() else {
            return;
        };
        let nested = self.dispatching.replace(true);
        match protocol.receive(&Input {
            event_loop: &self.base.event_loop,
            source: Source::Descriptor(self.base.fd, self.channel),
        }) {
            Received::Data | Received::Nothing => {}
            Received::End => self.end_received(&*protocol),
            Received::Failed(error) => self.read_failed(error),
            // It costs a pipe nothing, as on CPython's loop.
            Received::Raised(_, error) if self.channel == Channel::ReadPipe => {
                let what = Failure::Callback("data_received");
                self.base.tell_failure(&*protocol, what, error);
            }
            Received::Raised(message, error) => self.callback_failed(message, error),
        }
        self.dispatching.set(nested);
        self.flush_output();
    }

    fn end_received(&self, protocol: &dyn StreamProtocol<H>) {
        self.base.update_life(LifeCycle::eof_received);
        if self.channel == Channel::ReadPipe {
            return self.pipe_ended();
        }
        match protocol.eof_received() {
            Ok(true) => self.update_receiving(),
            Ok(false) => self.close(),
            Err(error) => {
                let message = "Fatal error: protocol.eof_received() call failed.";
                self.callback_failed(message, error);
            }
        }
    }

    /// A callback that has failed costs the connection, and so does a layer above. What was written
    /// before is offered to the kernel first: an answer that says what was wrong, perhaps.
    fn callback_failed(&self, message: &'static str, error: H::Error) {
        self.offer_unflushed();
        self.give_up(Failure::Fatal(message), error);
    }

    /// A pipe's end is the end of its transport, whatever the protocol says to it. Both callbacks
    /// come from the queue, as on CPython's loop.
    fn pipe_ended(&self) {
        if self.base.update_life(LifeCycle::fail) != Next::Lose {
            return;
        }
        self.tell_pipe_closed();
        self.queue_step(|stream| {
            if let Some(protocol) = stream.base.protocol()
                && let Err(error) = protocol.eof_received()
            {
                let what = Failure::Callback("eof_received");
                stream.base.tell_failure(&*protocol, what, error);
            }
        });
        self.lose(None);
    }

    fn tell_pipe_closed(&self) {
        if let Some(protocol) = self.base.protocol() {
            protocol.pipe_closed();
        }
    }

    fn read_failed(&self, error: io::Error) {
        let message = self.failures().read;
        // A terminal that goes away says EIO; a pipe that fails otherwise is no usual end.
        let failure = match error.raw_os_error() {
            Some(libc::EIO) => Failure::Fatal(message),
            _ if self.channel == Channel::ReadPipe => Failure::Unusual(message),
            _ => Failure::Fatal(message),
        };
        self.give_up(failure, error.into());
    }

    /// The reader of the pipe that this transport writes to has closed it.
    fn reader_gone(&self) {
        if !self.base.life().sends() {
            return;
        }
        self.tell_pipe_closed();
        let broken = self.output_size() > 0;
        let error = broken.then(|| io::Error::from_raw_os_error(libc::EPIPE).into());
        self.force_close(error);
    }
}

impl<H: Host> Shape for Stream<H> {
    type Host = H;
    type Protocol = dyn StreamProtocol<H>;

    fn base(&self) -> &Base<H, dyn StreamProtocol<H>> {
        &self.base
    }

    fn shared(&self) -> Option<Rc<Stream<H>>> {
        self.this.upgrade()
    }

    fn readable(&self) {
        if self.base.life().direction().reads() {
            self.receive();
        } else {
            self.reader_gone();
        }
    }

    fn wants_input(&self) -> bool {
        let life = self.base.life();
        match self.channel {
            Channel::Socket | Channel::ReadPipe => life.receives(),
            Channel::WritePipe { tells_end } => tells_end && life.sends(),
        }
    }

    fn input(&self) -> Op {
        match self.channel {
            Channel::Socket if self.takes_all => Op::ReceiveStream,
            Channel::Socket | Channel::ReadPipe => Op::Receive,
            Channel::WritePipe { .. } => Op::PeerGone,
        }
    }

    fn output(&self) -> Op {
        if self.takes_all {
            Op::SendStream
        } else {
            Op::Send
        }
    }

    fn offer_output(&self) {
        self.send(None);
    }

    fn offer_unflushed(&self) {
        if self.unflushed.get() && self.base.life().sends() {
            if self.send_only_piece() {
                return;
            }
            self.send(None);
            // It may have been all that a closing transport was waiting for.
            self.output_sent();
        }
    }

    fn flush_output(&self) {
        if !self.dispatching.get() {
            self.end_turn();
            self.offer_unflushed();
        }
    }

    fn output_size(&self) -> usize {
        self.queue.borrow().len()
    }

    fn clear_output(&self) {
        self.queue.borrow_mut().clear();
        self.unflushed.set(false);
    }

    /// The end that the program has written follows its output.
    fn output_gone(&self) {
        self.wake_file_sender();
        let life = self.base.life();
        if life.is_eof_written()
            && life.sends()
            && let Err(error) = self.base.event_loop.reactor().shutdown_write(self.base.fd)
        {
            // The connection has gone; whoever receives learns of it.
            log::debug!("sending the end failed: {error}");
        }
    }

    // CPython's pipes look at the low-water mark only when everything was sent.
    fn resumes_early(&self) -> bool {
        self.channel == Channel::Socket
    }

    fn losing(&self) {
        self.wake_file_sender();
    }

    fn failures(&self) -> Failures {
        self.channel.failures()
    }
}

impl<H: Host> StreamTransport<H> for Stream<H> {
    fn protocol(&self) -> Option<Rc<dyn StreamProtocol<H>>> {
        self.base.protocol()
    }

    fn set_protocol(&self, protocol: Rc<dyn StreamProtocol<H>>) {
        self.base.set_protocol(protocol);
    }

    fn write(&self, output: Output<'_, H>) -> Result<(), WriteError> {
        self.write_output(output)
    }

    fn joins_lines(&self) -> bool {
        self.channel != Channel::Socket
    }

    fn can_write_eof(&self) -> bool {
        self.base.life().direction().writes()
    }

    fn write_eof(&self) -> io::Result<()> {
        match self.channel {
            Channel::Socket => {}
            Channel::WritePipe { .. } => {
                self.close();
                return Ok(());
            }
            Channel::ReadPipe => {
                let message = "the reading end of a pipe cannot be written to";
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
        }
        // First: a send that fails ends the connection, and with it what could be ended here.
        self.offer_unflushed();
        if !self.base.update_life(LifeCycle::write_eof) {
            return Ok(());
        }
        if self.output_size() == 0 && self.base.life().sends() {
            return self.base.event_loop.reactor().shutdown_write(self.base.fd);
        }
        Ok(())
    }

    fn begin_file(&self) -> io::Result<()> {
        self.begin_sending_file()
    }

    fn wake_when_empty(&self, waker: &Waker) {
        self.set_empty_waker(waker);
    }

    fn end_file(&self) {
        self.end_sending_file();
    }

    fn fail(&self, message: &'static str, error: H::Error) {
        self.callback_failed(message, error);
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;
    use crate::event_loop::native::Native;

    #[test]
    fn a_stream_stays_small() {
        // 208 bytes of the heap with both counts of its `Rc` and the heap's own eight: see "What an idle
        // connection costs" in ARCHITECTURE.md before this becomes more.
        assert!(size_of::<Stream<Native>>() <= 184);
    }
}
