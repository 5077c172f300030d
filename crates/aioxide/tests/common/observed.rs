//! A reactor that counts what passes through it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aioxide::reactor::{AroundSleep, Event, Op, Reactor, Side, Socket, Token, Waker};
use aioxide::sys::buffer::Buffer;
use aioxide::sys::datagrams::Datagrams;
use aioxide::sys::file::Kind;
use aioxide::sys::socket::SocketOption;
use aioxide::{Family, SocketAddress, Time};

/// A test that goes round and round for longer than this hangs, whatever its virtual clock says.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Observed {
    inner: Rc<dyn Reactor>,
    counts: Rc<Counts>,
    begun: Instant,
}

/// What was counted.
#[derive(Default)]
pub struct Counts {
    /// Calls of `send` that the network took.
    pub sends: Cell<usize>,
    /// Calls of `send_to` and `send_datagrams` that the network took.
    pub datagram_sends: Cell<usize>,
    /// Calls of `receive`.
    pub receives: Cell<usize>,
    /// Sockets that were opened or accepted and not closed.
    pub open: Cell<usize>,
    /// Until when the last wait that could sleep would have slept.
    pub deadline: Cell<Option<Time>>,
    /// What waits.
    pub waiting: RefCell<HashSet<(RawFd, Side)>>,
}

/// Lives as long as its socket.
struct Counted {
    counts: Rc<Counts>,
    _socket: Socket,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.open.set(self.counts.open.get() - 1);
    }
}

impl Observed {
    pub fn new(inner: Rc<dyn Reactor>, counts: Rc<Counts>) -> Observed {
        Observed {
            inner,
            counts,
            begun: Instant::now(),
        }
    }

    fn count(&self, socket: Socket) -> Socket {
        self.counts.count(socket)
    }
}

impl Counts {
    /// Counts a socket as open until it is closed.
    pub fn count(self: &Rc<Counts>, socket: Socket) -> Socket {
        self.open.set(self.open.get() + 1);
        let fd = socket.fd();
        let counted: Rc<dyn Any> = Rc::new(Counted {
            counts: Rc::clone(self),
            _socket: socket,
        });
        Socket::foreign(fd, counted)
    }

    fn datagrams_sent(&self) {
        self.datagram_sends.set(self.datagram_sends.get() + 1);
    }
}

impl Reactor for Observed {
    fn now(&self) -> Time {
        self.inner.now()
    }

    fn wait(
        &self,
        deadline: Option<Time>,
        events: &mut Vec<Event>,
        around_sleep: AroundSleep<'_>,
    ) -> io::Result<()> {
        assert!(self.begun.elapsed() < PATIENCE, "the test hangs");
        if deadline != Some(Time::ZERO) {
            self.counts.deadline.set(deadline);
        }
        self.inner.wait(deadline, events, around_sleep)
    }

    fn waker(&self) -> Arc<dyn Waker> {
        self.inner.waker()
    }

    fn submit(&self, fd: RawFd, op: Op, token: Token) -> io::Result<()> {
        self.inner.submit(fd, op, token)?;
        self.counts.waiting.borrow_mut().insert((fd, op.side()));
        Ok(())
    }

    fn cancel(&self, fd: RawFd, side: Side) {
        self.counts.waiting.borrow_mut().remove(&(fd, side));
        self.inner.cancel(fd, side);
    }

    fn receive(&self, fd: RawFd, buffer: &mut Buffer<'_>) -> io::Result<usize> {
        self.counts.receives.set(self.counts.receives.get() + 1);
        self.inner.receive(fd, buffer)
    }

    fn send(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let sent = self.inner.send(fd, slices)?;
        self.counts.sends.set(self.counts.sends.get() + 1);
        Ok(sent)
    }

    fn read(&self, fd: RawFd, buffer: &mut Buffer<'_>) -> io::Result<usize> {
        self.inner.read(fd, buffer)
    }

    fn write(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner.write(fd, slices)
    }

    fn kind(&self, fd: RawFd) -> io::Result<Kind> {
        self.inner.kind(fd)
    }

    fn receive_datagrams(&self, fd: RawFd, datagrams: &mut Datagrams) -> io::Result<()> {
        self.inner.receive_datagrams(fd, datagrams)
    }

    fn receive_from(
        &self,
        fd: RawFd,
        buffer: &mut Buffer<'_>,
    ) -> io::Result<(usize, Option<SocketAddress>)> {
        self.inner.receive_from(fd, buffer)
    }

    fn send_to(&self, fd: RawFd, bytes: &[u8], peer: Option<&SocketAddress>) -> io::Result<usize> {
        let sent = self.inner.send_to(fd, bytes, peer)?;
        self.counts.datagrams_sent();
        Ok(sent)
    }

    fn send_datagrams(
        &self,
        fd: RawFd,
        datagrams: &[(IoSlice<'_>, Option<&SocketAddress>)],
    ) -> io::Result<usize> {
        let sent = self.inner.send_datagrams(fd, datagrams)?;
        self.counts.datagrams_sent();
        Ok(sent)
    }

    fn send_file(&self, fd: RawFd, file: RawFd, offset: u64, count: usize) -> io::Result<usize> {
        self.inner.send_file(fd, file, offset, count)
    }

    fn accept(&self, fd: RawFd) -> io::Result<(Socket, Option<SocketAddress>)> {
        let (socket, peer) = self.inner.accept(fd)?;
        Ok((self.count(socket), peer))
    }

    fn connect(&self, fd: RawFd, address: &SocketAddress) -> io::Result<()> {
        self.inner.connect(fd, address)
    }

    fn take_error(&self, fd: RawFd) -> io::Result<()> {
        self.inner.take_error(fd)
    }

    fn open(&self, family: Family, kind: i32, protocol: i32) -> io::Result<Socket> {
        Ok(self.count(self.inner.open(family, kind, protocol)?))
    }

    fn bind(&self, fd: RawFd, address: &SocketAddress) -> io::Result<()> {
        self.inner.bind(fd, address)
    }

    fn listen(&self, fd: RawFd, backlog: i32) -> io::Result<()> {
        self.inner.listen(fd, backlog)
    }

    fn shutdown_write(&self, fd: RawFd) -> io::Result<()> {
        self.inner.shutdown_write(fd)
    }

    fn set_option(&self, fd: RawFd, option: SocketOption) -> io::Result<()> {
        self.inner.set_option(fd, option)
    }

    fn local_address(&self, fd: RawFd) -> io::Result<SocketAddress> {
        self.inner.local_address(fd)
    }

    fn peer_address(&self, fd: RawFd) -> io::Result<SocketAddress> {
        self.inner.peer_address(fd)
    }
}
