//! Unix sockets: `create_unix_connection`, `create_unix_server`.
//!
//! A path stands for a host and a port. One that begins with a NUL byte is an abstract name: it
//! lives in the kernel and leaves no file behind.

use std::io;
use std::path::Path;

#[cfg(feature = "rustls")]
use super::native::secure;
use super::{AddressError, BACKLOG, Endpoint, HappyEyeballs, Stage};
use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::protocols::AnyProtocol;
use crate::reactor::Socket;
use crate::server::Server;
use crate::sys::address::SocketAddress;
use crate::sys::socket_file;
#[cfg(feature = "rustls")]
use crate::tls::{ClientTls, ServerTls, native::Establishing};
use crate::transports::Transport;

/// How to connect: see [`EventLoop::create_unix_connection_with`].
#[derive(Clone, Debug, Default)]
pub struct UnixConnectOptions {
    /// TLS over the connection. Who is expected must be said
    /// ([`with_server_name`](ClientTls::with_server_name)): a path is no name of a server.
    #[cfg(feature = "rustls")]
    pub tls: Option<ClientTls>,
}

/// How to listen: see [`EventLoop::create_unix_server`].
#[derive(Clone, Debug)]
pub struct UnixServerOptions {
    /// Connections that wait to be accepted at the most.
    pub backlog: i32,
    /// Whether the server listens at once.
    pub start_serving: bool,
    /// Whether closing the server removes its socket's file, if it is still that socket's.
    pub cleanup_socket: bool,
    /// TLS over each connection.
    #[cfg(feature = "rustls")]
    pub tls: Option<ServerTls>,
}

impl Default for UnixServerOptions {
    fn default() -> Self {
        UnixServerOptions {
            backlog: BACKLOG,
            start_serving: true,
            cleanup_socket: true,
            #[cfg(feature = "rustls")]
            tls: None,
        }
    }
}

impl<H: Host> EventLoop<H> {
    /// Makes a socket that is bound to the address of a Unix socket. If a socket's file is in the
    /// way, it is removed; if it cannot be, `unremovable` is told why, and binding is tried
    /// nevertheless: a directory may be one in which files can be made, and not be looked at.
    ///
    /// # Errors
    /// Why it cannot be bound: `EADDRINUSE` for a file that is no socket's, and for an abstract
    /// name that is taken.
    pub fn bind_unix(
        &self,
        address: &SocketAddress,
        unremovable: impl FnOnce(&Path, io::Error),
    ) -> Result<Socket, AddressError> {
        let failed = |stage, error| AddressError {
            stage,
            address: address.clone(),
            error,
        };
        let socket = self
            .reactor()
            .open(address.family(), libc::SOCK_STREAM, 0)
            .map_err(|error| failed(Stage::Open, error))?;
        if let Some(path) = address.path()
            && let Err(error) = socket_file::remove_stale(path)
        {
            unremovable(path, error);
        }
        self.reactor()
            .bind(socket.fd(), address)
            .map_err(|error| failed(Stage::Bind, error))?;
        Ok(socket)
    }
}

impl EventLoop {
    /// Connects to a Unix socket, and makes a protocol for the connection. Completes when
    /// `connection_made` was called. A server that has no room for another client is waited for.
    ///
    /// # Errors
    /// When the path is none of a socket, or nobody listens on it.
    pub async fn create_unix_connection<P: AnyProtocol>(
        &self,
        factory: impl FnOnce() -> P,
        path: impl AsRef<Path>,
    ) -> io::Result<Transport> {
        self.create_unix_connection_with(factory, path, &UnixConnectOptions::default())
            .await
    }

    /// [`create_unix_connection`](EventLoop::create_unix_connection) with options.
    ///
    /// # Errors
    /// As that; why the TLS handshake has failed.
    pub async fn create_unix_connection_with<P: AnyProtocol>(
        &self,
        factory: impl FnOnce() -> P,
        path: impl AsRef<Path>,
        options: &UnixConnectOptions,
    ) -> io::Result<Transport> {
        #[cfg(feature = "rustls")]
        let tls = match &options.tls {
            Some(tls) => Some((tls.session(None)?, tls.timeouts())),
            None => None,
        };
        #[cfg(not(feature = "rustls"))]
        let UnixConnectOptions {} = options;
        let remote = vec![Endpoint::stream(SocketAddress::unix(path)?)];
        let (socket, peer) = self
            .connect_any(remote, None, HappyEyeballs::default())
            .await?;
        let protocol = factory().into_stream_protocol();
        #[cfg(feature = "rustls")]
        if let Some((session, timeouts)) = tls {
            let establishing = Establishing::new(self, session, protocol, timeouts);
            return self.started_tls(socket, establishing, Some(peer)).await;
        }
        Ok(self.started(socket, protocol, Some(peer)).await)
    }

    /// Listens on a Unix socket; `factory` makes a protocol for each client. A socket's file that
    /// is left at `path` by another server is replaced.
    ///
    /// # Errors
    /// When the path cannot be bound to.
    pub async fn create_unix_server<P: AnyProtocol>(
        &self,
        factory: impl Fn() -> P + 'static,
        path: impl AsRef<Path>,
        options: &UnixServerOptions,
    ) -> io::Result<Server> {
        let socket = self.bind_unix(&SocketAddress::unix(path)?, log_unremovable)?;
        #[cfg(feature = "rustls")]
        let secure = secure(&options.tls);
        #[cfg(not(feature = "rustls"))]
        let secure = None;
        let server = self.server(factory, vec![socket], options.backlog, secure);
        if options.cleanup_socket {
            server.cleanup_socket()?;
        }
        if options.start_serving {
            server.start_serving()?;
        }
        Ok(server)
    }
}

/// The file of a stale socket is in the way, and stays there.
pub(super) fn log_unremovable(path: &Path, error: io::Error) {
    let path = path.display();
    log::error!("cannot check or remove the stale Unix socket {path}: {error}");
}
