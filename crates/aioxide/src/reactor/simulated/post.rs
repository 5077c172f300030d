//! How datagrams come from one socket to another.
//!
//! ```text
//!            UDP: lost, doubled, delayed by chance               dropped when the queue is full
//! send_to ─▶ travelling (bounded by the sender's buffer) ─ time ─▶ mailbox ─▶ receive_datagrams
//!                    ▲                                      │ nobody has the address
//!                    └────────────── a refusal ◀────────────┘
//!            Unix: at once, or WouldBlock when the queue is full ─▶ mailbox
//! ```
//!
//! # Facts
//!
//! The rules are Linux's, from `net/ipv4/udp.c` and `net/unix/af_unix.c`:
//!
//! * A UDP socket that has no name gets a port with its first connect or send.
//! * A connected UDP socket receives from its peer alone, and only a connected one is told that a
//!   datagram was refused: by its next call, which does nothing else.
//! * A Unix socket is connected to a socket, not to a name. When that socket has gone, the next
//!   send is refused and ends the connection. Others may not send to a socket that is connected.
//! * A full Unix queue holds the sender back, except when the two are connected to each other;
//!   then only the sender's own buffer bounds it.
//!
//! # What is simpler here
//!
//! The path of a Unix socket goes when the socket is closed: there is no file that stays.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::time::Duration;

use super::descriptors::File;
use super::errno;
use super::faults::Call;
use super::mailbox::{Letter, Mailbox, MailboxId, Peer};
use super::names::{self, Names};
use super::network::{Network, internet};
use crate::reactor::Side;
use crate::sys::address::{Family, SocketAddress};
use crate::sys::clock::Time;
use crate::sys::datagrams::Datagrams;

/// The most that a UDP datagram carries: 2^16 - 1 bytes, with an IPv4 header of 20 (an IPv6 header
/// does not count) and UDP's of 8.
const UDP_OVER_IPV4: usize = 65_507;
const UDP_OVER_IPV6: usize = 65_527;

/// The most that a Unix datagram carries: Linux's default send buffer (`net.core.wmem_default`)
/// without 32 bytes of its own.
const UNIX_DATAGRAM: usize = 212_992 - 32;

/// How much longer a datagram travels that others are to overtake, at the most.
const DELAY: Duration = Duration::from_millis(1);

/// What is between the sockets of datagrams.
#[derive(Debug)]
pub(super) struct Post {
    /// UDP's ports: they are not TCP's.
    names: Names,
    /// Invariant: arrival times never decrease; what arrives together was sent in this order.
    travelling: Vec<Parcel>,
    /// How many mailboxes there have been.
    mailboxes: u64,
    /// How many abstract names were given to Unix sockets that did not choose one.
    abstract_names: u32,
}

/// Something that travels.
#[derive(Debug)]
struct Parcel {
    arrives: Time,
    sender: MailboxId,
    from: SocketAddr,
    to: SocketAddr,
    /// `None` is a refusal, on its way back to the sender.
    bytes: Option<Vec<u8>>,
}

impl Post {
    pub(super) fn new() -> Post {
        Post {
            names: Names::new(),
            travelling: Vec::new(),
            mailboxes: 0,
            abstract_names: 0,
        }
    }

    /// Datagrams that travel.
    pub(super) fn in_flight(&self) -> usize {
        self.travelling
            .iter()
            .filter(|parcel| parcel.bytes.is_some())
            .count()
    }

    /// When time alone changes something after `now`.
    pub(super) fn next_arrival(&self, now: Time) -> Option<Time> {
        let arrivals = self.travelling.iter().map(|parcel| parcel.arrives);
        arrivals.filter(|time| *time > now).min()
    }

    /// Bytes of `sender` that travel.
    fn bytes_of(&self, sender: MailboxId) -> usize {
        let parcels = self.travelling.iter();
        parcels
            .filter(|parcel| parcel.sender == sender)
            .filter_map(|parcel| parcel.bytes.as_ref())
            .map(Vec::len)
            .sum()
    }

    fn push(&mut self, parcel: Parcel) {
        let later = |other: &Parcel| other.arrives <= parcel.arrives;
        let index = self.travelling.partition_point(later);
        self.travelling.insert(index, parcel);
    }
}

/// Names and connections.
impl Network {
    pub(super) fn open_mailbox(&mut self, family: Family) -> RawFd {
        let latency = if family == Family::UNIX {
            Duration::ZERO
        } else {
            self.latency()
        };
        let id = MailboxId(self.post.mailboxes);
        self.post.mailboxes += 1;
        self.descriptors
            .open(File::Datagram(Mailbox::new(id, family, latency)))
    }

    pub(super) fn bind_mailbox(&mut self, fd: RawFd, address: &SocketAddress) -> io::Result<()> {
        let mailbox = self.mailbox(fd)?;
        let bound = mailbox.local.is_some();
        let name = if mailbox.is_unix() {
            match address {
                // A kernel does not mind a socket that asks again for just any name.
                SocketAddress::Unix(name) if name.is_unnamed() && bound => return Ok(()),
                SocketAddress::Unix(_) if bound => return Err(errno(libc::EINVAL)),
                SocketAddress::Unix(name) if name.is_unnamed() => self.abstract_name()?,
                SocketAddress::Unix(_) if self.unix_mailbox(address).is_some() => {
                    return Err(errno(libc::EADDRINUSE));
                }
                SocketAddress::Unix(_) => address.clone(),
                _ => return Err(errno(libc::EINVAL)),
            }
        } else {
            let address = internet(mailbox.is_ipv6(), address)?;
            if bound {
                return Err(errno(libc::EINVAL));
            }
            let reuse_port = mailbox.reuse_port;
            self.post.names.bind(fd, address, reuse_port)?.into()
        };
        self.mailbox_mut(fd)?.local = Some(name);
        Ok(())
    }

    /// Connects; a socket of datagrams has nobody to wait for.
    pub(super) fn connect_mailbox(&mut self, fd: RawFd, address: &SocketAddress) -> io::Result<()> {
        let mailbox = self.mailbox(fd)?;
        let peer = if mailbox.is_unix() {
            let id = mailbox.id;
            let peer = self.unix_destination(id, address)?;
            Peer {
                address: address.clone(),
                mailbox: Some(peer),
            }
        } else {
            let to = names::destination(internet(mailbox.is_ipv6(), address)?);
            let local = self.udp_name(fd)?;
            // The route to the peer decides which address an unnamed socket has.
            self.mailbox_mut(fd)?.local = Some(named_towards(local, to).into());
            Peer {
                address: to.into(),
                mailbox: None,
            }
        };
        self.mailbox_mut(fd)?.peer = Some(peer);
        Ok(())
    }

    pub(super) fn shutdown_mailbox(&mut self, fd: RawFd) -> io::Result<()> {
        let mailbox = self.mailbox_mut(fd)?;
        // Linux does it and complains none the less.
        mailbox.write_ended = true;
        if mailbox.peer.is_none() && !mailbox.is_unix() {
            return Err(errno(libc::ENOTCONN));
        }
        Ok(())
    }

    /// Nobody holds this mailbox any more. What it has sent still arrives.
    pub(super) fn forget_mailbox(&mut self, fd: RawFd, mailbox: &Mailbox) {
        if let Some(port) = mailbox.local.as_ref().and_then(SocketAddress::port) {
            self.post.names.release(fd, port);
        }
    }

    /// The name of a UDP socket, which gets one if it has none.
    fn udp_name(&mut self, fd: RawFd) -> io::Result<SocketAddr> {
        let mailbox = self.mailbox(fd)?;
        if let Some(local) = mailbox.local.as_ref().and_then(SocketAddress::ip) {
            return Ok(local);
        }
        let any = mailbox.any();
        let name = self.post.names.bind(fd, any, false);
        let name = name.map_err(|_| errno(libc::EAGAIN))?;
        self.mailbox_mut(fd)?.local = Some(name.into());
        Ok(name)
    }

    /// A name that no Unix socket has: five hexadecimal digits, as Linux gives them.
    fn abstract_name(&mut self) -> io::Result<SocketAddress> {
        loop {
            let name = SocketAddress::unix(format!("\0{:05x}", self.post.abstract_names))?;
            self.post.abstract_names += 1;
            if self.unix_mailbox(&name).is_none() {
                return Ok(name);
            }
        }
    }

    /// The Unix socket of this name.
    fn unix_mailbox(&self, name: &SocketAddress) -> Option<&Mailbox> {
        let mut mailboxes = self.descriptors.mailboxes().map(|(_, mailbox)| mailbox);
        mailboxes.find(|mailbox| mailbox.local.as_ref() == Some(name))
    }

    /// The Unix socket of this name, if `sender` may speak to it.
    fn unix_destination(&self, sender: MailboxId, name: &SocketAddress) -> io::Result<MailboxId> {
        let SocketAddress::Unix(address) = name else {
            return Err(errno(libc::EINVAL));
        };
        if address.is_unnamed() {
            return Err(errno(libc::EINVAL));
        }
        let missing = if address.path().is_some() {
            libc::ENOENT
        } else {
            libc::ECONNREFUSED
        };
        let mailbox = self.unix_mailbox(name).ok_or_else(|| errno(missing))?;
        if mailbox.peer.is_some() && !mailbox.is_connected_to(sender) {
            return Err(errno(libc::EPERM));
        }
        Ok(mailbox.id)
    }

    pub(super) fn mailbox(&self, fd: RawFd) -> io::Result<&Mailbox> {
        match self.descriptors.file(fd)? {
            File::Datagram(mailbox) => Ok(mailbox),
            File::Pipe { .. } => Err(errno(libc::ENOTSOCK)),
            File::Stream(_) => Err(errno(libc::EOPNOTSUPP)),
        }
    }

    pub(super) fn mailbox_mut(&mut self, fd: RawFd) -> io::Result<&mut Mailbox> {
        self.mailbox(fd)?;
        let mailbox = self.descriptors.mailbox_mut(fd);
        mailbox.ok_or_else(|| errno(libc::EBADF))
    }

    /// The descriptor of a mailbox that is still open.
    fn holder(&self, id: MailboxId) -> Option<RawFd> {
        let mut mailboxes = self.descriptors.mailboxes();
        mailboxes
            .find(|(_, mailbox)| mailbox.id == id)
            .map(|(fd, _)| fd)
    }
}

/// Sending and receiving.
impl Network {
    pub(super) fn send_to(
        &mut self,
        fd: RawFd,
        bytes: &[u8],
        to: Option<&SocketAddress>,
    ) -> io::Result<usize> {
        if self.mailbox(fd)?.is_unix() {
            self.send_unix(fd, bytes, to)?;
        } else {
            self.send_udp(fd, bytes, to)?;
        }
        Ok(bytes.len())
    }

    /// Sends as many as one call may move. An error behind the first is not reported, but for a
    /// test's: Linux, too, forgets it.
    pub(super) fn send_datagrams(
        &mut self,
        fd: RawFd,
        datagrams: &[(IoSlice<'_>, Option<&SocketAddress>)],
    ) -> io::Result<usize> {
        let mut left = self.faults.transfer;
        for (count, (bytes, to)) in datagrams.iter().enumerate() {
            let planned = self.faults.is_planned(Call::Send, fd);
            if count > 0 && (planned || bytes.len() > left) {
                return Ok(count);
            }
            self.faults.check(Call::Send, fd)?;
            match self.send_to(fd, bytes, *to) {
                Ok(size) => left = left.saturating_sub(size),
                Err(error) if count == 0 => return Err(error),
                Err(_) => return Ok(count),
            }
        }
        Ok(datagrams.len())
    }

    /// Takes the datagrams that are there, up to the room, and as many bytes as one call may move.
    pub(super) fn receive_datagrams(
        &mut self,
        fd: RawFd,
        datagrams: &mut Datagrams,
    ) -> io::Result<()> {
        let mut left = self.faults.transfer;
        let mailbox = self.mailbox_mut(fd)?;
        loop {
            let letter = mailbox.receive()?;
            left = left.saturating_sub(letter.bytes.len());
            datagrams.push(&letter.bytes, letter.from);
            let more = mailbox.next().filter(|next| next.bytes.len() <= left);
            if more.is_none() || !datagrams.has_room() {
                return Ok(());
            }
        }
    }

    /// Whether an attempt on this side would not block.
    pub(super) fn is_mailbox_ready(&self, mailbox: &Mailbox, side: Side) -> bool {
        match side {
            Side::Read => mailbox.is_readable(),
            Side::Write => {
                let room = self.unreceived(mailbox) < self.config.send_buffer;
                mailbox.error.is_some()
                    || mailbox.write_ended
                    || room && self.peer_has_room(mailbox)
            }
        }
    }

    /// Delivers every datagram whose time has come.
    pub(super) fn settle_post(&mut self) {
        loop {
            let all = std::mem::take(&mut self.post.travelling);
            let (due, rest): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|parcel| self.is_due(parcel));
            self.post.travelling = rest;
            if due.is_empty() {
                return;
            }
            // A refusal may be due at once.
            due.into_iter().for_each(|parcel| self.deliver(parcel));
        }
    }

    fn send_udp(&mut self, fd: RawFd, bytes: &[u8], to: Option<&SocketAddress>) -> io::Result<()> {
        let mailbox = self.mailbox_mut(fd)?;
        let (ipv6, id, latency) = (mailbox.is_ipv6(), mailbox.id, mailbox.latency);
        let to = match (to, &mailbox.peer) {
            (Some(to), _) => internet(ipv6, to)?,
            (None, Some(peer)) => internet(ipv6, &peer.address)?,
            (None, None) => return Err(errno(libc::EDESTADDRREQ)),
        };
        if to.port() == 0 {
            return Err(errno(libc::EINVAL));
        }
        if to.ip() == IpAddr::V4(Ipv4Addr::BROADCAST) && !mailbox.broadcast {
            return Err(errno(libc::EACCES));
        }
        let most = if ipv6 { UDP_OVER_IPV6 } else { UDP_OVER_IPV4 };
        if bytes.len() > most {
            return Err(errno(libc::EMSGSIZE));
        }
        mailbox.take_error()?;
        if mailbox.write_ended {
            return Err(errno(libc::EPIPE));
        }
        if self.post.bytes_of(id) >= self.config.send_buffer {
            return Err(errno(libc::EAGAIN));
        }
        let to = names::destination(to);
        let from = named_towards(self.udp_name(fd)?, to);
        // Other hosts never answer.
        if !names::is_local(to.ip()) || self.by_chance(self.faults.lost) {
            return Ok(());
        }
        let copies = 1 + usize::from(self.by_chance(self.faults.doubled));
        for _ in 0..copies {
            let mut arrives = self.now + latency;
            if self.by_chance(self.faults.delayed) {
                arrives =
                    arrives + Duration::from_nanos(1 + self.random.below(DELAY.as_nanos() as u64));
            }
            self.post.push(Parcel {
                arrives,
                sender: id,
                from,
                to,
                bytes: Some(bytes.to_vec()),
            });
        }
        self.settle_post();
        Ok(())
    }

    fn send_unix(&mut self, fd: RawFd, bytes: &[u8], to: Option<&SocketAddress>) -> io::Result<()> {
        let mailbox = self.mailbox(fd)?;
        let (id, from) = (mailbox.id, mailbox.local.clone());
        let to = match (to, &mailbox.peer) {
            (Some(to), _) => self.unix_destination(id, to)?,
            (None, Some(peer)) => peer.mailbox.ok_or_else(|| errno(libc::ENOTCONN))?,
            (None, None) => return Err(errno(libc::ENOTCONN)),
        };
        if bytes.len() > UNIX_DATAGRAM {
            return Err(errno(libc::EMSGSIZE));
        }
        if mailbox.write_ended {
            return Err(errno(libc::EPIPE));
        }
        let full = self.unreceived(mailbox) >= self.config.send_buffer;
        let Some(receiver) = self.holder(to) else {
            self.mailbox_mut(fd)?.peer = None;
            return Err(errno(libc::ECONNREFUSED));
        };
        if !self.has_room_for(to, id) {
            self.mailbox_mut(fd)?.waits_for = Some(to);
            return Err(errno(libc::EAGAIN));
        }
        if full {
            return Err(errno(libc::EAGAIN));
        }
        self.mailbox_mut(fd)?.waits_for = None;
        self.mailbox_mut(receiver)?.letters.push_back(Letter {
            bytes: bytes.to_vec(),
            sender: id,
            from,
        });
        Ok(())
    }

    /// Bytes that fill the sender's buffer. Unix datagrams do until they are received.
    fn unreceived(&self, sender: &Mailbox) -> usize {
        if sender.is_unix() {
            let mailboxes = self.descriptors.mailboxes();
            mailboxes
                .map(|(_, mailbox)| mailbox.bytes_from(sender.id))
                .sum()
        } else {
            self.post.bytes_of(sender.id)
        }
    }

    /// Whether what a Unix socket wants to send next fits its receiver's queue, as far as is known.
    fn peer_has_room(&self, mailbox: &Mailbox) -> bool {
        let peer = mailbox.peer.as_ref().and_then(|peer| peer.mailbox);
        let receiver = mailbox.waits_for.or(peer);
        receiver.is_none_or(|receiver| self.has_room_for(receiver, mailbox.id))
    }

    /// Whether a Unix socket takes a datagram of `sender`'s; one that has gone refuses it at once.
    fn has_room_for(&self, receiver: MailboxId, sender: MailboxId) -> bool {
        let receiver = self.holder(receiver).map(|fd| self.mailbox(fd));
        let Some(Ok(receiver)) = receiver else {
            return true;
        };
        receiver.is_connected_to(sender) || receiver.letters.len() < self.config.datagram_queue
    }

    /// Whether a parcel's time has come, and no test holds it back.
    fn is_due(&self, parcel: &Parcel) -> bool {
        let stalled = || {
            let addressee = self.addressee(parcel.from, parcel.to);
            let mailbox = addressee.and_then(|fd| self.mailbox(fd).ok());
            mailbox.is_some_and(|mailbox| mailbox.stalled)
        };
        parcel.arrives <= self.now && (parcel.bytes.is_none() || !stalled())
    }

    fn deliver(&mut self, parcel: Parcel) {
        let Parcel {
            sender, from, to, ..
        } = parcel;
        let Some(bytes) = parcel.bytes else {
            return self.deliver_refusal(sender, to);
        };
        let Some(addressee) = self.addressee(from, to) else {
            let holder = self.holder(sender).map(|fd| self.mailbox(fd));
            if let Some(Ok(mailbox)) = holder {
                let arrives = parcel.arrives + mailbox.latency;
                self.post.push(Parcel {
                    arrives,
                    bytes: None,
                    ..parcel
                });
            }
            return;
        };
        let room = self.config.datagram_queue;
        if let Ok(mailbox) = self.mailbox_mut(addressee)
            && mailbox.letters.len() < room
        {
            mailbox.letters.push_back(Letter {
                bytes,
                sender,
                from: Some(from.into()),
            });
        }
    }

    /// Nobody has the address `by`. A sender hears of it that is connected to it.
    fn deliver_refusal(&mut self, sender: MailboxId, by: SocketAddr) {
        let by = SocketAddress::from(by);
        if let Some(fd) = self.holder(sender)
            && let Ok(mailbox) = self.mailbox_mut(fd)
            && mailbox.peer.as_ref().is_some_and(|peer| peer.address == by)
        {
            mailbox.error = Some(libc::ECONNREFUSED);
        }
    }

    /// Who gets what comes from one address to another: who is connected to the sender, else who
    /// is connected to nobody. Of several that share the port, always the same for one sender.
    fn addressee(&self, from: SocketAddr, to: SocketAddr) -> Option<RawFd> {
        let from_address = SocketAddress::from(from);
        let peer_of = |fd: &RawFd| {
            let mailbox = self.mailbox(*fd).ok()?;
            mailbox.peer.as_ref().map(|peer| &peer.address)
        };
        let answering = self.post.names.answering(to);
        let (connected, others): (Vec<_>, Vec<_>) = answering
            .into_iter()
            .filter(|fd| peer_of(fd).is_none_or(|peer| *peer == from_address))
            .partition(|fd| peer_of(fd).is_some());
        let candidates = if connected.is_empty() {
            others
        } else {
            connected
        };
        let index = usize::from(from.port()).checked_rem(candidates.len())?;
        candidates.get(index).copied()
    }
}

/// The name that a socket called `local` shows to `to`: the wildcard is no address of a host.
fn named_towards(local: SocketAddr, to: SocketAddr) -> SocketAddr {
    if local.ip().is_unspecified() {
        SocketAddr::new(names::loopback(to.ip()), local.port())
    } else {
        local
    }
}
