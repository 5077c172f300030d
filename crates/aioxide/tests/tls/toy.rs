//! A session that is no cryptography at all, and does what a test wants: frames with TLS's headers, and an
//! xor.
//!
//! ```text
//! client ─ hello ─▶ server      each side says hello as many times as the test likes, in turns
//!        ◀─ hello ─
//!        ═ data ═▶ ◀═ data ═
//!        ─ rekey ─▶             the client may send no data before it was answered
//!        ◀─ rekeyed ─
//!        ─ close ─▶
//! ```

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use aioxide::event_loop::native::Native;
use aioxide::protocols::StreamProtocol;
use aioxide::sys::buffer::Buffer;
use aioxide::tls::session::{Progress, Reading, TlsSession, Wire};
use aioxide::tls::{Tls, TlsTimeouts};
use aioxide::{AnyProtocol, EventLoop};

pub const CLOSE: u8 = 21;
pub const HELLO: u8 = 22;
pub const DATA: u8 = 23;
const REKEY: u8 = 24;
const REKEYED: u8 = 25;

const HEADER: usize = 5;
const KEY: u8 = 0xA5;

/// The most plaintext in a frame.
const FRAME: usize = 1000;

/// What a session does that it should not, or need not.
#[derive(Clone, Default)]
pub struct Mood {
    /// Fails when so many flights have come.
    pub fails_at_flight: Option<usize>,
    /// Never finds the handshake to be over.
    pub never_done: bool,
    /// After every so many bytes of plaintext it writes nothing before it was answered.
    pub rekeys_after: Option<usize>,
    /// Fails when it has decrypted so many bytes.
    pub fails_after: Option<usize>,
    /// Cannot close.
    pub cannot_close: bool,
    /// Says nothing of an end without a close.
    pub forgives_truncation: bool,
    /// Called in every call: what a program's callback of a TLS library does.
    pub calls_back: Option<Rc<dyn Fn()>>,
}

pub struct Toy {
    client: bool,
    /// How many each side says.
    flights: usize,
    sent: usize,
    received: usize,
    mood: Mood,
    /// Decrypted, and not read.
    plaintext: Vec<u8>,
    decrypted: usize,
    ended: bool,
    unanswered: bool,
    written: usize,
    /// What the session was asked to do.
    pub calls: Rc<RefCell<Vec<&'static str>>>,
}

/// One frame as it travels.
pub fn frame(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind, 3, 3];
    frame.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
    frame.extend(bytes.iter().map(|byte| byte ^ KEY));
    frame
}

impl Toy {
    pub fn client(flights: usize) -> Toy {
        Toy::of(true, flights)
    }

    pub fn server(flights: usize) -> Toy {
        Toy::of(false, flights)
    }

    fn of(client: bool, flights: usize) -> Toy {
        Toy {
            client,
            flights,
            sent: 0,
            received: 0,
            mood: Mood::default(),
            plaintext: Vec::new(),
            decrypted: 0,
            ended: false,
            unanswered: false,
            written: 0,
            calls: Rc::default(),
        }
    }

    pub fn with(self, mood: &Mood) -> Toy {
        Toy {
            mood: mood.clone(),
            ..self
        }
    }

    fn called(&self, call: &'static str) {
        self.calls.borrow_mut().push(call);
        if let Some(calls_back) = &self.mood.calls_back {
            calls_back();
        }
    }

    /// Takes the next frame, if all of it has come.
    fn next(wire: &mut Wire) -> Option<(u8, Vec<u8>)> {
        let unread = wire.incoming.unread();
        let length = usize::from(u16::from_be_bytes([*unread.get(3)?, *unread.get(4)?]));
        let kind = unread[0];
        let body = unread.get(HEADER..HEADER + length)?;
        let body = body.iter().map(|byte| byte ^ KEY).collect();
        wire.incoming.advance(HEADER + length);
        Some((kind, body))
    }

    fn decrypt(&mut self, wire: &mut Wire) -> io::Result<()> {
        while let Some((kind, body)) = Toy::next(wire) {
            match kind {
                DATA => {
                    self.decrypted += body.len();
                    self.plaintext.extend(body);
                }
                REKEY => wire.outgoing.extend(frame(REKEYED, &[])),
                REKEYED => self.unanswered = false,
                CLOSE => self.ended = true,
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "no such frame")),
            }
            if self.ended || !self.plaintext.is_empty() {
                break;
            }
        }
        Ok(())
    }
}

impl TlsSession<Native> for Toy {
    fn handshake(&mut self, wire: &mut Wire) -> io::Result<Progress> {
        self.called("handshake");
        loop {
            let turn = match self.client {
                true => self.sent == self.received,
                false => self.sent < self.received,
            };
            if turn && self.sent < self.flights {
                wire.outgoing.extend(frame(HELLO, &[0; 300]));
                self.sent += 1;
            }
            if self.received == self.flights && !self.mood.never_done {
                return Ok(Progress::Done);
            }
            match Toy::next(wire) {
                None => return Ok(Progress::Blocked),
                Some((HELLO, _)) => self.received += 1,
                Some(_) => {
                    wire.outgoing.extend(frame(CLOSE, &[]));
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "no hello"));
                }
            }
            if Some(self.received) == self.mood.fails_at_flight {
                wire.outgoing.extend(frame(CLOSE, b"why"));
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a bad flight"));
            }
        }
    }

    fn read(&mut self, wire: &mut Wire, plaintext: &mut Buffer<'_>) -> io::Result<Reading> {
        self.called("read");
        loop {
            let count = plaintext.append(&self.plaintext);
            self.plaintext.drain(..count);
            if !self.plaintext.is_empty() {
                return Ok(Reading::Full);
            }
            if self.ended {
                return Ok(Reading::End);
            }
            if self
                .mood
                .fails_after
                .is_some_and(|limit| self.decrypted >= limit)
            {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a bad record"));
            }
            self.decrypt(wire)?;
            if self.plaintext.is_empty() && !self.ended {
                return Ok(Reading::Blocked);
            }
        }
    }

    fn write(&mut self, wire: &mut Wire, plaintext: &[u8]) -> io::Result<usize> {
        self.called("write");
        let mut count = 0;
        for piece in plaintext.chunks(FRAME) {
            if let Some(limit) = self.mood.rekeys_after
                && self.written >= limit
            {
                self.written = 0;
                self.unanswered = true;
                wire.outgoing.extend(frame(REKEY, &[]));
            }
            if self.unanswered {
                break;
            }
            wire.outgoing.extend(frame(DATA, piece));
            self.written += piece.len();
            count += piece.len();
        }
        Ok(count)
    }

    fn close(&mut self, wire: &mut Wire) -> io::Result<()> {
        self.called("close");
        if self.mood.cannot_close {
            return Err(io::Error::other("the session cannot close"));
        }
        wire.outgoing.extend(frame(CLOSE, &[]));
        Ok(())
    }

    fn pending(&self) -> usize {
        self.plaintext.len()
    }

    fn truncated(&mut self, wire: &Wire) -> Option<io::Error> {
        let within = wire.incoming.is_within_record();
        (within || !self.mood.forgives_truncation)
            .then(|| io::Error::new(io::ErrorKind::UnexpectedEof, "cut off"))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// How a handshake has ended, once it has.
#[derive(Clone, Default)]
pub struct Outcome(pub Rc<Cell<Option<Result<(), String>>>>);

impl Outcome {
    pub fn take(&self) -> Option<Result<(), String>> {
        self.0.take()
    }
}

/// A protocol behind a [`Toy`].
pub struct Secured<P> {
    pub event_loop: EventLoop,
    pub toy: Toy,
    pub timeouts: TlsTimeouts,
    pub outcome: Outcome,
    pub protocol: P,
}

impl<P> Secured<P> {
    pub fn new(event_loop: &EventLoop, toy: Toy, protocol: P) -> Secured<P> {
        Secured {
            event_loop: event_loop.clone(),
            toy,
            timeouts: TlsTimeouts::default(),
            outcome: Outcome::default(),
            protocol,
        }
    }
}

impl<P: AnyProtocol> AnyProtocol for Secured<P> {
    fn into_stream_protocol(self) -> Rc<dyn StreamProtocol<Native>> {
        let outcome = self.outcome;
        let settle = move |result: io::Result<()>| {
            let before = outcome
                .0
                .replace(Some(result.map_err(|error| error.to_string())));
            assert_eq!(before, None, "a handshake ends once");
        };
        Tls::new(
            &self.event_loop,
            Box::new(self.toy),
            self.protocol.into_stream_protocol(),
            self.timeouts,
            Box::new(settle),
        )
    }
}
