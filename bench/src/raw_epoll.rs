//! The floor: an echo server that is an epoll loop and nothing else.
//!
//! No runtime, no callbacks, no tasks: level-triggered epoll_wait, then one recv and one send per
//! readable connection. A server with a runtime does this work too, so what it costs above this
//! program is the price of the runtime.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{SendFlags, send};

use crate::Listener;

/// Events taken per epoll_wait: above the largest row's connections, so that one call takes all
/// that is ready.
const EVENTS: usize = 256;

/// Event data of the listening socket and of standard input. Connections carry their descriptor, a
/// small number.
const LISTENER: u64 = u64::MAX;
const STDIN: u64 = u64::MAX - 1;

/// What a server does with what a connection receives.
pub trait Echo {
    /// What it has of each connection.
    type Session;

    /// A new connection.
    ///
    /// # Errors
    /// Why there is no session for it.
    fn accept(&mut self, stream: &OwnedFd) -> io::Result<Self::Session>;

    /// Receives, and gives what is to be sent; `None` at the client's end of file.
    ///
    /// # Errors
    /// Why the connection has failed.
    fn reply(&mut self, session: &mut Self::Session, stream: &OwnedFd)
    -> io::Result<Option<&[u8]>>;
}

struct Connection<S> {
    stream: OwnedFd,
    session: S,
    /// What the socket did not take. Invariant: non-empty exactly while the interest is OUT rather
    /// than IN.
    unsent: Vec<u8>,
}

struct Server<E: Echo> {
    epoll: OwnedFd,
    listener: Listener,
    /// Indexed by descriptor.
    connections: Vec<Option<Connection<E::Session>>>,
    echo: E,
}

/// Serves until standard input ends.
///
/// # Errors
/// Why it cannot go on. A connection that fails ends alone.
pub fn serve<E: Echo>(listener: Listener, echo: E) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    epoll::add(
        &epoll,
        io::stdin(),
        EventData::new_u64(STDIN),
        EventFlags::IN,
    )?;
    listener.announce()?;
    Server {
        epoll,
        listener,
        connections: Vec::new(),
        echo,
    }
    .run()
}

impl<E: Echo> Server<E> {
    fn run(mut self) -> io::Result<()> {
        let mut events = [MaybeUninit::uninit(); EVENTS];
        loop {
            let (ready, _) = epoll::wait(&self.epoll, &mut events, None)?;
            for event in ready {
                match event.data.u64() {
                    STDIN => return Ok(()),
                    LISTENER => self.accept()?,
                    descriptor => self.serve(descriptor as usize),
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok(stream) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let descriptor = stream.as_raw_fd() as usize;
            epoll::add(
                &self.epoll,
                &stream,
                EventData::new_u64(descriptor as u64),
                EventFlags::IN,
            )?;
            if self.connections.len() <= descriptor {
                self.connections.resize_with(descriptor + 1, || None);
            }
            self.connections[descriptor] = Some(Connection {
                session: self.echo.accept(&stream)?,
                stream,
                unsent: Vec::new(),
            });
        }
    }

    fn serve(&mut self, descriptor: usize) {
        let slot = &mut self.connections[descriptor];
        let Some(connection) = slot else {
            return;
        };
        // A connection that fails is the client's to notice; the server goes on. Dropping the
        // stream closes it, which also takes it out of the epoll set.
        if !matches!(connection.echo(&self.epoll, &mut self.echo), Ok(true)) {
            *slot = None;
        }
    }
}

impl<S> Connection<S> {
    /// Serves one event. False at the client's end of file.
    fn echo<E: Echo<Session = S>>(&mut self, epoll: &OwnedFd, echo: &mut E) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let sent = some(send(&self.stream, &self.unsent, SendFlags::NOSIGNAL))?;
            self.unsent.drain(..sent);
            if self.unsent.is_empty() {
                self.watch(epoll, EventFlags::IN)?;
            }
            return Ok(true);
        }
        let reply = match echo.reply(&mut self.session, &self.stream)? {
            None => return Ok(false),
            Some([]) => return Ok(true),
            Some(reply) => reply,
        };
        let sent = some(send(&self.stream, reply, SendFlags::NOSIGNAL))?;
        if sent < reply.len() {
            self.unsent.extend_from_slice(&reply[sent..]);
            self.watch(epoll, EventFlags::OUT)?;
        }
        Ok(true)
    }

    fn watch(&self, epoll: &OwnedFd, interest: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(self.stream.as_raw_fd() as u64);
        Ok(epoll::modify(epoll, self.stream.as_fd(), data, interest)?)
    }
}

/// Bytes the socket took; none when it is full.
fn some(sent: rustix::io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(rustix::io::Errno::AGAIN) => Ok(0),
        other => Ok(other?),
    }
}
