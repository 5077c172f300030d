//! Opening, naming, connecting and moving bytes. Every call returns at once: the descriptors are
//! non-blocking, or the call says `MSG_DONTWAIT`.

use std::io::{self, IoSlice};
use std::os::fd::{OwnedFd, RawFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType,
    sockopt,
};

use super::address::{Family, SocketAddress};
use super::borrow;
use super::buffer::Buffer;

/// A new non-blocking socket, closed on exec. `kind` is `SOCK_*` and `protocol` `IPPROTO_*`, 0 for
/// the default.
///
/// # Errors
/// `EMFILE`, `ENFILE`, or what the kernel says of the combination.
pub fn open(family: Family, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    let invalid = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let family = AddressFamily::from_raw(u16::try_from(family.0).map_err(invalid)?);
    let kind = SocketType::from_raw(u32::try_from(kind).map_err(invalid)?);
    let protocol = std::num::NonZeroU32::new(u32::try_from(protocol).map_err(invalid)?);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        family,
        kind,
        flags,
        protocol.map(rustix::net::Protocol::from_raw),
    )?)
}

/// Gives a socket its own address.
///
/// # Errors
/// `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`, ...
pub fn bind(fd: RawFd, address: &SocketAddress) -> io::Result<()> {
    Ok(rustix::net::bind(borrow(fd)?, &address.to_any())?)
}

/// Starts queueing connections, `backlog` of them at the most.
///
/// # Errors
/// `EADDRINUSE`, `EOPNOTSUPP`.
pub fn listen(fd: RawFd, backlog: i32) -> io::Result<()> {
    Ok(rustix::net::listen(borrow(fd)?, backlog)?)
}

/// Takes one connection from the queue, and the peer's address.
///
/// # Errors
/// `WouldBlock` when the queue is empty; `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM` when the system
/// has no room for it (it stays in the queue); `ECONNABORTED` when the peer has gone.
pub fn accept(fd: RawFd) -> io::Result<(OwnedFd, Option<SocketAddress>)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (socket, peer) = rustix::net::acceptfrom_with(borrow(fd)?, flags)?;
    Ok((socket, peer.map(SocketAddress::from_any)))
}

/// Starts connecting.
///
/// # Errors
/// `WouldBlock` (for `EINPROGRESS` and `EINTR` too) while it is under way; a refusal. A Unix
/// socket's connect is never under way: `WouldBlock` says that the listener has no room.
pub fn connect(fd: RawFd, address: &SocketAddress) -> io::Result<()> {
    match rustix::net::connect(borrow(fd)?, &address.to_any()) {
        // An interrupted connect goes on by itself (POSIX connect(2)).
        Err(rustix::io::Errno::INPROGRESS | rustix::io::Errno::INTR) => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        other => Ok(other?),
    }
}

/// Takes the pending error of a socket: how a connect that was under way has ended.
///
/// # Errors
/// That error.
pub fn take_error(fd: RawFd) -> io::Result<()> {
    Ok(sockopt::socket_error(borrow(fd)?)??)
}

/// Receives into `buffer`; 0 is the peer's end.
///
/// # Errors
/// `WouldBlock` when there is nothing; `ECONNRESET` and its like.
#[inline]
pub fn receive(fd: RawFd, buffer: &mut Buffer<'_>) -> io::Result<usize> {
    let fd = borrow(fd)?;
    loop {
        // SAFETY: the kernel writes as many bytes as the call says.
        let received = unsafe {
            buffer.write_with(|memory| {
                rustix::net::recv(fd, memory, RecvFlags::DONTWAIT).map(|(_, count)| count)
            })
        };
        match received {
            Ok(count) => return Ok(count),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Bytes that a receive would give now.
///
/// # Errors
/// `EBADF`, `ENOTTY`.
pub fn receivable(fd: RawFd) -> io::Result<usize> {
    Ok(usize::try_from(rustix::io::ioctl_fionread(borrow(fd)?)?).unwrap_or(usize::MAX))
}

/// Bytes in the kernel's send queue: the peer's kernel has not acknowledged them.
///
/// # Errors
/// `EBADF`, `ENOTTY`.
pub fn unacknowledged(fd: RawFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call writes one int, which lives as long as the call.
    let result = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).unwrap_or_default())
}

/// Sends from `slices` in their order; the count may be short. A broken pipe is an error, never a
/// signal.
///
/// # Errors
/// `WouldBlock` when the kernel's buffer is full; `EPIPE`, `ECONNRESET` and their like.
#[inline]
pub fn send(fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let fd = borrow(fd)?;
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        let sent = match slices {
            [one] => rustix::net::send(fd, one, flags),
            many => rustix::net::sendmsg(fd, many, &mut SendAncillaryBuffer::default(), flags),
        };
        match sent {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Ends the sending side: the peer reads everything, then an end.
///
/// # Errors
/// `ENOTCONN` when the connection has gone.
pub fn shutdown_write(fd: RawFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(borrow(fd)?, Shutdown::Write)?)
}

/// The socket's own address.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn local_address(fd: RawFd) -> io::Result<SocketAddress> {
    Ok(SocketAddress::from_any(rustix::net::getsockname(borrow(
        fd,
    )?)?))
}

/// The peer's address.
///
/// # Errors
/// `ENOTCONN`, `EBADF`, `ENOTSOCK`.
pub fn peer_address(fd: RawFd) -> io::Result<SocketAddress> {
    let unnamed = || io::Error::from_raw_os_error(libc::ENOTCONN);
    let address = rustix::net::getpeername(borrow(fd)?)?.ok_or_else(unnamed)?;
    Ok(SocketAddress::from_any(address))
}

/// An option that the layers above set on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketOption {
    /// `TCP_NODELAY`: small writes leave at once.
    NoDelay,
    /// `SO_REUSEADDR`: a server may bind while old connections of its port are in TIME_WAIT.
    ReuseAddress,
    /// `SO_REUSEPORT`: several listeners share a port.
    ReusePort,
    /// `SO_KEEPALIVE`: the kernel probes a silent peer.
    KeepAlive,
    /// `SO_BROADCAST`: datagrams may be sent to a whole network.
    Broadcast,
    /// `IPV6_V6ONLY`: an IPv6 listener does not take IPv4 connections too.
    Ipv6Only,
}

/// Turns an option on.
///
/// # Errors
/// `ENOPROTOOPT`, `EOPNOTSUPP` when the kind of socket has no such option.
pub fn set_option(fd: RawFd, option: SocketOption) -> io::Result<()> {
    let fd = borrow(fd)?;
    match option {
        SocketOption::NoDelay => sockopt::set_tcp_nodelay(fd, true)?,
        SocketOption::ReuseAddress => sockopt::set_socket_reuseaddr(fd, true)?,
        SocketOption::ReusePort => sockopt::set_socket_reuseport(fd, true)?,
        SocketOption::KeepAlive => sockopt::set_socket_keepalive(fd, true)?,
        SocketOption::Broadcast => sockopt::set_socket_broadcast(fd, true)?,
        SocketOption::Ipv6Only => sockopt::set_ipv6_v6only(fd, true)?,
    }
    Ok(())
}

/// Makes a descriptor non-blocking.
///
/// # Errors
/// `EBADF`.
pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(borrow(fd)?, true)?)
}

/// Whether the socket moves datagrams: it is of another type than `SOCK_STREAM`.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn is_datagram(fd: RawFd) -> io::Result<bool> {
    Ok(!is_stream(fd)?)
}

/// Whether the socket is a byte stream (`SOCK_STREAM`).
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn is_stream(fd: RawFd) -> io::Result<bool> {
    Ok(sockopt::socket_type(borrow(fd)?)? == SocketType::STREAM)
}
