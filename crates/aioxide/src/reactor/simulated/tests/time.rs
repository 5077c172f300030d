//! The clock, the order of events, and what a hung loop says.

use super::*;

#[test]
fn the_clock_jumps_to_the_deadline_and_no_further() {
    let reactor = SimulatedReactor::new(0);
    assert_eq!(reactor.now(), Time::ZERO);
    let hour = Time::ZERO + Duration::from_secs(3600);
    assert!(wait(&reactor, Some(hour)).unwrap().is_empty());
    assert_eq!(reactor.now(), hour);
    assert!(look(&reactor).is_empty());
    assert_eq!(reactor.now(), hour, "a look takes no time");
}

#[test]
fn the_clock_stands_still_while_there_is_work_but_not_for_ever() {
    let reactor = SimulatedReactor::new(0);
    let (client, _server) = pair(&reactor);
    reactor
        .submit(client.fd(), Op::PollWrite, Token(1))
        .unwrap();
    let deadline = Time::from_nanos(1_000_000);
    assert_eq!(wait(&reactor, Some(deadline)).unwrap(), [1]);
    assert_eq!(reactor.now(), Time::ZERO);
    let waits = (0..100_000).take_while(|_| {
        wait(&reactor, Some(deadline)).unwrap();
        reactor.now() < deadline
    });
    assert!(waits.count() < 2_000);
}

#[test]
fn segments_take_their_time() {
    let latency = Duration::from_millis(5);
    let reactor = SimulatedReactor::with(Config::new(0).latency(latency));
    let listener = listen(&reactor, 1);
    let client = connect(&reactor);
    assert_eq!(code(reactor.accept(listener.fd())), Some(libc::EAGAIN));
    reactor.submit(client.fd(), Op::Connect, Token(1)).unwrap();
    assert_eq!(wait(&reactor, None).unwrap(), [1]);
    assert_eq!(reactor.now(), Time::ZERO + latency * 2);
    reactor.cancel(client.fd(), Side::Write);
    let (server, _) = reactor.accept(listener.fd()).unwrap();
    send(&reactor, &client, b"hello").unwrap();
    reactor.submit(server.fd(), Op::Receive, Token(2)).unwrap();
    assert!(look(&reactor).is_empty());
    assert_eq!(wait(&reactor, None).unwrap(), [2]);
    assert_eq!(reactor.now(), Time::ZERO + latency * 3);
}

#[test]
fn a_loop_that_hangs_is_told_why() {
    let reactor = SimulatedReactor::new(0);
    let (client, _server) = pair(&reactor);
    reactor.submit(client.fd(), Op::Receive, Token(1)).unwrap();
    let error = wait(&reactor, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadlock);
    assert!(
        error
            .to_string()
            .contains(&format!("Receive waits on {}", client.fd())),
        "{error}"
    );
}

#[test]
fn a_thread_is_given_its_grace() {
    let reactor = SimulatedReactor::new(0);
    reactor.expect_threads(Duration::from_secs(60));
    let waker = reactor.waker();
    let thread = std::thread::spawn(move || waker.wake());
    assert!(
        wait(&reactor, Some(Time::from_nanos(1)))
            .unwrap()
            .is_empty()
    );
    assert_eq!(reactor.now(), Time::ZERO, "woken before the jump");
    thread.join().unwrap();
}

/// The order of the events of `count` ready sockets in one wait.
fn order(config: Config, count: u64) -> Vec<u64> {
    let reactor = SimulatedReactor::with(config);
    let sockets: Vec<_> = (0..count).map(|_| open(&reactor)).collect();
    for (token, socket) in (0..).zip(&sockets) {
        reactor
            .submit(socket.fd(), Op::PollRead, Token(token))
            .unwrap();
    }
    let found = look(&reactor);
    for socket in &sockets {
        reactor.cancel(socket.fd(), Side::Read);
    }
    found
}

#[test]
fn a_seed_names_the_order_of_events() {
    assert_eq!(order(Config::new(1), 20), order(Config::new(1), 20));
    assert_ne!(order(Config::new(1), 20), order(Config::new(2), 20));
    let mut all = order(Config::new(3), 20);
    all.sort_unstable();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_partial_wait_yields_some_but_not_none() {
    let counts: Vec<_> = (0..50)
        .map(|seed| order(Config::new(seed).partial_waits(true), 4).len())
        .collect();
    for count in 1..=4 {
        assert!(
            counts.contains(&count),
            "{count} events in none of {counts:?}"
        );
    }
    assert!(!counts.contains(&0));
}

/// What happens, and when, while ten clients write to one server on wires of different lengths.
fn trace(seed: u64) -> Vec<(Time, u64, usize)> {
    let millisecond = Duration::from_millis(1);
    let config = Config::new(seed)
        .latency(millisecond)
        .jitter(millisecond)
        .partial_waits(true);
    let reactor = SimulatedReactor::with(config.send_buffer(100).receive_buffer(30));
    let listener = listen(&reactor, 16);
    let clients: Vec<_> = (0..10).map(|_| connect(&reactor)).collect();
    wait(&reactor, Some(Time::ZERO + millisecond * 5)).unwrap();
    let servers: Vec<_> = clients
        .iter()
        .map(|_| reactor.accept(listener.fd()).unwrap().0)
        .collect();
    for (token, server) in (0..).zip(&servers) {
        reactor
            .submit(server.fd(), Op::Receive, Token(token))
            .unwrap();
    }
    for client in &clients {
        assert_eq!(send(&reactor, client, &[0; 200]).unwrap(), 100);
    }
    let mut trace = Vec::new();
    while reactor.network().bytes_in_flight() > 0 {
        for token in wait(&reactor, None).unwrap() {
            let count = receive(&reactor, &servers[token as usize], 20).unwrap();
            trace.push((reactor.now(), token, count));
        }
    }
    for server in &servers {
        reactor.cancel(server.fd(), Side::Read);
    }
    assert_eq!(trace.iter().map(|(_, _, count)| count).sum::<usize>(), 1000);
    trace
}

#[test]
fn a_seed_names_a_run() {
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1), trace(2));
}
