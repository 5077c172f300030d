//! The floor: an echo server that is an epoll loop and nothing else.
//!
//! No runtime, no callbacks, no tasks: level-triggered epoll_wait, then one recv and one send per
//! readable connection. A server with a runtime does this work too, so what it costs above this
//! program is the price of the runtime.

use std::error::Error;
use std::io;
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aioxide_bench::{RECEIVE_BUFFER, announce, listen};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Events taken per epoll_wait: above the largest row's connections, so that one call takes all
/// that is ready.
const EVENTS: usize = 256;

/// Event data of the listening socket and of standard input. Connections carry their descriptor, a
/// small number.
const LISTENER: u64 = u64::MAX;
const STDIN: u64 = u64::MAX - 1;

struct Connection {
    stream: TcpStream,
    /// What the socket did not take. Invariant: non-empty exactly while the interest is OUT rather
    /// than IN.
    unsent: Vec<u8>,
}

struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    /// Indexed by descriptor.
    connections: Vec<Option<Connection>>,
    buffer: Vec<u8>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let listener = listen()?;
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
    announce(&listener)?;
    let buffer = vec![0; RECEIVE_BUFFER];
    Ok(Server {
        epoll,
        listener,
        connections: Vec::new(),
        buffer,
    }
    .run()?)
}

impl Server {
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
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
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
        if !matches!(connection.echo(&self.epoll, &mut self.buffer), Ok(true)) {
            *slot = None;
        }
    }
}

impl Connection {
    /// Serves one event. False at the client's end of file.
    fn echo(&mut self, epoll: &OwnedFd, buffer: &mut [u8]) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let sent = some(send(&self.stream, &self.unsent, SendFlags::NOSIGNAL))?;
            self.unsent.drain(..sent);
            if self.unsent.is_empty() {
                self.watch(epoll, EventFlags::IN)?;
            }
            return Ok(true);
        }
        let received = match recv(&self.stream, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => return Ok(false),
            Ok((received, _)) => received,
            Err(rustix::io::Errno::AGAIN) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let sent = some(send(&self.stream, &buffer[..received], SendFlags::NOSIGNAL))?;
        if sent < received {
            self.unsent.extend_from_slice(&buffer[sent..received]);
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
