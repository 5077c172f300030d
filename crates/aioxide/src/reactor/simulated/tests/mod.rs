//! What only the simulated network can show: its clock, its order, its faults. What it shares with
//! the kernel's is in `tests/reactor_contract.rs`.

#![allow(clippy::unwrap_used)]

mod connection;
mod datagrams;
mod faults;
mod pipes;
mod tcp;
mod time;

use std::io::ErrorKind;

use super::*;

const PORT: u16 = 8000;

fn address() -> SocketAddress {
    std::net::SocketAddr::from(([127, 0, 0, 1], PORT)).into()
}

fn open(reactor: &SimulatedReactor) -> Socket {
    reactor.open(Family::INET, libc::SOCK_STREAM, 0).unwrap()
}

fn listen(reactor: &SimulatedReactor, backlog: i32) -> Socket {
    let listener = open(reactor);
    reactor.bind(listener.fd(), &address()).unwrap();
    reactor.listen(listener.fd(), backlog).unwrap();
    listener
}

fn connect(reactor: &SimulatedReactor) -> Socket {
    let client = open(reactor);
    let started = reactor.connect(client.fd(), &address());
    assert_eq!(started.unwrap_err().kind(), ErrorKind::WouldBlock);
    client
}

/// A connection over the default network: both ends.
fn pair(reactor: &SimulatedReactor) -> (Socket, Socket) {
    let listener = listen(reactor, 1);
    let client = connect(reactor);
    (client, reactor.accept(listener.fd()).unwrap().0)
}

fn wait(reactor: &SimulatedReactor, deadline: Option<Time>) -> io::Result<Vec<u64>> {
    let mut events = Vec::new();
    reactor.wait(deadline, &mut events, &|sleep| sleep())?;
    Ok(events
        .into_iter()
        .map(|Event(Token(token))| token)
        .collect())
}

fn look(reactor: &SimulatedReactor) -> Vec<u64> {
    wait(reactor, Some(Time::ZERO)).unwrap()
}

fn send(reactor: &SimulatedReactor, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    reactor.send(socket.fd(), &[IoSlice::new(bytes)])
}

fn receive(reactor: &SimulatedReactor, socket: &Socket, limit: usize) -> io::Result<usize> {
    reactor.receive(socket.fd(), &mut Buffer::from(&mut vec![0; limit][..]))
}

fn code<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}
