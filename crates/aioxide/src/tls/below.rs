//! The layer as a protocol of the transport below: the handshake, what is received, the ends.

use std::any::Any;
use std::io;
use std::rc::Rc;

use super::session::{Progress, Reading};
use super::{Phase, RECEIVE, ReadEnd, Secret, Tls};
use crate::event_loop::host::Host;
use crate::protocols::{BaseProtocol, Failure, Input, Layer, Received, Source, StreamProtocol};
use crate::sys::buffer::Buffer;
use crate::transports::Transport;
use crate::transports::lifecycle::LifeCycle;

/// What the exception handler is told when the session or a callback has failed: asyncio's words.
pub(super) const FATAL: &str = "Fatal error on SSL protocol";

/// Likewise, of a handshake.
const HANDSHAKE_FAILED: &str = "SSL handshake failed";

/// Likewise, of `connection_made`: the callback of the transport below that it was called in.
const CONNECTION_MADE_FAILED: &str = "Fatal error: protocol.buffer_updated() call failed.";

/// Likewise, of `eof_received`.
const EOF_RECEIVED_FAILED: &str = "Error calling eof_received()";

/// Why there is no connection, when the program or nobody has ended it.
pub(super) fn closed_in_handshake() -> io::Error {
    let message = "the connection was closed during the TLS handshake";
    io::Error::new(io::ErrorKind::ConnectionAborted, message)
}

impl<H: Host> Tls<H> {
    // ---- the handshake ----

    /// Begins the handshake through `below`.
    pub(super) fn begin(&self, below: Transport<H>) {
        if self.phase.get() != Phase::Unconnected {
            // The program has given it up before.
            self.below.replace(Some(below.clone()));
            return below.abort();
        }
        self.below.replace(Some(below));
        self.phase.set(Phase::Handshake);
        self.start_timer(self.timeouts.handshake, Tls::handshake_too_long);
        let ended = self.shake_hands();
        self.follow(ended);
    }

    fn shake_hands(&self) -> Received<H::Error> {
        match self.work(|session, wire| session.handshake(wire)) {
            None | Some(Ok(Progress::Blocked)) => Received::Nothing,
            // The session may have called a program that has given the connection up.
            Some(Ok(Progress::Done)) if self.phase.get() != Phase::Handshake => Received::Nothing,
            Some(Ok(Progress::Done)) => self.established(),
            Some(Err(error)) => Received::Raised(HANDSHAKE_FAILED, error),
        }
    }

    fn established(&self) -> Received<H::Error> {
        self.stop_timer();
        self.phase.set(Phase::Open);
        self.established.set(true);
        // A protocol that was told of the connection before (start_tls) is not told again.
        if !self.made.replace(true)
            && let (Some(protocol), Some(this)) = (self.upper.protocol(), self.this.upgrade())
            && let Err(error) = protocol.connection_made(this.transport())
        {
            // Unlike on a plain connection, on CPython's loop too.
            return Received::Raised(CONNECTION_MADE_FAILED, error);
        }
        self.settle(|| Ok(()));
        // A connection that is being closed waits for the peer's end.
        if self.phase.get() == Phase::Open
            && !self.upper.life().is_reading()
            && let Some(below) = self.below()
        {
            below.pause_reading();
        }
        self.more.set(true);
        self.deliver()
    }

    fn handshake_too_long(&self) {
        let seconds = self.timeouts.handshake.as_secs_f64();
        let message = format!(
            "SSL handshake is taking longer than {seconds:?} seconds: aborting the connection"
        );
        let error = io::Error::new(io::ErrorKind::ConnectionAborted, message);
        self.fail(HANDSHAKE_FAILED, error.into());
    }

    // ---- receiving ----

    /// Takes in what the transport below has received.
    fn take_in(&self, input: &Input<'_, H>) -> Result<usize, Received<H::Error>> {
        let Ok(mut secret) = self.secret.try_borrow_mut() else {
            // The session is at work: the bytes stay where they are.
            return Err(Received::Nothing);
        };
        let memory = || self.memory.incoming.take();
        let incoming = &mut secret.wire.incoming;
        let taken = incoming.receive(memory, RECEIVE, |buffer| input.receive(buffer));
        let taken = Received::count(taken);
        if taken.is_err() && incoming.is_empty() {
            self.memory.take_back(incoming);
        }
        taken
    }

    /// Delivers what the session has for the protocol, as long as that wants it.
    pub(super) fn deliver(&self) -> Received<H::Error> {
        let nested = self.delivering.replace(true);
        let ended = self.deliver_all();
        self.delivering.set(nested);
        self.flush();
        ended
    }

    fn deliver_all(&self) -> Received<H::Error> {
        while self.more.get() && self.phase.get() == Phase::Open && self.upper.life().receives() {
            let Some(protocol) = self.upper.protocol() else {
                break;
            };
            let received = protocol.receive(&Input {
                event_loop: &self.upper.event_loop,
                source: Source::Layer(self),
            });
            match received {
                Received::Data => {}
                Received::Nothing => break,
                Received::End => return self.end_received(&*protocol),
                Received::Failed(error) => {
                    let error = match self.read_end.take() {
                        Some(ReadEnd::Failed(error)) => error,
                        Some(ReadEnd::End) | None => error.into(),
                    };
                    return Received::Raised(FATAL, error);
                }
                Received::Raised(_, error) => return Received::Raised(FATAL, error),
            }
        }
        if self.eof_waits.get() && !self.more.get() && self.upper.life().receives() {
            self.eof_waits.set(false);
            return self.truncated();
        }
        self.save_memory(|_| {});
        Received::Data
    }

    /// The peer has said that it sends no more. TLS ends both ways at once.
    fn end_received(&self, protocol: &dyn StreamProtocol<H>) -> Received<H::Error> {
        if let Err(error) = self.tell_end(protocol) {
            return Received::Raised(EOF_RECEIVED_FAILED, error);
        }
        self.start_closing();
        Received::Data
    }

    fn tell_end(&self, protocol: &dyn StreamProtocol<H>) -> Result<(), H::Error> {
        self.upper.update_life(LifeCycle::eof_received);
        if protocol.eof_received()? {
            protocol.cannot_keep_open();
        }
        Ok(())
    }

    /// The peer's stream has ended without a word.
    fn truncated(&self) -> Received<H::Error> {
        let error = self.secret.try_borrow_mut().ok();
        let error = error.and_then(|mut secret| {
            let Secret { session, wire } = &mut *secret;
            session.truncated(wire)
        });
        self.lost_because.set(error);
        self.truncated.set(true);
        // What was written before the end still leaves: the peer may receive.
        match self.upper.protocol() {
            Some(protocol) => self.end_received(&*protocol),
            // The connection is lost.
            None => Received::Data,
        }
    }

    /// Does what follows when something has ended outside of a receive.
    pub(super) fn follow(&self, ended: Received<H::Error>) {
        if let Received::Raised(message, error) = ended {
            self.fail(message, error);
        }
    }

    // ---- closing ----

    /// Sends what is left, then our end. The peer's is waited for.
    pub(super) fn start_closing(&self) {
        if self.phase.get() != Phase::Open {
            return;
        }
        let _ = self.upper.update_life(|life| life.close(true));
        self.phase.set(Phase::Flushing);
        self.start_shutdown_timer();
        if let Some(below) = self.below() {
            // The program may have paused it; the peer's end has to come through.
            below.resume_reading();
        }
        self.send(None);
        self.output_encrypted();
    }

    /// Our end follows when everything else was encrypted.
    pub(super) fn output_encrypted(&self) {
        if self.phase.get() != Phase::Flushing {
            return;
        }
        if self.sending.get() || self.secret.try_borrow().is_err() {
            // From inside of the session, or of a write that has taken its bytes out of the queue.
            return self.flush_later();
        }
        let left = !self.queue.borrow().is_empty();
        if left && self.below_paused.get() {
            return;
        }
        if self.truncated.get() {
            // What is left waits for something to be received, and nothing comes any more.
            return self.finish();
        }
        if left {
            return;
        }
        // Nobody wants what has come until now.
        let Some(peer) = self.discard() else {
            return;
        };
        if self.phase.get() != Phase::Flushing {
            return;
        }
        self.phase.set(Phase::Closing);
        match self.work(|session, wire| session.close(wire)) {
            Some(Err(error)) => self.fail(FATAL, error),
            _ if peer == Peer::Ended => self.finish(),
            _ => {}
        }
    }

    /// Goes on with closing, from the loop.
    fn flush_later(&self) {
        if let Some(this) = self.this.upgrade() {
            self.upper
                .event_loop
                .queue_step(move || this.go_on_flushing());
        }
    }

    fn go_on_flushing(&self) {
        if self.phase.get() == Phase::Flushing {
            self.send(None);
            self.output_encrypted();
        }
    }

    /// Something has come while the connection is being closed.
    fn received_while_closing(&self) {
        let peer = self.discard();
        match (self.phase.get(), peer) {
            // The session may have waited for it, to go on writing.
            (Phase::Flushing, Some(_)) => self.go_on_flushing(),
            (Phase::Closing, Some(Peer::Ended)) => self.finish(),
            (Phase::Closing, Some(Peer::Sends)) => self.cut_off(),
            _ => {}
        }
    }

    /// The peer goes on sending, and nobody will ever look at it. But it may still want what we have
    /// sent: an end with something unread makes the kernel drop what is on its way. So that arrives first,
    /// with the end of our stream behind it.
    fn cut_off(&self) {
        let Some(below) = self.below() else {
            return;
        };
        if self.is_on_its_way(&below) {
            if let Err(error) = below.write_eof() {
                log::debug!("ending a TLS connection's stream failed: {error}");
            }
        } else {
            self.over();
            below.abort();
        }
    }

    /// Whether output was not taken by the peer's side yet.
    fn is_on_its_way(&self, below: &Transport<H>) -> bool {
        let unacknowledged = |fd| self.upper.event_loop.reactor().unacknowledged(fd);
        below.write_buffer_size() > 0
            || below
                .fd()
                .is_some_and(|fd| unacknowledged(fd).is_ok_and(|bytes| bytes > 0))
    }

    /// Drops what the session has for the protocol; what the peer has been doing. `None` when it has
    /// failed, and with it the connection.
    fn discard(&self) -> Option<Peer> {
        self.more.set(false);
        let event_loop = &self.upper.event_loop;
        let mut peer = Peer::Silent;
        loop {
            let read = event_loop.with_receive_buffer(RECEIVE, |buffer| {
                let read = self.work(|session, wire| session.read(wire, buffer));
                if buffer.filled() > 0 {
                    peer = Peer::Sends;
                }
                read
            });
            match read {
                None | Some(Ok(Reading::Blocked)) => return Some(peer),
                Some(Ok(Reading::Full)) => {}
                Some(Ok(Reading::End)) => return Some(Peer::Ended),
                Some(Err(error)) => {
                    self.fail(FATAL, error);
                    return None;
                }
            }
        }
    }

    /// TLS is over: the transport below sends what it has, and closes. Over TLS, a protocol hears of
    /// the peer's end also when it was the answer to its own, as on CPython's loop.
    fn finish(&self) {
        if !self.upper.life().is_eof_received()
            && let Some(protocol) = self.upper.protocol()
            && let Err(error) = self.tell_end(&*protocol)
        {
            return self.fail(EOF_RECEIVED_FAILED, error);
        }
        self.over();
        // From the loop, as on CPython's: a program that the end has woken writes before it hears that the
        // connection is lost. An end that is an error comes at once, so that nobody takes it for a good one.
        match self.this.upgrade() {
            Some(this) if !self.is_error() => {
                self.upper.event_loop.queue_step(move || this.close_below());
            }
            _ => self.close_below(),
        }
    }

    /// Whether the connection is lost because of something.
    fn is_error(&self) -> bool {
        let error = self.lost_because.take();
        let is_error = error.is_some();
        self.lost_because.set(error);
        is_error
    }

    fn close_below(&self) {
        let Some(below) = self.below() else {
            return;
        };
        below.close();
        if below.write_buffer_size() > 0 {
            // A peer that does not read would keep it open for ever.
            self.start_shutdown_timer();
        }
    }

    /// Closing has its time as long as nothing moves: a large output to a slow peer is no failure.
    fn start_shutdown_timer(&self) {
        self.left_then.set(self.output_left());
        self.start_timer(self.timeouts.shutdown, Tls::shutdown_too_long);
    }

    fn shutdown_too_long(&self) {
        if self.output_left() < self.left_then.get() {
            return self.start_shutdown_timer();
        }
        let error = io::Error::new(io::ErrorKind::TimedOut, "SSL shutdown timed out");
        self.fail(FATAL, error.into());
    }

    fn output_left(&self) -> usize {
        let below = self.below().map(|below| below.write_buffer_size());
        self.queue.borrow().len() + below.unwrap_or_default()
    }
}

/// What a peer does whose words nobody wants any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Silent,
    Sends,
    Ended,
}

impl<H: Host> Layer for Tls<H> {
    fn receive(&self, buffer: &mut Buffer<'_>) -> io::Result<usize> {
        let failed = || io::Error::other("the TLS session has failed");
        match self.read_end.take() {
            None => {}
            Some(ReadEnd::End) => return Ok(0),
            failure @ Some(ReadEnd::Failed(_)) => {
                self.read_end.set(failure);
                return Err(failed());
            }
        }
        let before = buffer.filled();
        let read = self.work(|session, wire| session.read(wire, buffer));
        let count = buffer.filled() - before;
        if self.phase.get() != Phase::Open {
            // The session has called a program that has closed the connection.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let end = match read {
            None => return Err(io::ErrorKind::WouldBlock.into()),
            Some(Ok(Reading::Full)) => return Ok(count),
            Some(Ok(Reading::Blocked)) => {
                self.more.set(false);
                None
            }
            Some(Ok(Reading::End)) => Some(ReadEnd::End),
            Some(Err(error)) => Some(ReadEnd::Failed(error)),
        };
        match end {
            None if count == 0 => Err(io::ErrorKind::WouldBlock.into()),
            Some(ReadEnd::End) if count == 0 => Ok(0),
            None => Ok(count),
            // The bytes first; the end is there when they have been delivered.
            Some(end) => {
                let failure = matches!(end, ReadEnd::Failed(_));
                self.read_end.set(Some(end));
                if failure && count == 0 {
                    return Err(failed());
                }
                Ok(count)
            }
        }
    }

    fn receivable(&self) -> usize {
        let Ok(secret) = self.secret.try_borrow() else {
            return 0;
        };
        // A record's plaintext is shorter than its ciphertext.
        secret.session.pending() + secret.wire.incoming.len()
    }
}

impl<H: Host> BaseProtocol<H> for Tls<H> {
    fn connection_lost(&self, error: Option<H::Error>) -> Result<(), H::Error> {
        self.stop_timer();
        self.phase.set(Phase::Over);
        self.queue.borrow_mut().clear();
        self.upper.update_life(LifeCycle::lost);
        let error = error.or(self.lost_because.take());
        self.settle(|| {
            Err(match &error {
                Some(error) => self.upper.event_loop.host().same_error(error),
                None => closed_in_handshake().into(),
            })
        });
        if let Some(protocol) = self.upper.protocol().filter(|_| self.made.get())
            && let Err(error) = protocol.connection_lost(error)
        {
            // Here: below nobody knows the protocol any more.
            let what = Failure::Callback("connection_lost");
            self.upper.tell_failure(&*protocol, what, error);
        }
        self.upper.forget_protocol();
        Ok(())
    }

    fn pause_writing(&self) -> Result<(), H::Error> {
        self.below_paused.set(true);
        Ok(())
    }

    fn resume_writing(&self) -> Result<(), H::Error> {
        self.below_paused.set(false);
        self.send(None);
        let left = self.queue.borrow().len();
        self.upper.tell_flow(|flow| flow.drained(left));
        self.output_encrypted();
        Ok(())
    }

    fn report(&self, what: Failure, error: &H::Error) {
        if let Some(protocol) = self.upper.protocol() {
            protocol.report(what, error);
        }
    }

    fn held(&self, held: bool) {
        if held {
            self.upper.hold();
        } else {
            self.upper.release();
        }
    }

    fn show(&self, look: &mut dyn FnMut(&dyn Any)) {
        if let Some(protocol) = self.upper.protocol() {
            protocol.show(look);
        }
    }
}

impl<H: Host> StreamProtocol<H> for Tls<H> {
    fn connection_made(&self, transport: Transport<H>) -> Result<(), H::Error> {
        self.begin(transport);
        Ok(())
    }

    fn receive(&self, input: &Input<'_, H>) -> Received<H::Error> {
        if let Err(end) = self.take_in(input) {
            return end;
        }
        match self.phase.get() {
            Phase::Unconnected | Phase::Over => return Received::Nothing,
            Phase::Handshake => {}
            Phase::Open => {
                self.more.set(true);
                let ended = self.deliver();
                return self.failed_within(ended);
            }
            Phase::Flushing | Phase::Closing => {
                self.received_while_closing();
                return Received::Data;
            }
        }
        let ended = self.shake_hands();
        self.failed_within(ended)
    }

    fn eof_received(&self) -> Result<bool, H::Error> {
        match self.phase.get() {
            Phase::Unconnected | Phase::Handshake => {
                let error = io::Error::from_raw_os_error(libc::ECONNRESET);
                self.fail(HANDSHAKE_FAILED, error.into());
                Ok(true)
            }
            Phase::Open if self.more.get() => {
                // The protocol has paused, with something left for it.
                self.eof_waits.set(true);
                Ok(true)
            }
            Phase::Open => {
                let ended = self.truncated();
                self.follow(ended);
                Ok(true)
            }
            Phase::Flushing => {
                // What is left of the output leaves first.
                self.truncated.set(true);
                self.go_on_flushing();
                Ok(true)
            }
            Phase::Closing | Phase::Over => {
                self.finish();
                Ok(true)
            }
        }
    }

    fn upper_transport(&self) -> Option<Transport<H>> {
        let this: Rc<Tls<H>> = self.this.upgrade()?;
        Some(this.transport())
    }
}

impl<H: Host> Tls<H> {
    /// Lets the transport below report what has failed in its receive, and give up the connection.
    fn failed_within(&self, ended: Received<H::Error>) -> Received<H::Error> {
        if let Received::Raised(..) = &ended {
            self.follow(ended);
        }
        Received::Data
    }
}
