//! Datagrams: UDP, and those of Unix sockets.

use aioxide::sys::datagrams::{ANY_DATAGRAM, BATCH, Datagrams, UDP_DATAGRAM};

use super::*;

on_every_reactor! {
    datagrams_pass_both_ways,
    datagrams_pass_over_ipv6,
    several_are_sent_and_received_at_once,
    an_empty_datagram_is_a_datagram,
    a_datagram_is_cut_to_its_slot,
    a_datagram_that_is_too_large_is_refused,
    one_call_moves_one_datagram,
    one_is_received_with_its_sender,
    datagrams_repeat_their_event_until_they_are_taken,
    a_connected_socket_receives_from_its_peer_alone,
    a_refusal_is_told_once_to_whoever_is_connected,
    a_refusal_costs_the_next_send,
    an_unconnected_sender_hears_of_no_refusal,
    a_datagram_needs_an_address,
    datagram_sockets_have_names,
    ports_of_datagrams_are_their_own,
    a_datagram_socket_neither_listens_nor_accepts,
    a_datagram_socket_can_end_its_sending_side,
    unix_datagrams_pass_both_ways,
    a_full_unix_queue_holds_its_sender_back,
    unix_peers_that_are_connected_are_not_held_back_by_a_count,
    a_unix_name_that_nobody_has_is_refused,
    a_unix_peer_that_has_gone_is_missed_once,
    a_connected_unix_socket_takes_from_its_peer_alone,
}

// ---------------------------------------------------------------------------------------------
// UDP

fn datagrams_pass_both_ways(reactor: &dyn Reactor) {
    let [one, other] = [(); 2].map(|()| bound(reactor, Family::INET));
    assert_eq!(send_to(reactor, &one, b"question", &other).unwrap(), 8);
    let name = address(reactor, &one);
    assert_eq!(
        receive_one(reactor, &other),
        (b"question".to_vec(), Some(name.clone()))
    );
    assert_eq!(
        reactor.send_to(other.fd(), b"answer", Some(&name)).unwrap(),
        6
    );
    let peer = address(reactor, &other);
    assert_eq!(receive_one(reactor, &one), (b"answer".to_vec(), Some(peer)));
    assert_eq!(kind(receive_batch(reactor, &one)), ErrorKind::WouldBlock);
}

fn datagrams_pass_over_ipv6(reactor: &dyn Reactor) {
    let [one, other] = [(); 2].map(|()| bound(reactor, Family::INET6));
    send_to(reactor, &one, b"six", &other).unwrap();
    let (bytes, peer) = receive_one(reactor, &other);
    assert_eq!(
        (&bytes[..], peer),
        (&b"six"[..], Some(address(reactor, &one)))
    );
}

fn several_are_sent_and_received_at_once(reactor: &dyn Reactor) {
    let [one, other] = [(); 2].map(|()| bound(reactor, Family::INET));
    let to = address(reactor, &other);
    let bytes: Vec<Vec<u8>> = (0..5).map(|length| vec![b'x'; length]).collect();
    let datagrams: Vec<_> = bytes
        .iter()
        .map(|bytes| (IoSlice::new(bytes), Some(&to)))
        .collect();
    assert_eq!(reactor.send_datagrams(one.fd(), &datagrams).unwrap(), 5);
    assert_eq!(reactor.send_datagrams(one.fd(), &[]).unwrap(), 0);
    let mut received = Vec::new();
    while received.len() < 5 {
        readable(reactor, &other);
        received.extend(receive_batch(reactor, &other).unwrap());
    }
    let peer = Some(address(reactor, &one));
    let expected: Vec<_> = bytes
        .into_iter()
        .map(|bytes| (bytes, peer.clone()))
        .collect();
    assert_eq!(received, expected);
    for _ in 0..BATCH + 1 {
        send_to(reactor, &one, b"x", &other).unwrap();
    }
    pass(reactor, Duration::from_millis(10));
    assert_eq!(receive_batch(reactor, &other).unwrap().len(), BATCH);
    assert_eq!(receive_batch(reactor, &other).unwrap().len(), 1);
}

fn an_empty_datagram_is_a_datagram(reactor: &dyn Reactor) {
    let [one, other] = [(); 2].map(|()| bound(reactor, Family::INET));
    assert_eq!(send_to(reactor, &one, b"", &other).unwrap(), 0);
    let (bytes, peer) = receive_one(reactor, &other);
    assert_eq!((bytes, peer), (Vec::new(), Some(address(reactor, &one))));
    assert_eq!(kind(receive_batch(reactor, &other)), ErrorKind::WouldBlock);
}

fn a_datagram_is_cut_to_its_slot(reactor: &dyn Reactor) {
    let [one, other] = [(); 2].map(|()| bound(reactor, Family::INET));
    send_to(reactor, &one, b"too long", &other).unwrap();
    send_to(reactor, &one, b"fit", &other).unwrap();
    pass(reactor, Duration::from_millis(10));
    let mut datagrams = Datagrams::default();
    datagrams.clear(3);
    reactor
        .receive_datagrams(other.fd(), &mut datagrams)
        .unwrap();
    let texts: Vec<_> = (0..datagrams.len())
        .map(|index| datagrams.get(index).unwrap().0.to_vec())
        .collect();
    assert_eq!(texts, [b"too", b"fit"]);
}

fn a_datagram_that_is_too_large_is_refused(reactor: &dyn Reactor) {
    for (family, most) in [(Family::INET, 65_507), (Family::INET6, 65_527)] {
        let [one, other] = [(); 2].map(|()| bound(reactor, family));
        let bytes = vec![b'x'; most + 1];
        let refused = send_to(reactor, &one, &bytes, &other);
        assert_eq!(code(refused), libc::EMSGSIZE);
        assert_eq!(send_to(reactor, &one, &bytes[1..], &other).unwrap(), most);
        assert_eq!(receive_one(reactor, &other).0.len(), most);
    }
}

fn one_call_moves_one_datagram(reactor: &dyn Reactor) {
    let [one, other] = [(); 2].map(|()| bound(reactor, Family::INET));
    reactor
        .connect(one.fd(), &address(reactor, &other))
        .unwrap();
    let slices = [&b"ab"[..], b"", b"cde"].map(IoSlice::new);
    assert_eq!(reactor.send(one.fd(), &slices).unwrap(), 5);
    send_all(reactor, &one, b"second");
    pass(reactor, Duration::from_millis(10));
    assert_eq!(
        receive(reactor, &other, 3).unwrap(),
        b"abc",
        "the rest is lost"
    );
    assert_eq!(receive(reactor, &other, 9).unwrap(), b"second");
    assert_eq!(kind(receive(reactor, &other, 9)), ErrorKind::WouldBlock);
}

fn one_is_received_with_its_sender(reactor: &dyn Reactor) {
    for family in [Family::INET, Family::UNIX] {
        let [one, other] = [(); 2].map(|()| bound(reactor, family));
        for bytes in [&b"abc"[..], b"", b"de"] {
            send_to(reactor, &one, bytes, &other).unwrap();
        }
        pass(reactor, Duration::from_millis(10));
        let receive = || {
            let mut memory = [0; 2];
            let mut buffer = Buffer::from(&mut memory[..]);
            let (count, peer) = reactor.receive_from(other.fd(), &mut buffer)?;
            assert_eq!(buffer.filled(), count);
            Ok((buffer.bytes().to_vec(), peer))
        };
        let sender = Some(address(reactor, &one));
        for bytes in [&b"ab"[..], b"", b"de"] {
            assert_eq!(receive().unwrap(), (bytes.to_vec(), sender.clone()));
        }
        let more: io::Result<Received> = receive();
        assert_eq!(kind(more), ErrorKind::WouldBlock);
    }
}

fn datagrams_repeat_their_event_until_they_are_taken(reactor: &dyn Reactor) {
    let [one, other] = [(); 2].map(|()| bound(reactor, Family::INET));
    reactor.submit(other.fd(), Op::Receive, Token(1)).unwrap();
    reactor.submit(other.fd(), Op::Send, Token(2)).unwrap();
    assert_eq!(look(reactor), [Token(2)], "there is room");
    reactor.cancel(other.fd(), Side::Write);
    assert_eq!(look(reactor), []);
    send_to(reactor, &one, b"a", &other).unwrap();
    send_to(reactor, &one, b"", &other).unwrap();
    for left in [b"a", &b""[..]] {
        for _ in 0..3 {
            until(reactor, Token(1));
        }
        assert_eq!(receive(reactor, &other, 9).unwrap(), left);
    }
    assert_eq!(look(reactor), []);
    reactor.cancel(other.fd(), Side::Read);
    send_to(reactor, &one, b"b", &other).unwrap();
    pass(reactor, Duration::from_millis(10));
    assert_eq!(look(reactor), []);
}

fn a_connected_socket_receives_from_its_peer_alone(reactor: &dyn Reactor) {
    let [one, friend, stranger] = [(); 3].map(|()| bound(reactor, Family::INET));
    reactor
        .connect(one.fd(), &address(reactor, &friend))
        .unwrap();
    assert_eq!(
        reactor.peer_address(one.fd()).unwrap(),
        address(reactor, &friend)
    );
    send_to(reactor, &stranger, b"spam", &one).unwrap();
    send_to(reactor, &friend, b"hello", &one).unwrap();
    assert_eq!(receive_one(reactor, &one).0, b"hello");
    assert_eq!(reactor.send_to(one.fd(), b"hello", None).unwrap(), 5);
    assert_eq!(receive_one(reactor, &friend).0, b"hello");
    // It may speak to others, and to another one from now on.
    send_to(reactor, &one, b"aside", &stranger).unwrap();
    assert_eq!(receive_one(reactor, &stranger).0, b"aside");
    reactor
        .connect(one.fd(), &address(reactor, &stranger))
        .unwrap();
    send_to(reactor, &friend, b"hello?", &one).unwrap();
    send_to(reactor, &stranger, b"news", &one).unwrap();
    assert_eq!(receive_one(reactor, &one).0, b"news");
}

/// An address of this host that no test binds to, whatever runs beside it.
fn nobody() -> SocketAddress {
    SocketAddr::from(([127, 77, 0, 1], 9)).into()
}

/// A socket that is connected to an address which nobody has.
fn connected_to_nobody(reactor: &dyn Reactor) -> Socket {
    let socket = datagram_socket(reactor, Family::INET);
    reactor.connect(socket.fd(), &nobody()).unwrap();
    socket
}

fn a_refusal_is_told_once_to_whoever_is_connected(reactor: &dyn Reactor) {
    let socket = connected_to_nobody(reactor);
    reactor.submit(socket.fd(), Op::Receive, Token(1)).unwrap();
    assert_eq!(look(reactor), []);
    assert_eq!(reactor.send_to(socket.fd(), b"anybody?", None).unwrap(), 8);
    until(reactor, Token(1));
    assert_eq!(code(receive_batch(reactor, &socket)), libc::ECONNREFUSED);
    assert_eq!(kind(receive_batch(reactor, &socket)), ErrorKind::WouldBlock);
    assert_eq!(look(reactor), []);
    reactor.send_to(socket.fd(), b"really?", None).unwrap();
    until(reactor, Token(1));
    assert_eq!(code(reactor.take_error(socket.fd())), libc::ECONNREFUSED);
    reactor.take_error(socket.fd()).unwrap();
    reactor.cancel(socket.fd(), Side::Read);
}

fn a_refusal_costs_the_next_send(reactor: &dyn Reactor) {
    let socket = connected_to_nobody(reactor);
    reactor.send_to(socket.fd(), b"a", None).unwrap();
    readable(reactor, &socket);
    let next = reactor.send_to(socket.fd(), b"b", None);
    assert_eq!(code(next), libc::ECONNREFUSED);
    assert_eq!(
        kind(receive_batch(reactor, &socket)),
        ErrorKind::WouldBlock,
        "it was not sent"
    );
    let both = [b"c", b"d"].map(|bytes| (IoSlice::new(bytes), None));
    assert!(reactor.send_datagrams(socket.fd(), &both).unwrap() > 0);
}

fn an_unconnected_sender_hears_of_no_refusal(reactor: &dyn Reactor) {
    let socket = bound(reactor, Family::INET);
    for _ in 0..3 {
        reactor
            .send_to(socket.fd(), b"anybody?", Some(&nobody()))
            .unwrap();
        pass(reactor, Duration::from_millis(10));
    }
    assert_eq!(kind(receive_batch(reactor, &socket)), ErrorKind::WouldBlock);
}

fn a_datagram_needs_an_address(reactor: &dyn Reactor) {
    let four: SocketAddress = SocketAddr::from((Ipv4Addr::LOCALHOST, 9)).into();
    let six: SocketAddress = SocketAddr::from((Ipv6Addr::LOCALHOST, 9)).into();
    let socket = datagram_socket(reactor, Family::INET);
    let send = |to: Option<&SocketAddress>| code(reactor.send_to(socket.fd(), b"a", to));
    assert_eq!(send(None), libc::EDESTADDRREQ);
    assert_eq!(
        code(reactor.send(socket.fd(), &[IoSlice::new(b"a")])),
        libc::EDESTADDRREQ
    );
    assert_eq!(send(Some(&six)), libc::EAFNOSUPPORT);
    let zero: SocketAddress = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into();
    assert_eq!(send(Some(&zero)), libc::EINVAL);
    assert_eq!(code(reactor.connect(socket.fd(), &six)), libc::EAFNOSUPPORT);
    let unix = datagram_socket(reactor, Family::UNIX);
    assert_eq!(code(reactor.send_to(unix.fd(), b"a", None)), libc::ENOTCONN);
    assert_eq!(
        code(reactor.send_to(unix.fd(), b"a", Some(&four))),
        libc::EINVAL
    );
    assert_eq!(code(reactor.connect(unix.fd(), &four)), libc::EINVAL);
}

fn datagram_sockets_have_names(reactor: &dyn Reactor) {
    let nameless: SocketAddress = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into();
    let socket = datagram_socket(reactor, Family::INET);
    assert_eq!(reactor.local_address(socket.fd()).unwrap(), nameless);
    assert_eq!(code(reactor.peer_address(socket.fd())), libc::ENOTCONN);
    let other = bound(reactor, Family::INET);
    let name = address(reactor, &other);
    assert!(name.port().unwrap() > 0, "the network has chosen");
    assert_eq!(
        code(reactor.bind(other.fd(), &name)),
        libc::EINVAL,
        "bound already"
    );
    assert_eq!(code(reactor.bind(socket.fd(), &name)), libc::EADDRINUSE);
    // The first send gives a port, a connect an address.
    send_to(reactor, &socket, b"a", &other).unwrap();
    let (_, sender) = receive_one(reactor, &other);
    let local = reactor.local_address(socket.fd()).unwrap();
    assert_eq!(sender.unwrap().port(), local.port());
    assert!(local.ip().unwrap().ip().is_unspecified());
    let connected = datagram_socket(reactor, Family::INET);
    reactor.connect(connected.fd(), &name).unwrap();
    let local = reactor.local_address(connected.fd()).unwrap();
    assert!(local.ip().unwrap().ip().is_loopback() && local.port() > Some(0));
    drop(other);
    reactor
        .set_option(socket.fd(), SocketOption::Broadcast)
        .unwrap();
    let heir = datagram_socket(reactor, Family::INET);
    reactor.bind(heir.fd(), &name).unwrap();
}

fn ports_of_datagrams_are_their_own(reactor: &dyn Reactor) {
    let listener = any_listener(reactor);
    let taken = address(reactor, &listener);
    let socket = datagram_socket(reactor, Family::INET);
    // Somebody else's datagrams may have the port, on a kernel.
    match reactor.bind(socket.fd(), &taken) {
        Ok(()) => assert_eq!(address(reactor, &socket), taken),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE)),
    }
}

fn a_datagram_socket_neither_listens_nor_accepts(reactor: &dyn Reactor) {
    let socket = bound(reactor, Family::INET);
    assert_eq!(code(reactor.listen(socket.fd(), 1)), libc::EOPNOTSUPP);
    assert_eq!(code(reactor.accept(socket.fd())), libc::EOPNOTSUPP);
    assert_eq!(
        code(reactor.set_option(socket.fd(), SocketOption::Ipv6Only)),
        libc::ENOPROTOOPT
    );
}

fn a_datagram_socket_can_end_its_sending_side(reactor: &dyn Reactor) {
    let [one, other] = [(); 2].map(|()| bound(reactor, Family::INET));
    let lonely = bound(reactor, Family::INET);
    assert_eq!(code(reactor.shutdown_write(lonely.fd())), libc::ENOTCONN);
    let after = send_to(reactor, &lonely, b"a", &other);
    assert_eq!(code(after), libc::EPIPE, "done all the same");
    reactor
        .connect(one.fd(), &address(reactor, &other))
        .unwrap();
    reactor.shutdown_write(one.fd()).unwrap();
    assert_eq!(code(reactor.send_to(one.fd(), b"a", None)), libc::EPIPE);
    send_to(reactor, &other, b"heard", &one).unwrap();
    assert_eq!(receive_one(reactor, &one).0, b"heard");
}

// ---------------------------------------------------------------------------------------------
// Unix

fn unix_datagrams_pass_both_ways(reactor: &dyn Reactor) {
    let [one, other] = [(); 2].map(|()| bound(reactor, Family::UNIX));
    assert_ne!(address(reactor, &one), address(reactor, &other));
    send_to(reactor, &one, b"question", &other).unwrap();
    let (bytes, peer) = receive_one(reactor, &other);
    assert_eq!(
        (&bytes[..], &peer),
        (&b"question"[..], &Some(address(reactor, &one)))
    );
    reactor.send_to(other.fd(), b"", peer.as_ref()).unwrap();
    assert_eq!(receive_one(reactor, &one).0, b"");
    let nameless = datagram_socket(reactor, Family::UNIX);
    assert_eq!(
        reactor.local_address(nameless.fd()).unwrap(),
        SocketAddress::unnamed()
    );
    send_to(reactor, &nameless, b"guess who", &other).unwrap();
    assert_eq!(receive_one(reactor, &other), (b"guess who".to_vec(), None));
}

fn a_full_unix_queue_holds_its_sender_back(reactor: &dyn Reactor) {
    let [one, other] = [(); 2].map(|()| bound(reactor, Family::UNIX));
    reactor
        .connect(one.fd(), &address(reactor, &other))
        .unwrap();
    let mut sent = 0;
    while reactor.send_to(one.fd(), b"x", None).is_ok() {
        sent += 1;
    }
    assert_eq!(
        kind(reactor.send_to(one.fd(), b"x", None)),
        ErrorKind::WouldBlock
    );
    reactor.submit(one.fd(), Op::Send, Token(1)).unwrap();
    assert_eq!(look(reactor), []);
    let mut received = 0;
    while let Ok(datagrams) = receive_batch(reactor, &other) {
        received += datagrams.len();
    }
    assert_eq!(received, sent);
    until(reactor, Token(1));
    reactor.cancel(one.fd(), Side::Write);
    reactor.send_to(one.fd(), b"x", None).unwrap();
}

fn unix_peers_that_are_connected_are_not_held_back_by_a_count(reactor: &dyn Reactor) {
    let [one, other] = [(); 2].map(|()| bound(reactor, Family::UNIX));
    reactor
        .connect(one.fd(), &address(reactor, &other))
        .unwrap();
    reactor
        .connect(other.fd(), &address(reactor, &one))
        .unwrap();
    for _ in 0..100 {
        reactor.send_to(one.fd(), b"x", None).unwrap();
    }
    // Their bytes do, in the end.
    while reactor.send_to(one.fd(), &[0; 1000], None).is_ok() {}
    assert_eq!(
        kind(reactor.send_to(one.fd(), &[0; 1000], None)),
        ErrorKind::WouldBlock
    );
}

fn a_unix_name_that_nobody_has_is_refused(reactor: &dyn Reactor) {
    let socket = datagram_socket(reactor, Family::UNIX);
    let path = SocketAddress::unix("/nowhere/at/all").unwrap();
    let refused = reactor.send_to(socket.fd(), b"a", Some(&path));
    assert_eq!(code(refused), libc::ENOENT);
    assert_eq!(code(reactor.connect(socket.fd(), &path)), libc::ENOENT);
    let gone = {
        let other = bound(reactor, Family::UNIX);
        address(reactor, &other)
    };
    let refused = reactor.send_to(socket.fd(), b"a", Some(&gone));
    assert_eq!(code(refused), libc::ECONNREFUSED);
    assert_eq!(
        code(reactor.connect(socket.fd(), &gone)),
        libc::ECONNREFUSED
    );
    let other = bound(reactor, Family::UNIX);
    let taken = address(reactor, &other);
    assert_eq!(code(reactor.bind(socket.fd(), &taken)), libc::EADDRINUSE);
    assert_eq!(code(reactor.bind(other.fd(), &gone)), libc::EINVAL);
}

fn a_unix_peer_that_has_gone_is_missed_once(reactor: &dyn Reactor) {
    let [one, other] = [(); 2].map(|()| bound(reactor, Family::UNIX));
    reactor
        .connect(one.fd(), &address(reactor, &other))
        .unwrap();
    drop(other);
    assert_eq!(
        code(reactor.send_to(one.fd(), b"a", None)),
        libc::ECONNREFUSED
    );
    assert_eq!(code(reactor.send_to(one.fd(), b"a", None)), libc::ENOTCONN);
    assert_eq!(code(reactor.peer_address(one.fd())), libc::ENOTCONN);
}

fn a_connected_unix_socket_takes_from_its_peer_alone(reactor: &dyn Reactor) {
    let [one, friend, stranger] = [(); 3].map(|()| bound(reactor, Family::UNIX));
    reactor
        .connect(one.fd(), &address(reactor, &friend))
        .unwrap();
    assert_eq!(
        code(send_to(reactor, &stranger, b"spam", &one)),
        libc::EPERM
    );
    let connected = reactor.connect(stranger.fd(), &address(reactor, &one));
    assert_eq!(code(connected), libc::EPERM);
    send_to(reactor, &friend, b"hello", &one).unwrap();
    assert_eq!(receive_one(reactor, &one).0, b"hello");
}

// ---------------------------------------------------------------------------------------------
// What the cases are made of

type Received = (Vec<u8>, Option<SocketAddress>);

fn datagram_socket(reactor: &dyn Reactor, family: Family) -> Socket {
    reactor.open(family, libc::SOCK_DGRAM, 0).unwrap()
}

/// A socket with a name that the network has chosen.
fn bound(reactor: &dyn Reactor, family: Family) -> Socket {
    let socket = datagram_socket(reactor, family);
    let any = match family {
        Family::INET => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
        Family::INET6 => SocketAddr::from((Ipv6Addr::LOCALHOST, 0)).into(),
        _ => SocketAddress::unnamed(),
    };
    reactor.bind(socket.fd(), &any).unwrap();
    socket
}

fn send_to(reactor: &dyn Reactor, from: &Socket, bytes: &[u8], to: &Socket) -> io::Result<usize> {
    reactor.send_to(from.fd(), bytes, Some(&address(reactor, to)))
}

/// What one call receives.
fn receive_batch(reactor: &dyn Reactor, socket: &Socket) -> io::Result<Vec<Received>> {
    let family = address(reactor, socket).family();
    let mut datagrams = Datagrams::default();
    datagrams.clear(if family == Family::UNIX {
        ANY_DATAGRAM
    } else {
        UDP_DATAGRAM
    });
    reactor.receive_datagrams(socket.fd(), &mut datagrams)?;
    assert!(!datagrams.is_empty());
    let all = (0..datagrams.len()).map(|index| {
        let (bytes, peer) = datagrams.get(index).unwrap();
        (bytes.to_vec(), peer.cloned())
    });
    Ok(all.collect())
}

/// Waits for a datagram, which is the only one.
fn receive_one(reactor: &dyn Reactor, socket: &Socket) -> Received {
    readable(reactor, socket);
    let mut received = receive_batch(reactor, socket).unwrap();
    assert_eq!(received.len(), 1);
    received.remove(0)
}
