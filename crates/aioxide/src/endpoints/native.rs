//! `create_connection` and `create_server` with Rust's manners: names in, results out.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::{AddressErrors, BACKLOG, BindOptions, Endpoint, HappyEyeballs};
use crate::event_loop::EventLoop;
use crate::event_loop::host::Report;
use crate::event_loop::native::{Native, guard};
use crate::protocols::{AnyProtocol, StreamProtocol};
use crate::reactor::Socket;
use crate::server::{Server, Service};
use crate::sock::names::Query;
use crate::sys::address::{Family, SocketAddress};
#[cfg(feature = "rustls")]
use crate::tls::{self, ClientTls, ServerTls, native::Establishing};
use crate::transports::{DatagramTransport, Transport};

/// Closes a transport whose creator has lost interest.
pub(crate) struct CloseOnDrop<T: Closable>(Option<T>);

/// A handle to a transport that can be closed.
pub(crate) trait Closable {
    fn close(&self);
}

impl Closable for Transport {
    fn close(&self) {
        Transport::close(self);
    }
}

impl Closable for DatagramTransport {
    fn close(&self) {
        DatagramTransport::close(self);
    }
}

impl<T: Closable> CloseOnDrop<T> {
    /// Waits for `made`; dropping the future before it is done closes the transport.
    pub(crate) async fn until(made: impl Future<Output = ()>, transport: T) -> T
    where
        T: Clone,
    {
        let mut unfinished = CloseOnDrop(Some(transport.clone()));
        made.await;
        unfinished.0 = None;
        transport
    }
}

impl<T: Closable> Drop for CloseOnDrop<T> {
    fn drop(&mut self) {
        if let Some(transport) = &self.0 {
            transport.close();
        }
    }
}

/// Where to connect to: see [`EventLoop::create_connection`].
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// The family of the addresses; any by default.
    pub family: Family,
    /// A host and a port to connect from.
    pub local_address: Option<(String, u16)>,
    /// How long an address is tried alone, before the next one is tried beside it; RFC 8305
    /// recommends 250 ms. Without a delay each is tried until it has failed.
    pub happy_eyeballs_delay: Option<Duration>,
    /// How many addresses of the first family come before the families take turns; 0 leaves them
    /// in the resolver's order. `None` is 1 with a delay, and 0 without.
    pub interleave: Option<usize>,
    /// TLS over the connection. Its server is expected to be the host that is connected to, unless
    /// [`with_server_name`](ClientTls::with_server_name) says otherwise.
    #[cfg(feature = "rustls")]
    pub tls: Option<ClientTls>,
}

/// Where and how to listen: see [`EventLoop::create_server`].
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The family of the addresses; any by default.
    pub family: Family,
    /// Connections that wait to be accepted at the most.
    pub backlog: i32,
    /// What is set on the listening sockets.
    pub bind: BindOptions,
    /// Whether the server listens at once.
    pub start_serving: bool,
    /// TLS over each connection. A client whose handshake fails is not heard of, but in the log at the
    /// level of debugging.
    #[cfg(feature = "rustls")]
    pub tls: Option<ServerTls>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            family: Family::UNSPEC,
            backlog: BACKLOG,
            bind: BindOptions::default(),
            start_serving: true,
            #[cfg(feature = "rustls")]
            tls: None,
        }
    }
}

/// Puts a layer below the protocol of a server's client.
pub(super) type Secure = dyn Fn(
    &EventLoop,
    Rc<dyn StreamProtocol<Native>>,
) -> io::Result<Rc<dyn StreamProtocol<Native>>>;

#[cfg(feature = "rustls")]
pub(super) fn secure(tls: &Option<ServerTls>) -> Option<Box<Secure>> {
    let tls = tls.clone()?;
    Some(Box::new(move |event_loop, protocol| {
        tls::native::secure(event_loop, &tls, protocol)
    }))
}

impl EventLoop {
    /// Connects to a host, and makes a protocol for the connection. Completes when
    /// `connection_made` was called; over TLS that is when the handshake is over.
    ///
    /// # Errors
    /// When the name cannot be resolved, or none of its addresses be connected to: the error has
    /// [`AddressErrors`] inside. Why the TLS handshake has failed.
    pub async fn create_connection<P: AnyProtocol>(
        &self,
        factory: impl FnOnce() -> P,
        host: &str,
        port: u16,
        options: &ConnectOptions,
    ) -> io::Result<Transport> {
        #[cfg(feature = "rustls")]
        let tls = match &options.tls {
            // What is wrong with the name is known before anything is done.
            Some(tls) => Some((tls.session(Some(host))?, tls.timeouts())),
            None => None,
        };
        let remote = self.resolve(Some(host), port, options.family, 0).await?;
        let local = match &options.local_address {
            Some((host, port)) => Some(self.resolve(Some(host), *port, options.family, 0).await?),
            None => None,
        };
        let how = HappyEyeballs {
            delay: options.happy_eyeballs_delay,
            interleave: options.interleave,
        };
        let (socket, peer) = self.connect_any(remote, local.as_deref(), how).await?;
        let protocol = factory().into_stream_protocol();
        #[cfg(feature = "rustls")]
        if let Some((session, timeouts)) = tls {
            let establishing = Establishing::new(self, session, protocol, timeouts);
            return self.started_tls(socket, establishing, Some(peer)).await;
        }
        Ok(self.started(socket, protocol, Some(peer)).await)
    }

    /// Makes a transport of a socket that is connected already.
    ///
    /// # Errors
    /// When the socket is no byte stream.
    pub async fn connect_accepted_socket<P: AnyProtocol>(
        &self,
        factory: impl FnOnce() -> P,
        socket: impl Into<OwnedFd>,
    ) -> io::Result<Transport> {
        let socket = adopt(socket.into())?;
        Ok(self
            .started(socket, factory().into_stream_protocol(), None)
            .await)
    }

    /// [`connect_accepted_socket`](EventLoop::connect_accepted_socket) over TLS, of which this is the
    /// server's side. Completes when the handshake is over.
    ///
    /// # Errors
    /// When the socket is no byte stream; why the handshake has failed.
    #[cfg(feature = "rustls")]
    pub async fn connect_accepted_socket_tls<P: AnyProtocol>(
        &self,
        factory: impl FnOnce() -> P,
        socket: impl Into<OwnedFd>,
        tls: &ServerTls,
    ) -> io::Result<Transport> {
        let socket = adopt(socket.into())?;
        let session = tls.session()?;
        let protocol = factory().into_stream_protocol();
        let establishing = Establishing::new(self, session, protocol, tls.timeouts());
        self.started_tls(socket, establishing, None).await
    }

    /// Listens on every address of a host (`None` is every address of the machine); `factory`
    /// makes a protocol for each client. Port 0 lets the kernel choose, for each address its own.
    ///
    /// # Errors
    /// When the name cannot be resolved, or an address not be bound to.
    pub async fn create_server<P: AnyProtocol>(
        &self,
        factory: impl Fn() -> P + 'static,
        host: Option<&str>,
        port: u16,
        options: &ServerOptions,
    ) -> io::Result<Server> {
        let endpoints = self
            .resolve(host, port, options.family, libc::AI_PASSIVE)
            .await?;
        let bound = self.bind_all(&endpoints, options.bind)?;
        if bound.sockets.is_empty() {
            return Err(AddressErrors(bound.passed_over).into());
        }
        self.serve(factory, bound.sockets, options)
    }

    /// [`create_server`](EventLoop::create_server) on a socket that is bound already.
    ///
    /// # Errors
    /// When the socket is no byte stream, or cannot listen.
    pub fn create_server_on<P: AnyProtocol>(
        &self,
        factory: impl Fn() -> P + 'static,
        listener: impl Into<OwnedFd>,
        options: &ServerOptions,
    ) -> io::Result<Server> {
        self.serve(factory, vec![adopt(listener.into())?], options)
    }

    fn serve<P: AnyProtocol>(
        &self,
        factory: impl Fn() -> P + 'static,
        sockets: Vec<Socket>,
        options: &ServerOptions,
    ) -> io::Result<Server> {
        #[cfg(feature = "rustls")]
        let secure = secure(&options.tls);
        #[cfg(not(feature = "rustls"))]
        let secure = None;
        let server = self.server(factory, sockets, options.backlog, secure);
        if options.start_serving {
            server.start_serving()?;
        }
        Ok(server)
    }

    /// A server that does not listen yet.
    pub(super) fn server<P: AnyProtocol>(
        &self,
        factory: impl Fn() -> P + 'static,
        sockets: Vec<Socket>,
        backlog: i32,
        secure: Option<Box<Secure>>,
    ) -> Server {
        let service = Rc::new(Factory {
            event_loop: self.clone(),
            factory,
            secure,
        });
        Server::new(self, sockets, backlog, service)
    }

    /// A transport whose `connection_made` was called. Dropping the future before closes it.
    pub(super) async fn started(
        &self,
        socket: Socket,
        protocol: Rc<dyn StreamProtocol<Native>>,
        peer: Option<SocketAddress>,
    ) -> Transport {
        let (transport, made) = self.start_transport(socket, protocol, peer);
        CloseOnDrop::until(made, transport).await
    }

    /// A transport over TLS whose `connection_made` was called; likewise.
    #[cfg(feature = "rustls")]
    pub(super) async fn started_tls(
        &self,
        socket: Socket,
        establishing: Establishing,
        peer: Option<SocketAddress>,
    ) -> io::Result<Transport> {
        let (below, made) = self.start_transport(socket, establishing.layer(), peer);
        // A connection whose layer has not begun is not the layer's to close.
        CloseOnDrop::until(made, below).await;
        establishing.transport().await
    }

    async fn resolve(
        &self,
        host: Option<&str>,
        port: u16,
        family: Family,
        flags: i32,
    ) -> io::Result<Vec<Endpoint>> {
        let query = Query {
            host: host.map(str::to_owned),
            service: Some(port.to_string()),
            family,
            kind: libc::SOCK_STREAM,
            protocol: 0,
            flags,
        };
        Ok(self
            .getaddrinfo(query)
            .await?
            .into_iter()
            .map(Endpoint::from)
            .collect())
    }
}

/// A Rust program's side of a server.
struct Factory<F> {
    event_loop: EventLoop,
    factory: F,
    secure: Option<Box<Secure>>,
}

impl<P: AnyProtocol, F: Fn() -> P> Service<Native> for Factory<F> {
    fn protocol(&self) -> io::Result<Rc<dyn StreamProtocol<Native>>> {
        let protocol = guard(|| (self.factory)().into_stream_protocol())?;
        match &self.secure {
            None => Ok(protocol),
            Some(secure) => secure(&self.event_loop, protocol),
        }
    }

    fn report(&self, message: &'static str, listener: Option<RawFd>, error: io::Error) {
        self.event_loop.report(Report {
            message: message.into(),
            error: Some(error),
            subject: listener.map(|fd| format!("listening socket fd={fd}")),
        });
    }

    fn report_leftover(&self, path: &Path, error: io::Error) {
        let path = path.display();
        log::error!("cannot clean up the listening Unix socket {path}: {error}");
    }
}

/// A socket of the program's, from now on ours: non-blocking, and a byte stream.
fn adopt(fd: OwnedFd) -> io::Result<Socket> {
    use std::os::fd::AsRawFd;
    if !crate::sys::socket::is_stream(fd.as_raw_fd())? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a stream socket was expected: this one is of another type",
        ));
    }
    crate::sys::socket::set_nonblocking(fd.as_raw_fd())?;
    Ok(fd.into())
}
