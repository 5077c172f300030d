//! From names to addresses, off the loop's thread.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::sys::address::Family;
use crate::sys::names as blocking;
pub use crate::sys::names::{Query, Resolved};

impl<H: Host> EventLoop<H> {
    /// Resolves a host and a service. A numeric address with a numeric port needs no thread.
    ///
    /// # Errors
    /// What the resolver says.
    pub async fn getaddrinfo(&self, query: Query) -> io::Result<Vec<Resolved>> {
        if let Some(resolved) = numeric(&query) {
            return Ok(vec![resolved]);
        }
        self.run_in_executor(move || blocking::getaddrinfo(&query))
            .await?
    }

    /// The name of an address and of its port's service. `flags` are `NI_*`, combined.
    ///
    /// # Errors
    /// What the resolver says.
    pub async fn getnameinfo(
        &self,
        address: SocketAddr,
        flags: i32,
    ) -> io::Result<(String, String)> {
        self.run_in_executor(move || blocking::getnameinfo(address, flags))
            .await?
    }
}

/// The answer to a query that asks nothing: a numeric address of the wanted family, a numeric
/// port, one kind of socket, no flags that change the answer.
#[must_use]
pub fn numeric(query: &Query) -> Option<Resolved> {
    let passive = libc::AI_PASSIVE | libc::AI_NUMERICHOST | libc::AI_NUMERICSERV;
    if query.flags & !passive != 0 {
        return None;
    }
    let protocol = match (query.kind, query.protocol) {
        (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => libc::IPPROTO_TCP,
        (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => libc::IPPROTO_UDP,
        _ => return None,
    };
    let port = match query.service.as_deref() {
        None | Some("") => 0,
        Some(port) if port.bytes().all(|digit| digit.is_ascii_digit()) => port.parse().ok()?,
        Some(_) => return None,
    };
    let address = numeric_address(query.host.as_deref()?, port)?;
    let family = if address.is_ipv4() {
        Family::INET
    } else {
        Family::INET6
    };
    (query.family == Family::UNSPEC || query.family == family).then_some(Resolved {
        family,
        kind: query.kind,
        protocol,
        canonical_name: None,
        address,
    })
}

/// `address`, or `address%zone` with a numeric zone. Names of zones are for the resolver.
fn numeric_address(host: &str, port: u16) -> Option<SocketAddr> {
    if let Some((address, zone)) = host.split_once('%') {
        let address: Ipv6Addr = address.parse().ok()?;
        return Some(SocketAddrV6::new(address, port, 0, zone.parse().ok()?).into());
    }
    Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(host: &str, service: &str) -> Query {
        Query {
            host: Some(host.into()),
            service: Some(service.into()),
            kind: libc::SOCK_STREAM,
            ..Query::default()
        }
    }

    #[test]
    fn numbers_are_answered_as_the_resolver_answers_them() {
        for host in ["127.0.0.1", "::1", "255.255.255.255", "2001:db8::7"] {
            let query = query(host, "8080");
            let resolver = blocking::getaddrinfo(&query).ok();
            assert_eq!(
                numeric(&query).map(|resolved| vec![resolved]),
                resolver,
                "{host}"
            );
        }
    }

    #[test]
    fn what_is_not_a_number_is_left_to_the_resolver() {
        for (host, service) in [
            ("localhost", "80"),
            ("127.1", "80"),
            ("::1", "http"),
            ("fe80::1%lo", "1"),
            ("", "1"),
        ] {
            assert_eq!(numeric(&query(host, service)), None, "{host}");
        }
        let mut other_family = query("::1", "80");
        other_family.family = Family::INET;
        assert_eq!(numeric(&other_family), None);
    }

    #[test]
    fn zones_survive() {
        let resolved = numeric(&query("fe80::1%3", "80")).map(|resolved| resolved.address);
        assert_eq!(resolved, "[fe80::1%3]:80".parse().ok());
    }
}
