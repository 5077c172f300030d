//! getaddrinfo(3) and getnameinfo(3). Both may ask the network and block: call them on a thread of
//! the blocking pool.

use std::io;
use std::net::SocketAddr;

use super::address::Family;

/// What is asked of getaddrinfo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// A name or a numeric address; `None` is the wildcard or the loopback address.
    pub host: Option<String>,
    /// A service name or a number.
    pub service: Option<String>,
    /// The family of the answers.
    pub family: Family,
    /// `SOCK_*`, or 0 for all.
    pub kind: i32,
    /// `IPPROTO_*`, or 0 for all.
    pub protocol: i32,
    /// `AI_*`, combined.
    pub flags: i32,
}

/// One answer of getaddrinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The family of the address.
    pub family: Family,
    /// `SOCK_*`.
    pub kind: i32,
    /// `IPPROTO_*`.
    pub protocol: i32,
    /// The official name, when `AI_CANONNAME` asked for it.
    pub canonical_name: Option<String>,
    /// The address; an IPv6 one with its scope (zone).
    pub address: SocketAddr,
}

/// Answers a query, in the order in which RFC 6724 prefers the addresses.
///
/// # Errors
/// What the resolver says, in its words; the name that was asked for is part of the message.
pub fn getaddrinfo(query: &Query) -> io::Result<Vec<Resolved>> {
    let hints = dns_lookup::AddrInfoHints {
        flags: query.flags,
        address: query.family.0,
        socktype: query.kind,
        protocol: query.protocol,
    };
    let answers =
        dns_lookup::getaddrinfo(query.host.as_deref(), query.service.as_deref(), Some(hints))
            .map_err(|error| unresolved(query, error.into()))?;
    // An address of a family that is not the Internet's is no use to anyone here.
    let resolved = answers.flatten().map(|answer| Resolved {
        family: Family(answer.address),
        kind: answer.socktype,
        protocol: answer.protocol,
        canonical_name: answer.canonname,
        address: answer.sockaddr,
    });
    Ok(resolved.collect())
}

/// The name of `address` and of its port's service. `flags` are `NI_*`, combined.
///
/// # Errors
/// What the resolver says, in its words.
pub fn getnameinfo(address: SocketAddr, flags: i32) -> io::Result<(String, String)> {
    dns_lookup::getnameinfo(&address, flags).map_err(io::Error::from)
}

fn unresolved(query: &Query, error: io::Error) -> io::Error {
    let host = query.host.as_deref().unwrap_or("any host");
    io::Error::new(error.kind(), format!("cannot resolve {host}: {error}"))
}
