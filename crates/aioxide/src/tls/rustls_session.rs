//! The session of Rust programs: rustls.
//!
//! rustls has two faces. This is the one that keeps no ciphertext of its own (`UnbufferedConnection`):
//! it is shown what was received, where it lies, and says how much of it is done with. A record is
//! decrypted in its place and copied once on its way to the protocol's memory, and an idle connection holds no
//! buffers. What it is asked to do, it does in the state in which it can (`WriteTraffic`), and it goes
//! through all other states first: so every call is a walk, [`Rustls::walk`], with an errand.

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ClientConfig, CommonState, ServerConfig};

use super::info::TlsInfo;
use super::refusal::failure;
use super::session::{Progress, Reading, TlsSession, Wire};
use crate::event_loop::native::Native;
use crate::sys::buffer::Buffer;

/// What a record can be longer than its plaintext, in bytes: header, type, tag and, in TLS 1.2, a nonce;
/// rounded up.
const RECORD_OVERHEAD: usize = 64;

/// The most plaintext in a record, in bytes (RFC 8446, 5.1).
const RECORD: usize = 16 * 1024;

/// Room for an alert, in bytes; likewise.
const ALERT: usize = 128;

/// A [`TlsSession`] of rustls.
pub(crate) struct Rustls {
    side: Side,
    /// Plaintext that was decrypted and did not fit. Invariant: no piece is empty.
    left: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that were read.
    read: usize,
    /// The peer's `close_notify` has come.
    ended: bool,
    /// What a client has called the server by.
    server_name: Option<String>,
}

enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// What a walk is for.
enum Errand<'a> {
    /// To see how far the handshake has come.
    Look,
    Encrypt(&'a [u8]),
    Close,
}

/// Where a walk stands.
enum Step {
    /// There is more to do.
    On,
    /// A record was decrypted.
    Plaintext,
    /// The peer's `close_notify` has come.
    PeerClosed,
    /// Everything that was received was looked at, and the errand is done; how many bytes were encrypted.
    Done(usize),
    /// Nothing can be written before something is received.
    Blocked,
}

impl Rustls {
    /// The side that connects to `name`.
    pub(crate) fn client(
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Rustls> {
        let client = UnbufferedClientConnection::new(Arc::clone(config), name).map_err(failure)?;
        Ok(Rustls::of(Side::Client(Box::new(client))))
    }

    /// The side that was connected to. `config` is one that [`noting_names`] has made.
    pub(crate) fn server(config: &Arc<ServerConfig>) -> io::Result<Rustls> {
        let server = UnbufferedServerConnection::new(Arc::clone(config)).map_err(failure)?;
        Ok(Rustls::of(Side::Server(Box::new(server))))
    }

    fn of(side: Side) -> Rustls {
        Rustls {
            side,
            left: VecDeque::new(),
            read: 0,
            ended: false,
            server_name: None,
        }
    }

    fn state(&self) -> &CommonState {
        match &self.side {
            Side::Client(client) => client,
            Side::Server(server) => server,
        }
    }

    /// What was negotiated.
    pub(crate) fn info(&self) -> TlsInfo {
        TlsInfo::new(self.state(), self.server_name.clone())
    }

    /// Goes on until the errand is done, or there is something to tell.
    fn walk(
        &mut self,
        wire: &mut Wire,
        errand: &Errand<'_>,
        plaintext: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Step> {
        loop {
            let outgoing = &mut wire.outgoing;
            let incoming = wire.incoming.unread_mut();
            let (taken, step) = match &mut self.side {
                Side::Client(client) => step(
                    client.process_tls_records(incoming),
                    errand,
                    outgoing,
                    plaintext,
                ),
                Side::Server(server) => step(
                    server.process_tls_records(incoming),
                    errand,
                    outgoing,
                    plaintext,
                ),
            };
            wire.incoming.advance(taken);
            match step {
                Ok(Step::On) => {}
                Ok(Step::PeerClosed) => {
                    self.ended = true;
                    return Ok(Step::PeerClosed);
                }
                Ok(step) => return Ok(step),
                Err(error) => {
                    self.say_why(wire);
                    return Err(error);
                }
            }
        }
    }

    /// Sends the alert that tells the peer why it has failed, if there is one.
    fn say_why(&mut self, wire: &mut Wire) {
        loop {
            let outgoing = &mut wire.outgoing;
            let incoming = wire.incoming.unread_mut();
            let (errand, mut nobody) = (Errand::Look, |_: &[u8]| ());
            let step = match &mut self.side {
                Side::Client(client) => {
                    step(
                        client.process_tls_records(incoming),
                        &errand,
                        outgoing,
                        &mut nobody,
                    )
                    .1
                }
                Side::Server(server) => {
                    step(
                        server.process_tls_records(incoming),
                        &errand,
                        outgoing,
                        &mut nobody,
                    )
                    .1
                }
            };
            if !matches!(step, Ok(Step::On)) {
                return;
            }
        }
    }

    /// A walk that has no room for plaintext: what comes is kept.
    fn walk_and_keep(&mut self, wire: &mut Wire, errand: &Errand<'_>) -> io::Result<Step> {
        let mut kept = std::mem::take(&mut self.left);
        let step = loop {
            let step = self.walk(wire, errand, &mut |bytes| {
                if !bytes.is_empty() {
                    kept.push_back(bytes.to_vec());
                }
            });
            match step {
                Ok(Step::On | Step::Plaintext | Step::PeerClosed) => {}
                step => break step,
            }
        };
        self.left = kept;
        step
    }

    /// Gives what is left of former records; whether that was all.
    fn give_left(&mut self, buffer: &mut Buffer<'_>) -> bool {
        while let Some(piece) = self.left.front() {
            self.read += buffer.append(&piece[self.read..]);
            if self.read < piece.len() {
                return false;
            }
            self.left.pop_front();
            self.read = 0;
        }
        true
    }
}

/// Deals with one state of the connection; how much of what was received is done with, and what it was.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    errand: &Errand<'_>,
    outgoing: &mut Vec<u8>,
    plaintext: &mut dyn FnMut(&[u8]),
) -> (usize, io::Result<Step>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Err(failure(error)),
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let mut encoded = |room: &mut [u8]| match data.encode(room) {
                Err(EncodeError::InsufficientSize(needed)) => Err(Some(needed)),
                encoded => encoded.map_err(|_| None),
            };
            append(outgoing, ALERT, &mut encoded).map(|_| Step::On)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // The layer sends what is there when the session returns.
            data.done();
            Ok(Step::On)
        }
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Ok(Step::Plaintext),
                Some(Err(error)) => break Err(failure(error)),
                Some(Ok(record)) => {
                    discard += record.discard;
                    plaintext(record.payload);
                }
            }
        },
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match *errand {
            Errand::Look => Ok(Step::Done(0)),
            Errand::Encrypt(bytes) => {
                let room = bytes.len() + (bytes.len() / RECORD + 1) * RECORD_OVERHEAD;
                let mut encrypt = |room: &mut [u8]| sized(traffic.encrypt(bytes, room));
                append(outgoing, room, &mut encrypt).map(|()| Step::Done(bytes.len()))
            }
            Errand::Close => {
                let mut close = |room: &mut [u8]| sized(traffic.queue_close_notify(room));
                append(outgoing, ALERT, &mut close).map(|()| Step::Done(0))
            }
        },
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerClosed),
        Ok(ConnectionState::Closed) => Ok(Step::Done(0)),
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
        // Servers are told not to accept early data: see `ServerTls`.
        Ok(ConnectionState::ReadEarlyData(_)) | Ok(_) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the TLS connection is in a state that is not supported",
        )),
    };
    (discard, step)
}

fn sized(encrypted: Result<usize, EncryptError>) -> Written {
    encrypted.map_err(|error| match error {
        EncryptError::InsufficientSize(needed) => Some(needed),
        EncryptError::EncryptExhausted => None,
    })
}

/// What rustls says of memory to write to: how much it has written, or needs.
type Written = Result<usize, Option<InsufficientSizeError>>;

/// Appends what `write` writes to `outgoing`: to `room` bytes, or as many as it asks for.
fn append(
    outgoing: &mut Vec<u8>,
    room: usize,
    write: &mut dyn FnMut(&mut [u8]) -> Written,
) -> io::Result<()> {
    let before = outgoing.len();
    outgoing.resize(before + room, 0);
    let mut written = write(&mut outgoing[before..]);
    if let Err(Some(InsufficientSizeError { required_size })) = written {
        outgoing.resize(before + required_size, 0);
        written = write(&mut outgoing[before..]);
    }
    outgoing.truncate(before + *written.as_ref().unwrap_or(&0));
    written.map(|_| ()).map_err(|_| {
        let message = "the TLS connection has used its keys up, and cannot send any more";
        io::Error::other(message)
    })
}

impl TlsSession<Native> for Rustls {
    fn handshake(&mut self, wire: &mut Wire) -> io::Result<Progress> {
        NAME.set(None);
        let walked = self.walk_and_keep(wire, &Errand::Look);
        if let Some(name) = NAME.take() {
            self.server_name = Some(name);
        }
        walked?;
        Ok(match self.state().is_handshaking() {
            true => Progress::Blocked,
            false => Progress::Done,
        })
    }

    fn read(&mut self, wire: &mut Wire, plaintext: &mut Buffer<'_>) -> io::Result<Reading> {
        if !self.give_left(plaintext) {
            return Ok(Reading::Full);
        }
        let mut left = Vec::new();
        let ended = self.ended;
        let reading = loop {
            if plaintext.room() == 0 {
                break Reading::Full;
            }
            let walked = self.walk(wire, &Errand::Look, &mut |bytes| {
                // More than one record comes at once only where there is no room for the first.
                let count = plaintext.append(bytes);
                left.extend_from_slice(&bytes[count..]);
            })?;
            match walked {
                Step::On => {}
                Step::Plaintext if left.is_empty() => {}
                Step::Plaintext => break Reading::Full,
                Step::PeerClosed => break Reading::End,
                Step::Done(_) | Step::Blocked if ended => break Reading::End,
                Step::Done(_) | Step::Blocked => break Reading::Blocked,
            }
        };
        if !left.is_empty() {
            self.left.push_back(left);
        }
        Ok(reading)
    }

    fn write(&mut self, wire: &mut Wire, plaintext: &[u8]) -> io::Result<usize> {
        match self.walk_and_keep(wire, &Errand::Encrypt(plaintext))? {
            Step::Done(count) => Ok(count),
            _ => Ok(0),
        }
    }

    fn close(&mut self, wire: &mut Wire) -> io::Result<()> {
        self.walk_and_keep(wire, &Errand::Close).map(|_| ())
    }

    fn pending(&self) -> usize {
        let left: usize = self.left.iter().map(Vec::len).sum();
        left - self.read
    }

    fn truncated(&mut self, _wire: &Wire) -> Option<io::Error> {
        let message = "the peer ended the connection without TLS's close_notify: what it sent may have been cut off";
        Some(io::Error::new(io::ErrorKind::UnexpectedEof, message))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

thread_local! {
    /// The name in the client's first message, between rustls's call of [`NotingNames`] and the session's
    /// return.
    static NAME: Cell<Option<String>> = const { Cell::new(None) };
}

/// Lets a server's sessions know by which name the client has called it: of its unbuffered connections
/// rustls shows that to the chooser of certificates alone.
#[derive(Debug)]
struct NotingNames(Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for NotingNames {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        NAME.set(hello.server_name().map(str::to_owned));
        self.0.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

/// The same configuration, for [`Rustls::server`]. Early data is refused: whoever records it can send it
/// again, and no protocol here is told which bytes were early.
pub(crate) fn noting_names(config: Arc<ServerConfig>) -> Arc<ServerConfig> {
    let mut config = Arc::unwrap_or_clone(config);
    config.max_early_data_size = 0;
    config.cert_resolver = Arc::new(NotingNames(config.cert_resolver));
    Arc::new(config)
}
