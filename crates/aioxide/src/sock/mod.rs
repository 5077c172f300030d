//! Layer 1: operations on sockets that the program owns.
//!
//! Each works on any non-blocking socket of any family. Each tries first and waits only if it must,
//! and dropping its future stops it: nothing is left behind, and what was not received stays in
//! the socket.
//!
//! The socket is the caller's: it must stay open until the operation is over.

pub mod names;
pub mod sendfile;

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::reactor::{Op, Socket};
use crate::sys::address::{Family, SocketAddress};
use crate::sys::buffer::{self, Buffer};

/// The first pause between attempts that nothing announces: a server that is merely busy has
/// emptied its queue by then.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// The longest one: a server that accepts nobody costs whoever waits for it ten attempts in a
/// second.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl<H: Host> EventLoop<H> {
    /// Receives up to `count` bytes; an empty vector is the peer's end.
    ///
    /// # Errors
    /// How the connection has failed.
    pub async fn sock_recv(&self, socket: &impl AsRawFd, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(count)?;
        let fd = socket.as_raw_fd();
        self.attempt(fd, Op::Receive, || {
            buffer::fill(&mut bytes, count, |spare| self.reactor().receive(fd, spare))
        })
        .await?;
        Ok(bytes)
    }

    /// Receives into `memory`; how many bytes, 0 at the peer's end.
    ///
    /// # Errors
    /// How the connection has failed.
    pub async fn sock_recv_into(
        &self,
        socket: &impl AsRawFd,
        memory: &mut [u8],
    ) -> io::Result<usize> {
        let fd = socket.as_raw_fd();
        self.attempt(fd, Op::Receive, || {
            self.reactor().receive(fd, &mut Buffer::from(&mut *memory))
        })
        .await
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// How the connection has failed; how much was sent before is not known then.
    pub async fn sock_sendall(&self, socket: &impl AsRawFd, bytes: &[u8]) -> io::Result<()> {
        let fd = socket.as_raw_fd();
        let mut left = bytes;
        while !left.is_empty() {
            let sent = self
                .attempt(fd, Op::Send, || {
                    self.reactor().send(fd, &[IoSlice::new(left)])
                })
                .await?;
            left = left.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Receives one datagram, and who sent it: a Unix socket without a name is nobody. Of a
    /// datagram of more than `count` bytes the rest is lost. An empty one is a datagram like any
    /// other.
    ///
    /// ```
    /// use std::net::UdpSocket;
    ///
    /// # async fn program() -> std::io::Result<()> {
    /// let event_loop = aioxide::running()?;
    /// let [server, client] = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
    /// server.set_nonblocking(true)?;
    /// client.set_nonblocking(true)?;
    ///
    /// event_loop.sock_sendto(&client, b"hello", server.local_addr()?).await?;
    /// let (data, peer) = event_loop.sock_recvfrom(&server, 1024).await?;
    /// assert_eq!(data, b"hello");
    /// assert_eq!(peer, Some(client.local_addr()?.into()));
    /// # Ok(())
    /// # }
    /// # fn main() -> std::io::Result<()> { aioxide::run(program())? }
    /// ```
    ///
    /// # Errors
    /// What a peer has answered to an earlier datagram (`ECONNREFUSED`).
    pub async fn sock_recvfrom(
        &self,
        socket: &impl AsRawFd,
        count: usize,
    ) -> io::Result<(Vec<u8>, Option<SocketAddress>)> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(count)?;
        let fd = socket.as_raw_fd();
        let (_, peer) = self
            .attempt(fd, Op::Receive, || {
                buffer::fill(&mut bytes, count, |spare| {
                    self.reactor().receive_from(fd, spare)
                })
            })
            .await?;
        Ok((bytes, peer))
    }

    /// Receives one datagram into `memory`; how many bytes, and who sent them: see
    /// [`sock_recvfrom`](EventLoop::sock_recvfrom).
    ///
    /// # Errors
    /// As that.
    pub async fn sock_recvfrom_into(
        &self,
        socket: &impl AsRawFd,
        memory: &mut [u8],
    ) -> io::Result<(usize, Option<SocketAddress>)> {
        let fd = socket.as_raw_fd();
        self.attempt(fd, Op::Receive, || {
            let memory = &mut Buffer::from(&mut *memory);
            self.reactor().receive_from(fd, memory)
        })
        .await
    }

    /// Sends one datagram to `peer`; how many bytes: all.
    ///
    /// # Errors
    /// `EMSGSIZE` when it is too large; what the network says of the address; what a peer has
    /// answered to an earlier one (`ECONNREFUSED`).
    pub async fn sock_sendto(
        &self,
        socket: &impl AsRawFd,
        bytes: &[u8],
        peer: impl Into<SocketAddress>,
    ) -> io::Result<usize> {
        let (fd, peer) = (socket.as_raw_fd(), peer.into());
        self.attempt(fd, Op::Send, || {
            self.reactor().send_to(fd, bytes, Some(&peer))
        })
        .await
    }

    /// Connects. Where the listener of a Unix socket has no room for another client, it waits
    /// for some, like connect(2) on a blocking socket.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn sock_connect(
        &self,
        socket: &impl AsRawFd,
        address: impl Into<SocketAddress>,
    ) -> io::Result<()> {
        self.connect_fd(socket.as_raw_fd(), &address.into()).await
    }

    /// Accepts a connection: its socket, non-blocking, and the peer's address.
    ///
    /// # Errors
    /// Why there can be none: `EMFILE` and its like, `EINVAL` for a socket that does not listen.
    pub async fn sock_accept(
        &self,
        listener: &impl AsRawFd,
    ) -> io::Result<(Socket, Option<SocketAddress>)> {
        let fd = listener.as_raw_fd();
        self.attempt(fd, Op::Accept, || self.reactor().accept(fd))
            .await
    }

    pub(crate) async fn connect_fd(&self, fd: RawFd, address: &SocketAddress) -> io::Result<()> {
        match self.reactor().connect(fd, address) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.go_on_connecting(fd, address).await
            }
            connected => connected,
        }
    }

    /// The end of a connect that was begun and would block.
    pub(crate) async fn go_on_connecting(
        &self,
        fd: RawFd,
        address: &SocketAddress,
    ) -> io::Result<()> {
        if address.family() == Family::UNIX {
            return self
                .attempt_at_intervals(|| self.reactor().connect(fd, address))
                .await;
        }
        loop {
            self.readiness(fd, Op::Connect).await?;
            self.reactor().take_error(fd)?;
            if !self.is_connecting(fd) {
                return Ok(());
            }
        }
    }

    /// An event may be spurious, and a connect cannot be attempted again to find out.
    fn is_connecting(&self, fd: RawFd) -> bool {
        let peer = self.reactor().peer_address(fd);
        peer.is_err_and(|error| error.kind() == io::ErrorKind::NotConnected)
    }

    /// Waits until an attempt of `op` on `fd` is worth making: for a host that makes it itself.
    ///
    /// # Errors
    /// What the kernel says of the descriptor.
    pub async fn wait_until_ready(&self, fd: RawFd, op: Op) -> io::Result<()> {
        self.readiness(fd, op).await
    }

    /// Attempts until it does not block: what every operation of this layer is.
    ///
    /// # Errors
    /// What the attempt gives, but for `WouldBlock`.
    pub async fn attempt<T>(
        &self,
        fd: RawFd,
        op: Op,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readiness(fd, op).await?;
                }
                done => return done,
            }
        }
    }

    /// [`attempt`](EventLoop::attempt) for what no event announces: a connect to a Unix socket
    /// whose queue is full. The kernel says `EAGAIN`, nothing is under way, and the descriptor is
    /// ready all the time. So it is attempted again after pauses that grow.
    ///
    /// # Errors
    /// What the attempt gives, but for `WouldBlock`.
    pub async fn attempt_at_intervals<T>(
        &self,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.sleep(pause).await;
                    pause = LONGEST_PAUSE.min(pause * 2);
                }
                done => return done,
            }
        }
    }
}
