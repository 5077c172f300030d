//! A socket of datagrams: what it is called, whom it speaks to, and what has come for it.
//!
//! How a datagram comes from one to another is in [`post`](super::post).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::errno;
use crate::sys::address::{Family, SocketAddress};

/// Names a mailbox for ever: descriptors are soon used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MailboxId(pub(super) u64);

/// A socket of datagrams.
#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) id: MailboxId,
    pub(super) family: Family,
    /// How long what it sends travels; drawn when it is opened, so that nothing of one sender
    /// overtakes the rest. A Unix socket's datagrams take no time.
    pub(super) latency: Duration,
    /// Set by bind, and by the first connect or send.
    pub(super) local: Option<SocketAddress>,
    pub(super) reuse_port: bool,
    pub(super) broadcast: bool,
    /// Set by connect. A Unix socket loses it when its peer has been closed.
    pub(super) peer: Option<Peer>,
    /// Delivered and not received, oldest first.
    pub(super) letters: VecDeque<Letter>,
    /// A test shows it nothing of what comes.
    pub(super) stalled: bool,
    /// To be reported once: a peer has refused a datagram.
    pub(super) error: Option<i32>,
    /// `shutdown_write` was called.
    pub(super) write_ended: bool,
    /// The Unix socket whose queue was full at the last send.
    pub(super) waits_for: Option<MailboxId>,
}

/// Whom a mailbox is connected to.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddress,
    /// A Unix socket is connected to a socket, one of the Internet to an address only.
    pub(super) mailbox: Option<MailboxId>,
}

/// A datagram that has come.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) bytes: Vec<u8>,
    pub(super) sender: MailboxId,
    /// The sender's name, if it has one.
    pub(super) from: Option<SocketAddress>,
}

impl Mailbox {
    pub(super) fn new(id: MailboxId, family: Family, latency: Duration) -> Mailbox {
        Mailbox {
            id,
            family,
            latency,
            local: None,
            reuse_port: false,
            broadcast: false,
            peer: None,
            letters: VecDeque::new(),
            stalled: false,
            error: None,
            write_ended: false,
            waits_for: None,
        }
    }

    pub(super) fn is_unix(&self) -> bool {
        self.family == Family::UNIX
    }

    pub(super) fn is_ipv6(&self) -> bool {
        self.family == Family::INET6
    }

    /// Its name: the family's "no name" before it has one.
    pub(super) fn name(&self) -> SocketAddress {
        self.local.clone().unwrap_or_else(|| {
            if self.is_unix() {
                SocketAddress::unnamed()
            } else {
                self.any().into()
            }
        })
    }

    /// The Internet family's "any address".
    pub(super) fn any(&self) -> SocketAddr {
        let ip: IpAddr = if self.is_ipv6() {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        SocketAddr::new(ip, 0)
    }

    /// Whether it is connected to this mailbox.
    pub(super) fn is_connected_to(&self, other: MailboxId) -> bool {
        let peer = self.peer.as_ref().and_then(|peer| peer.mailbox);
        peer == Some(other)
    }

    /// Whether receiving would not block.
    pub(super) fn is_readable(&self) -> bool {
        self.error.is_some() || self.next().is_some()
    }

    /// Takes the pending error.
    pub(super) fn take_error(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), |error| Err(errno(error)))
    }

    /// What would be received next.
    pub(super) fn next(&self) -> Option<&Letter> {
        self.letters.front().filter(|_| !self.stalled)
    }

    /// Receives the next.
    pub(super) fn receive(&mut self) -> io::Result<Letter> {
        self.take_error()?;
        let letter = if self.stalled {
            None
        } else {
            self.letters.pop_front()
        };
        letter.ok_or_else(|| errno(libc::EAGAIN))
    }

    /// Bytes that have come from `sender`.
    pub(super) fn bytes_from(&self, sender: MailboxId) -> usize {
        let letters = self.letters.iter();
        letters
            .filter(|letter| letter.sender == sender)
            .map(|letter| letter.bytes.len())
            .sum()
    }
}
