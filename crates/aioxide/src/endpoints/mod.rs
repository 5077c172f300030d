//! From addresses to transports: `create_connection`, `create_server`, and both for Unix sockets.
//!
//! Each has two halves. The lower one works on addresses and is the same for every language:
//! [`connect_any`](EventLoop::connect_any), [`bind_all`](EventLoop::bind_all),
//! [`bind_unix`](EventLoop::bind_unix), [`start_transport`](EventLoop::start_transport). The upper
//! one resolves names first and has Rust's manners.
//!
//! | file | what |
//! |---|---|
//! | `connecting` | the first of several addresses that answers |
//! | `happy_eyeballs` | which of them is tried when; pure |
//! | `unix` | Unix sockets and their files |
//! | `native` | Rust's `create_connection` and `create_server` |
//! | `datagram`, `pipe` | endpoints of the other shapes |
//! | `error` | why an address did not do |

mod connecting;
mod datagram;
mod error;
mod happy_eyeballs;
pub(crate) mod native;
mod pipe;
mod unix;

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

pub use connecting::HappyEyeballs;
pub use datagram::{DatagramAddresses, DatagramOptions};
pub use error::{AddressError, AddressErrors, Stage};
pub use happy_eyeballs::interleave;
pub use native::{ConnectOptions, ServerOptions};
pub use unix::{UnixConnectOptions, UnixServerOptions};

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

impl Endpoint {
    /// The endpoint of a byte stream.
    #[must_use]
    pub fn stream(address: SocketAddress) -> Endpoint {
        Endpoint {
            family: address.family(),
            kind: libc::SOCK_STREAM,
            protocol: 0,
            address,
        }
    }
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
            Stream::start(self, socket, protocol, peer.into(), None),
            self.turn(),
        )
    }
}
