//! Ports: who has which.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::RawFd;

use super::errno;

/// The ports that are given to sockets that do not choose one: Linux's default
/// (`net.ipv4.ip_local_port_range`).
const EPHEMERAL_PORTS: RangeInclusive<u16> = 32768..=60999;

/// The bound sockets. IPv4 and IPv6 are two worlds here: there are no dual-stack sockets.
#[derive(Debug)]
pub(super) struct Names {
    /// Every socket with a name of its own, by port. No list is empty.
    bound: BTreeMap<u16, Vec<Bound>>,
    /// Where the search for a free port begins: one after the last that was given, so that a port
    /// is not soon given again.
    next: u16,
}

#[derive(Clone, Copy, Debug)]
struct Bound {
    fd: RawFd,
    address: SocketAddr,
    reuse_port: bool,
}

impl Names {
    pub(super) fn new() -> Names {
        Names {
            bound: BTreeMap::new(),
            next: *EPHEMERAL_PORTS.start(),
        }
    }

    /// Gives `fd` the name `address`, with a free port for port 0.
    pub(super) fn bind(
        &mut self,
        fd: RawFd,
        address: SocketAddr,
        reuse_port: bool,
    ) -> io::Result<SocketAddr> {
        if !is_local(address.ip()) {
            return Err(errno(libc::EADDRNOTAVAIL));
        }
        let port = if address.port() == 0 {
            self.free_port()?
        } else {
            address.port()
        };
        let address = SocketAddr::new(address.ip(), port);
        let taken = |other: &Bound| {
            overlap(other.address.ip(), address.ip()) && !(other.reuse_port && reuse_port)
        };
        if self.on(port).iter().any(taken) {
            return Err(errno(libc::EADDRINUSE));
        }
        self.bound.entry(port).or_default().push(Bound {
            fd,
            address,
            reuse_port,
        });
        Ok(address)
    }

    pub(super) fn release(&mut self, fd: RawFd, port: u16) {
        if let Some(bound) = self.bound.get_mut(&port) {
            bound.retain(|bound| bound.fd != fd);
            if bound.is_empty() {
                self.bound.remove(&port);
            }
        }
    }

    /// The sockets that may answer for `address`: those of just this name, else the wildcard's.
    pub(super) fn answering(&self, address: SocketAddr) -> Vec<RawFd> {
        let named = |ip: IpAddr| -> Vec<RawFd> {
            let bound = self
                .on(address.port())
                .iter()
                .filter(|bound| bound.address.ip() == ip);
            bound.map(|bound| bound.fd).collect()
        };
        let exact = named(address.ip());
        if exact.is_empty() {
            named(wildcard(address.ip()))
        } else {
            exact
        }
    }

    fn on(&self, port: u16) -> &[Bound] {
        self.bound.get(&port).map_or(&[], Vec::as_slice)
    }

    fn free_port(&mut self) -> io::Result<u16> {
        for _ in EPHEMERAL_PORTS {
            let port = self.next;
            self.next = if port == *EPHEMERAL_PORTS.end() {
                *EPHEMERAL_PORTS.start()
            } else {
                port + 1
            };
            if !self.bound.contains_key(&port) {
                return Ok(port);
            }
        }
        Err(errno(libc::EADDRINUSE))
    }
}

/// Whether the simulated host has this address: loopback alone. Every other is a host that never
/// answers.
pub(super) fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

/// Where a connect to `address` goes: to the wildcard means to this host (RFC 1122 leaves it
/// open, Linux does it).
pub(super) fn destination(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(loopback(address.ip()), address.port())
    } else {
        // Without an IPv6 flow or zone: loopback has neither.
        SocketAddr::new(address.ip(), address.port())
    }
}

/// The loopback address of the same family.
pub(super) fn loopback(ip: IpAddr) -> IpAddr {
    if ip.is_ipv6() {
        Ipv6Addr::LOCALHOST.into()
    } else {
        Ipv4Addr::LOCALHOST.into()
    }
}

fn wildcard(ip: IpAddr) -> IpAddr {
    if ip.is_ipv6() {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

/// Whether one packet could be meant for both.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    let same_family = one.is_ipv6() == other.is_ipv6();
    same_family && (one == other || one.is_unspecified() || other.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(names: &mut Names, fd: RawFd, address: &str, reuse: bool) -> Result<u16, i32> {
        let address = address.parse().map_err(|_| 0)?;
        let bound = names.bind(fd, address, reuse).map(|address| address.port());
        bound.map_err(|error| error.raw_os_error().unwrap_or(0))
    }

    #[test]
    fn a_name_is_given_once() {
        let mut names = Names::new();
        assert_eq!(bind(&mut names, 1, "127.0.0.1:80", false), Ok(80));
        assert_eq!(
            bind(&mut names, 2, "127.0.0.1:80", false),
            Err(libc::EADDRINUSE)
        );
        assert_eq!(
            bind(&mut names, 2, "0.0.0.0:80", false),
            Err(libc::EADDRINUSE)
        );
        assert_eq!(bind(&mut names, 2, "127.0.0.2:80", false), Ok(80));
        assert_eq!(bind(&mut names, 3, "[::]:80", false), Ok(80));
        assert_eq!(
            bind(&mut names, 4, "192.0.2.1:80", false),
            Err(libc::EADDRNOTAVAIL)
        );
        names.release(1, 80);
        assert_eq!(bind(&mut names, 5, "127.0.0.1:80", false), Ok(80));
    }

    #[test]
    fn reuse_port_is_by_agreement() {
        let mut names = Names::new();
        assert_eq!(bind(&mut names, 1, "0.0.0.0:80", true), Ok(80));
        assert_eq!(
            bind(&mut names, 2, "0.0.0.0:80", false),
            Err(libc::EADDRINUSE)
        );
        assert_eq!(bind(&mut names, 2, "0.0.0.0:80", true), Ok(80));
        assert_eq!(
            names.answering(SocketAddr::from(([127, 0, 0, 1], 80))),
            [1, 2]
        );
    }

    #[test]
    fn port_0_is_a_free_one_and_they_run_out() {
        let mut names = Names::new();
        let first = *EPHEMERAL_PORTS.start();
        assert_eq!(bind(&mut names, 1, "127.0.0.1:0", false), Ok(first));
        names.release(1, first);
        for _ in EPHEMERAL_PORTS {
            assert_ne!(
                bind(&mut names, 2, "127.0.0.1:0", false),
                Err(libc::EADDRINUSE)
            );
        }
        assert_eq!(
            bind(&mut names, 3, "127.0.0.1:0", false),
            Err(libc::EADDRINUSE)
        );
        names.release(2, 40000);
        assert_eq!(bind(&mut names, 3, "127.0.0.1:0", false), Ok(40000));
    }

    #[test]
    fn the_exact_name_answers_before_the_wildcard() {
        let mut names = Names::new();
        assert_eq!(bind(&mut names, 1, "0.0.0.0:80", true), Ok(80));
        assert_eq!(bind(&mut names, 2, "127.0.0.1:80", true), Ok(80));
        assert_eq!(names.answering(SocketAddr::from(([127, 0, 0, 1], 80))), [2]);
        assert_eq!(names.answering(SocketAddr::from(([127, 0, 0, 9], 80))), [1]);
        assert_eq!(
            names.answering(SocketAddr::from(([127, 0, 0, 1], 81))),
            [0; 0]
        );
    }
}
