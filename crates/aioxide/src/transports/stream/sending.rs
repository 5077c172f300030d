//! The sending side of a stream: what is put together, what is offered to the kernel, and what the
//! protocol is told of it.

use std::io::{self, IoSlice};

use super::Stream;
use super::held::Held;
use crate::event_loop::host::Host;
use crate::protocols::Failure;
use crate::reactor::Op;
use crate::transports::flow_control::{FlowControl, Signal};
use crate::transports::lifecycle::{LifeCycle, Next, Phase};
use crate::transports::write_queue::{KEEP, MAX_SLICES, WriteQueue};
use crate::transports::{Output, StreamTransport, WriteError};

/// Output of more bytes than this is sent at once. Less waits for the end of the callback that was
/// given what was received, or else of the iteration, so that many small writes leave in one
/// system call. Copying 16 KiB takes about a microsecond, a system call several.
const COALESCE: usize = 16 * 1024;

impl<H: Host> Stream<H> {
    /// Takes bytes to send: at once when they are many, else with what else is written.
    pub(super) fn write_output(&self, output: Output<'_, H>) -> Result<(), WriteError> {
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

    /// Sends the queue, then `extra`; queues what the kernel does not take.
    pub(super) fn send(&self, mut extra: Option<Output<'_, H>>) {
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
    pub(super) fn update_sending(&self) {
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
        self.tell_flow(|flow| flow.buffered(left));
    }

    /// The loop found room to send.
    pub(super) fn room_to_send(&self) {
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
    pub(super) fn output_sent(&self) {
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
    pub(super) fn flush_output(&self) {
        if self.unflushed.get() && !self.dispatching.get() {
            self.flush_now();
        }
    }

    pub(super) fn flush_now(&self) {
        if self.unflushed.get() && self.life.get().takes_output() {
            self.send(None);
            self.output_sent();
        }
    }

    /// Tells the protocol to pause or resume, where `change` says so.
    pub(super) fn tell_flow(&self, change: impl FnOnce(&mut FlowControl) -> Option<Signal>) {
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
