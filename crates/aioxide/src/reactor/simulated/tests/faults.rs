//! What a test lets go wrong.

use super::*;

#[test]
fn spurious_events_come_with_waits_that_end_anyway() {
    let reactor = SimulatedReactor::new(0);
    let (client, _server) = pair(&reactor);
    reactor.submit(client.fd(), Op::Receive, Token(1)).unwrap();
    reactor.network().spurious_events(1);
    let later = Time::from_nanos(7);
    assert_eq!(wait(&reactor, Some(later)).unwrap(), [1]);
    assert_eq!(reactor.now(), later);
    assert_eq!(code(receive(&reactor, &client, 1)), Some(libc::EAGAIN));
    reactor.network().spurious_events(0);
    assert!(look(&reactor).is_empty());
}

#[test]
fn a_port_can_be_made_to_refuse() {
    let reactor = SimulatedReactor::new(0);
    let listener = listen(&reactor, 9);
    let network = reactor.network();
    network.refuse(PORT);
    let refused = connect(&reactor);
    assert_eq!(
        code(reactor.take_error(refused.fd())),
        Some(libc::ECONNREFUSED)
    );
    network.fail_connects(PORT, libc::EHOSTUNREACH);
    let unreachable = connect(&reactor);
    assert_eq!(
        code(receive(&reactor, &unreachable, 1)),
        Some(libc::EHOSTUNREACH)
    );
    assert_eq!(
        receive(&reactor, &unreachable, 1).unwrap(),
        0,
        "an end, after the error"
    );
    network.allow(PORT);
    assert_eq!(
        reactor
            .connect(refused.fd(), &address())
            .unwrap_err()
            .kind(),
        ErrorKind::WouldBlock
    );
    assert!(reactor.accept(listener.fd()).is_ok());
}

#[test]
fn descriptors_run_out_and_come_back() {
    let reactor = SimulatedReactor::with(Config::new(0).descriptors(2));
    let listener = listen(&reactor, 9);
    let client = connect(&reactor);
    assert_eq!(code(reactor.accept(listener.fd())), Some(libc::EMFILE));
    assert_eq!(
        code(reactor.open(Family::INET, libc::SOCK_STREAM, 0)),
        Some(libc::EMFILE)
    );
    reactor.submit(listener.fd(), Op::Accept, Token(1)).unwrap();
    assert_eq!(look(&reactor), [1], "it stays in the queue");
    reactor.network().limit_descriptors(3);
    let (server, _) = reactor.accept(listener.fd()).unwrap();
    let mut all = reactor.network().descriptors();
    assert_eq!(all, [listener.fd(), client.fd(), server.fd()]);
    drop((client, server));
    all = reactor.network().descriptors();
    assert_eq!(all, [listener.fd()]);
}

#[test]
fn a_planned_failure_makes_its_descriptor_ready() {
    let reactor = SimulatedReactor::new(0);
    let (client, _server) = pair(&reactor);
    reactor.submit(client.fd(), Op::Receive, Token(1)).unwrap();
    reactor
        .network()
        .fail_next_on(client.fd(), Call::Receive, libc::ETIMEDOUT);
    assert_eq!(look(&reactor), [1]);
    assert_eq!(code(receive(&reactor, &client, 1)), Some(libc::ETIMEDOUT));
    assert!(look(&reactor).is_empty());
    reactor.network().fail_next(Call::Wait, libc::EINTR);
    assert_eq!(
        wait(&reactor, None).unwrap_err().kind(),
        ErrorKind::Interrupted
    );
}

#[test]
fn a_reset_of_the_network_reaches_both_ends() {
    let reactor = SimulatedReactor::new(0);
    let (client, server) = pair(&reactor);
    send(&reactor, &client, b"abc").unwrap();
    reactor.submit(client.fd(), Op::Receive, Token(1)).unwrap();
    reactor.submit(server.fd(), Op::Receive, Token(2)).unwrap();
    reactor.network().reset(server.fd()).unwrap();
    let mut found = look(&reactor);
    found.sort_unstable();
    assert_eq!(found, [1, 2]);
    assert_eq!(code(send(&reactor, &client, b"d")), Some(libc::ECONNRESET));
    assert_eq!(code(send(&reactor, &client, b"d")), Some(libc::EPIPE));
    assert_eq!(receive(&reactor, &server, 9).unwrap(), 3);
    assert_eq!(code(receive(&reactor, &server, 9)), Some(libc::ECONNRESET));
    assert_eq!(
        code(reactor.peer_address(server.fd())),
        Some(libc::ENOTCONN)
    );
    assert_eq!(reactor.network().bytes_in_flight(), 0);
}

#[test]
fn a_stalled_end_fills_its_peer() {
    let reactor = SimulatedReactor::with(Config::new(0).send_buffer(10).receive_buffer(5));
    let (client, server) = pair(&reactor);
    let network = reactor.network();
    network.stall(server.fd()).unwrap();
    assert_eq!(send(&reactor, &client, &[0; 20]).unwrap(), 10);
    assert_eq!(code(send(&reactor, &client, &[0; 20])), Some(libc::EAGAIN));
    assert_eq!(code(receive(&reactor, &server, 20)), Some(libc::EAGAIN));
    assert_eq!(network.bytes_in_flight(), 10);
    network.resume(server.fd()).unwrap();
    assert_eq!(receive(&reactor, &server, 20).unwrap(), 5);
    assert_eq!(receive(&reactor, &server, 20).unwrap(), 5);
}

#[test]
fn a_peer_can_dribble() {
    let reactor = SimulatedReactor::new(0);
    let (client, server) = pair(&reactor);
    reactor.network().limit_transfers(1);
    assert_eq!(send(&reactor, &client, b"abc").unwrap(), 1);
    assert_eq!(send(&reactor, &client, b"bc").unwrap(), 1);
    assert_eq!(receive(&reactor, &server, 9).unwrap(), 1);
    reactor.network().limit_transfers(usize::MAX);
    assert_eq!(send(&reactor, &client, b"c").unwrap(), 1);
    assert_eq!(receive(&reactor, &server, 9).unwrap(), 2);
}
