//! Socket addresses of every family.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{SocketAddrAny, SocketAddrUnix};

/// The address of one end of a socket.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketAddress {
    /// IPv4, or IPv6 with its flow information and scope (zone).
    Ip(SocketAddr),
    /// A Unix socket: a path, an abstract name, or no name.
    Unix(Box<SocketAddrUnix>),
    /// Any other family, as the kernel wrote it.
    Other(Box<SocketAddrAny>),
}

impl SocketAddress {
    /// The Internet address, where it is one.
    #[must_use]
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            SocketAddress::Ip(address) => Some(*address),
            _ => None,
        }
    }

    /// The port, where the family has ports.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.ip().map(|address| address.port())
    }

    /// The port and the groups of a netlink address.
    #[must_use]
    pub fn netlink(&self) -> Option<(u32, u32)> {
        let SocketAddress::Other(any) = self else {
            return None;
        };
        let address = SocketAddrNetlink::try_from((**any).clone()).ok()?;
        Some((address.pid(), address.groups()))
    }

    /// The netlink address of a port, 0 for the kernel, and of groups.
    #[must_use]
    pub fn from_netlink(port: u32, groups: u32) -> SocketAddress {
        SocketAddress::Other(Box::new(SocketAddrNetlink::new(port, groups).into()))
    }

    /// The address of a Unix socket that has no name.
    #[must_use]
    pub fn unnamed() -> SocketAddress {
        SocketAddress::Unix(Box::new(SocketAddrUnix::new_unnamed()))
    }

    /// The address of a Unix socket: a path, or an abstract name when it begins with a zero byte.
    ///
    /// # Errors
    /// `InvalidInput` when the path is too long (107 bytes at the most) or has a zero byte.
    pub fn unix(path: impl AsRef<Path>) -> io::Result<SocketAddress> {
        let bytes = path.as_ref().as_os_str().as_bytes();
        let address = match bytes.split_first() {
            Some((0, name)) => SocketAddrUnix::new_abstract_name(name),
            _ => SocketAddrUnix::new(path.as_ref()),
        };
        let invalid = |error: rustix::io::Errno| {
            let message = match error {
                rustix::io::Errno::NAMETOOLONG => "the path of a Unix socket is too long",
                _ => "the path of a Unix socket has a zero byte",
            };
            io::Error::new(io::ErrorKind::InvalidInput, message)
        };
        Ok(SocketAddress::Unix(Box::new(address.map_err(invalid)?)))
    }

    /// The address family.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            SocketAddress::Ip(SocketAddr::V4(_)) => Family::INET,
            SocketAddress::Ip(SocketAddr::V6(_)) => Family::INET6,
            SocketAddress::Unix(_) => Family::UNIX,
            SocketAddress::Other(address) => Family(i32::from(address.address_family().as_raw())),
        }
    }

    pub(super) fn to_any(&self) -> SocketAddrAny {
        match self {
            SocketAddress::Ip(SocketAddr::V4(address)) => (*address).into(),
            SocketAddress::Ip(SocketAddr::V6(address)) => (*address).into(),
            SocketAddress::Unix(address) => (**address).clone().into(),
            SocketAddress::Other(address) => (**address).clone(),
        }
    }

    pub(super) fn from_any(address: SocketAddrAny) -> SocketAddress {
        if let Ok(address) = SocketAddr::try_from(address.clone()) {
            return SocketAddress::Ip(address);
        }
        match SocketAddrUnix::try_from(address.clone()) {
            Ok(address) => SocketAddress::Unix(Box::new(address)),
            Err(_) => SocketAddress::Other(Box::new(address)),
        }
    }
}

impl fmt::Debug for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketAddress::Ip(address) => write!(f, "{address}"),
            SocketAddress::Unix(address) => write!(f, "{address:?}"),
            SocketAddress::Other(address) => write!(f, "{address:?}"),
        }
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        SocketAddress::Ip(address)
    }
}

impl From<SocketAddrV4> for SocketAddress {
    fn from(address: SocketAddrV4) -> Self {
        SocketAddress::Ip(address.into())
    }
}

impl From<SocketAddrV6> for SocketAddress {
    fn from(address: SocketAddrV6) -> Self {
        SocketAddress::Ip(address.into())
    }
}

impl From<(IpAddr, u16)> for SocketAddress {
    fn from(address: (IpAddr, u16)) -> Self {
        SocketAddress::Ip(address.into())
    }
}

/// An address family: the kernel's `AF_*` number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Family(pub i32);

impl Family {
    /// Any family.
    pub const UNSPEC: Family = Family(libc::AF_UNSPEC);
    /// IPv4.
    pub const INET: Family = Family(libc::AF_INET);
    /// IPv6.
    pub const INET6: Family = Family(libc::AF_INET6);
    /// Unix sockets.
    pub const UNIX: Family = Family(libc::AF_UNIX);
    /// Talking with the kernel.
    pub const NETLINK: Family = Family(libc::AF_NETLINK);
}
