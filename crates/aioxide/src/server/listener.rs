//! A listening socket: accepting, and resting when the system has no room.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::Inner;
use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::event_loop::sources::Ready;
use crate::reactor::{Op, Side, Socket, Token};
use crate::sys::address::SocketAddress;
use crate::sys::socket_file::SocketFile;
use crate::transports::base::Origin;

/// How long a listener rests when the system has no room for a connection (`EMFILE` and its
/// like). Level-triggered readiness would make it spin meanwhile: asyncio's `ACCEPT_RETRY_DELAY`.
pub const ACCEPT_RETRY_DELAY: Duration = Duration::from_secs(1);

/// One listening socket.
pub(super) struct Listener<H: Host> {
    server: Weak<Inner<H>>,
    pub(super) fd: RawFd,
    /// `None` when the server is closed.
    pub(super) socket: RefCell<Option<Socket>>,
    /// What closing the listener removes; see [`Server::cleanup_socket`](super::Server).
    pub(super) file: RefCell<Option<SocketFile>>,
    accepting: Cell<Option<Token>>,
}

impl<H: Host> Listener<H> {
    pub(super) fn new(server: &Weak<Inner<H>>, socket: Socket) -> Rc<Listener<H>> {
        Rc::new(Listener {
            server: Weak::clone(server),
            fd: socket.fd(),
            socket: RefCell::new(Some(socket)),
            file: RefCell::default(),
            accepting: Cell::default(),
        })
    }

    pub(super) fn start_accepting(self: &Rc<Self>) -> io::Result<()> {
        if let Some(server) = self.server.upgrade()
            && self.socket.borrow().is_some()
            && self.accepting.get().is_none()
        {
            let reactor = server.event_loop.reactor();
            // An address that is no wildcard is that of each connection.
            let local = reactor.local_address(self.fd).ok();
            let local = local.filter(|local| {
                local.ip().is_some_and(|address| {
                    let ip = address.ip();
                    (ip.is_ipv4() || ip.is_loopback()) && !ip.is_unspecified()
                })
            });
            // The loop keeps the server alive, through this, as long as it listens.
            let accepting = Rc::new(Accepting {
                listener: Rc::clone(self),
                server,
                local,
            });
            let token =
                accepting
                    .server
                    .event_loop
                    .watch(self.fd, Op::Accept, accepting.clone())?;
            self.accepting.set(Some(token));
        }
        Ok(())
    }

    fn stop_accepting(&self, event_loop: &EventLoop<H>) {
        if let Some(token) = self.accepting.take() {
            event_loop.unwatch(token);
        }
    }

    pub(super) fn close(&self) {
        if let Some(server) = self.server.upgrade() {
            self.stop_accepting(&server.event_loop);
            // The file first: while the socket is open, its number is nobody else's.
            if let Some(file) = self.file.take()
                && let Err(error) = file.remove()
            {
                server.service.report_leftover(file.path(), error);
            }
        }
        let socket = self.socket.take();
        drop(socket);
    }
}

/// A listener that waits for connections.
struct Accepting<H: Host> {
    listener: Rc<Listener<H>>,
    server: Rc<Inner<H>>,
    /// The address of what it accepts.
    local: Option<SocketAddress>,
}

impl<H: Host> Accepting<H> {
    fn accept_one(&self) -> io::Result<()> {
        let (socket, peer) = self.server.event_loop.reactor().accept(self.listener.fd)?;
        let server = Rc::clone(&self.server);
        let origin = Origin {
            peer,
            local: self.local.clone(),
        };
        // Connections of one go are made one by one in the next iteration: what closes the server
        // or stops the loop meanwhile is obeyed before the next client is served.
        self.server
            .event_loop
            .queue_step(move || server.serve(socket, origin));
        Ok(())
    }

    /// The system has no room: rest, then try again.
    fn rest(&self, error: io::Error) {
        let event_loop = &self.server.event_loop;
        self.listener.stop_accepting(event_loop);
        let fd = self.listener.fd;
        self.server.service.report(
            "socket.accept() out of system resource",
            Some(fd),
            error.into(),
        );
        let listener = Rc::clone(&self.listener);
        // Like a listener that accepts, one that rests keeps its server alive.
        let server = Rc::clone(&self.server);
        event_loop.spawn(async move {
            server.event_loop.sleep(ACCEPT_RETRY_DELAY).await;
            if let Err(error) = listener.start_accepting() {
                let message = "accepting connections could not be resumed";
                server
                    .service
                    .report(message, Some(listener.fd), error.into());
            }
        });
    }
}

impl<H: Host> Ready for Accepting<H> {
    fn ready(&self, _side: Side) {
        for _ in 0..self.server.backlog.max(1) {
            match self.accept_one() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The client has gone before it was accepted; others wait.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if is_out_of_resources(&error) => return self.rest(error),
                Err(error) => {
                    let message = "accepting a connection failed";
                    let fd = self.listener.fd;
                    return self.server.service.report(message, Some(fd), error.into());
                }
            }
        }
    }

    fn name(&self) -> &'static str {
        "server"
    }
}

/// The errors after which the connection stays in the kernel's queue.
fn is_out_of_resources(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}
