//! TLS: a protocol to the transport below, a transport to the protocol above.
//!
//! ```text
//!   the program's protocol
//!        ▲ data_received        │ write
//!   ┌────┴──────────────────────▼────┐
//!   │ Tls      plaintext             │   a transport, seen from above
//!   │          TlsSession            │
//!   │          ciphertext            │   a protocol, seen from below
//!   └────▲──────────────────────┬────┘
//!        │ receive              ▼ write
//!   a transport: of a socket, or of another Tls
//! ```
//!
//! | file | what |
//! |---|---|
//! | [`session`] | what a TLS library has to do: a trait, without I/O |
//! | [`keepers`] | which connections keep their session's buffers between two requests |
//! | `below` | the protocol: handshake, what is received, the ends |
//! | `above` | the transport: what the program writes, and asks for |
//! | `rustls_session` | the session of Rust programs, over rustls |
//! | `config` | `ClientTls`, `ServerTls`: how a Rust program wants it |
//! | `info` | what was negotiated |
//! | `pem` | certificates and keys in text |
//! | `refusal`, `certificate` | why there is no connection, and why no certificate is good enough, in words |
//! | `native` | `start_tls` with Rust's manners |
//!
//! Those from `rustls_session` on are behind the feature `rustls`, which is on by default.
//!
//! # The life of a connection
//!
//! ```text
//! Unconnected ─▶ Handshake ─▶ Open ── close() or the peer's end ─▶ Flushing ─▶ Closing ─▶ Over
//!                    │         └──────── an end without close_notify ──────────────────────▲
//!                    └────────────────────── failure, abort() ─────────────────────────────▲
//! ```
//!
//! * **Handshake**: nothing reaches the program. It has `handshake_timeout` to end.
//! * **Open**: what is received is decrypted into the memory that the protocol above lends; what the
//!   callbacks write is put together and encrypted when they have returned.
//! * **Flushing**: what was written before `close()` leaves; what still comes is dropped.
//! * **Closing**: our `close_notify` was sent, the peer's is waited for. More data of the peer's
//!   ends the connection, when our output has arrived: nobody wants it any more. Both phases together may stand still for
//!   `shutdown_timeout` at the most.
//! * **Over**: the transport below is being closed; its `connection_lost` is the layer's.
//!
//! A peer that ends its stream without `close_notify` may have been cut off by somebody else. The
//! protocol gets `eof_received`, then `connection_lost`, with what the session says of it.

mod above;
mod below;
#[cfg(feature = "rustls")]
mod certificate;
#[cfg(feature = "rustls")]
mod config;
#[cfg(feature = "rustls")]
mod info;
pub mod keepers;
#[cfg(feature = "rustls")]
pub(crate) mod native;
#[cfg(feature = "rustls")]
mod pem;
#[cfg(feature = "rustls")]
mod refusal;
#[cfg(feature = "rustls")]
mod rustls_session;
pub mod session;

/// The library below [`ClientTls`] and [`ServerTls`], for their configurations.
#[cfg(feature = "rustls")]
pub use ::rustls;
#[cfg(feature = "rustls")]
pub use config::{ClientTls, ServerTls, TlsSide};
#[cfg(feature = "rustls")]
pub use info::TlsInfo;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::event_loop::host::Host;
use crate::event_loop::task::Task;
use crate::event_loop::{EventLoop, Flush};
use crate::protocols::{Layer, StreamProtocol};
use crate::transports::base::Upper;
use crate::transports::flow_control::{FlowControl, WaterMarks};
use crate::transports::lifecycle::LifeCycle;
use crate::transports::write_queue::{Spare, WriteQueue};
use crate::transports::{Output, StreamTransport, Transport};
use session::{Incoming, TlsSession, Wire};

/// How long a handshake may take, if the program does not say: asyncio's `SSL_HANDSHAKE_TIMEOUT`,
/// which is nginx's default.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long closing may stand still, if the program does not say: asyncio's
/// `SSL_SHUTDOWN_TIMEOUT`.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// The high-water mark of what waits to be encrypted, in bytes: asyncio's
/// `FLOW_CONTROL_HIGH_WATER_SSL_WRITE`. The transport below has marks of its own.
pub const HIGH_WATER: usize = 512 * 1024;

/// How much is encrypted in one go, in bytes: as much as is received in one. It leaves in one system
/// call; what the kernel does not take is copied by the transport below.
const ENCRYPT: usize = 256 * 1024;

/// Output of more bytes than this is encrypted at once; less waits for the end of the callback, or of
/// the iteration. It is the largest record's size (RFC 8446, 5.1): more would not save any.
const COALESCE: usize = 16 * 1024;

/// The most ciphertext that is received in one go, in bytes.
const RECEIVE: usize = 256 * 1024;

/// The times that TLS may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsTimeouts {
    /// For the handshake, from the beginning to its end.
    pub handshake: Duration,
    /// For closing, as long as nothing of the output moves.
    pub shutdown: Duration,
}

impl Default for TlsTimeouts {
    fn default() -> Self {
        TlsTimeouts {
            handshake: HANDSHAKE_TIMEOUT,
            shutdown: SHUTDOWN_TIMEOUT,
        }
    }
}

/// What is called when the handshake has ended: with the reason, if it has failed.
pub type WhenEstablished<H> = Box<dyn FnOnce(Result<(), <H as Host>::Error>)>;

/// A TLS layer between a transport and a protocol.
pub struct Tls<H: Host> {
    this: Weak<Tls<H>>,
    upper: Upper<H, dyn StreamProtocol<H>>,
    /// `None` until the layer is connected to it.
    below: RefCell<Option<Transport<H>>>,
    phase: Cell<Phase>,
    /// Lent to the session while it works: then everything else waits.
    secret: RefCell<Secret<H>>,
    /// Plaintext that was not encrypted yet.
    queue: RefCell<WriteQueue<H::Payload>>,
    /// Whether the queue waits for the end of a callback or of the iteration.
    unflushed: Cell<bool>,
    /// Whether the protocol is being given what was received: what it writes is encrypted after.
    delivering: Cell<bool>,
    /// Whether the queue is being encrypted: what is written meanwhile goes behind it.
    sending: Cell<bool>,
    /// Whether the transport below has enough to send.
    below_paused: Cell<bool>,
    /// Whether the session may have plaintext that nobody has asked for.
    more: Cell<bool>,
    /// What comes behind the plaintext that was read.
    read_end: Cell<Option<ReadEnd<H::Error>>>,
    /// The peer's stream has ended, and the protocol does not want to know yet.
    eof_waits: Cell<bool>,
    /// Whether the peer's stream has ended without a word, and nothing is waited for any more.
    truncated: Cell<bool>,
    /// Whether the handshake has ended well.
    established: Cell<bool>,
    /// Whether the protocol knows the connection: until then it is not told of its end either.
    made: Cell<bool>,
    when_established: Cell<Option<WhenEstablished<H>>>,
    /// What `connection_lost` is to say, when the transport below ends well.
    lost_because: Cell<Option<H::Error>>,
    timer: RefCell<Option<Task<(), H>>>,
    /// Output that was left when the shutdown timer was started.
    left_then: Cell<usize>,
    timeouts: TlsTimeouts,
    memory: Rc<Memory>,
}

/// The session, and its ciphertext.
struct Secret<H: Host> {
    session: Box<dyn TlsSession<H>>,
    wire: Wire,
}

/// Where a TLS connection stands; see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Unconnected,
    Handshake,
    Open,
    Flushing,
    Closing,
    Over,
}

/// How the plaintext ends.
enum ReadEnd<E> {
    /// By the peer's `close_notify`.
    End,
    Failed(E),
}

/// Memory for ciphertext, shared by the connections of a loop: it is needed while a session
/// works, and no idle connection holds any.
#[derive(Default)]
struct Memory {
    incoming: Cell<Vec<u8>>,
    outgoing: Cell<Vec<u8>>,
}

/// Memory for the queues of plaintext. The queues below have another: a piece of plaintext is in use while
/// its ciphertext is queued there.
struct Plaintext<P>(Rc<Spare<P>>);

impl<P> Default for Plaintext<P> {
    fn default() -> Self {
        Plaintext(Rc::default())
    }
}

impl<H: Host> Tls<H> {
    /// A layer whose protocol is told `connection_made` when the handshake is over. It is itself the
    /// protocol for the transport below, and begins when that calls its `connection_made`.
    #[must_use]
    pub fn new(
        event_loop: &EventLoop<H>,
        session: Box<dyn TlsSession<H>>,
        protocol: Rc<dyn StreamProtocol<H>>,
        timeouts: TlsTimeouts,
        when_established: WhenEstablished<H>,
    ) -> Rc<Tls<H>> {
        let mut flow = FlowControl::default();
        if let Some(marks) = WaterMarks::new(Some(HIGH_WATER), None) {
            flow.set_marks(marks);
        }
        let memory: Rc<Memory> = event_loop.kept();
        Rc::new_cyclic(|this| Tls {
            this: Weak::clone(this),
            upper: Upper::new(event_loop, protocol, LifeCycle::default(), flow),
            below: RefCell::default(),
            phase: Cell::new(Phase::Unconnected),
            secret: RefCell::new(Secret {
                session,
                wire: Wire::default(),
            }),
            queue: RefCell::new(WriteQueue::new(Rc::clone(
                &event_loop.kept::<Plaintext<_>>().0,
            ))),
            unflushed: Cell::default(),
            delivering: Cell::default(),
            sending: Cell::default(),
            below_paused: Cell::default(),
            more: Cell::default(),
            read_end: Cell::default(),
            eof_waits: Cell::default(),
            truncated: Cell::default(),
            established: Cell::default(),
            made: Cell::default(),
            when_established: Cell::new(Some(when_established)),
            lost_because: Cell::default(),
            timer: RefCell::default(),
            left_then: Cell::default(),
            timeouts,
            memory,
        })
    }

    /// Puts the layer between `below` and the protocol, which has been using `below` until now: it is
    /// not told `connection_made` again. `received` is what it was given of the peer's first
    /// ciphertext, before anybody knew what that was.
    pub fn upgrade(&self, below: &Transport<H>, received: &[u8]) {
        self.made.set(true);
        self.take_over(below, received);
    }

    /// As [`upgrade`](Tls::upgrade), for a protocol that is new: it is told `connection_made` when the
    /// handshake is over. The one that has been using `below` is told nothing more.
    pub fn take_over(&self, below: &Transport<H>, received: &[u8]) {
        let Some(this) = self.this.upgrade() else {
            return;
        };
        if below.is_lost() {
            // Its end was told before there was anybody here to hear it.
            self.over();
            self.upper.update_life(LifeCycle::lost);
            return self.settle(|| Err(below::closed_in_handshake().into()));
        }
        if let Ok(mut secret) = self.secret.try_borrow_mut() {
            secret.wire.incoming.append(received);
        }
        if below.base().is_writing_paused() {
            // Who was told to pause will be told to resume.
            self.below_paused.set(true);
            if self.made.get() {
                self.upper.adopt_pause();
            }
        }
        below.set_stream_protocol(this);
        below.resume_reading();
        self.begin(below.clone());
    }

    /// The transport above.
    #[must_use]
    pub fn transport(self: &Rc<Self>) -> Transport<H> {
        Transport::new(Rc::clone(self) as Rc<dyn StreamTransport<H>>)
    }

    /// Whether the handshake has ended well.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.established.get()
    }

    /// Bytes that were received and not delivered; it may be a few more.
    #[must_use]
    pub fn read_buffer_size(&self) -> usize {
        Layer::receivable(self)
    }

    /// Shows the session, unless it is at work.
    pub fn with_session<R>(&self, look: impl FnOnce(&dyn Any) -> R) -> Option<R> {
        let secret = self.secret.try_borrow().ok()?;
        Some(look(secret.session.as_any()))
    }

    fn below(&self) -> Option<Transport<H>> {
        self.below.borrow().clone()
    }

    // ---- the session ----

    /// Lets the session work; `None` when it is at work, and has called whoever calls this. What it
    /// has to send is handed to the transport below.
    fn work<R>(
        &self,
        work: impl FnOnce(&mut dyn TlsSession<H>, &mut Wire) -> Result<R, H::Error>,
    ) -> Option<Result<R, H::Error>> {
        let mut secret = self.secret.try_borrow_mut().ok()?;
        let Secret { session, wire } = &mut *secret;
        wire.outgoing = self.memory.outgoing.take();
        let result = work(&mut **session, wire);
        let outgoing = std::mem::take(&mut wire.outgoing);
        if wire.incoming.is_empty() {
            self.memory.take_back(&mut wire.incoming);
        }
        drop(secret);
        self.hand_down(outgoing);
        Some(result)
    }

    /// Hands ciphertext to the transport below.
    fn hand_down(&self, mut ciphertext: Vec<u8>) {
        if !ciphertext.is_empty()
            && let Some(below) = self.below()
        {
            let output = Output {
                bytes: &ciphertext,
                keep: None,
            };
            // A connection that is lost says so by itself.
            let _ = below.try_write(output);
        }
        ciphertext.clear();
        self.memory.keep_outgoing(ciphertext);
    }

    // ---- time ----

    /// Calls `expired` after `duration`, unless another timer is started before, or stopped.
    fn start_timer(&self, duration: Duration, expired: fn(&Tls<H>)) {
        self.stop_timer();
        let this = Weak::clone(&self.this);
        let sleep = self.upper.event_loop.sleep(duration);
        let task = self.upper.event_loop.spawn(async move {
            sleep.await;
            if let Some(tls) = this.upgrade() {
                // The task is this one: it ends by itself.
                let task = tls.timer.take();
                drop(task);
                expired(&tls);
            }
        });
        self.timer.replace(Some(task));
    }

    fn stop_timer(&self) {
        let task = self.timer.take();
        if let Some(task) = task {
            task.cancel();
        }
    }

    // ---- failures ----

    /// Gives up the connection because of `error`, at once.
    fn fail(&self, message: &'static str, error: H::Error) {
        if self.upper.event_loop.host().escapes(&error) {
            return self.upper.event_loop.interrupt(error);
        }
        self.settle(|| Err(self.upper.event_loop.host().same_error(&error)));
        self.over();
        if let Some(below) = self.below() {
            below.fail(message, error);
        }
    }

    /// Nothing is encrypted or decrypted any more; the transport below is about to end.
    fn over(&self) {
        self.phase.set(Phase::Over);
        let _ = self.upper.update_life(LifeCycle::fail);
        self.stop_timer();
        self.save_memory(Incoming::clear);
    }

    /// Keeps the memory of what was received for others, after `change`. What is left of it is kept
    /// in no more memory than it needs: a heap into which large blocks come and go all the time
    /// grows, and never shrinks.
    fn save_memory(&self, change: fn(&mut Incoming)) {
        if let Ok(mut secret) = self.secret.try_borrow_mut() {
            let incoming = &mut secret.wire.incoming;
            change(incoming);
            self.memory.take_back(incoming);
        }
    }

    /// Tells whoever waits for the handshake that it has ended.
    fn settle(&self, result: impl FnOnce() -> Result<(), H::Error>) {
        if let Some(when_established) = self.when_established.take() {
            when_established(result());
        }
    }
}

impl Memory {
    /// Keeps memory for the next one who needs some. What a flood has made large is not kept.
    fn take_back(&self, incoming: &mut Incoming) {
        if let Some(memory) = incoming.give_up_memory()
            && (RECEIVE..=2 * RECEIVE).contains(&memory.capacity())
        {
            self.incoming.set(memory);
        }
    }

    fn keep_outgoing(&self, memory: Vec<u8>) {
        if (1..=2 * ENCRYPT).contains(&memory.capacity()) {
            self.outgoing.set(memory);
        }
    }
}

impl<H: Host> Flush for Tls<H> {
    fn flush(&self) {
        Tls::flush(self);
    }
}

/// What TLS cannot do.
fn unsupported(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, message)
}
