//! The floor: epoll loops and nothing else.
//!
//! No runtime, no callbacks, no tasks: level-triggered epoll_wait, and what is ready is served, until standard input
//! ends ([`Poller`]). The echo server on it ([`serve`]) makes one recv and one send per readable connection. A server
//! with a runtime does this work too, so what it costs above this is the price of the runtime.

use std::error::Error;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{SendFlags, send};

use crate::Listener;

/// Events taken per epoll_wait: above the largest row's connections, so that one call takes all
/// that is ready.
const EVENTS: usize = 256;

/// Event data of a listening socket. Whatever else a server watches carries a small number, such as its descriptor.
pub const LISTENER: u64 = u64::MAX - 1;

/// Event data of standard input.
const STDIN: u64 = u64::MAX;

/// What a floor waits for, level-triggered.
pub struct Poller(OwnedFd);

impl Poller {
    /// Waits for the end of standard input, and nothing else yet.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        let poller = Self(epoll::create(CreateFlags::CLOEXEC)?);
        poller.add(io::stdin(), STDIN, EventFlags::IN)?;
        Ok(poller)
    }

    /// Waits for this file too. `data` comes back with its events.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(&self, file: impl AsFd, data: u64, interest: EventFlags) -> io::Result<()> {
        Ok(epoll::add(
            &self.0,
            file,
            EventData::new_u64(data),
            interest,
        )?)
    }

    /// Waits for something else of a file.
    ///
    /// # Errors
    /// The kernel's.
    pub fn modify(&self, file: impl AsFd, data: u64, interest: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(
            &self.0,
            file,
            EventData::new_u64(data),
            interest,
        )?)
    }

    /// Hands out what is ready until standard input ends.
    ///
    /// # Errors
    /// The kernel's, and those of `serve`.
    pub fn run<E: From<io::Error>>(
        &self,
        mut serve: impl FnMut(u64, EventFlags) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut events = [MaybeUninit::uninit(); EVENTS];
        loop {
            let (ready, _) = epoll::wait(&self.0, &mut events, None).map_err(io::Error::from)?;
            for event in ready {
                match event.data.u64() {
                    STDIN => return Ok(()),
                    data => serve(data, event.flags)?,
                }
            }
        }
    }
}

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

struct Server<'a, E: Echo> {
    poller: &'a Poller,
    listener: Listener,
    /// Indexed by descriptor.
    connections: Vec<Option<Connection<E::Session>>>,
    echo: E,
}

/// Serves until standard input ends.
///
/// # Errors
/// Why it cannot go on. A connection that fails ends alone.
pub fn serve<E: Echo>(listener: Listener, echo: E) -> Result<(), Box<dyn Error>> {
    let poller = Poller::new()?;
    poller.add(&listener, LISTENER, EventFlags::IN)?;
    listener.announce()?;
    let mut server = Server {
        poller: &poller,
        listener,
        connections: Vec::new(),
        echo,
    };
    poller.run(|data, _| match data {
        LISTENER => Ok(server.accept()?),
        descriptor => {
            server.serve(descriptor as usize);
            Ok(())
        }
    })
}

impl<E: Echo> Server<'_, E> {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok(stream) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let descriptor = stream.as_raw_fd() as usize;
            self.poller
                .add(&stream, descriptor as u64, EventFlags::IN)?;
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
        if !matches!(connection.echo(self.poller, &mut self.echo), Ok(true)) {
            *slot = None;
        }
    }
}

impl<S> Connection<S> {
    /// Serves one event. False at the client's end of file.
    fn echo<E: Echo<Session = S>>(&mut self, poller: &Poller, echo: &mut E) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let sent = some(send(&self.stream, &self.unsent, SendFlags::NOSIGNAL))?;
            self.unsent.drain(..sent);
            if self.unsent.is_empty() {
                self.watch(poller, EventFlags::IN)?;
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
            self.watch(poller, EventFlags::OUT)?;
        }
        Ok(true)
    }

    fn watch(&self, poller: &Poller, interest: EventFlags) -> io::Result<()> {
        poller.modify(&self.stream, self.stream.as_raw_fd() as u64, interest)
    }
}

/// Bytes the socket took; none when it is full.
pub fn some(sent: rustix::io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(rustix::io::Errno::AGAIN) => Ok(0),
        other => Ok(other?),
    }
}
