//! Where a server is, and a byte stream to it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::ioctl_fionbio;
use rustix::net::sockopt::{Timeout, set_socket_timeout, set_tcp_nodelay};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, bind, connect, recv,
    send, shutdown, socket_with,
};

/// Where the server listens, on this machine.
pub enum Address {
    /// A port of 127.0.0.1.
    Port(u16),
    /// A Unix socket.
    Path(PathBuf),
}

/// A connected, non-blocking stream socket of either family.
pub struct Socket(OwnedFd);

impl Socket {
    /// Connects, and waits until it has. `from` is the address that a port is taken of.
    pub fn connect(address: &Address, from: Ipv4Addr) -> io::Result<Self> {
        let socket = match address {
            Address::Port(port) => {
                let socket = socket_with(
                    AddressFamily::INET,
                    SocketType::STREAM,
                    SocketFlags::CLOEXEC,
                    None,
                )?;
                bind(&socket, &SocketAddrV4::new(from, 0))?;
                connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port))?;
                set_tcp_nodelay(&socket, true)?;
                socket
            }
            Address::Path(path) => OwnedFd::from(UnixStream::connect(path)?),
        };
        ioctl_fionbio(&socket, true)?;
        Ok(Self(socket))
    }

    /// From now on receiving blocks, for this long at most.
    pub fn block(&self, patience: Duration) -> io::Result<()> {
        ioctl_fionbio(&self.0, false)?;
        Ok(set_socket_timeout(&self.0, Timeout::Recv, Some(patience))?)
    }

    /// Sends the end of file.
    pub fn end(&self) -> io::Result<()> {
        Ok(shutdown(&self.0, Shutdown::Write)?)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (received, _) = recv(&self.0, buffer, RecvFlags::empty())?;
        Ok(received)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
