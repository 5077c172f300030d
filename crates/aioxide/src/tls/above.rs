//! The layer as the transport that a program has.

use std::any::Any;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::Waker;

use super::below::FATAL;
use super::{COALESCE, ENCRYPT, Phase, Tls, unsupported};
use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::protocols::StreamProtocol;
use crate::reactor::Socket;
use crate::sys::address::SocketAddress;
use crate::transports::flow_control::WaterMarks;
use crate::transports::lifecycle::{LifeCycle, Phase as Life};
use crate::transports::{BaseTransport, Output, StreamTransport, WriteError};

impl<H: Host> Tls<H> {
    /// Encrypts the queue, then `extra`, until the transport below has enough; queues the rest.
    pub(super) fn send(&self, extra: Option<Output<'_, H>>) {
        self.unflushed.set(false);
        let mut sent = 0;
        let mut result = Ok(());
        let mut begun = false;
        if !self.sending.replace(true) {
            result = self.encrypt_queue().and_then(|()| match &extra {
                Some(extra) if self.queue.borrow().is_empty() => {
                    begun = true;
                    self.encrypt(extra.bytes).map(|count| sent = count)
                }
                _ => Ok(()),
            });
            self.sending.set(false);
        }
        if let Err(error) = result {
            return self.fail(FATAL, error);
        }
        let left = {
            let mut queue = self.queue.borrow_mut();
            match extra {
                // What is queued was written while it was on its way.
                Some(extra) if begun => extra.enqueue_first(&mut queue, sent),
                // What is queued was written before it.
                Some(extra) => extra.enqueue(&mut queue, sent),
                None => {}
            }
            queue.len()
        };
        self.upper.tell_flow(|flow| match left {
            0 => flow.drained(0),
            left => flow.buffered(left),
        });
    }

    fn encrypt_queue(&self) -> Result<(), H::Error> {
        loop {
            // Out of the queue meanwhile: whoever writes in between writes behind it.
            let Some(mut piece) = self.queue.borrow_mut().pop() else {
                return Ok(());
            };
            let size = piece.unsent().len();
            let encrypted = self.encrypt(piece.unsent());
            piece.advance(*encrypted.as_ref().unwrap_or(&size));
            self.queue.borrow_mut().put_back(piece);
            if encrypted? < size {
                return Ok(());
            }
        }
    }

    /// Encrypts as much as the transport below has room for; how much that is. Nothing while the
    /// session is at work.
    fn encrypt(&self, plaintext: &[u8]) -> Result<usize, H::Error> {
        let mut sent = 0;
        while sent < plaintext.len() && self.encrypts() {
            let left = &plaintext[sent..];
            let left = &left[..left.len().min(ENCRYPT)];
            let count = self.work(|session, wire| session.write(wire, left));
            match count.unwrap_or(Ok(0))? {
                // It has to receive first.
                0 => break,
                count => sent += count,
            }
        }
        Ok(sent)
    }

    /// Encrypts what waits: for the end of a callback or of the iteration, for room below, for
    /// something that the session had to receive first.
    pub(super) fn flush(&self) {
        if self.delivering.get() {
            return;
        }
        self.unflushed.set(false);
        if !self.queue.borrow().is_empty() && self.encrypts() {
            self.send(None);
        }
    }

    /// Whether what is written can go on its way.
    fn encrypts(&self) -> bool {
        matches!(self.phase.get(), Phase::Open | Phase::Flushing) && !self.below_paused.get()
    }

    /// Takes bytes to send: at once when they are many, else with what else is written.
    fn write_output(&self, output: Output<'_, H>) -> Result<(), WriteError> {
        if output.bytes.is_empty() {
            return Ok(());
        }
        if self.upper.life().is_closing() {
            return Err(WriteError::Lost(
                self.upper.count_lost_write().saturating_sub(1),
            ));
        }
        let buffered = self.queue.borrow().len();
        if !self.encrypts() {
            let mut queue = self.queue.borrow_mut();
            output.enqueue(&mut queue, 0);
            let buffered = queue.len();
            drop(queue);
            self.upper.tell_flow(|flow| flow.buffered(buffered));
        } else if buffered + output.bytes.len() > COALESCE && !self.sending.get() {
            self.send(Some(output));
        } else {
            let mut queue = self.queue.borrow_mut();
            match output.keep {
                // Most often it is the only piece, and is encrypted before it could change.
                Some(keep) if queue.is_empty() => queue.keep(keep(), 0),
                _ => queue.copy(output.bytes),
            }
            drop(queue);
            if !self.unflushed.replace(true)
                && !self.delivering.get()
                && let Some(this) = self.this.upgrade()
            {
                self.upper.event_loop.flush_later(this);
            }
        }
        Ok(())
    }

    /// Delivers what has waited for the program, from the loop.
    fn deliver_later(&self) {
        if let Some(this) = self.this.upgrade() {
            self.upper.event_loop.queue_step(move || {
                let ended = this.deliver();
                this.follow(ended);
            });
        }
    }
}

impl<H: Host> StreamTransport<H> for Tls<H> {
    fn protocol(&self) -> Option<Rc<dyn StreamProtocol<H>>> {
        self.upper.protocol()
    }

    fn set_protocol(&self, protocol: Rc<dyn StreamProtocol<H>>) {
        self.upper.set_protocol(protocol);
    }

    fn write(&self, output: Output<'_, H>) -> Result<(), WriteError> {
        self.write_output(output)
    }

    fn joins_lines(&self) -> bool {
        false
    }

    fn can_write_eof(&self) -> bool {
        false
    }

    fn write_eof(&self) -> io::Result<()> {
        Err(unsupported(
            "a TLS connection cannot be ended one way: close() it",
        ))
    }

    fn begin_file(&self) -> io::Result<()> {
        Err(unsupported(
            "the kernel cannot send a file through TLS: read it, and write it",
        ))
    }

    fn wake_when_empty(&self, waker: &Waker) {
        // Nobody waits where no file can be sent.
        waker.wake_by_ref();
    }

    fn end_file(&self) {}

    fn fail(&self, message: &'static str, error: H::Error) {
        Tls::fail(self, message, error);
    }

    fn layer(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl<H: Host> BaseTransport<H> for Tls<H> {
    fn event_loop(&self) -> &EventLoop<H> {
        &self.upper.event_loop
    }

    fn close(&self) {
        match self.phase.get() {
            Phase::Unconnected | Phase::Handshake => self.abort(),
            Phase::Open => self.start_closing(),
            Phase::Flushing | Phase::Closing | Phase::Over => {}
        }
    }

    fn abort(&self) {
        // What was written before an abort is offered to the kernel, as far as it goes.
        self.flush();
        self.over();
        if let Some(below) = self.below() {
            below.abort();
        }
    }

    fn abandon(&self) {
        self.flush();
        self.over();
        self.upper.update_life(LifeCycle::lost);
        self.upper.forget_protocol();
        if let Some(below) = self.below() {
            below.base().abandon();
        }
    }

    fn pause_reading(&self) {
        if self.upper.update_life(LifeCycle::pause_reading)
            && self.phase.get() == Phase::Open
            && let Some(below) = self.below()
        {
            below.pause_reading();
        }
    }

    fn resume_reading(&self) {
        if !self.upper.update_life(LifeCycle::resume_reading) || self.phase.get() != Phase::Open {
            return;
        }
        if let Some(below) = self.below() {
            below.resume_reading();
        }
        if self.more.get() {
            self.deliver_later();
        }
    }

    fn is_closing(&self) -> bool {
        self.upper.life().is_closing()
    }

    fn is_lost(&self) -> bool {
        self.upper.life().phase() == Life::Lost
    }

    fn is_reading(&self) -> bool {
        self.upper.life().is_reading()
    }

    fn is_receiving(&self) -> bool {
        self.below()
            .is_some_and(|below| below.base().is_receiving())
    }

    fn is_sending(&self) -> bool {
        self.below().is_some_and(|below| below.base().is_sending())
    }

    fn set_water_marks(&self, marks: WaterMarks) {
        let buffered = self.write_buffer_size();
        self.upper.tell_flow(|flow| {
            flow.set_marks(marks);
            flow.buffered(buffered)
        });
    }

    fn water_marks(&self) -> WaterMarks {
        self.upper.flow().marks()
    }

    fn is_writing_paused(&self) -> bool {
        self.upper.flow().is_paused()
    }

    /// Bytes that were not encrypted yet. The transport below has a buffer of its own, and says when
    /// it has enough.
    fn write_buffer_size(&self) -> usize {
        if self.unflushed.get() && self.encrypts() {
            self.send(None);
        }
        self.queue.borrow().len()
    }

    fn fd(&self) -> Option<RawFd> {
        self.below()?.fd()
    }

    fn fd_number(&self) -> RawFd {
        self.below().map_or(-1, |below| below.base().fd_number())
    }

    fn with_socket(&self, exchange: &mut dyn FnMut(Socket) -> Socket) {
        if let Some(below) = self.below() {
            below.base().with_socket(exchange);
        }
    }

    fn local_address(&self) -> Option<SocketAddress> {
        self.below()?.local_address()
    }

    fn peer_address(&self) -> Option<SocketAddress> {
        self.below()?.peer_address()
    }
}
