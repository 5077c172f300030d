//! `create_datagram_endpoint`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use super::native::CloseOnDrop;
use super::unix::log_unremovable;
use super::{AddressError, AddressErrors, Endpoint, Stage};
use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::event_loop::native::guard;
use crate::protocols::{DatagramProtocol, MessageProtocol, into_message_protocol};
use crate::reactor::Socket;
use crate::sock::names::Query;
use crate::sys::address::{Family, SocketAddress};
use crate::sys::socket::{SocketOption, is_datagram, set_nonblocking};
use crate::sys::socket_file;
use crate::transports::{Datagram, DatagramTransport};

/// The addresses of an endpoint, of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatagramAddresses {
    /// The family of the socket.
    pub family: Family,
    /// `IPPROTO_*`, or 0.
    pub protocol: i32,
    /// What the socket is bound to.
    pub local: Option<SocketAddress>,
    /// Whom everything is sent to.
    pub remote: Option<SocketAddress>,
}

impl DatagramAddresses {
    /// Joins what local and remote names stand for: one for each family that has all that was
    /// asked for. In the order in which the families were first seen.
    #[must_use]
    pub fn join(local: Option<&[Endpoint]>, remote: Option<&[Endpoint]>) -> Vec<DatagramAddresses> {
        let mut joined: Vec<DatagramAddresses> = Vec::new();
        let locals = local.unwrap_or_default().iter().map(|local| (local, true));
        let remotes = remote
            .unwrap_or_default()
            .iter()
            .map(|remote| (remote, false));
        for (endpoint, is_local) in locals.chain(remotes) {
            let same = |addresses: &DatagramAddresses| {
                addresses.family == endpoint.family && addresses.protocol == endpoint.protocol
            };
            let index = joined.iter().position(same).unwrap_or_else(|| {
                joined.push(DatagramAddresses {
                    family: endpoint.family,
                    protocol: endpoint.protocol,
                    local: None,
                    remote: None,
                });
                joined.len() - 1
            });
            let address = Some(endpoint.address.clone());
            if is_local {
                joined[index].local = address;
            } else {
                joined[index].remote = address;
            }
        }
        joined.retain(|addresses| {
            (local.is_none() || addresses.local.is_some())
                && (remote.is_none() || addresses.remote.is_some())
        });
        joined
    }
}

/// How the socket of an endpoint is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct DatagramOptions {
    /// The family of the addresses; any by default.
    pub family: Family,
    /// `SO_REUSEPORT`: several endpoints share a port.
    pub reuse_port: bool,
    /// `SO_BROADCAST`. A remote address is then not connected to: answers come from others.
    pub allow_broadcast: bool,
}

impl<H: Host> EventLoop<H> {
    /// A socket for the first of `candidates` that does, and whom everything is sent to. The file
    /// that another socket has left at a path is removed; if it cannot be, `unremovable` is told
    /// why, as by [`bind_unix`](EventLoop::bind_unix).
    ///
    /// # Errors
    /// Why each of them did not do, in order.
    pub fn open_datagram_socket(
        &self,
        candidates: &[DatagramAddresses],
        options: DatagramOptions,
        mut unremovable: impl FnMut(&Path, io::Error),
    ) -> Result<(Socket, Option<SocketAddress>), AddressErrors> {
        let mut errors = Vec::new();
        for addresses in candidates {
            if let Some(path) = addresses.local.as_ref().and_then(SocketAddress::path)
                && let Err(error) = socket_file::remove_stale(path)
            {
                unremovable(path, error);
            }
            match self.open_one(addresses, options) {
                Ok(socket) => return Ok((socket, addresses.remote.clone())),
                Err(error) => errors.push(error),
            }
        }
        Err(AddressErrors(errors))
    }

    fn open_one(
        &self,
        addresses: &DatagramAddresses,
        options: DatagramOptions,
    ) -> Result<Socket, AddressError> {
        let shown = addresses.local.as_ref().or(addresses.remote.as_ref());
        let failed = |stage, address: Option<&SocketAddress>| {
            let address = address.or(shown).cloned();
            let address = address.unwrap_or_else(SocketAddress::unnamed);
            move |error| AddressError {
                stage,
                address,
                error,
            }
        };
        let reactor = self.reactor();
        let socket = reactor
            .open(addresses.family, libc::SOCK_DGRAM, addresses.protocol)
            .map_err(failed(Stage::Open, None))?;
        let wanted = [
            (options.reuse_port, SocketOption::ReusePort),
            (options.allow_broadcast, SocketOption::Broadcast),
        ];
        for (_, option) in wanted.into_iter().filter(|(wanted, _)| *wanted) {
            reactor
                .set_option(socket.fd(), option)
                .map_err(failed(Stage::Option, None))?;
        }
        if let Some(local) = &addresses.local {
            reactor
                .bind(socket.fd(), local)
                .map_err(failed(Stage::Bind, Some(local)))?;
        }
        if let Some(remote) = addresses
            .remote
            .as_ref()
            .filter(|_| !options.allow_broadcast)
        {
            // A datagram socket has nobody to wait for.
            reactor
                .connect(socket.fd(), remote)
                .map_err(failed(Stage::Begin, Some(remote)))?;
        }
        Ok(socket)
    }

    /// Makes the transport of a datagram socket, which is non-blocking. With a `remote` address,
    /// everything is sent there. The future is done when `connection_made` was called.
    pub fn start_datagram_transport(
        &self,
        socket: Socket,
        protocol: Rc<dyn MessageProtocol<H>>,
        remote: Option<SocketAddress>,
    ) -> (DatagramTransport<H>, impl Future<Output = ()> + use<H>) {
        (Datagram::start(self, socket, protocol, remote), self.turn())
    }
}

impl EventLoop {
    /// Makes an endpoint for datagrams: bound to `local`, sending to `remote` and receiving from it
    /// alone, or both. Port 0 lets the kernel choose. Completes when `connection_made` was called.
    ///
    /// # Errors
    /// `InvalidInput` when there is no address at all; when a name cannot be resolved, or none of
    /// its addresses will do.
    pub async fn create_datagram_endpoint<P: DatagramProtocol>(
        &self,
        factory: impl FnOnce() -> P,
        local: Option<(&str, u16)>,
        remote: Option<(&str, u16)>,
        options: &DatagramOptions,
    ) -> io::Result<DatagramTransport> {
        if local.is_none() && remote.is_none() && options.family == Family::UNSPEC {
            let message = "an endpoint needs a local or a remote address, or a family";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let local = self.resolve_datagram(local, options).await?;
        let remote = self.resolve_datagram(remote, options).await?;
        let candidates = match (&local, &remote) {
            (None, None) => vec![DatagramAddresses {
                family: options.family,
                protocol: 0,
                local: None,
                remote: None,
            }],
            _ => DatagramAddresses::join(local.as_deref(), remote.as_deref()),
        };
        self.endpoint(factory, &candidates, *options).await
    }

    /// Makes an endpoint over a Unix socket: bound to the path `local`, sending to `remote`, or both.
    /// A path that begins with a zero byte is an abstract name.
    ///
    /// # Errors
    /// What the kernel says of the paths.
    pub async fn create_unix_datagram_endpoint<P: DatagramProtocol>(
        &self,
        factory: impl FnOnce() -> P,
        local: Option<&Path>,
        remote: Option<&Path>,
    ) -> io::Result<DatagramTransport> {
        let candidates = [DatagramAddresses {
            family: Family::UNIX,
            protocol: 0,
            local: local.map(SocketAddress::unix).transpose()?,
            remote: remote.map(SocketAddress::unix).transpose()?,
        }];
        let options = DatagramOptions::default();
        self.endpoint(factory, &candidates, options).await
    }

    /// Makes an endpoint over a socket that the program has made: for multicast groups, raw
    /// sockets, other families.
    ///
    /// # Errors
    /// `InvalidInput` when it is a byte stream.
    pub async fn create_datagram_endpoint_on<P: DatagramProtocol>(
        &self,
        factory: impl FnOnce() -> P,
        socket: impl Into<OwnedFd>,
    ) -> io::Result<DatagramTransport> {
        let socket = socket.into();
        if !is_datagram(socket.as_raw_fd())? {
            let message = "a datagram socket was expected: this one is a byte stream";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        set_nonblocking(socket.as_raw_fd())?;
        self.started_datagram(factory, socket.into(), None).await
    }

    async fn endpoint<P: DatagramProtocol>(
        &self,
        factory: impl FnOnce() -> P,
        candidates: &[DatagramAddresses],
        options: DatagramOptions,
    ) -> io::Result<DatagramTransport> {
        let (socket, remote) = self.open_datagram_socket(candidates, options, log_unremovable)?;
        self.started_datagram(factory, socket, remote).await
    }

    async fn started_datagram<P: DatagramProtocol>(
        &self,
        factory: impl FnOnce() -> P,
        socket: Socket,
        remote: Option<SocketAddress>,
    ) -> io::Result<DatagramTransport> {
        let protocol = into_message_protocol(guard(factory)?);
        let (transport, made) = self.start_datagram_transport(socket, protocol, remote);
        Ok(CloseOnDrop::until(made, transport).await)
    }

    async fn resolve_datagram(
        &self,
        name: Option<(&str, u16)>,
        options: &DatagramOptions,
    ) -> io::Result<Option<Vec<Endpoint>>> {
        let Some((host, port)) = name else {
            return Ok(None);
        };
        let query = Query {
            host: Some(host.to_owned()),
            service: Some(port.to_string()),
            family: options.family,
            kind: libc::SOCK_DGRAM,
            protocol: 0,
            flags: 0,
        };
        let resolved = self.getaddrinfo(query).await?;
        Ok(Some(resolved.into_iter().map(Endpoint::from).collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    use proptest::prelude::*;

    use super::*;

    /// An endpoint of one of two families and one of two protocols.
    fn any_endpoint() -> impl Strategy<Value = Endpoint> {
        (any::<bool>(), any::<bool>(), any::<u16>()).prop_map(|(ipv6, lite, port)| {
            let address = if ipv6 {
                SocketAddr::from((Ipv6Addr::LOCALHOST, port))
            } else {
                SocketAddr::from((Ipv4Addr::LOCALHOST, port))
            };
            let address = SocketAddress::from(address);
            Endpoint {
                family: address.family(),
                kind: libc::SOCK_DGRAM,
                protocol: if lite { libc::IPPROTO_UDPLITE } else { 0 },
                address,
            }
        })
    }

    fn any_endpoints() -> impl Strategy<Value = Option<Vec<Endpoint>>> {
        proptest::option::of(proptest::collection::vec(any_endpoint(), 0..6))
    }

    /// The last of these that a pair could be made of: as asyncio's dictionary keeps it.
    fn last(endpoints: Option<&Vec<Endpoint>>, pair: &DatagramAddresses) -> Option<SocketAddress> {
        let mut endpoints = endpoints?.iter().rev();
        let found = endpoints
            .find(|other| other.family == pair.family && other.protocol == pair.protocol)?;
        Some(found.address.clone())
    }

    proptest! {
        #[test]
        fn what_is_joined_has_all_that_was_asked_for(
            local in any_endpoints(),
            remote in any_endpoints(),
        ) {
            let joined = DatagramAddresses::join(local.as_deref(), remote.as_deref());
            let mut seen: Vec<(Family, i32)> = Vec::new();
            for endpoint in local.iter().flatten().chain(remote.iter().flatten()) {
                if !seen.contains(&(endpoint.family, endpoint.protocol)) {
                    seen.push((endpoint.family, endpoint.protocol));
                }
            }
            for pair in &joined {
                prop_assert_eq!(pair.local.is_some(), local.is_some());
                prop_assert_eq!(pair.remote.is_some(), remote.is_some());
                prop_assert_eq!(&pair.local, &last(local.as_ref(), pair));
                prop_assert_eq!(&pair.remote, &last(remote.as_ref(), pair));
                let addresses = pair.local.iter().chain(&pair.remote);
                prop_assert!(addresses.into_iter().all(|it| it.family() == pair.family));
            }
            // Each once, in the order in which they were first seen, and none is missing.
            let complete = |endpoints: &Option<Vec<Endpoint>>, wanted: &(Family, i32)| {
                endpoints.as_ref().is_none_or(|endpoints| {
                    endpoints.iter().any(|it| (it.family, it.protocol) == *wanted)
                })
            };
            seen.retain(|wanted| complete(&local, wanted) && complete(&remote, wanted));
            let found: Vec<_> = joined.iter().map(|it| (it.family, it.protocol)).collect();
            prop_assert_eq!(found, seen);
        }
    }
}
