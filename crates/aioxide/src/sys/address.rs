//! Socket addresses of every family.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};

/// The longest name of a Unix socket, in bytes: `sun_path` less the NUL that ends a path, or begins
/// an abstract name.
const UNIX_NAME_MAX: usize = 107;

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
    /// The address of a Unix socket: a path, or an abstract name if it begins with a NUL byte.
    ///
    /// ```
    /// use aioxide::SocketAddress;
    ///
    /// assert_eq!(SocketAddress::unix("/run/app.sock")?.to_string(), "/run/app.sock");
    /// assert_eq!(SocketAddress::unix("\0app")?.to_string(), "@app");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `ENAMETOOLONG` above 107 bytes (108 with the NUL of an abstract name), `EINVAL` for no path
    /// at all or for one with a NUL byte within.
    pub fn unix(path: impl AsRef<Path>) -> io::Result<SocketAddress> {
        let bytes = path.as_ref().as_os_str().as_bytes();
        let name = bytes.strip_prefix(b"\0").unwrap_or(bytes);
        if name.len() > UNIX_NAME_MAX {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        if bytes.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(SocketAddress::Unix(Box::new(unix(bytes)?)))
    }

    /// The address of a Unix socket that has no name.
    #[must_use]
    pub fn unnamed() -> SocketAddress {
        SocketAddress::Unix(Box::new(SocketAddrUnix::new_unnamed()))
    }

    /// The path, where it is that of a Unix socket in the file system.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        let SocketAddress::Unix(address) = self else {
            return None;
        };
        // rustix takes the NUL for a byte of the path where it is the last that there is room for.
        let path = up_to_nul(address.path_bytes()?);
        Some(OsStr::from_bytes(path).as_ref())
    }

    /// The abstract name, without the NUL byte before it, where it is that of a Unix socket.
    #[must_use]
    pub fn abstract_name(&self) -> Option<&[u8]> {
        match self {
            SocketAddress::Unix(address) => address.abstract_name(),
            _ => None,
        }
    }

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
        if address.address_family() == AddressFamily::UNIX
            && let Ok(unix) = unix(name_of(&address))
        {
            return SocketAddress::Unix(Box::new(unix));
        }
        SocketAddress::Other(Box::new(address))
    }
}

/// What stands in `sun_path`, as an address: nothing, a NUL and an abstract name, or a path.
fn unix(bytes: &[u8]) -> io::Result<SocketAddrUnix> {
    Ok(match bytes {
        [] => SocketAddrUnix::new_unnamed(),
        [0, name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        path => SocketAddrUnix::new(path)?,
    })
}

/// What the kernel wrote into `sun_path`, a path without the NUL that may end it.
///
/// rustix's own reading takes an unnamed socket for one with an empty abstract name, and panics
/// at a path that fills `sun_path` to its end, which any peer may have.
fn name_of(address: &SocketAddrAny) -> &[u8] {
    // SAFETY: the first `addr_len` bytes of a SocketAddrAny are initialised, and borrowed with it.
    let bytes = unsafe {
        std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), address.addr_len() as usize)
    };
    let name = bytes
        .get(size_of::<libc::sa_family_t>()..)
        .unwrap_or_default();
    match name {
        [] | [0, ..] => name,
        path => up_to_nul(path),
    }
}

fn up_to_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

impl fmt::Debug for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketAddress::Ip(address) => write!(f, "{address}"),
            SocketAddress::Unix(_) => match (self.path(), self.abstract_name()) {
                (Some(path), _) => write!(f, "{}", path.display()),
                // As ss(8) shows them.
                (None, Some(name)) => write!(f, "@{}", name.escape_ascii()),
                (None, None) => write!(f, "(unnamed)"),
            },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;
    use std::os::fd::{AsRawFd, OwnedFd};

    fn open() -> io::Result<OwnedFd> {
        socket::open(Family::UNIX, libc::SOCK_STREAM, 0)
    }

    #[test]
    fn a_unix_name_has_at_most_107_bytes() {
        let refusal = |path: &str| SocketAddress::unix(path).err()?.raw_os_error();
        let name = |count| "x".repeat(count);
        assert_eq!(refusal(&name(107)), None);
        assert_eq!(refusal(&format!("\0{}", name(107))), None);
        assert_eq!(refusal(&name(108)), Some(libc::ENAMETOOLONG));
        assert_eq!(
            refusal(&format!("\0{}", name(108))),
            Some(libc::ENAMETOOLONG)
        );
    }

    #[test]
    fn a_path_is_neither_empty_nor_does_it_hold_a_nul() {
        for path in ["", "a\0b", "a\0"] {
            let refusal = SocketAddress::unix(path).map_err(|error| error.raw_os_error());
            assert_eq!(refusal, Err(Some(libc::EINVAL)), "{path:?}");
        }
    }

    #[test]
    fn the_kernel_gives_back_what_it_was_given() -> io::Result<()> {
        let mark = format!("aioxide-address-{}", std::process::id());
        let path = std::env::temp_dir().join(&mark);
        let long = |length| {
            let rest = "y".repeat(length - path.as_os_str().len());
            path.with_file_name(format!("{mark}{rest}"))
        };
        // `sun_path` to its last byte: a peer may have no room for the NUL.
        let filled = SocketAddrUnix::new(long(UNIX_NAME_MAX + 1))?;
        let filled = SocketAddress::Unix(Box::new(filled));
        for (address, path) in [
            (SocketAddress::unix(&path)?, Some(path.clone())),
            (SocketAddress::unix(long(107))?, Some(long(107))),
            (filled, Some(long(108))),
            (SocketAddress::unix(format!("\0{mark}"))?, None),
            (SocketAddress::unix(format!("\0{mark}\0\0"))?, None),
        ] {
            let socket = open()?;
            socket::bind(socket.as_raw_fd(), &address)?;
            let known = socket::local_address(socket.as_raw_fd());
            path.as_ref().map_or(Ok(()), std::fs::remove_file)?;
            assert_eq!(known?, address);
            assert_eq!(address.path(), path.as_deref());
        }
        Ok(())
    }

    #[test]
    fn a_socket_may_have_no_name() -> io::Result<()> {
        let address = socket::local_address(open()?.as_raw_fd())?;
        assert_eq!((address.family(), address.path()), (Family::UNIX, None));
        assert_eq!(address.to_string(), "(unnamed)");
        Ok(())
    }
}
