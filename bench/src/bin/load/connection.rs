//! One connection of the client: a request out, its echo in, the next request.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::payload::Payload;

/// One connection and the request that it is on.
pub struct Connection {
    index: usize,
    stream: TcpStream,
    /// Requests begun so far, the present one included.
    number: usize,
    /// When the present request's first byte was sent.
    began: Instant,
    /// Bytes of the present request that the socket has taken.
    sent: usize,
    /// Bytes of its echo that have come back. Invariant: received ≤ sent ≤ size.
    received: usize,
}

impl Connection {
    /// Connects to the server, which is on this machine, and waits until it has.
    pub fn open(index: usize, port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            index,
            stream,
            number: 0,
            began: Instant::now(),
            sent: 0,
            received: 0,
        })
    }

    /// Begins the next request and sends as much of it as the socket takes.
    pub fn begin(&mut self, payload: &Payload, now: Instant) -> Result<(), Failure> {
        self.number += 1;
        self.began = now;
        self.sent = 0;
        self.received = 0;
        self.send(payload)
    }

    /// Sends more of the request, if there is more and the socket takes it.
    pub fn send(&mut self, payload: &Payload) -> Result<(), Failure> {
        let request = payload.request(self.index, self.number);
        if self.sent < request.len() {
            self.sent += some(self.stream.write(&request[self.sent..]))?.unwrap_or(0);
        }
        Ok(())
    }

    /// Receives some of the echo and compares it. True when the echo is complete.
    pub fn receive(&mut self, payload: &Payload, buffer: &mut [u8]) -> Result<bool, Failure> {
        let request = payload.request(self.index, self.number);
        let Some(count) = some(self.stream.read(buffer))? else {
            return Ok(false);
        };
        let outstanding = &request[self.received..self.sent];
        if count == 0 {
            return Err(Failure::ClosedEarly {
                connection: self.index,
                received: self.received,
                size: request.len(),
            });
        }
        let Some(expected) = outstanding.get(..count) else {
            return Err(Failure::TooMuch {
                connection: self.index,
                surplus: count - outstanding.len(),
            });
        };
        if expected != &buffer[..count] {
            let wrong = expected
                .iter()
                .zip(&*buffer)
                .take_while(|(sent, back)| sent == back)
                .count();
            return Err(Failure::WrongByte {
                connection: self.index,
                position: self.received + wrong,
            });
        }
        self.received += count;
        Ok(self.received == request.len())
    }

    /// Sends the end of file and waits for the server's. False if the server has not closed within
    /// `patience`.
    pub fn close(self, patience: Duration) -> Result<bool, Failure> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_read_timeout(Some(patience))?;
        self.stream.shutdown(Shutdown::Write)?;
        match some((&self.stream).read(&mut [0]))? {
            Some(0) => Ok(true),
            Some(surplus) => Err(Failure::TooMuch {
                connection: self.index,
                surplus,
            }),
            None => Ok(false),
        }
    }

    /// True while the socket holds back a part of the request.
    pub fn is_sending(&self, payload: &Payload) -> bool {
        self.sent < payload.request(self.index, self.number).len()
    }

    /// Time since the present request began.
    pub fn latency(&self, now: Instant) -> Duration {
        now.duration_since(self.began)
    }

    /// The socket, for epoll.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// A count of bytes, or nothing when the socket would block.
fn some(count: io::Result<usize>) -> io::Result<Option<usize>> {
    match count {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
