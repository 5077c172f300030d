//! Servers: listening sockets, and the transports of their clients.
//!
//! ```text
//! create_server ─▶ idle ── start_serving ─▶ serving ── close ─▶ closed ── last client detached
//!                    └───────────────── close ──────────────────▲         wakes wait_closed
//! ```
//!
//! Every client's transport is attached for as long as its socket is open. `wait_closed` wakes
//! when the server is closed and the last one has detached.

mod listener;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

pub use listener::ACCEPT_RETRY_DELAY;
use listener::Listener;

use slab::Slab;

use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::event_loop::native::Native;
use crate::event_loop::sources::User;
use crate::protocols::StreamProtocol;
use crate::reactor::Socket;
use crate::sys::address::SocketAddress;
use crate::sys::socket_file::SocketFile;
use crate::transports::Transport;
use crate::transports::base::{Client, Clients, Origin};
use crate::transports::stream::Stream;

/// What is said of a client whose protocol, or whose TLS, could not be made.
pub const FAILED_CREATION: &str = "Error on transport creation for incoming connection";

/// What a server asks of the program that it serves for.
pub trait Service<H: Host> {
    /// The protocol of a new client.
    ///
    /// # Errors
    /// What the program's factory raised. It costs its client the connection and nobody else
    /// anything.
    fn protocol(&self) -> Result<Rc<dyn StreamProtocol<H>>, H::Error>;

    /// Lets a host find its own object behind this trait again.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }

    /// Something failed that nobody awaits, on the listening socket `listener` if there is one.
    fn report(&self, message: &'static str, listener: Option<RawFd>, error: H::Error);

    /// The file of a listening Unix socket could not be removed when the server was closed.
    fn report_leftover(&self, path: &Path, error: io::Error);
}

/// A server. Clones are handles to the same one. It serves until it is closed, whether the program
/// keeps a handle or not.
pub struct Server<H: Host = Native>(Rc<Inner<H>>);

struct Inner<H: Host> {
    this: Weak<Inner<H>>,
    event_loop: EventLoop<H>,
    service: Rc<dyn Service<H>>,
    backlog: i32,
    /// Empty when the server is closed.
    listeners: RefCell<Vec<Rc<Listener<H>>>>,
    clients: RefCell<Slab<Transport<H>>>,
    phase: Cell<Phase>,
    /// Who waits for the server to be closed, or for its last client.
    waiters: RefCell<Vec<Waker>>,
    /// What is called when it is closed and its last client has detached.
    when_over: RefCell<Vec<Box<dyn FnOnce()>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Bound, but not listening.
    Idle,
    Serving,
    /// No listener is open; clients may be attached.
    Closed,
}

impl<H: Host> Server<H> {
    /// A server over bound sockets, which does not listen yet. `backlog` connections wait to be
    /// accepted at the most; as many are accepted in one go.
    #[must_use]
    pub fn new(
        event_loop: &EventLoop<H>,
        sockets: Vec<Socket>,
        backlog: i32,
        service: Rc<dyn Service<H>>,
    ) -> Server<H> {
        Server(Rc::new_cyclic(|this| Inner {
            this: Weak::clone(this),
            event_loop: event_loop.clone(),
            service,
            backlog,
            listeners: RefCell::new(
                sockets
                    .into_iter()
                    .map(|socket| Listener::new(this, socket))
                    .collect(),
            ),
            clients: RefCell::default(),
            phase: Cell::new(Phase::Idle),
            waiters: RefCell::default(),
            when_over: RefCell::default(),
        }))
    }

    /// From now on, closing the server removes the files of those listeners that are Unix sockets
    /// with a path, as long as they are still theirs.
    ///
    /// # Errors
    /// When a file cannot be looked at.
    pub fn cleanup_socket(&self) -> io::Result<()> {
        let listeners = self.0.listeners.borrow();
        listeners.iter().try_for_each(|listener| {
            let address = self.0.event_loop.reactor().local_address(listener.fd)?;
            if let Some(path) = address.path() {
                listener.file.replace(SocketFile::at(path)?);
            }
            Ok(())
        })
    }

    /// Listens and accepts. Nothing happens when it does already.
    ///
    /// # Errors
    /// `NotConnected` when the server is closed; what the kernel says to listening: the server is
    /// closed then.
    pub fn start_serving(&self) -> io::Result<()> {
        match self.0.phase.get() {
            Phase::Serving => return Ok(()),
            Phase::Closed => {
                return Err(io::Error::new(
                    io::ErrorKind::NotConnected,
                    "the server is closed",
                ));
            }
            Phase::Idle => {}
        }
        self.0.phase.set(Phase::Serving);
        let listeners = self.0.listeners.borrow().clone();
        let reactor = self.0.event_loop.reactor();
        let serving = listeners.iter().try_for_each(|listener| {
            reactor.listen(listener.fd, self.0.backlog)?;
            listener.start_accepting()
        });
        match listeners.first() {
            _ if serving.is_err() => self.close(),
            // The loop refers to the server from here on: it shows what the server holds.
            Some(first) => {
                let server = Rc::clone(&self.0) as Rc<dyn User>;
                self.0.event_loop.use_fd(first.fd, &server);
            }
            None => {}
        }
        serving
    }

    /// Serves until [`close`](Server::close) is called; dropping the future leaves the server as
    /// it is.
    ///
    /// # Errors
    /// As [`start_serving`](Server::start_serving).
    pub async fn serve_forever(&self) -> io::Result<()> {
        self.start_serving()?;
        self.wait(|server| server.phase.get() == Phase::Closed)
            .await;
        Ok(())
    }

    /// Closes the listening sockets, and removes the files of those that are to leave none (see
    /// [`cleanup_socket`](Server::cleanup_socket)). Clients go on.
    pub fn close(&self) {
        if self.0.phase.replace(Phase::Closed) == Phase::Closed {
            return;
        }
        let listeners = self.0.listeners.take();
        if let Some(first) = listeners.first() {
            self.0.event_loop.disuse_fd(first.fd, &*self.0);
        }
        for listener in &listeners {
            listener.close();
        }
        drop(listeners);
        self.0.wake();
    }

    /// Waits until the server is closed and every client's connection is lost.
    pub async fn wait_closed(&self) {
        self.wait(Inner::is_over).await;
    }

    /// Whether it is closed and every client's connection is lost.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_over()
    }

    /// Calls `call` when the server is closed and every client's connection is lost: at once, if
    /// that is so, or as soon as it is. For a host with futures of its own, which would otherwise
    /// hear of it some iterations later.
    pub fn when_over(&self, call: impl FnOnce() + 'static) {
        if self.0.is_over() {
            call();
        } else {
            self.0.when_over.borrow_mut().push(Box::new(call));
        }
    }

    /// Closes every client's transport: what they have buffered is sent.
    pub fn close_clients(&self) {
        self.clients().iter().for_each(Transport::close);
    }

    /// Aborts every client's transport.
    pub fn abort_clients(&self) {
        self.clients().iter().for_each(Transport::abort);
    }

    /// Whether it accepts connections.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.0.phase.get() == Phase::Serving
    }

    /// Whether [`close`](Server::close) was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.phase.get() == Phase::Closed
    }

    /// Whether somebody besides this handle refers to the server: other handles, the loop while
    /// it serves, clients that are attached.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }

    /// How many clients are attached.
    #[must_use]
    pub fn client_count(&self) -> usize {
        self.0.clients.borrow().len()
    }

    /// The descriptors of the listening sockets; none when the server is closed.
    #[must_use]
    pub fn fds(&self) -> Vec<RawFd> {
        self.0
            .listeners
            .borrow()
            .iter()
            .map(|listener| listener.fd)
            .collect()
    }

    /// The addresses of the listening sockets; none when the server is closed.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddress> {
        let reactor = self.0.event_loop.reactor();
        self.fds()
            .into_iter()
            .filter_map(|fd| reactor.local_address(fd).ok())
            .collect()
    }

    /// Lets a host put its own socket object in the place of the listener `fd`; see
    /// [`with_socket`](crate::transports::BaseTransport::with_socket).
    pub fn with_socket(&self, fd: RawFd, exchange: &mut dyn FnMut(Socket) -> Socket) {
        let listeners = self.0.listeners.borrow().clone();
        for listener in listeners.iter().filter(|listener| listener.fd == fd) {
            let socket = listener.socket.take();
            let socket = socket.map(&mut *exchange);
            listener.socket.replace(socket);
        }
    }

    /// The loop that serves.
    #[must_use]
    pub fn event_loop(&self) -> &EventLoop<H> {
        &self.0.event_loop
    }

    fn clients(&self) -> Vec<Transport<H>> {
        self.0
            .clients
            .borrow()
            .iter()
            .map(|(_, client)| client.clone())
            .collect()
    }

    async fn wait(&self, done: impl Fn(&Inner<H>) -> bool) {
        poll_fn(|cx| {
            if done(&self.0) {
                return Poll::Ready(());
            }
            let mut waiters = self.0.waiters.borrow_mut();
            if !waiters.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiters.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

impl<H: Host> Inner<H> {
    /// Makes the transport of a connection that was accepted.
    fn serve(&self, socket: Socket, origin: Origin) {
        if self.phase.get() == Phase::Closed {
            return;
        }
        let protocol = match self.service.protocol() {
            Ok(protocol) => protocol,
            Err(error) => return self.report_creation(error),
        };
        // The factory may have closed the server.
        if self.phase.get() == Phase::Closed {
            return;
        }
        // No other client gets this number before this one: a transport that starts calls nobody who could
        // accept one.
        let number = self.clients.borrow().vacant_key();
        let client = Client(Weak::clone(&self.this) as Weak<dyn Clients>, number as u32);
        let upper = protocol.upper_transport();
        let transport = Stream::start(&self.event_loop, socket, protocol, origin, Some(client));
        // Closing the clients closes what their programs know, and that closes what lies below.
        let transport = upper.unwrap_or(transport);
        self.clients.borrow_mut().insert(transport);
    }

    /// Whether it is closed and every client's connection is lost.
    fn is_over(&self) -> bool {
        self.phase.get() == Phase::Closed && self.clients.borrow().is_empty()
    }

    fn wake(&self) {
        let waiters = self.waiters.take();
        waiters.into_iter().for_each(Waker::wake);
        if self.is_over() {
            let calls = self.when_over.take();
            calls.into_iter().for_each(|call| call());
        }
    }

    /// Like asyncio, only debug mode speaks of a factory that failed.
    fn report_creation(&self, error: H::Error) {
        if self.event_loop.host().escapes(&error) {
            self.event_loop.interrupt(error);
        } else if self.event_loop.debug() {
            self.service.report(FAILED_CREATION, None, error);
        }
    }
}

impl<H: Host> Clients for Inner<H> {
    fn detach(&self, client: u32) {
        let transport = self.clients.borrow_mut().try_remove(client as usize);
        drop(transport);
        if self.phase.get() == Phase::Closed && self.clients.borrow().is_empty() {
            self.wake();
        }
    }
}

impl<H: Host> User for Inner<H> {
    fn abandon(&self) {
        if let Some(this) = self.this.upgrade() {
            Server(this).close();
        }
    }

    fn visit(&self, visit: &mut dyn FnMut(&dyn Any)) {
        if let Some(service) = self.service.as_any() {
            visit(service);
        }
    }
}

impl<H: Host> Clone for Server<H> {
    fn clone(&self) -> Self {
        Server(Rc::clone(&self.0))
    }
}

impl<H: Host> fmt::Debug for Server<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.local_addresses();
        write!(
            f,
            "<Server {:?} clients={} {addresses:?}>",
            self.0.phase.get(),
            self.client_count()
        )
    }
}
