//! Many datagrams in one system call.

use std::io::{self, IoSlice};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use rustix::net::addr::SocketAddrStorage;
use rustix::net::{MMsgHdr, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny};

use super::address::SocketAddress;
use super::borrow;
use super::buffer::Buffer;

/// The most datagrams of one call.
pub const BATCH: usize = 16;

/// The memory of one batch, in bytes: 16 of the largest UDP datagrams. Only what is written to
/// takes real memory.
const MEMORY: usize = BATCH * UDP_DATAGRAM;

/// The most that one UDP datagram carries, rounded up: 65,507 bytes over IPv4.
pub const UDP_DATAGRAM: usize = 64 * 1024;

/// The most that is taken of one datagram of another family, in bytes: what CPython's transports
/// take (`max_size`). A Unix socket's may be larger than UDP's.
pub const ANY_DATAGRAM: usize = 256 * 1024;

/// Datagrams that were received together.
#[derive(Default)]
pub struct Datagrams {
    memory: Vec<u8>,
    /// Bytes that each datagram may have.
    slot: usize,
    received: Vec<Datagram>,
    /// What the kernel is told of the memory; made when something is first received.
    headers: Option<Box<Headers>>,
}

/// What one call says of the memory for a batch. Filling it anew for each call takes longer than the usual call
/// needs it for: the kernel changes little of it.
struct Headers {
    /// The memory and the slot that it was made for.
    of: (*mut u8, usize),
    names: [mem::MaybeUninit<SocketAddrStorage>; BATCH],
    pieces: [libc::iovec; BATCH],
    headers: [libc::mmsghdr; BATCH],
}

impl Headers {
    /// For slots of `slot` bytes in `memory`, of which the first `slots` lie within it.
    fn new(memory: *mut u8, slot: usize, slots: usize) -> Box<Headers> {
        // SAFETY: all zero bytes are valid for these structures of integers and pointers, and for names that are not
        // written yet.
        let mut new: Box<Headers> = Box::new(unsafe { mem::zeroed() });
        new.of = (memory, slot);
        let Headers {
            names,
            pieces,
            headers,
            ..
        } = &mut *new;
        for index in 0..slots {
            pieces[index] = libc::iovec {
                iov_base: memory.wrapping_add(index * slot).cast(),
                iov_len: slot,
            };
            let header = &mut headers[index].msg_hdr;
            header.msg_name = names[index].as_mut_ptr().cast();
            header.msg_namelen = NAME_SIZE;
            header.msg_iov = &raw mut pieces[index];
            header.msg_iovlen = 1;
        }
        new
    }
}

/// The room for a name, in bytes.
const NAME_SIZE: libc::socklen_t = mem::size_of::<SocketAddrStorage>() as libc::socklen_t;

struct Datagram {
    /// Where it lies in the memory. Invariant: these bytes are initialised.
    begin: usize,
    length: usize,
    peer: Option<SocketAddress>,
}

impl Datagrams {
    /// Forgets what was received. From now on a datagram is cut to `slot` bytes.
    pub fn clear(&mut self, slot: usize) {
        self.slot = slot.clamp(1, MEMORY);
        self.received.clear();
        self.memory.clear();
        self.memory.reserve_exact(MEMORY);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// Whether there is room for another one.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.len() < BATCH && (self.len() + 1) * self.slot <= MEMORY
    }

    /// Adds one, cut to the size of a slot: for a network that is no kernel's.
    pub fn push(&mut self, bytes: &[u8], peer: Option<SocketAddress>) {
        if !self.has_room() {
            return;
        }
        let begin = self.memory.len();
        let length = bytes.len().min(self.slot);
        self.memory.extend_from_slice(&bytes[..length]);
        self.received.push(Datagram {
            begin,
            length,
            peer,
        });
    }

    /// One of them, and who sent it.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(&[u8], Option<&SocketAddress>)> {
        let datagram = self.received.get(index)?;
        // SAFETY: `begin + length` is within the capacity, and the invariant of `Datagram` says
        // that these bytes are initialised: by `push`, or by the kernel in `receive`.
        let bytes = unsafe {
            std::slice::from_raw_parts(self.memory.as_ptr().add(datagram.begin), datagram.length)
        };
        Some((bytes, datagram.peer.as_ref()))
    }

    /// Receives as many as are there, up to the room; [`clear`](Datagrams::clear) it first.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; an error that a peer has sent (`ECONNREFUSED`).
    pub fn receive(&mut self, fd: RawFd) -> io::Result<()> {
        let fd = borrow(fd)?;
        let slots = (MEMORY / self.slot.max(1)).min(BATCH);
        let memory = self.memory.as_mut_ptr();
        let of = (memory, self.slot);
        let headers = match self.headers.take() {
            Some(headers) if headers.of == of => headers,
            _ => Headers::new(memory, self.slot, slots),
        };
        let Headers { names, headers, .. } = &mut **self.headers.insert(headers);
        let count = loop {
            // SAFETY: the first `slots` headers refer to memory that is ours alone until the call
            // returns: a name each, which lies beside them in the box, and a slot each, within the capacity of the
            // memory that they were made for. The call returns at once (MSG_DONTWAIT).
            let count = unsafe {
                libc::recvmmsg(
                    fd.as_raw_fd(),
                    headers.as_mut_ptr(),
                    slots as libc::c_uint,
                    RecvFlags::DONTWAIT.bits() as _,
                    ptr::null_mut(),
                )
            };
            match usize::try_from(count) {
                Ok(count) => break count,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        };
        for (index, header) in headers.iter_mut().enumerate().take(count) {
            // For the next call, what the kernel has changed.
            let length = mem::replace(&mut header.msg_hdr.msg_namelen, NAME_SIZE);
            let peer = (length > 0).then(|| {
                // SAFETY: the kernel has written the first `length` bytes of the name, among them the
                // family; `read_internet` looks at no more than that.
                unsafe {
                    read_internet(names[index].as_ptr(), length).unwrap_or_else(|| {
                        SocketAddress::from_any(SocketAddrAny::read(names[index].as_ptr(), length))
                    })
                }
            });
            self.received.push(Datagram {
                begin: index * self.slot,
                length: (header.msg_len as usize).min(self.slot),
                peer,
            });
        }
        Ok(())
    }
}

/// The usual case of [`SocketAddrAny::read`], without copies of a name that has room for every family.
///
/// # Safety
/// The first `length` bytes of `name` must be written, by the kernel.
unsafe fn read_internet(
    name: *const SocketAddrStorage,
    length: libc::socklen_t,
) -> Option<SocketAddress> {
    if (length as usize) < mem::size_of::<libc::sockaddr_in>() {
        return None;
    }
    // SAFETY: so many bytes are written, and any are a valid structure of integers; it need not be
    // aligned.
    let name = unsafe { name.cast::<libc::sockaddr_in>().read_unaligned() };
    if i32::from(name.sin_family) != libc::AF_INET {
        return None;
    }
    let ip = Ipv4Addr::from_bits(u32::from_be(name.sin_addr.s_addr));
    Some(SocketAddress::Ip(SocketAddr::new(
        ip.into(),
        u16::from_be(name.sin_port),
    )))
}

/// Receives one datagram into `buffer`; how many bytes, and who sent them. What does not fit is cut
/// off.
///
/// # Errors
/// `WouldBlock` when there is none; an error that a peer has sent (`ECONNREFUSED`).
pub fn receive_from(
    fd: RawFd,
    buffer: &mut Buffer<'_>,
) -> io::Result<(usize, Option<SocketAddress>)> {
    let fd = borrow(fd)?;
    let mut peer = None;
    loop {
        // SAFETY: the kernel writes as many bytes as the call says.
        let received = unsafe {
            buffer.write_with(|memory| {
                let (_, count, from) = rustix::net::recvfrom(fd, memory, RecvFlags::DONTWAIT)?;
                peer = from;
                Ok(count)
            })
        };
        match received {
            Ok(count) => return Ok((count, peer.map(SocketAddress::from_any))),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends one datagram, to `peer` or where the socket is connected to.
///
/// # Errors
/// `WouldBlock` when there is no room; `EMSGSIZE`; what a peer has answered to an earlier one
/// (`ECONNREFUSED`).
pub fn send_to(fd: RawFd, bytes: &[u8], peer: Option<&SocketAddress>) -> io::Result<usize> {
    let fd = borrow(fd)?;
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        let sent = match peer {
            None => rustix::net::send(fd, bytes, flags),
            Some(SocketAddress::Ip(peer)) => rustix::net::sendto(fd, bytes, flags, peer),
            Some(peer) => rustix::net::sendto(fd, bytes, flags, &peer.to_any()),
        };
        match sent {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Sends datagrams in their order, [`BATCH`] at the most; how many were sent, at least one.
///
/// # Errors
/// What the first one of them meets: see [`send_to`].
pub fn send_many(
    fd: RawFd,
    datagrams: &[(IoSlice<'_>, Option<&SocketAddress>)],
) -> io::Result<usize> {
    let fd = borrow(fd)?;
    let datagrams = &datagrams[..datagrams.len().min(BATCH)];
    let peers: Vec<Option<SocketAddrAny>> = datagrams
        .iter()
        .map(|(_, peer)| peer.map(SocketAddress::to_any))
        .collect();
    let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> = datagrams
        .iter()
        .map(|_| SendAncillaryBuffer::default())
        .collect();
    let mut headers: Vec<MMsgHdr<'_>> = datagrams
        .iter()
        .zip(&peers)
        .zip(&mut controls)
        .map(|(((bytes, _), peer), control)| {
            let pieces = std::slice::from_ref(bytes);
            match peer {
                Some(peer) => MMsgHdr::new_with_addr(peer, pieces, control),
                None => MMsgHdr::new(pieces, control),
            }
        })
        .collect();
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match rustix::net::sendmmsg(fd, &mut headers, flags) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}
