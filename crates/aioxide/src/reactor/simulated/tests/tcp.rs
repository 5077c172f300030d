//! Connecting, closing and sharing ports, where a kernel would be slow or would need root.

use super::*;

#[test]
fn a_full_backlog_makes_a_connect_wait_for_an_accept() {
    let reactor = SimulatedReactor::new(0);
    let listener = listen(&reactor, 0);
    let (_first, second) = (connect(&reactor), connect(&reactor));
    reactor.submit(second.fd(), Op::Connect, Token(2)).unwrap();
    assert!(look(&reactor).is_empty());
    let _accepted = reactor.accept(listener.fd()).unwrap();
    assert_eq!(look(&reactor), [2]);
    reactor.take_error(second.fd()).unwrap();
    assert!(reactor.accept(listener.fd()).is_ok());
}

#[test]
fn a_connect_that_nobody_answers_gives_up() {
    let reactor = SimulatedReactor::new(0);
    let client = open(&reactor);
    let nowhere = std::net::SocketAddr::from(([192, 0, 2, 1], 80)).into();
    assert_eq!(
        reactor.connect(client.fd(), &nowhere).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(
        code(reactor.connect(client.fd(), &nowhere)),
        Some(libc::EALREADY)
    );
    reactor.submit(client.fd(), Op::Connect, Token(1)).unwrap();
    assert_eq!(wait(&reactor, None).unwrap(), [1]);
    assert_eq!(reactor.now(), Time::ZERO + CONNECT_TIMEOUT);
    assert_eq!(code(reactor.take_error(client.fd())), Some(libc::ETIMEDOUT));
    reactor.take_error(client.fd()).unwrap();
}

#[test]
fn connections_can_be_found() {
    let reactor = SimulatedReactor::new(0);
    let (client, server) = pair(&reactor);
    let network = reactor.network();
    assert_eq!(network.clients_of(PORT), [client.fd()]);
    assert_eq!(network.accepted_on(PORT), [server.fd()]);
    assert_eq!(network.peer_of(client.fd()), Some(server.fd()));
    drop(server);
    assert_eq!(network.peer_of(client.fd()), None);
}

#[test]
fn closing_while_an_operation_waits_is_noticed() {
    let reactor = SimulatedReactor::new(0);
    let (client, server) = pair(&reactor);
    reactor.submit(client.fd(), Op::Receive, Token(1)).unwrap();
    assert_eq!(reactor.network().waiting(), 1);
    drop((client, server));
    assert_eq!(reactor.network().waiting(), 0);
    assert_eq!(reactor.network().violations().len(), 1);
}

#[test]
fn a_closed_listener_resets_its_queue_and_refuses_who_waits() {
    let reactor = SimulatedReactor::new(0);
    let listener = listen(&reactor, 0);
    let (queued, waiting) = (connect(&reactor), connect(&reactor));
    drop(listener);
    assert_eq!(
        code(reactor.take_error(queued.fd())),
        Some(libc::ECONNRESET)
    );
    assert_eq!(
        code(reactor.take_error(waiting.fd())),
        Some(libc::ECONNREFUSED)
    );
}

#[test]
fn listeners_share_a_port_by_agreement() {
    let reactor = SimulatedReactor::new(0);
    let listeners = [(); 2].map(|()| {
        let listener = open(&reactor);
        reactor
            .set_option(listener.fd(), SocketOption::ReusePort)
            .unwrap();
        reactor.bind(listener.fd(), &address()).unwrap();
        reactor.listen(listener.fd(), 100).unwrap();
        listener
    });
    let _clients: Vec<_> = (0..32).map(|_| connect(&reactor)).collect();
    let accepted =
        listeners.map(|listener| std::iter::from_fn(|| reactor.accept(listener.fd()).ok()).count());
    assert_eq!(accepted.iter().sum::<usize>(), 32);
    assert!(!accepted.contains(&0), "{accepted:?}");
}

#[test]
fn what_is_not_simulated_is_refused() {
    let reactor = SimulatedReactor::new(0);
    let open = |family, kind, protocol| code(reactor.open(family, kind, protocol));
    assert_eq!(
        open(Family::UNIX, libc::SOCK_STREAM, 0),
        Some(libc::EAFNOSUPPORT)
    );
    assert_eq!(
        open(Family::INET, libc::SOCK_RAW, 0),
        Some(libc::ESOCKTNOSUPPORT)
    );
    for (kind, protocol) in [
        (libc::SOCK_STREAM, libc::IPPROTO_UDP),
        (libc::SOCK_DGRAM, libc::IPPROTO_TCP),
    ] {
        assert_eq!(
            open(Family::INET6, kind, protocol),
            Some(libc::EPROTONOSUPPORT)
        );
    }
}
