//! Waiting for one event, and resting afterwards: `submit_once` and `rest`.

use super::*;

on_every_reactor! {
    a_descriptor_rests_between_waits,
    what_comes_at_rest_is_there_for_the_next_wait,
    what_comes_at_rest_wakes_one_wait_at_the_most,
    a_poll_after_a_rest_repeats,
    a_wait_beside_a_poll_is_told,
    both_sides_wait_once,
    an_end_at_rest_is_there_for_the_next_wait,
    a_wait_that_is_cancelled_is_over,
    a_number_at_rest_becomes_another_files,
    a_wait_once_takes_its_side,
}

/// Waits for one event, as whoever knows the descriptor, and rests.
fn receive_once(reactor: &dyn Reactor, socket: &Socket, token: Token, known: bool) -> Vec<u8> {
    loop {
        match receive(reactor, socket, 100) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            received => return received.unwrap(),
        }
        reactor
            .submit_once(socket.fd(), Op::Receive, token, known)
            .unwrap();
        until(reactor, token);
        reactor.rest(socket.fd(), Side::Read);
    }
}

fn a_descriptor_rests_between_waits(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    for round in 0..5 {
        send_all(reactor, &client, &[round]);
        // An attempt that is made too early blocks, and waits.
        let received = receive_once(reactor, &server, Token(round.into()), round > 0);
        assert_eq!(received, [round]);
        assert_eq!(look(reactor), []);
    }
}

fn what_comes_at_rest_is_there_for_the_next_wait(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    send_all(reactor, &client, b"a");
    receive_once(reactor, &server, Token(1), false);
    send_all(reactor, &client, b"b");
    pass(reactor, Duration::from_millis(10));
    // Nobody has tried since, so nothing is known.
    reactor
        .submit_once(server.fd(), Op::Receive, Token(2), false)
        .unwrap();
    until(reactor, Token(2));
    reactor.rest(server.fd(), Side::Read);
    assert_eq!(receive(reactor, &server, 100).unwrap(), b"b");
    send_all(reactor, &client, b"c");
    assert_eq!(receive_once(reactor, &server, Token(3), true), b"c");
}

fn what_comes_at_rest_wakes_one_wait_at_the_most(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    send_all(reactor, &client, b"a");
    receive_once(reactor, &server, Token(1), false);
    send_all(reactor, &client, b"b");
    pass(reactor, Duration::from_millis(10));
    let deadline = reactor.now() + Duration::from_millis(10);
    assert_eq!(wait(reactor, Some(deadline)), []);
    assert!(reactor.now() >= deadline, "woken for nothing");
    receive_exactly(reactor, &server, 1);
}

fn a_poll_after_a_rest_repeats(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    send_all(reactor, &client, b"a");
    receive_once(reactor, &server, Token(1), false);
    reactor.submit(server.fd(), Op::PollRead, Token(2)).unwrap();
    send_all(reactor, &client, b"b");
    for _ in 0..3 {
        until(reactor, Token(2));
    }
    reactor.cancel(server.fd(), Side::Read);
    assert_eq!(look(reactor), []);
    assert_eq!(receive_once(reactor, &server, Token(3), false), b"b");
}

fn a_wait_beside_a_poll_is_told(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    reactor
        .submit(server.fd(), Op::PollWrite, Token(1))
        .unwrap();
    send_all(reactor, &client, b"a");
    assert_eq!(receive_once(reactor, &server, Token(2), false), b"a");
    until(reactor, Token(1));
    until(reactor, Token(1));
    // The poll begins while the other side waits.
    reactor.cancel(server.fd(), Side::Write);
    reactor
        .submit_once(server.fd(), Op::Receive, Token(3), false)
        .unwrap();
    reactor
        .submit(server.fd(), Op::PollWrite, Token(4))
        .unwrap();
    until(reactor, Token(4));
    send_all(reactor, &client, b"b");
    until(reactor, Token(3));
    reactor.rest(server.fd(), Side::Read);
    until(reactor, Token(4));
    reactor.cancel(server.fd(), Side::Write);
    receive_exactly(reactor, &server, 1);
}

fn both_sides_wait_once(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    fill(reactor, &client);
    reactor
        .submit_once(client.fd(), Op::Receive, Token(1), false)
        .unwrap();
    reactor
        .submit_once(client.fd(), Op::Send, Token(2), false)
        .unwrap();
    assert_eq!(look(reactor), []);
    send_all(reactor, &server, b"a");
    until(reactor, Token(1));
    reactor.rest(client.fd(), Side::Read);
    assert_eq!(receive(reactor, &client, 100).unwrap(), b"a");
    // The other side still waits, and is told when there is room.
    let deadline = reactor.now() + TOO_LONG;
    loop {
        while receive(reactor, &server, 64 * 1024).is_ok() {}
        let soon = reactor.now() + Duration::from_millis(10);
        if wait(reactor, Some(soon)).contains(&Token(2)) {
            break;
        }
        assert!(reactor.now() < deadline, "no event of the sender");
    }
    reactor.rest(client.fd(), Side::Write);
    while receive(reactor, &server, 64 * 1024).is_ok() {}
}

fn an_end_at_rest_is_there_for_the_next_wait(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    send_all(reactor, &client, b"a");
    receive_once(reactor, &server, Token(1), false);
    drop(client);
    assert_eq!(receive_once(reactor, &server, Token(2), true), b"");
}

fn a_wait_that_is_cancelled_is_over(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    reactor
        .submit_once(server.fd(), Op::Receive, Token(1), false)
        .unwrap();
    reactor.cancel(server.fd(), Side::Read);
    send_all(reactor, &client, b"a");
    pass(reactor, Duration::from_millis(10));
    assert_eq!(look(reactor), []);
    assert_eq!(receive_once(reactor, &server, Token(2), false), b"a");
}

fn a_number_at_rest_becomes_another_files(reactor: &dyn Reactor) {
    for round in 0..3 {
        // The numbers that the last round has closed.
        let (client, server) = pair(reactor);
        send_all(reactor, &client, &[round]);
        let received = receive_once(reactor, &server, Token(round.into()), false);
        assert_eq!(received, [round]);
    }
}

fn a_wait_once_takes_its_side(reactor: &dyn Reactor) {
    let (client, _server) = pair(reactor);
    reactor
        .submit_once(client.fd(), Op::Receive, Token(1), false)
        .unwrap();
    let twice = reactor.submit_once(client.fd(), Op::PollRead, Token(2), false);
    assert_eq!(kind(twice), ErrorKind::AlreadyExists);
    let twice = reactor.submit(client.fd(), Op::PollRead, Token(2));
    assert_eq!(kind(twice), ErrorKind::AlreadyExists);
    reactor.rest(client.fd(), Side::Read);
    reactor.rest(client.fd(), Side::Read);
}
