//! Socket addresses of every family.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};

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

    /// The address of a Unix socket that has no name.
    #[must_use]
    pub fn unnamed() -> SocketAddress {
        SocketAddress::Unix(Box::new(SocketAddrUnix::new_unnamed()))
    }

    /// The address of a Unix socket: a path, or an abstract name when it begins with a zero byte.
    ///
    /// # Errors
    /// `InvalidInput` when the path is too long (108 bytes at the most) or has a zero byte.
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
        match unix_from_any(&address) {
            Some(address) => SocketAddress::Unix(Box::new(address)),
            None => SocketAddress::Other(Box::new(address)),
        }
    }
}

/// A Unix address as the kernel wrote it. rustix's own conversion takes no name for an empty path,
/// and a path of 108 bytes, the longest, is not in its reach: it has no room for a zero behind it.
fn unix_from_any(address: &SocketAddrAny) -> Option<SocketAddrUnix> {
    if address.address_family() != AddressFamily::UNIX {
        return None;
    }
    // SAFETY: a `SocketAddrAny` holds `addr_len` bytes of an address.
    let bytes = unsafe {
        std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), address.addr_len() as usize)
    };
    let name = bytes.get(std::mem::offset_of!(libc::sockaddr_un, sun_path)..)?;
    match name.split_first() {
        None => Some(SocketAddrUnix::new_unnamed()),
        Some((0, name)) => SocketAddrUnix::new_abstract_name(name).ok(),
        Some(_) => SocketAddrUnix::new(name.split(|byte| *byte == 0).next()?).ok(),
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
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;

    use super::*;
    use crate::sys::datagrams::{ANY_DATAGRAM, Datagrams, send_to};
    use crate::sys::socket::{bind, local_address, open};

    fn sent_from(sender: &SocketAddress) -> Option<SocketAddress> {
        let [from, to] = [(); 2].map(|()| open(Family::UNIX, libc::SOCK_DGRAM, 0).unwrap());
        bind(from.as_raw_fd(), sender).unwrap();
        assert_eq!(local_address(from.as_raw_fd()).unwrap(), *sender);
        bind(to.as_raw_fd(), &SocketAddress::unnamed()).unwrap();
        let name = local_address(to.as_raw_fd()).unwrap();
        send_to(from.as_raw_fd(), b"x", Some(&name)).unwrap();
        let mut datagrams = Datagrams::default();
        datagrams.clear(ANY_DATAGRAM);
        datagrams.receive(to.as_raw_fd()).unwrap();
        datagrams.get(0).unwrap().1.cloned()
    }

    #[test]
    fn a_unix_path_comes_back_from_the_kernel_whatever_its_length() {
        for length in [60, 107, 108] {
            let mut path = std::env::temp_dir().join(format!("aioxide-{}-", std::process::id()));
            while path.as_os_str().len() < length {
                let mut text = path.into_os_string();
                text.push("x");
                path = PathBuf::from(text);
            }
            assert_eq!(path.as_os_str().len(), length);
            let address = SocketAddress::unix(&path).unwrap();
            let peer = sent_from(&address);
            std::fs::remove_file(&path).unwrap();
            assert_eq!(peer, Some(address));
        }
        assert!(SocketAddress::unix("x".repeat(109)).is_err());
    }

    #[test]
    fn abstract_names_and_no_name_come_back_from_the_kernel() {
        let name = format!("\0aioxide\0{}", std::process::id());
        let address = SocketAddress::unix(name).unwrap();
        assert_eq!(sent_from(&address), Some(address));
        let socket = open(Family::UNIX, libc::SOCK_DGRAM, 0).unwrap();
        let nameless = local_address(socket.as_raw_fd()).unwrap();
        assert_eq!(nameless, SocketAddress::unnamed());
    }
}
