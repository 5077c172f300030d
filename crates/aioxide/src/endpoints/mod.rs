//! From addresses to transports: `create_connection` and `create_server`.
//!
//! Each has two halves. The lower one works on addresses and is the same for every language:
//! [`connect_any`](EventLoop::connect_any), [`bind_all`](EventLoop::bind_all),
//! [`start_transport`](EventLoop::start_transport). The upper one,
//! `native.rs`, resolves names first and has Rust's manners.

mod datagram;
pub(crate) mod native;
mod pipe;

use std::fmt;
use std::io;
use std::rc::Rc;

use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::protocols::StreamProtocol;
use crate::reactor::Socket;
use crate::sock::names::Resolved;
use crate::sys::address::{Family, SocketAddress};
use crate::sys::socket::SocketOption;
use crate::transports::Transport;
use crate::transports::stream::Stream;

pub use datagram::{DatagramAddresses, DatagramOptions};
pub use native::{ConnectOptions, ServerOptions};

/// Connections that wait to be accepted, when the program does not say: asyncio's default.
pub const BACKLOG: i32 = 100;

/// An address to connect or to bind to, and the socket that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The family of the socket.
    pub family: Family,
    /// `SOCK_*`.
    pub kind: i32,
    /// `IPPROTO_*`, or 0.
    pub protocol: i32,
    /// The address.
    pub address: SocketAddress,
}

impl From<Resolved> for Endpoint {
    fn from(resolved: Resolved) -> Self {
        Endpoint {
            family: resolved.family,
            kind: resolved.kind,
            protocol: resolved.protocol,
            address: resolved.address.into(),
        }
    }
}

/// Why one address did not do.
#[derive(Debug)]
pub struct AddressError {
    /// Where it failed.
    pub stage: Stage,
    /// The address.
    pub address: SocketAddress,
    /// What the kernel said.
    pub error: io::Error,
}

/// The steps on the way to a usable socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Making the socket.
    Open,
    /// Giving it its own address.
    Bind,
    /// No local address is of the remote one's family.
    NoLocalAddress,
    /// Connecting it.
    Connect,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AddressError {
            stage,
            address,
            error,
        } = self;
        match stage {
            Stage::Open => write!(f, "no socket for {address}: {error}"),
            Stage::Bind => write!(f, "cannot bind to {address}: {error}"),
            Stage::NoLocalAddress => write!(f, "no local address of the family of {address}"),
            Stage::Connect => write!(f, "cannot connect to {address}: {error}"),
        }
    }
}

impl std::error::Error for AddressError {}

impl From<AddressError> for io::Error {
    fn from(error: AddressError) -> Self {
        io::Error::new(error.error.kind(), error)
    }
}

/// What [`bind_all`](EventLoop::bind_all) sets on the sockets.
#[derive(Clone, Copy, Debug)]
pub struct BindOptions {
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// `SO_REUSEPORT`, on Internet sockets.
    pub reuse_port: bool,
    /// `SO_KEEPALIVE`, which connections inherit.
    pub keep_alive: bool,
}

impl Default for BindOptions {
    fn default() -> Self {
        BindOptions {
            reuse_address: true,
            reuse_port: false,
            keep_alive: false,
        }
    }
}

/// Which sockets [`bind_all`](EventLoop::bind_all) could make, and which addresses it passed over.
#[derive(Debug, Default)]
pub struct Bound {
    /// The sockets, in the order of their addresses.
    pub sockets: Vec<Socket>,
    /// Addresses of families that this machine does not have.
    pub passed_over: Vec<AddressError>,
}

impl<H: Host> EventLoop<H> {
    /// Connects to the first endpoint that can be connected to, one after the other. With `local`
    /// addresses, the socket is bound to the first that it can be bound to.
    ///
    /// # Errors
    /// Why each endpoint did not do, in order.
    pub async fn connect_any(
        &self,
        remote: &[Endpoint],
        local: Option<&[Endpoint]>,
    ) -> Result<(Socket, SocketAddress), Vec<AddressError>> {
        let mut errors = Vec::new();
        for endpoint in remote {
            match self.connect_one(endpoint, local, &mut errors).await {
                Ok(socket) => return Ok((socket, endpoint.address.clone())),
                Err(error) => errors.push(error),
            }
        }
        Err(errors)
    }

    async fn connect_one(
        &self,
        endpoint: &Endpoint,
        local: Option<&[Endpoint]>,
        errors: &mut Vec<AddressError>,
    ) -> Result<Socket, AddressError> {
        let failed = |stage, error| AddressError {
            stage,
            address: endpoint.address.clone(),
            error,
        };
        let socket = self
            .reactor()
            .open(endpoint.family, endpoint.kind, endpoint.protocol)
            .map_err(|error| failed(Stage::Open, error))?;
        if let Some(local) = local {
            self.bind_one_of(&socket, endpoint, local, errors)?;
        }
        self.connect_fd(socket.fd(), &endpoint.address)
            .await
            .map_err(|error| failed(Stage::Connect, error))?;
        Ok(socket)
    }

    /// Binds to the first local address of the endpoint's family that does.
    fn bind_one_of(
        &self,
        socket: &Socket,
        endpoint: &Endpoint,
        local: &[Endpoint],
        errors: &mut Vec<AddressError>,
    ) -> Result<(), AddressError> {
        let mut last = None;
        for candidate in local.iter().filter(|local| local.family == endpoint.family) {
            match self.reactor().bind(socket.fd(), &candidate.address) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    let address = candidate.address.clone();
                    errors.extend(last.replace(AddressError {
                        stage: Stage::Bind,
                        address,
                        error,
                    }));
                }
            }
        }
        Err(last.unwrap_or_else(|| AddressError {
            stage: Stage::NoLocalAddress,
            address: endpoint.address.clone(),
            error: io::ErrorKind::AddrNotAvailable.into(),
        }))
    }

    /// Makes a bound socket for each endpoint. Families that the machine does not have are passed
    /// over.
    ///
    /// # Errors
    /// The first address that cannot be bound to; the sockets made so far are closed.
    pub fn bind_all(
        &self,
        endpoints: &[Endpoint],
        options: BindOptions,
    ) -> Result<Bound, AddressError> {
        let mut bound = Bound::default();
        for endpoint in endpoints {
            let failed = |stage, error| AddressError {
                stage,
                address: endpoint.address.clone(),
                error,
            };
            let opened = self
                .reactor()
                .open(endpoint.family, endpoint.kind, endpoint.protocol);
            let socket = match opened {
                Ok(socket) => socket,
                Err(error) => {
                    bound.passed_over.push(failed(Stage::Open, error));
                    continue;
                }
            };
            match self.bind_listener(&socket, endpoint, options) {
                Ok(()) => bound.sockets.push(socket),
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                    bound.passed_over.push(failed(Stage::Bind, error));
                }
                Err(error) => return Err(failed(Stage::Bind, error)),
            }
        }
        Ok(bound)
    }

    fn bind_listener(
        &self,
        socket: &Socket,
        endpoint: &Endpoint,
        options: BindOptions,
    ) -> io::Result<()> {
        let internet = matches!(endpoint.family, Family::INET | Family::INET6);
        let wanted = [
            (options.reuse_address, SocketOption::ReuseAddress),
            // Linux refuses it elsewhere since 6.12.9.
            (options.reuse_port && internet, SocketOption::ReusePort),
            (options.keep_alive, SocketOption::KeepAlive),
            // One socket for each family, as asyncio makes them.
            (endpoint.family == Family::INET6, SocketOption::Ipv6Only),
        ];
        for (_, option) in wanted.into_iter().filter(|(wanted, _)| *wanted) {
            self.reactor().set_option(socket.fd(), option)?;
        }
        self.reactor().bind(socket.fd(), &endpoint.address)
    }

    /// Makes the transport of a connected socket. The future is done when `connection_made` was
    /// called.
    pub fn start_transport(
        &self,
        socket: Socket,
        protocol: Rc<dyn StreamProtocol<H>>,
        peer: Option<SocketAddress>,
    ) -> (Transport<H>, impl Future<Output = ()> + use<H>) {
        (
            Stream::start(self, socket, protocol, peer, None),
            self.turn(),
        )
    }
}
