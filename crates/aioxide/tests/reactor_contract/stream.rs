//! Waiting on a connection of which a receive that leaves room has taken all: `Op::ReceiveStream` and
//! `Op::SendStream`. Whoever waits sees no difference from the other kinds.

use super::*;

on_every_reactor! {
    an_event_repeats_until_it_is_answered,
    bytes_that_are_left_are_told_again,
    an_end_behind_bytes_is_told,
    an_end_that_came_with_the_bytes_is_told,
    a_reset_is_told,
    room_is_told_each_time,
    room_that_nobody_lacked_is_told,
    a_reader_that_pauses_while_output_waits_hears_of_what_came,
    a_paused_reader_is_not_told,
    a_short_wait_beside_a_stream_is_told,
    a_poll_beside_a_stream_repeats,
    a_number_that_was_closed_is_another_stream,
    a_number_that_was_forgotten_is_another_stream,
    what_lives_on_elsewhere_is_not_told_of,
    what_comes_before_the_close_is_not_told,
}

fn watch(reactor: &dyn Reactor, socket: &Socket, token: Token) {
    reactor
        .submit(socket.fd(), Op::ReceiveStream, token)
        .unwrap();
}

fn nothing(reactor: &dyn Reactor) {
    let deadline = reactor.now() + Duration::from_millis(10);
    assert_eq!(wait(reactor, Some(deadline)), []);
    assert!(reactor.now() >= deadline, "woken for nothing");
}

/// Receives `count` bytes, each time when `token` is told: a small piece may wait at its sender until
/// the one before is acknowledged.
fn take(reactor: &dyn Reactor, socket: &Socket, token: Token, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        until(reactor, token);
        match receive(reactor, socket, 9) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            received => bytes.extend(received.unwrap()),
        }
    }
    bytes
}

fn an_event_repeats_until_it_is_answered(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    watch(reactor, &server, Token(7));
    assert_eq!(look(reactor), []);
    for _ in 0..3 {
        send_all(reactor, &client, b"ab");
        for _ in 0..3 {
            until(reactor, Token(7));
        }
        assert_eq!(receive(reactor, &server, 9).unwrap(), b"ab");
        nothing(reactor);
    }
    reactor.cancel(server.fd(), Side::Read);
}

fn bytes_that_are_left_are_told_again(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    watch(reactor, &server, Token(7));
    send_all(reactor, &client, b"abc");
    for byte in [b"a", b"b", b"c"] {
        until(reactor, Token(7));
        assert_eq!(receive(reactor, &server, 1).unwrap(), byte);
    }
    // The last one filled its buffer: another attempt may be wanted, one that blocks ends it.
    look(reactor);
    assert_eq!(kind(receive(reactor, &server, 1)), ErrorKind::WouldBlock);
    nothing(reactor);
    send_all(reactor, &client, b"d");
    until(reactor, Token(7));
    assert_eq!(receive(reactor, &server, 9).unwrap(), b"d");
    reactor.cancel(server.fd(), Side::Read);
}

fn an_end_behind_bytes_is_told(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    watch(reactor, &server, Token(7));
    send_all(reactor, &client, b"ab");
    until(reactor, Token(7));
    // Between the event and the attempt.
    drop(client);
    assert_eq!(receive(reactor, &server, 9).unwrap(), b"ab");
    for _ in 0..3 {
        until(reactor, Token(7));
        assert_eq!(receive(reactor, &server, 9).unwrap(), b"");
    }
    reactor.cancel(server.fd(), Side::Read);
}

fn an_end_that_came_with_the_bytes_is_told(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    watch(reactor, &server, Token(7));
    send_all(reactor, &client, b"ab");
    drop(client);
    until(reactor, Token(7));
    assert_eq!(receive(reactor, &server, 9).unwrap(), b"ab");
    until(reactor, Token(7));
    assert_eq!(receive(reactor, &server, 9).unwrap(), b"");
    reactor.cancel(server.fd(), Side::Read);
}

fn a_reset_is_told(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    watch(reactor, &server, Token(7));
    send_all(reactor, &server, b"unread");
    // Closing a socket that has received something resets the connection.
    let deadline = reactor.now() + TOO_LONG;
    while reactor
        .receivable(client.fd())
        .is_ok_and(|count| count == 0)
    {
        pass(reactor, Duration::from_millis(1));
        assert!(reactor.now() < deadline);
    }
    pass(reactor, Duration::from_millis(10));
    drop(client);
    until(reactor, Token(7));
    assert_eq!(
        kind(receive(reactor, &server, 9)),
        ErrorKind::ConnectionReset
    );
    reactor.cancel(server.fd(), Side::Read);
}

/// Takes everything from `receiver` until `token` is told.
fn drain_until(reactor: &dyn Reactor, receiver: &Socket, token: Token) {
    let deadline = reactor.now() + TOO_LONG;
    loop {
        while receive(reactor, receiver, 64 * 1024).is_ok() {}
        let soon = reactor.now() + Duration::from_millis(10);
        if wait(reactor, Some(soon)).contains(&token) {
            return;
        }
        assert!(reactor.now() < deadline, "no event of {token:?}");
    }
}

fn room_is_told_each_time(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    watch(reactor, &client, Token(1));
    for _ in 0..3 {
        fill(reactor, &client);
        reactor
            .submit(client.fd(), Op::SendStream, Token(2))
            .unwrap();
        assert_eq!(look(reactor), []);
        drain_until(reactor, &server, Token(2));
        until(reactor, Token(2));
        reactor.cancel(client.fd(), Side::Write);
        assert_eq!(look(reactor), []);
        send_all(reactor, &server, b"a");
        until(reactor, Token(1));
        assert_eq!(receive(reactor, &client, 9).unwrap(), b"a");
    }
    reactor.cancel(client.fd(), Side::Read);
    while receive(reactor, &server, 64 * 1024).is_ok() {}
}

fn room_that_nobody_lacked_is_told(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    watch(reactor, &client, Token(1));
    for round in 0..3 {
        reactor
            .submit(client.fd(), Op::SendStream, Token(2))
            .unwrap();
        until(reactor, Token(2));
        until(reactor, Token(2));
        send_all(reactor, &client, &[round]);
        until(reactor, Token(2));
        reactor.cancel(client.fd(), Side::Write);
        assert_eq!(receive_exactly(reactor, &server, 1), [round]);
    }
    reactor.cancel(client.fd(), Side::Read);
}

fn a_reader_that_pauses_while_output_waits_hears_of_what_came(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    for _ in 0..2 {
        watch(reactor, &client, Token(1));
        fill(reactor, &client);
        reactor
            .submit(client.fd(), Op::SendStream, Token(2))
            .unwrap();
        reactor.cancel(client.fd(), Side::Read);
        for _ in 0..2 {
            send_all(reactor, &server, b"a");
            pass(reactor, Duration::from_millis(10));
        }
        nothing(reactor);
        watch(reactor, &client, Token(3));
        assert_eq!(take(reactor, &client, Token(3), 2), b"aa");
        drain_until(reactor, &server, Token(2));
        reactor.cancel(client.fd(), Side::Write);
        reactor.cancel(client.fd(), Side::Read);
        assert_eq!(look(reactor), []);
    }
    while receive(reactor, &server, 64 * 1024).is_ok() {}
}

fn a_paused_reader_is_not_told(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    watch(reactor, &server, Token(1));
    send_all(reactor, &client, b"a");
    until(reactor, Token(1));
    reactor.cancel(server.fd(), Side::Read);
    nothing(reactor);
    send_all(reactor, &client, b"b");
    pass(reactor, Duration::from_millis(10));
    nothing(reactor);
    watch(reactor, &server, Token(2));
    assert_eq!(take(reactor, &server, Token(2), 2), b"ab");
    nothing(reactor);
    reactor.cancel(server.fd(), Side::Read);
}

fn a_short_wait_beside_a_stream_is_told(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    watch(reactor, &client, Token(1));
    for _ in 0..2 {
        fill(reactor, &client);
        reactor
            .submit_once(client.fd(), Op::Send, Token(2), false)
            .unwrap();
        assert_eq!(look(reactor), []);
        drain_until(reactor, &server, Token(2));
        reactor.rest(client.fd(), Side::Write);
        send_all(reactor, &server, b"a");
        until(reactor, Token(1));
        assert_eq!(receive(reactor, &client, 9).unwrap(), b"a");
        nothing(reactor);
    }
    reactor.cancel(client.fd(), Side::Read);
    while receive(reactor, &server, 64 * 1024).is_ok() {}
}

fn a_poll_beside_a_stream_repeats(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    watch(reactor, &server, Token(1));
    reactor
        .submit(server.fd(), Op::PollWrite, Token(2))
        .unwrap();
    for _ in 0..2 {
        until(reactor, Token(2));
        send_all(reactor, &client, b"a");
        until(reactor, Token(1));
        until(reactor, Token(1));
        assert_eq!(receive(reactor, &server, 9).unwrap(), b"a");
    }
    reactor.cancel(server.fd(), Side::Write);
    nothing(reactor);
    send_all(reactor, &client, b"b");
    until(reactor, Token(1));
    assert_eq!(receive(reactor, &server, 9).unwrap(), b"b");
    reactor.cancel(server.fd(), Side::Read);
}

fn a_number_that_was_closed_is_another_stream(reactor: &dyn Reactor) {
    for round in 0..3 {
        let (client, server) = pair(reactor);
        watch(reactor, &server, Token(round.into()));
        send_all(reactor, &client, &[round]);
        until(reactor, Token(round.into()));
        reactor.cancel(server.fd(), Side::Read);
        assert_eq!(receive(reactor, &server, 9).unwrap(), [round]);
    }
}

fn a_number_that_was_forgotten_is_another_stream(reactor: &dyn Reactor) {
    for round in 0..3 {
        let (client, server) = pair(reactor);
        watch(reactor, &server, Token(round.into()));
        send_all(reactor, &client, &[round]);
        until(reactor, Token(round.into()));
        assert_eq!(receive(reactor, &server, 9).unwrap(), [round]);
        reactor.rest(server.fd(), Side::Read);
        reactor.forget(server.fd(), true);
        drop(server);
    }
}

fn what_lives_on_elsewhere_is_not_told_of(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    watch(reactor, &server, Token(1));
    reactor.rest(server.fd(), Side::Read);
    // Not closed: another descriptor has the file.
    reactor.forget(server.fd(), false);
    send_all(reactor, &client, b"a");
    pass(reactor, Duration::from_millis(10));
    nothing(reactor);
    assert_eq!(receive_exactly(reactor, &server, 1), b"a");
}

fn what_comes_before_the_close_is_not_told(reactor: &dyn Reactor) {
    let (client, server) = pair(reactor);
    watch(reactor, &server, Token(1));
    reactor.rest(server.fd(), Side::Read);
    send_all(reactor, &client, b"a");
    pass(reactor, Duration::from_millis(10));
    nothing(reactor);
    send_all(reactor, &client, b"b");
    pass(reactor, Duration::from_millis(10));
    nothing(reactor);
    reactor.forget(server.fd(), true);
    assert_eq!(receive_exactly(reactor, &server, 2), b"ab");
}
