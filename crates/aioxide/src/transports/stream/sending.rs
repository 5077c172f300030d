//! The sending side of a stream: what is put together, what is offered to the kernel, and what the
//! protocol is told of it.

use std::io::{self, IoSlice};

use super::{Channel, Shape, Stream};
use crate::event_loop::host::Host;
use crate::protocols::Failure;
use crate::transports::write_queue::{CHUNK, KEEP, MAX_SLICES, WriteQueue};
use crate::transports::{Output, WriteError};

/// A write of more bytes than this is sent at once, with what waits before it. Less waits for the end of
/// the callback that was given what was received, or else of the iteration, so that many small
/// writes leave in one system call. Copying 16 KiB takes about a microsecond, a system call several.
const COALESCE: usize = 16 * 1024;

/// What the queue keeps by reference waits up to this many bytes; so do the writes that follow a large
/// one in the same turn. On the loopback interface each send of 64 KiB is two packets, one of 53 bytes,
/// and a wake-up of the peer: eight together take two thirds of the time that eight alone take, sixteen three fifths.
const GATHER: usize = 1024 * 1024;

/// A turn that ends with so many bytes waiting is one of many large writes, and so is the next, probably.
const MUCH: usize = 128 * 1024;

impl<H: Host> Stream<H> {
    /// Takes bytes to send: at once when they are many, else with what else is written.
    #[inline]
    pub(super) fn write_output(&self, output: Output<'_, H>) -> Result<(), WriteError> {
        if self.append_output(output.bytes) {
            return Ok(());
        }
        self.write_any_output(output)
    }

    /// The usual case of a write that follows another in its turn: a small one, on a socket whose queue has a piece with
    /// room for it. False, and nothing has happened, in every other case.
    #[inline]
    fn append_output(&self, bytes: &[u8]) -> bool {
        let life = self.base.life();
        if !self.unflushed.get()
            || life.is_eof_written()
            || !life.takes_output()
            || self.sending_file.get()
            || self.base.is_sending()
            || self.channel != Channel::Socket
            || bytes.len() >= KEEP
        {
            return false;
        }
        let limit = self.base.flow().marks().high().min(CHUNK);
        self.queue.borrow_mut().append(bytes, limit)
    }

    fn write_any_output(&self, output: Output<'_, H>) -> Result<(), WriteError> {
        let life = self.base.life();
        if life.is_eof_written() {
            return Err(WriteError::AfterEof);
        }
        if self.sending_file.get() {
            return Err(WriteError::SendingFile);
        }
        if !life.direction().writes() {
            return Err(WriteError::ReadOnly);
        }
        if output.bytes.is_empty() {
            return Ok(());
        }
        if !life.takes_output() {
            let times = self.base.count_lost_write();
            // A socket's loss counts for one, a pipe's does not.
            let times = times.saturating_sub(u32::from(self.channel != Channel::Socket));
            return Err(WriteError::Lost(times));
        }
        let buffered = self.queue.borrow().len();
        if self.base.is_sending() {
            let mut queue = self.queue.borrow_mut();
            output.enqueue(&mut queue, 0);
            let buffered = queue.len();
            drop(queue);
            self.base.tell_flow(|flow| flow.buffered(buffered));
        } else if buffered + output.bytes.len() <= self.limit(&output) {
            let mut queue = self.queue.borrow_mut();
            match output.keep {
                // Most often it is the only piece, and is sent before it could change.
                Some(keep) if queue.is_empty() || output.bytes.len() >= KEEP => {
                    queue.keep(keep(), 0);
                }
                _ => queue.copy(output.bytes),
            }
            drop(queue);
            if !self.unflushed.replace(true) {
                self.flush_at_end();
            }
        } else {
            let goes_on = output.keep.is_some() && output.bytes.len() > COALESCE;
            self.send(Some(output));
            if goes_on && !self.sent_much.replace(true) {
                self.flush_at_end();
            }
        }
        Ok(())
    }

    /// Up to how many bytes this output waits for more, with what waits before it.
    fn limit(&self, output: &Output<'_, H>) -> usize {
        if self.channel != Channel::Socket {
            // Others write to the same pipe or terminal: what is written here stays in order with
            // what they write.
            return 0;
        }
        let size = output.bytes.len();
        let kept = output.keep.is_some() && size >= KEEP;
        let high = self.base.flow().marks().high();
        match size {
            _ if size > COALESCE && !(kept && self.sent_much.get()) => 0,
            // Whoever wants less to be buffered than asyncio's default gets no more than that.
            _ if high < CHUNK => high,
            _ if kept => GATHER,
            _ => CHUNK,
        }
    }

    /// Has a turn of writing end with the callback that was given what was received, or else with the
    /// iteration.
    fn flush_at_end(&self) {
        if !self.dispatching.get()
            && let Some(this) = self.shared()
        {
            self.base.event_loop.flush_later(this);
        }
    }

    /// The next turn waits from its first write on if this one has several large ones to send.
    pub(super) fn end_turn(&self) {
        if self.sent_much.get() {
            let queue = self.queue.borrow();
            let goes_on = queue.len() >= MUCH && queue.only_piece().is_none();
            self.sent_much.set(goes_on && self.unflushed.get());
        }
    }

    /// The usual case of [`send`](Stream::send) and of what follows from it: a socket whose queue has one piece, and
    /// nobody waits for that to be sent. False, and nothing has happened, in every other case.
    #[inline]
    pub(super) fn send_only_piece(&self) -> bool {
        let life = self.base.life();
        let waited_for = life.is_closing() || life.is_eof_written() || self.sending_file.get();
        if waited_for || self.base.is_sending() || self.channel != Channel::Socket {
            return false;
        }
        let mut queue = self.queue.borrow_mut();
        let Some(piece) = queue.only_piece() else {
            return false;
        };
        let size = piece.len();
        let reactor = self.base.event_loop.reactor();
        let sent = reactor.send(self.base.fd, &[IoSlice::new(piece)]);
        self.unflushed.set(false);
        match sent {
            Ok(taken) if taken == size => queue.sent_only_piece(),
            Ok(taken) => {
                queue.advance(taken);
                drop(queue);
                self.update_sending();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                drop(queue);
                self.update_sending();
            }
            Err(error) => {
                drop(queue);
                self.send_failed(error);
            }
        }
        true
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
                extra.enqueue(&mut queue, taken - from_queue);
            }
            if taken < offer.size || queue.is_empty() && extra.is_none() {
                break Ok(());
            }
        };
        match sent {
            Ok(()) => {
                if let Some(extra) = extra {
                    extra.enqueue(&mut self.queue.borrow_mut(), 0);
                }
                self.update_sending();
            }
            Err(error) => self.send_failed(error),
        }
    }

    fn send_failed(&self, error: io::Error) {
        self.queue.borrow_mut().clear();
        if self.channel != Channel::Socket {
            self.base.count_lost_write();
        }
        self.give_up(Failure::Fatal(self.failures().write), error.into());
    }

    /// Offers the front of the queue to the kernel, and `extra` if all of the queue goes with it.
    fn offer(&self, queue: &WriteQueue<H::Payload>, extra: Option<&Output<'_, H>>) -> Offer {
        let reactor = self.base.event_loop.reactor();
        let send = |slices: &[IoSlice<'_>]| match self.channel {
            Channel::Socket => reactor.send(self.base.fd, slices),
            Channel::ReadPipe | Channel::WritePipe { .. } => reactor.write(self.base.fd, slices),
        };
        // The usual case; an array of slices takes longer to fill than the rest of this.
        if let (Some(piece), None) = (queue.only_piece(), extra) {
            let taken = send(&[IoSlice::new(piece)]);
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
        let taken = if count == 0 { Ok(0) } else { send(slices) };
        let size = slices.iter().map(|slice| slice.len()).sum();
        Offer {
            taken,
            size,
            with_extra: extra.is_some(),
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
