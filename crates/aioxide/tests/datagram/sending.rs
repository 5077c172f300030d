//! What is sent: where to, when, and what becomes of what the network does not take.

use std::io::ErrorKind;

use aioxide::transports::{Output, SendError};
use aioxide::{DatagramTransport, Family, Socket, WaterMarks};

use crate::common::world::{loopback, pattern};
use crate::common::{Correspondent, Mail, World};

crate::on_every_network!(
    datagrams_go_where_they_are_sent,
    an_endpoint_with_a_peer_sends_to_it_alone,
    an_endpoint_without_a_peer_needs_an_address,
    what_waits_counts_with_its_header,
    a_full_buffer_pauses_and_a_drained_one_resumes,
    a_high_mark_of_zero_pauses_whenever_something_waits,
    a_lower_mark_pauses_at_once,
    what_waits_does_not_change_with_the_callers_buffer,
    datagrams_leave_in_their_order,
    close_sends_what_waits,
    abort_drops_what_waits,
    a_close_that_hangs_can_be_aborted,
    sends_after_the_end_are_dropped,
    what_is_sent_before_closing_inside_datagram_received_leaves;
    calm: what_is_sent_while_datagrams_are_received_leaves_at_once,
    what_the_network_would_have_taken_pauses_nobody,
    what_is_sent_by_itself_leaves_at_once,
);

/// Bytes that a datagram counts for beside its own, as in asyncio.
const HEADER: usize = 8;

/// An endpoint whose peer, a Unix socket that a test plays by hand, takes no more: everything that
/// is sent waits. How many datagrams the peer has to take before.
async fn blocked(world: &World, mail: &Mail) -> (DatagramTransport, Socket, usize) {
    let (peer, name) = world.datagram_socket(Family::UNIX);
    let protocol = Correspondent::new(mail);
    let transport = world.unix_endpoint_to(&name, protocol).await;
    let reactor = world.event_loop.reactor();
    let fd = transport.fd().unwrap();
    let mut taken = 0;
    while reactor.send_to(fd, b"filler", None).is_ok() {
        taken += 1;
    }
    (transport, peer, taken)
}

/// Takes so many datagrams.
async fn take(world: &World, peer: &Socket, count: usize) -> Vec<Vec<u8>> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(world.receive_datagram(peer).await);
    }
    taken
}

fn datagrams_go_where_they_are_sent(world: World) {
    world.run(async |world| {
        let (transport, name) = world.endpoint(Correspondent::default()).await;
        let peers = [(); 3].map(|()| world.datagram_socket(Family::INET));
        for round in 0..2_u8 {
            for (number, (_, address)) in (0..).zip(&peers) {
                transport.send_to(&[round, number], address).unwrap();
            }
        }
        assert_eq!(transport.write_buffer_size(), 0);
        for (number, (peer, _)) in (0..).zip(&peers) {
            assert_eq!(take(&world, peer, 2).await, [[0, number], [1, number]]);
        }
        let mail = Mail::default();
        let (other, address) = world.endpoint(Correspondent::new(&mail)).await;
        transport.send_to(b"", &address).unwrap();
        mail.received(1).await;
        assert_eq!(mail.sender(), Some(name));
        other.close();
        transport.close();
    });
}

fn an_endpoint_with_a_peer_sends_to_it_alone(world: World) {
    world.run(async |world| {
        let (peer, name) = world.datagram_socket(Family::INET);
        let port = name.port().unwrap();
        let transport = world.endpoint_to(port, Correspondent::default()).await;
        transport.send_to(b"implied", None).unwrap();
        transport.send_to(b"named", &name).unwrap();
        let other = transport.send_to(b"other", &loopback(1));
        assert_eq!(other.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(take(&world, &peer, 2).await, [&b"implied"[..], b"named"]);
        transport.close();
    });
}

fn an_endpoint_without_a_peer_needs_an_address(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, _) = world.endpoint(Correspondent::new(&mail)).await;
        let sent = transport.send_to(b"where to?", None);
        assert_eq!(sent.unwrap_err().kind(), ErrorKind::InvalidInput);
        transport.close();
        mail.until("lost").await;
        assert_eq!(mail.events(), ["made", "lost"]);
    });
}

fn what_waits_counts_with_its_header(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, peer, taken) = blocked(&world, &mail).await;
        let mut expected = 0;
        for bytes in [&b""[..], b"12345", b"", &pattern(1000)] {
            transport.send_to(bytes, None).unwrap();
            expected += bytes.len() + HEADER;
            assert_eq!(transport.write_buffer_size(), expected);
            assert!(transport.base().is_sending());
        }
        take(&world, &peer, taken).await;
        let waited = take(&world, &peer, 4).await;
        assert_eq!(waited, [&b""[..], b"12345", b"", &pattern(1000)]);
        world.turns(2).await;
        assert_eq!(transport.write_buffer_size(), 0);
        assert!(!transport.base().is_sending());
        transport.close();
    });
}

fn a_full_buffer_pauses_and_a_drained_one_resumes(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, peer, taken) = blocked(&world, &mail).await;
        let marks = transport.water_marks();
        assert_eq!((marks.low(), marks.high()), (16 * 1024, 64 * 1024));
        transport
            .set_write_buffer_limits(Some(1000), Some(500))
            .unwrap();
        let mut sent = 0;
        while !mail.has("pause") {
            assert!(transport.write_buffer_size() <= 1000);
            transport.send_to(&[7; 92], None).unwrap();
            sent += 1;
        }
        assert_eq!(sent, 11, "100 bytes each, with their headers");
        transport.send_to(&[7; 92], None).unwrap();
        take(&world, &peer, taken).await;
        let mut received = 0;
        while !mail.has("resume") {
            assert!(received <= 12 - 5 + 64, "{received}");
            received += take(&world, &peer, 1).await.len();
        }
        assert!(transport.write_buffer_size() <= 500);
        take(&world, &peer, 12 - received).await;
        transport.close();
        mail.until("lost").await;
        assert_eq!(mail.events(), ["made", "pause", "resume", "lost"]);
    });
}

fn a_high_mark_of_zero_pauses_whenever_something_waits(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, peer, taken) = blocked(&world, &mail).await;
        transport.set_write_buffer_limits(Some(0), None).unwrap();
        assert!(!mail.has("pause"));
        transport.send_to(b"", None).unwrap();
        assert!(mail.has("pause"), "an empty one counts too");
        take(&world, &peer, taken + 1).await;
        mail.until("resume").await;
        transport.close();
    });
}

fn a_lower_mark_pauses_at_once(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, peer, taken) = blocked(&world, &mail).await;
        transport.send_to(&pattern(100), None).unwrap();
        assert!(!mail.has("pause"));
        let marks = WaterMarks::new(Some(107), Some(0)).unwrap();
        transport.set_water_marks(marks);
        assert!(mail.has("pause"));
        take(&world, &peer, taken + 1).await;
        mail.until("resume").await;
        transport.close();
    });
}

fn what_waits_does_not_change_with_the_callers_buffer(world: World) {
    world.run(async |world| {
        let (transport, peer, taken) = blocked(&world, &Mail::default()).await;
        let mut bytes = pattern(5000);
        transport.send_to(&bytes, None).unwrap();
        bytes.fill(b'!');
        take(&world, &peer, taken).await;
        assert!(take(&world, &peer, 1).await == [pattern(5000)]);
        transport.close();
    });
}

fn datagrams_leave_in_their_order(world: World) {
    world.run(async |world| {
        let (transport, peer, taken) = blocked(&world, &Mail::default()).await;
        for number in 0..100_u8 {
            transport.send_to(&[number], None).unwrap();
        }
        take(&world, &peer, taken).await;
        let numbers: Vec<_> = (0..100_u8).map(|number| vec![number]).collect();
        assert_eq!(take(&world, &peer, 50).await, numbers[..50]);
        // What is sent meanwhile goes behind the rest.
        transport.send_to(b"last", None).unwrap();
        assert_eq!(take(&world, &peer, 50).await, numbers[50..]);
        assert_eq!(take(&world, &peer, 1).await, [b"last"]);
        transport.close();
    });
}

fn close_sends_what_waits(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, peer, taken) = blocked(&world, &mail).await;
        for number in 0..30_u8 {
            transport.send_to(&[number], None).unwrap();
        }
        transport.close();
        transport.send_to(b"too late?", None).unwrap();
        world.turns(3).await;
        assert!(!mail.has("lost") && transport.is_closing());
        take(&world, &peer, taken).await;
        let numbers: Vec<_> = (0..30_u8).map(|number| vec![number]).collect();
        assert_eq!(take(&world, &peer, 30).await, numbers);
        // asyncio takes what is sent as long as it still sends.
        assert_eq!(take(&world, &peer, 1).await, [b"too late?"]);
        mail.until("lost").await;
        assert_eq!(mail.lost_with(), None);
    });
}

fn abort_drops_what_waits(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, peer, taken) = blocked(&world, &mail).await;
        transport.send_to(b"never", None).unwrap();
        transport.abort();
        assert_eq!(transport.write_buffer_size(), 0);
        mail.until("lost").await;
        assert_eq!(mail.lost_with(), None);
        take(&world, &peer, taken).await;
        let more = world.event_loop.reactor().receive(
            peer.fd(),
            &mut aioxide::sys::buffer::Buffer::from(&mut [0; 9][..]),
        );
        assert_eq!(more.unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

fn a_close_that_hangs_can_be_aborted(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, _peer, _) = blocked(&world, &mail).await;
        transport.send_to(b"never", None).unwrap();
        transport.close();
        world.turns(3).await;
        assert!(!mail.has("lost") && transport.base().is_sending());
        transport.abort();
        mail.until("lost").await;
        assert_eq!(mail.events(), ["made", "lost"]);
    });
}

fn sends_after_the_end_are_dropped(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (peer, name) = world.datagram_socket(Family::INET);
        let (transport, address) = world.endpoint(Correspondent::new(&mail)).await;
        transport.close();
        // Until connection_lost the socket is there, as on CPython's loop.
        transport.send_to(b"the last", &name).unwrap();
        assert_eq!(transport.write_buffer_size(), 0);
        mail.until("lost").await;
        assert_eq!(world.receive_datagram(&peer).await, b"the last");
        for _ in 0..10 {
            transport.send_to(b"dropped", &name).unwrap();
        }
        let output = Output {
            bytes: b"dropped",
            keep: None,
        };
        let dropped = transport.try_send(output, Some(&name));
        assert!(matches!(dropped, Err(SendError::Lost(11))));
        transport.pause_reading();
        transport.resume_reading();
        let (other, _) = world.datagram_socket(Family::INET);
        world.send_to(&other, b"only this", &name).await;
        assert_eq!(world.receive_datagram(&peer).await, b"only this");
        assert_eq!(transport.local_address(), Some(address));
    });
}

fn what_is_sent_before_closing_inside_datagram_received_leaves(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let act = |mail: &Mail, event| {
            if event == "letter" {
                let transport = mail.transport();
                transport.send_to(b"one", &mail.sender().unwrap()).unwrap();
                transport.send_to(b"two", &mail.sender().unwrap()).unwrap();
                transport.close();
            }
        };
        let (_, address) = world.endpoint(Correspondent::acting(&mail, act)).await;
        let (peer, _) = world.datagram_socket(Family::INET);
        for _ in 0..5 {
            world.send_to(&peer, b"bye", &address).await;
        }
        assert_eq!(take(&world, &peer, 2).await, [b"one", b"two"]);
        mail.until("lost").await;
        assert_eq!(mail.events(), ["made", "letter", "lost"]);
    });
}

fn what_is_sent_while_datagrams_are_received_leaves_at_once(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, address) = world.endpoint(Correspondent::echo(&mail)).await;
        let (peer, _) = world.datagram_socket(Family::INET);
        for number in 0..10_u8 {
            world.send_to(&peer, &[number], &address).await;
        }
        let before = world.datagram_sends();
        mail.received(10).await;
        assert_eq!(
            world.datagram_sends() - before,
            10,
            "so that each says how it fails"
        );
        assert_eq!(
            take(&world, &peer, 10).await.concat(),
            Vec::from_iter(0..10)
        );
        assert_eq!(transport.write_buffer_size(), 0);
        transport.close();
    });
}

fn what_the_network_would_have_taken_pauses_nobody(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, address) = world.endpoint(Correspondent::echo(&mail)).await;
        let (peer, _) = world.datagram_socket(Family::INET);
        // Together more than the high-water mark.
        for _ in 0..9 {
            world.send_to(&peer, &pattern(9000), &address).await;
        }
        mail.received(9).await;
        assert!(take(&world, &peer, 9).await == vec![pattern(9000); 9]);
        assert!(!mail.has("pause") && !mail.has("resume"));
        transport.close();
    });
}

fn what_is_sent_by_itself_leaves_at_once(world: World) {
    world.run(async |world| {
        let (transport, _) = world.endpoint(Correspondent::default()).await;
        let (peer, name) = world.datagram_socket(Family::INET);
        let before = world.datagram_sends();
        for _ in 0..3 {
            transport.send_to(b"x", &name).unwrap();
        }
        assert_eq!(world.datagram_sends() - before, 3);
        take(&world, &peer, 3).await;
        transport.close();
    });
}
