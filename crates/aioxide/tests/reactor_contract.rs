//! The reactor's contract, as functions of a reactor: each runs over the kernel and in memory.
//!
//! What is asserted here of errors is Linux's behaviour, so the kernel is the oracle: a case that
//! holds for the simulated network alone would show in the `epoll` half.
//!
//! Connections, waiting and names are here; datagrams, and what is no socket, stand beside it.

#![allow(clippy::unwrap_used)]

use std::io::{self, ErrorKind, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::time::Duration;

use aioxide::reactor::epoll::EpollReactor;
use aioxide::reactor::simulated::{Config, SimulatedReactor};
use aioxide::reactor::{Event, Op, Reactor, Side, Socket, Token};
use aioxide::sys::address::{Family, SocketAddress};
use aioxide::sys::buffer::Buffer;
use aioxide::sys::clock::Time;
use aioxide::sys::socket::SocketOption;

/// Runs every case on every back-end.
macro_rules! on_every_reactor {
    ($($case:ident,)*) => {
        mod epoll {
            $(#[test] fn $case() { super::$case(&super::EpollReactor::new().unwrap()) })*
        }
        mod simulated {
            $(#[test] fn $case() {
                for seed in 0..super::SEEDS {
                    let reactor = super::SimulatedReactor::with(super::network(seed));
                    super::$case(&reactor);
                    let network = reactor.network();
                    assert_eq!(network.open_descriptors(), 0, "descriptors leak");
                    assert_eq!(network.bytes_in_flight(), 0, "connections leak");
                    assert_eq!(network.waiting(), 0, "operations leak");
                    assert_eq!(network.violations(), [""; 0]);
                }
            })*
        }
    };
}

#[path = "reactor_contract/datagrams.rs"]
mod datagrams;
#[path = "reactor_contract/files.rs"]
mod files;
#[path = "reactor_contract/once.rs"]
mod once;
#[path = "reactor_contract/stream.rs"]
mod stream;

on_every_reactor! {
    bytes_pass_both_ways,
    bytes_pass_over_ipv6,
    an_event_repeats_until_the_bytes_are_taken,
    an_accept_repeats_until_the_queue_is_empty,
    cancelling_takes_effect_at_once,
    both_sides_wait_by_themselves,
    one_operation_waits_on_each_side,
    a_sender_waits_for_room,
    slices_are_sent_in_order_and_nothing_is_sent_at_once,
    a_half_close_leaves_the_other_half,
    a_refused_connect_says_so_once,
    a_listener_that_closes_resets_its_queue,
    a_close_with_bytes_unreceived_resets,
    a_send_to_a_closed_peer_breaks_the_pipe,
    a_hang_up_wakes_both_sides,
    a_wait_returns_when_woken,
    a_wake_before_the_wait_is_not_lost,
    a_deadline_is_never_early,
    a_deadline_that_is_past_only_looks,
    addresses_are_given_once,
    sockets_have_names,
    unconnected_sockets_fail_as_on_linux,
    bad_descriptors_are_refused,
}

/// Runs of each case in memory, each in another order.
const SEEDS: u64 = 8;

/// Longer than any case needs: a wait that is never satisfied ends here.
const TOO_LONG: Duration = Duration::from_secs(10);

/// Odd seeds have a wire with a length, and waits that keep events back.
fn network(seed: u64) -> Config {
    let hard = seed % 2 == 1;
    let latency = if hard {
        Duration::from_millis(3)
    } else {
        Duration::ZERO
    };
    Config::new(seed)
        .latency(latency)
        .jitter(latency)
        .partial_waits(hard)
}

// ---------------------------------------------------------------------------------------------
// Moving bytes

fn bytes_pass_both_ways(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    send_all(reactor, &client, b"question");
    assert_eq!(receive_exactly(reactor, &server, 8), b"question");
    send_all(reactor, &server, b"answer");
    assert_eq!(receive_exactly(reactor, &client, 6), b"answer");
}

fn bytes_pass_over_ipv6(reactor: &dyn Reactor) {
    let listener = listener(reactor, SocketAddr::from((Ipv6Addr::LOCALHOST, 0)));
    let (client, server) = connect_to(reactor, &listener);
    send_all(reactor, &client, b"six");
    assert_eq!(receive_exactly(reactor, &server, 3), b"six");
    assert!(
        reactor
            .peer_address(server.fd())
            .unwrap()
            .ip()
            .unwrap()
            .is_ipv6()
    );
}

fn an_event_repeats_until_the_bytes_are_taken(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    reactor.submit(server.fd(), Op::Receive, Token(7)).unwrap();
    assert_eq!(look(reactor), []);
    send_all(reactor, &client, b"ab");
    for _ in 0..3 {
        until(reactor, Token(7));
    }
    assert_eq!(receive(reactor, &server, 1).unwrap(), b"a");
    until(reactor, Token(7));
    assert_eq!(receive(reactor, &server, 9).unwrap(), b"b");
    assert_eq!(look(reactor), []);
    reactor.cancel(server.fd(), Side::Read);
}

fn an_accept_repeats_until_the_queue_is_empty(reactor: &dyn Reactor) {
    let listener = any_listener(reactor);
    reactor.submit(listener.fd(), Op::Accept, Token(1)).unwrap();
    assert_eq!(look(reactor), []);
    let clients = [(); 3].map(|()| start_connect(reactor, address(reactor, &listener)));
    for _ in &clients {
        until(reactor, Token(1));
        let (_server, peer) = reactor.accept(listener.fd()).unwrap();
        let peer = peer.unwrap();
        let names = clients
            .iter()
            .map(|client| reactor.local_address(client.fd()).unwrap());
        assert!(names.into_iter().any(|name| name == peer));
    }
    assert_eq!(kind(reactor.accept(listener.fd())), ErrorKind::WouldBlock);
    assert_eq!(look(reactor), []);
    reactor.cancel(listener.fd(), Side::Read);
}

fn slices_are_sent_in_order_and_nothing_is_sent_at_once(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    let slices = [&b"ab"[..], b"", b"cde"].map(IoSlice::new);
    assert_eq!(reactor.send(client.fd(), &slices).unwrap(), 5);
    assert_eq!(receive_exactly(reactor, &server, 5), b"abcde");
    assert_eq!(reactor.send(client.fd(), &[IoSlice::new(b"")]).unwrap(), 0);
    assert_eq!(reactor.send(client.fd(), &[]).unwrap(), 0);
    assert_eq!(kind(receive(reactor, &server, 9)), ErrorKind::WouldBlock);
}

fn a_sender_waits_for_room(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    let chunk = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    let mut refused = 0;
    // The kernel's buffers grow while the receiver's side is still being told.
    while refused < 3 {
        match reactor.send(client.fd(), &[IoSlice::new(&chunk)]) {
            Ok(count) => sent += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                refused += 1;
                pass(reactor, Duration::from_millis(10));
            }
        }
    }
    reactor.submit(client.fd(), Op::Send, Token(1)).unwrap();
    assert_eq!(look(reactor), []);
    let mut received = 0;
    reactor.submit(server.fd(), Op::Receive, Token(2)).unwrap();
    while received < sent {
        until(reactor, Token(2));
        received += receive(reactor, &server, chunk.len()).unwrap().len();
    }
    until(reactor, Token(1));
    reactor.cancel(client.fd(), Side::Write);
    reactor.cancel(server.fd(), Side::Read);
}

// ---------------------------------------------------------------------------------------------
// Waiting operations

fn cancelling_takes_effect_at_once(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    send_all(reactor, &client, b"a");
    reactor.submit(server.fd(), Op::Receive, Token(1)).unwrap();
    until(reactor, Token(1));
    reactor.cancel(server.fd(), Side::Read);
    assert_eq!(look(reactor), []);
    reactor.cancel(server.fd(), Side::Read);
    reactor.submit(server.fd(), Op::PollRead, Token(2)).unwrap();
    until(reactor, Token(2));
    reactor.cancel(server.fd(), Side::Read);
    receive_exactly(reactor, &server, 1);
}

fn both_sides_wait_by_themselves(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    reactor.submit(client.fd(), Op::PollRead, Token(1)).unwrap();
    reactor
        .submit(client.fd(), Op::PollWrite, Token(2))
        .unwrap();
    assert_eq!(look(reactor), [Token(2)]);
    reactor.cancel(client.fd(), Side::Write);
    assert_eq!(look(reactor), []);
    send_all(reactor, &server, b"a");
    until(reactor, Token(1));
    reactor.cancel(client.fd(), Side::Read);
    receive_exactly(reactor, &client, 1);
}

fn one_operation_waits_on_each_side(reactor: &dyn Reactor) {
    let (client, _server) = pair(reactor);
    let pairs = [
        (Op::Receive, Op::PollRead),
        (Op::Send, Op::PollWrite),
        (Op::PollRead, Op::Accept),
    ];
    for (first, second) in pairs {
        reactor.submit(client.fd(), first, Token(1)).unwrap();
        let twice = reactor.submit(client.fd(), second, Token(2));
        assert_eq!(kind(twice), ErrorKind::AlreadyExists);
        reactor.cancel(client.fd(), first.side());
        reactor.submit(client.fd(), second, Token(2)).unwrap();
        reactor.cancel(client.fd(), second.side());
    }
}

fn a_hang_up_wakes_both_sides(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    fill(reactor, &client);
    reactor.submit(client.fd(), Op::Receive, Token(1)).unwrap();
    reactor.submit(client.fd(), Op::Send, Token(2)).unwrap();
    assert_eq!(look(reactor), []);
    // It has bytes that it never received.
    drop(server);
    until(reactor, Token(1));
    until(reactor, Token(2));
    reactor.cancel(client.fd(), Side::Read);
    reactor.cancel(client.fd(), Side::Write);
}

fn a_wait_returns_when_woken(reactor: &dyn Reactor) {
    let waker = reactor.waker();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        waker.wake();
    });
    assert_eq!(wait(reactor, None), []);
    thread.join().unwrap();
}

fn a_wake_before_the_wait_is_not_lost(reactor: &dyn Reactor) {
    reactor.waker().wake();
    reactor.waker().wake();
    assert_eq!(wait(reactor, None), []);
    let start = reactor.now();
    assert_eq!(
        wait(reactor, Some(start + Duration::from_millis(2))),
        [],
        "woken once"
    );
    assert!(start.until(reactor.now()) >= Duration::from_millis(2));
}

fn a_deadline_is_never_early(reactor: &dyn Reactor) {
    for nanoseconds in [1, 999, 1_000_001, 3_500_000] {
        let deadline = reactor.now() + Duration::from_nanos(nanoseconds);
        assert_eq!(wait(reactor, Some(deadline)), []);
        assert!(reactor.now() >= deadline);
    }
}

fn a_deadline_that_is_past_only_looks(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    send_all(reactor, &client, b"a");
    reactor.submit(server.fd(), Op::Receive, Token(1)).unwrap();
    until(reactor, Token(1));
    assert_eq!(wait(reactor, Some(Time::ZERO)), [Token(1)]);
    assert_eq!(wait(reactor, Some(reactor.now())), [Token(1)]);
    reactor.cancel(server.fd(), Side::Read);
    assert_eq!(wait(reactor, Some(reactor.now())), []);
    receive_exactly(reactor, &server, 1);
}

// ---------------------------------------------------------------------------------------------
// How connections end

fn a_half_close_leaves_the_other_half(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    send_all(reactor, &client, b"last");
    reactor.shutdown_write(client.fd()).unwrap();
    reactor.shutdown_write(client.fd()).unwrap();
    assert_eq!(code(send(reactor, &client, b"more")), libc::EPIPE);
    assert_eq!(receive_exactly(reactor, &server, 5), b"last");
    assert_eq!(
        receive(reactor, &server, 9).unwrap(),
        b"",
        "an end stays an end"
    );
    send_all(reactor, &server, b"answer");
    assert_eq!(receive_exactly(reactor, &client, 6), b"answer");
}

fn a_refused_connect_says_so_once(reactor: &dyn Reactor) {
    let listener = any_listener(reactor);
    let address = address(reactor, &listener);
    drop(listener);
    let client = start_connect(reactor, address);
    reactor.submit(client.fd(), Op::Connect, Token(1)).unwrap();
    until(reactor, Token(1));
    reactor.cancel(client.fd(), Side::Write);
    assert_eq!(code(reactor.take_error(client.fd())), libc::ECONNREFUSED);
    reactor.take_error(client.fd()).unwrap();
    assert_eq!(receive(reactor, &client, 1).unwrap(), b"");
    assert_eq!(code(send(reactor, &client, b"a")), libc::EPIPE);
    assert_eq!(code(reactor.peer_address(client.fd())), libc::ENOTCONN);
}

fn a_listener_that_closes_resets_its_queue(reactor: &dyn Reactor) {
    let listener = any_listener(reactor);
    let client = start_connect(reactor, address(reactor, &listener));
    finish_connect(reactor, &client);
    drop(listener);
    readable(reactor, &client);
    assert_eq!(code(receive(reactor, &client, 1)), libc::ECONNRESET);
}

fn a_close_with_bytes_unreceived_resets(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    send_all(reactor, &server, b"bye");
    send_all(reactor, &client, b"unheard");
    readable(reactor, &client);
    readable(reactor, &server);
    drop(server);
    // The reset may be behind the bytes. It is the error of one send, and then there is no pipe.
    assert_eq!(broken(reactor, &client), libc::ECONNRESET);
    assert_eq!(code(send(reactor, &client, b"a")), libc::EPIPE);
    assert_eq!(
        receive(reactor, &client, 9).unwrap(),
        b"bye",
        "delivered before"
    );
    assert_eq!(receive(reactor, &client, 9).unwrap(), b"");
    assert_eq!(code(reactor.shutdown_write(client.fd())), libc::ENOTCONN);
    assert_eq!(code(reactor.peer_address(client.fd())), libc::ENOTCONN);
}

fn a_send_to_a_closed_peer_breaks_the_pipe(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    drop(server);
    readable(reactor, &client);
    assert_eq!(receive(reactor, &client, 9).unwrap(), b"");
    assert_eq!(send(reactor, &client, b"a").unwrap(), 1, "nobody knows yet");
    assert_eq!(broken(reactor, &client), libc::EPIPE);
    assert_eq!(receive(reactor, &client, 9).unwrap(), b"");
    assert_eq!(code(reactor.shutdown_write(client.fd())), libc::ENOTCONN);
}

// ---------------------------------------------------------------------------------------------
// Names and errors

fn addresses_are_given_once(reactor: &dyn Reactor) {
    let listener = any_listener(reactor);
    let taken = address(reactor, &listener);
    let other = open(reactor, Family::INET);
    assert_eq!(code(reactor.bind(other.fd(), &taken)), libc::EADDRINUSE);
    assert_eq!(
        code(reactor.bind(listener.fd(), &taken)),
        libc::EINVAL,
        "bound already"
    );
    let documentation = SocketAddr::from(([192, 0, 2, 1], 0)).into();
    assert_eq!(
        code(reactor.bind(other.fd(), &documentation)),
        libc::EADDRNOTAVAIL
    );
    let six: SocketAddress = SocketAddr::from((Ipv6Addr::LOCALHOST, 0)).into();
    assert_eq!(code(reactor.bind(other.fd(), &six)), libc::EAFNOSUPPORT);
    let four = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into();
    let other_six = open(reactor, Family::INET6);
    assert_eq!(code(reactor.bind(other_six.fd(), &four)), libc::EINVAL);
    drop(listener);
    reactor
        .set_option(other.fd(), SocketOption::ReuseAddress)
        .unwrap();
    reactor.bind(other.fd(), &taken).unwrap();
}

fn sockets_have_names(reactor: &dyn Reactor) {
    let fresh = open(reactor, Family::INET);
    let nameless = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into();
    assert_eq!(reactor.local_address(fresh.fd()).unwrap(), nameless);
    let listener = listener(reactor, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let port = address(reactor, &listener).port().unwrap();
    let loopback: SocketAddress = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into();
    let client = start_connect(reactor, loopback.clone());
    finish_connect(reactor, &client);
    let (server, peer) = reactor.accept(listener.fd()).unwrap();
    let name = reactor.local_address(client.fd()).unwrap();
    assert_eq!(reactor.peer_address(client.fd()).unwrap(), loopback);
    assert_eq!(reactor.local_address(server.fd()).unwrap(), loopback);
    assert_eq!(reactor.peer_address(server.fd()).unwrap(), name);
    assert_eq!(peer, Some(name));
}

fn unconnected_sockets_fail_as_on_linux(reactor: &dyn Reactor) {
    let socket = open(reactor, Family::INET);
    let listener = any_listener(reactor);
    for fd in [socket.fd(), listener.fd()] {
        assert_eq!(code(receive_from(reactor, fd, 1)), libc::ENOTCONN);
        assert_eq!(code(reactor.send(fd, &[IoSlice::new(b"a")])), libc::EPIPE);
        assert_eq!(code(reactor.peer_address(fd)), libc::ENOTCONN);
        reactor.take_error(fd).unwrap();
    }
    assert_eq!(code(reactor.shutdown_write(socket.fd())), libc::ENOTCONN);
    assert_eq!(code(reactor.accept(socket.fd())), libc::EINVAL);
    let to = address(reactor, &listener);
    assert_eq!(code(reactor.connect(listener.fd(), &to)), libc::EISCONN);
    let (client, _server) = connect_to(reactor, &listener);
    assert_eq!(code(reactor.listen(client.fd(), 1)), libc::EINVAL);
    assert_eq!(
        code(reactor.set_option(client.fd(), SocketOption::Ipv6Only)),
        libc::ENOPROTOOPT
    );
    reactor
        .set_option(client.fd(), SocketOption::NoDelay)
        .unwrap();
}

fn bad_descriptors_are_refused(reactor: &dyn Reactor) {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1)).into();
    // No kernel of a test machine numbers so high (`fs.nr_open`).
    for fd in [-1, RawFd::MIN, RawFd::MAX] {
        assert_eq!(code(reactor.submit(fd, Op::Receive, Token(1))), libc::EBADF);
        reactor.cancel(fd, Side::Read);
        assert_eq!(code(receive_from(reactor, fd, 1)), libc::EBADF);
        assert_eq!(code(reactor.send(fd, &[IoSlice::new(b"a")])), libc::EBADF);
        assert_eq!(code(reactor.accept(fd)), libc::EBADF);
        assert_eq!(code(reactor.connect(fd, &nowhere)), libc::EBADF);
        assert_eq!(code(reactor.bind(fd, &nowhere)), libc::EBADF);
        assert_eq!(code(reactor.listen(fd, 1)), libc::EBADF);
        assert_eq!(code(reactor.shutdown_write(fd)), libc::EBADF);
        assert_eq!(code(reactor.take_error(fd)), libc::EBADF);
        assert_eq!(
            code(reactor.set_option(fd, SocketOption::NoDelay)),
            libc::EBADF
        );
        assert_eq!(code(reactor.local_address(fd)), libc::EBADF);
        assert_eq!(code(reactor.peer_address(fd)), libc::EBADF);
    }
    assert_eq!(look(reactor), []);
}

// ---------------------------------------------------------------------------------------------
// What the cases are made of

fn open(reactor: &dyn Reactor, family: Family) -> Socket {
    reactor.open(family, libc::SOCK_STREAM, 0).unwrap()
}

fn listener(reactor: &dyn Reactor, address: SocketAddr) -> Socket {
    let address = SocketAddress::from(address);
    let listener = open(reactor, address.family());
    reactor.bind(listener.fd(), &address).unwrap();
    reactor.listen(listener.fd(), 16).unwrap();
    listener
}

fn any_listener(reactor: &dyn Reactor) -> Socket {
    listener(reactor, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

fn address(reactor: &dyn Reactor, socket: &Socket) -> SocketAddress {
    reactor.local_address(socket.fd()).unwrap()
}

fn start_connect(reactor: &dyn Reactor, to: SocketAddress) -> Socket {
    let client = open(reactor, to.family());
    assert_eq!(
        kind(reactor.connect(client.fd(), &to)),
        ErrorKind::WouldBlock
    );
    client
}

fn finish_connect(reactor: &dyn Reactor, client: &Socket) {
    reactor
        .submit(client.fd(), Op::Connect, Token(u64::MAX))
        .unwrap();
    until(reactor, Token(u64::MAX));
    reactor.cancel(client.fd(), Side::Write);
    reactor.take_error(client.fd()).unwrap();
}

fn connect_to(reactor: &dyn Reactor, listener: &Socket) -> (Socket, Socket) {
    let client = start_connect(reactor, address(reactor, listener));
    finish_connect(reactor, &client);
    (client, reactor.accept(listener.fd()).unwrap().0)
}

/// A connection: the end that has connected, the end that was accepted.
fn pair(reactor: &dyn Reactor) -> (Socket, Socket) {
    connect_to(reactor, &any_listener(reactor))
}

fn wait(reactor: &dyn Reactor, deadline: Option<Time>) -> Vec<Token> {
    let mut events = Vec::new();
    reactor
        .wait(deadline, &mut events, &|sleep| sleep())
        .unwrap();
    events.into_iter().map(|Event(token)| token).collect()
}

fn look(reactor: &dyn Reactor) -> Vec<Token> {
    wait(reactor, Some(Time::ZERO))
}

/// Waits for an event of `token`.
fn until(reactor: &dyn Reactor, token: Token) {
    let deadline = reactor.now() + TOO_LONG;
    while !wait(reactor, Some(deadline)).contains(&token) {
        assert!(reactor.now() < deadline, "no event of {token:?}");
    }
}

/// Waits until `socket` can be read.
fn readable(reactor: &dyn Reactor, socket: &Socket) {
    reactor
        .submit(socket.fd(), Op::PollRead, Token(u64::MAX))
        .unwrap();
    until(reactor, Token(u64::MAX));
    reactor.cancel(socket.fd(), Side::Read);
}

/// Lets time pass.
fn pass(reactor: &dyn Reactor, time: Duration) {
    let deadline = reactor.now() + time;
    while reactor.now() < deadline {
        wait(reactor, Some(deadline));
    }
}

fn send(reactor: &dyn Reactor, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    reactor.send(socket.fd(), &[IoSlice::new(bytes)])
}

fn send_all(reactor: &dyn Reactor, socket: &Socket, bytes: &[u8]) {
    assert_eq!(
        send(reactor, socket, bytes).unwrap(),
        bytes.len(),
        "a few bytes always fit"
    );
}

/// Sends until nothing fits, also after a while.
fn fill(reactor: &dyn Reactor, socket: &Socket) {
    for _ in 0..3 {
        while send(reactor, socket, &[0; 64 * 1024]).is_ok() {}
        pass(reactor, Duration::from_millis(10));
    }
}

/// Sends until the connection fails; how it does.
fn broken(reactor: &dyn Reactor, socket: &Socket) -> i32 {
    let deadline = reactor.now() + TOO_LONG;
    while reactor.now() < deadline {
        if let Err(error) = send(reactor, socket, b"a") {
            return error.raw_os_error().unwrap();
        }
        pass(reactor, Duration::from_millis(1));
    }
    0
}

fn receive_from(reactor: &dyn Reactor, fd: RawFd, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; limit];
    let count = reactor.receive(fd, &mut Buffer::from(&mut bytes[..]))?;
    bytes.truncate(count);
    Ok(bytes)
}

fn receive(reactor: &dyn Reactor, socket: &Socket, limit: usize) -> io::Result<Vec<u8>> {
    receive_from(reactor, socket.fd(), limit)
}

/// Receives, waiting, until there are `count` bytes or the end.
fn receive_exactly(reactor: &dyn Reactor, socket: &Socket, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        readable(reactor, socket);
        let more = receive(reactor, socket, count - bytes.len()).unwrap();
        if more.is_empty() {
            break;
        }
        bytes.extend(more);
    }
    bytes
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().unwrap().kind()
}

fn code<T>(result: io::Result<T>) -> i32 {
    result.err().unwrap().raw_os_error().unwrap()
}
