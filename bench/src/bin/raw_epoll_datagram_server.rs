//! The floor of the rows of datagrams: one receive and one send for all datagrams that are there.
//!
//! No runtime: level-triggered epoll_wait, then `recvmmsg` and `sendmmsg` of the same block of messages, each of
//! which keeps its sender's address.

use std::error::Error;
use std::io;
use std::mem::size_of;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;

use aioxide_bench::bind_datagrams;
use aioxide_bench::raw_epoll::Poller;
use rustix::event::epoll::EventFlags;

/// Datagrams taken at once: above the row's clients, each of which has one under way.
const MESSAGES: usize = 32;

/// Bytes of the largest datagram.
const DATAGRAM: usize = 64 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let socket = bind_datagrams()?;
    let poller = Poller::new()?;
    poller.add(&socket, 0, EventFlags::IN)?;
    let mut messages = Messages::new();
    poller.run(|_, _| Ok(messages.echo(&socket)?))
}

/// The memory of [`MESSAGES`] datagrams, and the headers that describe it. The headers point into the other
/// fields, which are never moved or resized.
struct Messages {
    headers: Vec<libc::mmsghdr>,
    pieces: Vec<libc::iovec>,
    senders: Vec<libc::sockaddr_in>,
    _bytes: Vec<u8>,
}

impl Messages {
    fn new() -> Self {
        let mut bytes = vec![0; MESSAGES * DATAGRAM];
        let address = libc::sockaddr_in {
            sin_family: 0,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: 0 },
            sin_zero: [0; 8],
        };
        let mut senders = vec![address; MESSAGES];
        let mut pieces: Vec<_> = bytes
            .chunks_exact_mut(DATAGRAM)
            .map(|chunk| libc::iovec {
                iov_base: chunk.as_mut_ptr().cast(),
                iov_len: DATAGRAM,
            })
            .collect();
        let headers = pieces
            .iter_mut()
            .zip(&mut senders)
            .map(|(piece, sender)| libc::mmsghdr {
                msg_hdr: libc::msghdr {
                    msg_name: ptr::from_mut(sender).cast(),
                    msg_namelen: size_of::<libc::sockaddr_in>() as libc::socklen_t,
                    msg_iov: piece,
                    msg_iovlen: 1,
                    msg_control: ptr::null_mut(),
                    msg_controllen: 0,
                    msg_flags: 0,
                },
                msg_len: 0,
            })
            .collect();
        Self {
            headers,
            pieces,
            senders,
            _bytes: bytes,
        }
    }

    /// Sends back what is there. What the socket does not take is lost, as a datagram may be.
    fn echo(&mut self, socket: &UdpSocket) -> io::Result<()> {
        for (header, piece) in self.headers.iter_mut().zip(&mut self.pieces) {
            piece.iov_len = DATAGRAM;
            header.msg_hdr.msg_namelen = size_of_val(&self.senders[0]) as libc::socklen_t;
        }
        // SAFETY: each header points to a sender and to a piece of this object, each piece to DATAGRAM bytes that
        // no other piece has; there are MESSAGES of each.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                MESSAGES as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let Ok(received) = usize::try_from(received) else {
            return ignore(io::Error::last_os_error());
        };
        for (header, piece) in self.headers.iter().zip(&mut self.pieces).take(received) {
            piece.iov_len = header.msg_len as usize;
        }
        // SAFETY: as above; the first `received` pieces have as many bytes as were received into them.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                received as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        match sent {
            0.. => Ok(()),
            _ => ignore(io::Error::last_os_error()),
        }
    }
}

/// Goes on after an error that says only that it is not the time.
fn ignore(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused => Ok(()),
        _ => Err(error),
    }
}
