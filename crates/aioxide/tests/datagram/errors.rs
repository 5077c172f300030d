//! What goes wrong: the protocol is told, or the exception handler, and the endpoint lives.

use std::time::Duration;

use aioxide::reactor::simulated::{Call, Config};
use aioxide::{DatagramTransport, Family};

use crate::common::{Correspondent, Mail, World};

crate::on_every_network!(
    a_refusal_is_told_and_the_endpoint_lives,
    a_datagram_that_is_too_large_is_told_at_once,
    a_failure_inside_datagram_received_is_told_after_it,
    one_that_fails_does_not_hold_up_those_behind_it,
    a_peer_that_goes_away_is_told_for_each_that_waits,
    an_endpoint_can_be_closed_from_inside_error_received,
    a_panic_in_each_callback_is_reported_and_the_endpoint_lives,
    a_panic_in_error_received_is_reported_wherever_it_comes_from,
);

/// More than any datagram carries.
const TOO_MUCH: usize = 300_000;

fn a_refusal_is_told_and_the_endpoint_lives(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (peer, name) = world.datagram_socket(Family::INET);
        let port = name.port().unwrap();
        let transport = world.endpoint_to(port, Correspondent::new(&mail)).await;
        let address = transport.local_address().unwrap();
        drop(peer);
        transport.send_to(b"anybody?", None).unwrap();
        mail.until("error").await;
        assert_eq!(mail.errors(), [libc::ECONNREFUSED]);
        assert!(!transport.is_closing() && transport.base().is_receiving());
        // Somebody comes.
        let reactor = world.event_loop.reactor();
        let peer = reactor.open(Family::INET, libc::SOCK_DGRAM, 0).unwrap();
        reactor.bind(peer.fd(), &name).unwrap();
        transport.send_to(b"hello", None).unwrap();
        assert_eq!(world.receive_datagram(&peer).await, b"hello");
        world.send_to(&peer, b"hello", &address).await;
        mail.received(1).await;
        transport.close();
        mail.until("lost").await;
        assert_eq!(mail.events(), ["made", "error", "letter", "lost"]);
        assert_eq!(mail.lost_with(), None);
    });
}

fn a_datagram_that_is_too_large_is_told_at_once(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (peer, name) = world.datagram_socket(Family::INET);
        let (transport, _) = world.endpoint(Correspondent::new(&mail)).await;
        transport.send_to(&vec![0; TOO_MUCH], &name).unwrap();
        assert_eq!(mail.events(), ["made", "error"], "from inside send_to");
        assert_eq!(mail.errors(), [libc::EMSGSIZE]);
        assert_eq!(transport.write_buffer_size(), 0);
        transport.send_to(b"less", &name).unwrap();
        assert_eq!(world.receive_datagram(&peer).await, b"less");
        transport.close();
    });
}

fn a_failure_inside_datagram_received_is_told_after_it(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let act = |mail: &Mail, event| {
            if event == "letter" {
                let to = mail.sender().unwrap();
                let transport = mail.transport();
                transport.send_to(&vec![0; TOO_MUCH], &to).unwrap();
                transport.send_to(b"less", &to).unwrap();
                assert!(!mail.has("error"), "one callback at a time");
            }
        };
        let (transport, address) = world.endpoint(Correspondent::acting(&mail, act)).await;
        let (peer, _) = world.datagram_socket(Family::INET);
        world.send_to(&peer, b"?", &address).await;
        assert_eq!(world.receive_datagram(&peer).await, b"less");
        mail.until("error").await;
        assert_eq!(mail.errors(), [libc::EMSGSIZE]);
        transport.close();
        mail.until("lost").await;
        assert_eq!(mail.events(), ["made", "letter", "error", "lost"]);
    });
}

fn one_that_fails_does_not_hold_up_those_behind_it(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (peer, name) = world.datagram_socket(Family::UNIX);
        let protocol = Correspondent::new(&mail);
        let transport = world.unix_endpoint_to(&name, protocol).await;
        let mut taken = 0;
        while transport.write_buffer_size() == 0 {
            transport.send_to(b"filler", None).unwrap();
            taken += 1;
        }
        for bytes in [b"before".to_vec(), vec![0; TOO_MUCH], b"after".to_vec()] {
            transport.send_to(&bytes, None).unwrap();
        }
        assert!(!mail.has("error"), "it waits");
        for _ in 0..taken {
            assert_eq!(world.receive_datagram(&peer).await, b"filler");
        }
        assert_eq!(world.receive_datagram(&peer).await, b"before");
        assert_eq!(world.receive_datagram(&peer).await, b"after");
        mail.until("error").await;
        assert_eq!(mail.errors(), [libc::EMSGSIZE]);
        // More than the high-water mark has waited meanwhile.
        assert_eq!(mail.count("pause"), 1);
        mail.until("resume").await;
        assert_eq!(transport.write_buffer_size(), 0);
        transport.close();
    });
}

fn a_peer_that_goes_away_is_told_for_each_that_waits(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (peer, name) = world.datagram_socket(Family::UNIX);
        let protocol = Correspondent::new(&mail);
        let transport = world.unix_endpoint_to(&name, protocol).await;
        while transport.write_buffer_size() == 0 {
            transport.send_to(b"filler", None).unwrap();
        }
        transport.send_to(b"one more", None).unwrap();
        transport.close();
        drop(peer);
        mail.until("lost").await;
        // It is refused by the peer that was there, and then there is none.
        assert_eq!(mail.errors(), [libc::ECONNREFUSED, libc::ENOTCONN]);
        assert_eq!(mail.events(), ["made", "error", "error", "lost"]);
        assert_eq!(mail.lost_with(), None);
    });
}

fn an_endpoint_can_be_closed_from_inside_error_received(world: World) {
    world.run(async |world| {
        for end in [DatagramTransport::close, DatagramTransport::abort] {
            for waiting in [false, true] {
                let mail = Mail::default();
                let act = move |mail: &Mail, event| {
                    if event == "error" {
                        end(&mail.transport());
                    }
                };
                let (peer, name) = world.datagram_socket(Family::UNIX);
                let protocol = Correspondent::acting(&mail, act);
                let transport = world.unix_endpoint_to(&name, protocol).await;
                while waiting && transport.write_buffer_size() == 0 {
                    transport.send_to(b"filler", None).unwrap();
                }
                transport.send_to(&vec![0; TOO_MUCH], None).unwrap();
                drop(peer);
                mail.until("lost").await;
                world.turns(2).await;
                assert!(mail.has("error"));
                assert_eq!(mail.count("lost"), 1);
                assert_eq!(mail.lost_with(), None);
            }
        }
    });
}

fn a_panic_in_each_callback_is_reported_and_the_endpoint_lives(world: World) {
    world.run(async |world| {
        for (event, callback) in [
            ("made", "connection_made"),
            ("letter", "datagram_received"),
            ("error", "error_received"),
            ("pause", "pause_writing"),
            ("resume", "resume_writing"),
            ("lost", "connection_lost"),
        ] {
            let mail = Mail::default();
            let protocol = Correspondent {
                panic_at: Some(event),
                ..Correspondent::new(&mail)
            };
            let (transport, address) = world.unix_endpoint(protocol).await;
            transport.set_write_buffer_limits(Some(0), None).unwrap();
            let (peer, name) = world.datagram_socket(Family::UNIX);
            transport.send_to(&vec![0; TOO_MUCH], &name).unwrap();
            while transport.write_buffer_size() == 0 {
                transport.send_to(b"filler", &name).unwrap();
            }
            // Asked for as it waits: a sender that is not connected is told of room at once.
            while transport.write_buffer_size() > 0 || !mail.has("resume") {
                world.receive_datagram(&peer).await;
                world.turns(1).await;
            }
            for _ in 0..3 {
                world.send_to(&peer, b"alive?", &address).await;
            }
            mail.received(3).await;
            transport.close();
            mail.until("lost").await;
            for event in ["made", "error", "pause", "resume", "lost"] {
                assert!(mail.has(event), "{event}");
            }
            let reports = world.reports();
            assert_eq!(reports.len(), mail.count(event), "{reports:?}");
            let expected = format!("{callback}() panicked: panicked: at {event}");
            assert!(
                reports.iter().all(|report| *report == expected),
                "{reports:?}"
            );
            assert_eq!(mail.lost_with(), None);
        }
    });
}

fn a_panic_in_error_received_is_reported_wherever_it_comes_from(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let protocol = Correspondent {
            panic_at: Some("error"),
            ..Correspondent::new(&mail)
        };
        let (peer, name) = world.datagram_socket(Family::INET);
        let port = name.port().unwrap();
        let transport = world.endpoint_to(port, protocol).await;
        drop(peer);
        let expected = "error_received() panicked: panicked: at error";
        // From the loop, and from inside send_to.
        transport.send_to(b"anybody?", None).unwrap();
        mail.until("error").await;
        assert_eq!(world.reports(), [expected]);
        transport.send_to(&vec![0; TOO_MUCH], None).unwrap();
        assert_eq!(world.reports(), [expected]);
        assert!(!transport.is_closing());
        transport.close();
    });
}

#[test]
fn failures_of_the_network_are_told() {
    for call in [Call::Receive, Call::Send] {
        let world = World::simulated(0);
        world.run(async move |world| {
            let mail = Mail::default();
            let (transport, address) = world.endpoint(Correspondent::new(&mail)).await;
            let (peer, name) = world.datagram_socket(Family::INET);
            let network = world.network().unwrap();
            network.fail_next_on(transport.fd().unwrap(), call, libc::ENOBUFS);
            transport.send_to(b"one", &name).unwrap();
            world.send_to(&peer, b"two", &address).await;
            mail.received(1).await;
            assert_eq!(mail.errors(), [libc::ENOBUFS]);
            transport.send_to(b"three", &name).unwrap();
            let first = world.receive_datagram(&peer).await;
            // A send that fails costs its datagram, a receive none.
            assert_eq!(first == b"one", call == Call::Receive);
            transport.close();
        });
    }
}

#[test]
fn an_endpoint_over_udp_is_held_back_by_its_own_network() {
    // Room for all of it: the receiver reads when everything has come.
    let world = World::with(Config::new(0).datagram_queue(1000));
    world.run(async |world| {
        let mail = Mail::default();
        let (peer, name) = world.datagram_socket(Family::INET);
        let port = name.port().unwrap();
        let transport = world.endpoint_to(port, Correspondent::new(&mail)).await;
        let network = world.network().unwrap();
        network.stall(peer.fd()).unwrap();
        let mut sent = 0;
        while !mail.has("pause") {
            transport.send_to(&[0; 1000], None).unwrap();
            sent += 1;
        }
        world.event_loop.sleep(Duration::from_secs(3600)).await;
        assert!(!mail.has("resume"));
        network.resume(peer.fd()).unwrap();
        for _ in 0..sent {
            assert_eq!(world.receive_datagram(&peer).await.len(), 1000);
        }
        assert_eq!(mail.events(), ["made", "pause", "resume"]);
        transport.close();
    });
}

#[test]
fn a_program_lives_with_a_network_that_loses_doubles_and_delays() {
    for seed in 0..5 {
        let world = World::simulated(seed);
        world.run(async |world| {
            let mail = Mail::default();
            let (server, address) = world.endpoint(Correspondent::echo(&Mail::default())).await;
            let port = address.port().unwrap();
            let client = world.endpoint_to(port, Correspondent::new(&mail)).await;
            let network = world.network().unwrap();
            network.lose_datagrams(4);
            network.double_datagrams(4);
            network.delay_datagrams(2);
            // Asks until it is answered.
            for number in 0..20_u8 {
                while !mail.texts().contains(&vec![number]) {
                    client.send_to(&[number], None).unwrap();
                    world.event_loop.sleep(Duration::from_millis(5)).await;
                }
            }
            client.close();
            server.close();
        });
    }
}
