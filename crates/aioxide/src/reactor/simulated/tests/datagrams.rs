//! What becomes of datagrams on the way, by time and by chance.

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

fn open_datagrams(reactor: &SimulatedReactor, family: Family) -> Socket {
    reactor.open(family, libc::SOCK_DGRAM, 0).unwrap()
}

/// Two sockets of UDP: one that sends, and one that it is connected to.
fn pair(reactor: &SimulatedReactor) -> (Socket, Socket) {
    let receiver = open_datagrams(reactor, Family::INET);
    reactor.bind(receiver.fd(), &address()).unwrap();
    let sender = open_datagrams(reactor, Family::INET);
    reactor.connect(sender.fd(), &address()).unwrap();
    (sender, receiver)
}

fn batch(reactor: &SimulatedReactor, socket: &Socket) -> io::Result<Vec<Vec<u8>>> {
    let mut datagrams = Datagrams::default();
    datagrams.clear(1000);
    reactor.receive_datagrams(socket.fd(), &mut datagrams)?;
    let all = (0..datagrams.len()).map(|index| datagrams.get(index).unwrap().0.to_vec());
    Ok(all.collect())
}

/// Everything that has arrived.
fn receive_all(reactor: &SimulatedReactor, socket: &Socket) -> Vec<u8> {
    let mut all = Vec::new();
    while let Ok(datagrams) = batch(reactor, socket) {
        all.extend(datagrams.into_iter().flatten());
    }
    all
}

/// What arrives of thirty datagrams that are sent one after the other, and in which order.
fn arrivals(seed: u64, fault: impl Fn(&SimulatedNetwork)) -> Vec<u8> {
    let reactor = SimulatedReactor::with(Config::new(seed).latency(MILLISECOND));
    let (sender, receiver) = pair(&reactor);
    fault(&reactor.network());
    for number in 0..30 {
        send(&reactor, &sender, &[number]).unwrap();
    }
    wait(&reactor, Some(Time::ZERO + MILLISECOND * 3)).unwrap();
    assert_eq!(reactor.network().datagrams_in_flight(), 0);
    receive_all(&reactor, &receiver)
}

#[test]
fn nothing_goes_wrong_by_itself() {
    for seed in 0..8 {
        assert_eq!(arrivals(seed, |_| {}), (0..30).collect::<Vec<_>>());
    }
}

#[test]
fn datagrams_are_lost_by_chance() {
    let lose = |one_in| move |network: &SimulatedNetwork| network.lose_datagrams(one_in);
    let some = arrivals(1, lose(3));
    assert!((1..30).contains(&some.len()), "{some:?}");
    assert!(some.is_sorted());
    assert_eq!(arrivals(1, lose(3)), some, "a seed names a run");
    assert_ne!(arrivals(2, lose(3)), some);
    assert_eq!(arrivals(1, lose(1)), [0; 0]);
}

#[test]
fn datagrams_are_doubled_by_chance() {
    let double = |one_in| move |network: &SimulatedNetwork| network.double_datagrams(one_in);
    let mut some = arrivals(1, double(3));
    assert!((31..60).contains(&some.len()), "{some:?}");
    some.dedup();
    assert_eq!(some, (0..30).collect::<Vec<_>>());
    assert_eq!(arrivals(1, double(1)).len(), 60);
}

#[test]
fn datagrams_overtake_others_by_chance() {
    let mut some = arrivals(1, |network| network.delay_datagrams(3));
    assert!(!some.is_sorted(), "{some:?}");
    some.sort_unstable();
    assert_eq!(some, (0..30).collect::<Vec<_>>());
}

#[test]
fn a_datagram_travels_as_long_as_a_segment() {
    let reactor = SimulatedReactor::with(Config::new(0).latency(MILLISECOND * 5));
    let (sender, receiver) = pair(&reactor);
    send(&reactor, &sender, b"hello").unwrap();
    assert_eq!(reactor.network().datagrams_in_flight(), 1);
    reactor
        .submit(receiver.fd(), Op::Receive, Token(1))
        .unwrap();
    assert!(look(&reactor).is_empty());
    assert_eq!(wait(&reactor, None).unwrap(), [1]);
    assert_eq!(reactor.now(), Time::ZERO + MILLISECOND * 5);
    assert_eq!(batch(&reactor, &receiver).unwrap(), [b"hello"]);
    reactor.cancel(receiver.fd(), Side::Read);
    // And so does the news that nobody is there.
    drop(receiver);
    send(&reactor, &sender, b"hello?").unwrap();
    reactor.submit(sender.fd(), Op::Receive, Token(2)).unwrap();
    assert_eq!(wait(&reactor, None).unwrap(), [2]);
    assert_eq!(reactor.now(), Time::ZERO + MILLISECOND * 15);
    assert_eq!(code(batch(&reactor, &sender)), Some(libc::ECONNREFUSED));
    reactor.cancel(sender.fd(), Side::Read);
}

#[test]
fn a_senders_buffer_is_what_travels() {
    let config = Config::new(0).latency(MILLISECOND).send_buffer(10);
    let reactor = SimulatedReactor::with(config);
    let (sender, receiver) = pair(&reactor);
    assert_eq!(send(&reactor, &sender, &[0; 9]).unwrap(), 9);
    assert_eq!(send(&reactor, &sender, &[0; 100]).unwrap(), 100, "whole");
    assert_eq!(code(send(&reactor, &sender, b"")), Some(libc::EAGAIN));
    reactor.submit(sender.fd(), Op::Send, Token(1)).unwrap();
    assert!(look(&reactor).is_empty());
    assert_eq!(wait(&reactor, None).unwrap(), [1]);
    reactor.cancel(sender.fd(), Side::Write);
    assert_eq!(receive_all(&reactor, &receiver).len(), 109);
}

#[test]
fn a_full_queue_drops_what_comes_over_udp() {
    let reactor = SimulatedReactor::with(Config::new(0).datagram_queue(3));
    let (sender, receiver) = pair(&reactor);
    for number in 0..5 {
        send(&reactor, &sender, &[number]).unwrap();
    }
    assert_eq!(receive_all(&reactor, &receiver), [0, 1, 2]);
    send(&reactor, &sender, &[5]).unwrap();
    assert_eq!(receive_all(&reactor, &receiver), [5]);
}

#[test]
fn a_stalled_receiver_fills_its_sender() {
    let reactor = SimulatedReactor::with(Config::new(0).send_buffer(10));
    let (sender, receiver) = pair(&reactor);
    let network = reactor.network();
    network.stall(receiver.fd()).unwrap();
    send(&reactor, &sender, &[1; 10]).unwrap();
    assert_eq!(code(send(&reactor, &sender, &[2])), Some(libc::EAGAIN));
    assert_eq!(code(batch(&reactor, &receiver)), Some(libc::EAGAIN));
    network.resume(receiver.fd()).unwrap();
    send(&reactor, &sender, &[2]).unwrap();
    assert_eq!(receive_all(&reactor, &receiver).len(), 11);
}

#[test]
fn a_unix_sender_waits_for_the_queue_that_was_full() {
    let reactor = SimulatedReactor::with(Config::new(0).datagram_queue(1));
    let [sender, slow, quick] = [(); 3].map(|()| {
        let socket = open_datagrams(&reactor, Family::UNIX);
        reactor
            .bind(socket.fd(), &SocketAddress::unnamed())
            .unwrap();
        socket
    });
    let send = |to: &Socket| {
        let to = reactor.local_address(to.fd()).unwrap();
        reactor.send_to(sender.fd(), b"x", Some(&to))
    };
    send(&slow).unwrap();
    reactor.submit(sender.fd(), Op::Send, Token(1)).unwrap();
    assert_eq!(look(&reactor), [1]);
    assert_eq!(code(send(&slow)), Some(libc::EAGAIN));
    assert!(look(&reactor).is_empty(), "it would spin");
    batch(&reactor, &slow).unwrap();
    assert_eq!(look(&reactor), [1]);
    send(&slow).unwrap();
    assert_eq!(code(send(&slow)), Some(libc::EAGAIN));
    send(&quick).unwrap();
    assert_eq!(look(&reactor), [1], "it has sent something since");
    assert_eq!(code(send(&slow)), Some(libc::EAGAIN));
    drop(slow);
    assert_eq!(look(&reactor), [1], "to learn that it has gone");
    reactor.cancel(sender.fd(), Side::Write);
}

#[test]
fn other_hosts_never_answer() {
    let reactor = SimulatedReactor::new(0);
    let (sender, _receiver) = pair(&reactor);
    let send = |to: [u8; 4]| {
        let to = std::net::SocketAddr::from((to, PORT)).into();
        reactor.send_to(sender.fd(), b"hello", Some(&to))
    };
    assert_eq!(send([192, 0, 2, 1]).unwrap(), 5);
    assert_eq!(code(send([255; 4])), Some(libc::EACCES));
    reactor
        .set_option(sender.fd(), SocketOption::Broadcast)
        .unwrap();
    assert_eq!(send([255; 4]).unwrap(), 5);
    assert_eq!(reactor.network().datagrams_in_flight(), 0);
}

#[test]
fn sockets_that_share_a_port_keep_their_senders() {
    let reactor = SimulatedReactor::new(0);
    let receivers = [(); 2].map(|()| {
        let socket = open_datagrams(&reactor, Family::INET);
        reactor
            .set_option(socket.fd(), SocketOption::ReusePort)
            .unwrap();
        reactor.bind(socket.fd(), &address()).unwrap();
        socket
    });
    for number in 0..16 {
        let sender = open_datagrams(&reactor, Family::INET);
        for _ in 0..2 {
            let sent = reactor.send_to(sender.fd(), &[number], Some(&address()));
            assert_eq!(sent.unwrap(), 1);
        }
    }
    for receiver in &receivers {
        let received = receive_all(&reactor, receiver);
        assert_eq!(received.len(), 16);
        assert!(received.chunks(2).all(|both| both[0] == both[1]));
    }
}

#[test]
fn a_planned_failure_behind_the_first_of_several_is_kept() {
    let reactor = SimulatedReactor::new(0);
    let (sender, receiver) = pair(&reactor);
    let three = [b"a", b"b", b"c"].map(|bytes| (IoSlice::new(bytes), None));
    let network = reactor.network();
    network.fail_next_on(sender.fd(), Call::Send, libc::ENOBUFS);
    assert_eq!(
        code(reactor.send_datagrams(sender.fd(), &three)),
        Some(libc::ENOBUFS)
    );
    network.limit_transfers(2);
    assert_eq!(reactor.send_datagrams(sender.fd(), &three).unwrap(), 2);
    network.limit_transfers(usize::MAX);
    assert_eq!(reactor.send_datagrams(sender.fd(), &three).unwrap(), 3);
    network.limit_transfers(1);
    assert_eq!(batch(&reactor, &receiver).unwrap(), [b"a"]);
    network.fail_next(Call::Receive, libc::ENOMEM);
    assert_eq!(code(batch(&reactor, &receiver)), Some(libc::ENOMEM));
    assert_eq!(receive_all(&reactor, &receiver), b"babc");
}
