//! One connection of the client: a request out, its echo in, the next request.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::failure::Failure;
use crate::http::Response;
use crate::link::{Link, Memory};
use crate::payload::Payload;
use crate::socket::{Address, Socket};

/// Addresses that the connections of one client take turns with.
const SOURCES: usize = 250;

/// One connection and the request that it is on.
pub struct Connection {
    index: usize,
    link: Link,
    /// Requests begun so far, the present one included.
    number: usize,
    /// When the present request's first byte was sent.
    began: Instant,
    /// Bytes of the present request that the socket has taken.
    sent: usize,
    /// Bytes of its echo that have come back. Invariant: received ≤ sent ≤ size.
    received: usize,
    /// What has come of a response, where that is what comes.
    response: Response,
    /// Our end was sent.
    closing: bool,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Something has still to come.
    Waiting,
    /// The echo is complete.
    Echoed,
    /// The server has ended the connection, as it was asked to.
    Ended,
}

impl Connection {
    /// Connects to the server, which is on this machine, and waits until it has.
    pub fn open(
        index: usize,
        address: &Address,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        Self::open_after(index, 0, address, tls)
    }

    /// [`Connection::open`], after this many requests.
    fn open_after(
        index: usize,
        number: usize,
        address: &Address,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let socket = Socket::connect(address, source(index, number))?;
        Ok(Self {
            index,
            link: Link::new(socket, tls)?,
            number,
            began: Instant::now(),
            sent: 0,
            received: 0,
            response: Response::default(),
            closing: false,
        })
    }

    /// Begins the next request and sends as much of it as the socket takes.
    pub fn begin(&mut self, payload: &Payload, now: Instant) -> Result<(), Failure> {
        self.number += 1;
        self.began = now;
        self.sent = 0;
        self.received = 0;
        self.response.clear();
        self.send(payload)
    }

    /// Connects anew, in the place of a connection that has ended.
    pub fn reopen(&mut self, address: &Address, tls: Option<&Arc<ClientConfig>>) -> io::Result<()> {
        *self = Self::open_after(self.index, self.number, address, tls)?;
        Ok(())
    }

    /// Sends more of the request, if there is more and the socket takes it.
    pub fn send(&mut self, payload: &Payload) -> Result<(), Failure> {
        let request = payload.request(self.index, self.number);
        if self.sent < request.len() {
            self.sent += self.link.send(&request[self.sent..])?;
        } else {
            self.link.flush()?;
        }
        Ok(())
    }

    /// Receives some of the echo and compares it, or the end that was asked for.
    pub fn receive(&mut self, payload: &Payload, memory: &mut Memory) -> Result<Progress, Failure> {
        if self.closing {
            return self.receive_end(memory);
        }
        if let Some(size) = payload.body() {
            let (index, response) = (self.index, &mut self.response);
            self.link
                .receive(memory, |bytes| response.take(bytes, size, index))?;
            return Ok(match response.is_complete(size) {
                true => Progress::Echoed,
                false => Progress::Waiting,
            });
        }
        let request = payload.request(self.index, self.number);
        let (index, sent, received) = (self.index, self.sent, &mut self.received);
        self.link.receive(memory, |bytes| {
            let outstanding = &request[*received..sent];
            if bytes.is_empty() {
                return Err(Failure::ClosedEarly {
                    connection: index,
                    received: *received,
                    size: request.len(),
                });
            }
            let Some(expected) = outstanding.get(..bytes.len()) else {
                return Err(Failure::TooMuch {
                    connection: index,
                    surplus: bytes.len() - outstanding.len(),
                });
            };
            if expected != bytes {
                let equal = |(sent, back): &(&u8, &u8)| sent == back;
                let wrong = expected.iter().zip(bytes).take_while(equal).count();
                return Err(Failure::WrongByte {
                    connection: index,
                    position: *received + wrong,
                });
            }
            *received += bytes.len();
            Ok(())
        })?;
        Ok(match self.received == request.len() {
            true => Progress::Echoed,
            false => Progress::Waiting,
        })
    }

    fn receive_end(&mut self, memory: &mut Memory) -> Result<Progress, Failure> {
        let mut progress = Progress::Waiting;
        let received = self.link.receive(memory, |bytes| match bytes.len() {
            0 => {
                progress = Progress::Ended;
                Ok(())
            }
            surplus => Err(Failure::TooMuch {
                connection: self.index,
                surplus,
            }),
        });
        match received {
            // Nobody listens to a goodbye any more: that is an end too.
            Err(Failure::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                Ok(Progress::Ended)
            }
            Err(failure) => Err(failure),
            Ok(true) => Ok(progress),
            Ok(false) => Ok(Progress::Waiting),
        }
    }

    /// Whether it lasted for a request, which is over.
    pub fn has_ended(&self) -> bool {
        self.closing
    }

    /// Sends the end of file; the server's is waited for.
    pub fn end(&mut self) -> io::Result<()> {
        self.closing = true;
        self.link.shut_down()
    }

    /// Sends the end of file and waits for the server's. False if the server has not closed within
    /// `patience`.
    pub fn close(mut self, patience: Duration, memory: &mut Memory) -> Result<bool, Failure> {
        self.link.socket().block(patience)?;
        self.end()?;
        let until = Instant::now() + patience;
        while self.receive_end(memory)? != Progress::Ended {
            if Instant::now() >= until {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// True while the socket has no room for a part of the request.
    pub fn is_sending(&self, payload: &Payload) -> bool {
        self.sent < payload.request(self.index, self.number).len() || self.link.is_sending()
    }

    /// Time since the present request began.
    pub fn latency(&self, now: Instant) -> Duration {
        now.duration_since(self.began)
    }

    /// The socket, for epoll.
    pub fn socket(&self) -> &Socket {
        self.link.socket()
    }
}

/// The address that a connection comes from. A port that was used stays taken for a while after the
/// connection's end; with one address the client would soon be looking for a free one most of the time.
fn source(index: usize, number: usize) -> Ipv4Addr {
    let host = |number: usize| (number % SOURCES) as u8 + 1;
    Ipv4Addr::new(127, 0, host(index), host(number))
}
