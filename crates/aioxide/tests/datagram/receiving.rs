//! What is received: when, from whom, and what becomes of it while the program does not read.

use std::cell::Cell;
use std::time::Duration;

use aioxide::Family;

use crate::common::world::{pattern, yield_now};
use crate::common::{Correspondent, Mail, World};

crate::on_every_network!(
    datagrams_are_delivered_in_their_order,
    an_empty_datagram_is_delivered,
    the_largest_datagrams_are_delivered_whole,
    a_unix_sender_without_a_name_has_no_address,
    an_endpoint_with_a_peer_hears_it_alone,
    a_paused_endpoint_loses_nothing,
    reading_can_be_paused_from_inside_datagram_received,
    pausing_and_resuming_in_one_callback_changes_nothing,
    an_end_while_datagrams_are_held_back_drops_them,
    closing_from_inside_datagram_received_is_the_end_of_it,
);

/// Longer than a datagram travels on any network here.
const TRAVEL: Duration = Duration::from_millis(50);

/// As many as are received in one call, on a network without a mood.
const BATCH: u8 = 10;

fn numbered(count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|number| vec![number]).collect()
}

fn datagrams_are_delivered_in_their_order(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, address) = world.endpoint(Correspondent::new(&mail)).await;
        let (peer, name) = world.datagram_socket(Family::INET);
        // More than one call takes.
        for number in 0..40 {
            world.send_to(&peer, &[number], &address).await;
        }
        mail.received(40).await;
        assert_eq!(mail.texts(), numbered(40));
        assert_eq!(mail.sender(), Some(name));
        transport.close();
    });
}

fn an_empty_datagram_is_delivered(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, address) = world.endpoint(Correspondent::echo(&mail)).await;
        let (peer, _) = world.datagram_socket(Family::INET);
        for bytes in [&b""[..], b"a", b"", b""] {
            world.send_to(&peer, bytes, &address).await;
        }
        mail.received(4).await;
        assert_eq!(mail.texts(), [&b""[..], b"a", b"", b""]);
        for bytes in [&b""[..], b"a", b"", b""] {
            assert_eq!(world.receive_datagram(&peer).await, bytes);
        }
        assert!(transport.is_reading(), "it is no end");
        transport.close();
    });
}

fn the_largest_datagrams_are_delivered_whole(world: World) {
    world.run(async |world| {
        for (family, size) in [(Family::INET, 65_507), (Family::UNIX, 200_000)] {
            let mail = Mail::default();
            let protocol = Correspondent::new(&mail);
            let (transport, address) = if family == Family::UNIX {
                world.unix_endpoint(protocol).await
            } else {
                world.endpoint(protocol).await
            };
            let (peer, _) = world.datagram_socket(family);
            world.send_to(&peer, &pattern(size), &address).await;
            world.send_to(&peer, b"next", &address).await;
            mail.received(2).await;
            assert!(mail.texts() == [pattern(size), b"next".to_vec()]);
            transport.close();
        }
    });
}

fn a_unix_sender_without_a_name_has_no_address(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, address) = world.unix_endpoint(Correspondent::new(&mail)).await;
        let nameless = Mail::default();
        let protocol = Correspondent::new(&nameless);
        let sender = world.unix_endpoint_to(&address, protocol).await;
        assert_eq!(sender.peer_address(), Some(address));
        sender.send_to(b"guess who", None).unwrap();
        mail.received(1).await;
        assert_eq!(
            (mail.texts(), mail.sender()),
            (vec![b"guess who".to_vec()], None)
        );
        sender.close();
        transport.close();
    });
}

fn an_endpoint_with_a_peer_hears_it_alone(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (friend, name) = world.datagram_socket(Family::INET);
        let (stranger, _) = world.datagram_socket(Family::INET);
        let port = name.port().unwrap();
        let transport = world.endpoint_to(port, Correspondent::new(&mail)).await;
        let address = transport.local_address().unwrap();
        world.send_to(&stranger, b"spam", &address).await;
        world.send_to(&friend, b"hello", &address).await;
        mail.received(1).await;
        world.event_loop.sleep(TRAVEL).await;
        assert_eq!(mail.texts(), [b"hello"]);
        transport.close();
    });
}

fn a_paused_endpoint_loses_nothing(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, address) = world.endpoint(Correspondent::new(&mail)).await;
        transport.pause_reading();
        transport.pause_reading();
        assert!(!transport.is_reading() && !transport.base().is_receiving());
        let (peer, _) = world.datagram_socket(Family::INET);
        for number in 0..BATCH {
            world.send_to(&peer, &[number], &address).await;
        }
        world.event_loop.sleep(TRAVEL).await;
        assert_eq!(mail.events(), ["made"]);
        transport.resume_reading();
        assert!(transport.is_reading() && transport.base().is_receiving());
        mail.received(usize::from(BATCH)).await;
        assert_eq!(mail.texts(), numbered(BATCH));
        transport.close();
        transport.resume_reading();
        assert!(!transport.is_reading());
    });
}

fn reading_can_be_paused_from_inside_datagram_received(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let act = |mail: &Mail, event| {
            if event == "letter" {
                assert!(mail.transport().is_reading(), "nothing comes while paused");
                mail.transport().pause_reading();
            }
        };
        let (transport, address) = world.endpoint(Correspondent::acting(&mail, act)).await;
        let (peer, _) = world.datagram_socket(Family::INET);
        // At once, so that they are received together where the network lets them be.
        for number in 0..BATCH {
            world.send_to(&peer, &[number], &address).await;
        }
        for count in 1..=usize::from(BATCH) {
            mail.received(count).await;
            assert!(!transport.base().is_receiving());
            world.turns(3).await;
            assert_eq!(mail.count("letter"), count);
            transport.resume_reading();
        }
        world.turns(3).await;
        assert_eq!(mail.texts(), numbered(BATCH));
        assert!(transport.is_reading() && transport.base().is_receiving());
        world.send_to(&peer, &[BATCH], &address).await;
        mail.received(usize::from(BATCH) + 1).await;
        transport.close();
    });
}

fn pausing_and_resuming_in_one_callback_changes_nothing(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let act = |mail: &Mail, event| {
            if event == "letter" {
                mail.transport().pause_reading();
                mail.transport().resume_reading();
            }
        };
        let (transport, address) = world.endpoint(Correspondent::acting(&mail, act)).await;
        let (peer, _) = world.datagram_socket(Family::INET);
        for number in 0..BATCH {
            world.send_to(&peer, &[number], &address).await;
        }
        mail.received(usize::from(BATCH)).await;
        assert_eq!(mail.texts(), numbered(BATCH));
        assert!(transport.base().is_receiving());
        transport.close();
    });
}

fn an_end_while_datagrams_are_held_back_drops_them(world: World) {
    world.run(async |world| {
        for abort in [false, true] {
            let mail = Mail::default();
            let act = |mail: &Mail, event| {
                if event == "letter" {
                    mail.transport().pause_reading();
                }
            };
            let (transport, address) = world.endpoint(Correspondent::acting(&mail, act)).await;
            let (peer, _) = world.datagram_socket(Family::INET);
            for number in 0..BATCH {
                world.send_to(&peer, &[number], &address).await;
            }
            mail.received(1).await;
            transport.resume_reading();
            if abort {
                transport.abort();
            } else {
                transport.close();
            }
            mail.until("lost").await;
            world.turns(3).await;
            assert_eq!(mail.events(), ["made", "letter", "lost"]);
        }
    });
}

fn closing_from_inside_datagram_received_is_the_end_of_it(world: World) {
    world.run(async |world| {
        for abort in [false, true] {
            let mail = Mail::default();
            let lost_inside = std::rc::Rc::new(Cell::new(false));
            let lost = std::rc::Rc::clone(&lost_inside);
            let act = move |mail: &Mail, event: &str| {
                if event == "letter" {
                    if abort {
                        mail.transport().abort();
                    } else {
                        mail.transport().close();
                    }
                    lost.set(mail.has("lost"));
                }
            };
            let (_, address) = world.endpoint(Correspondent::acting(&mail, act)).await;
            let (peer, _) = world.datagram_socket(Family::INET);
            for number in 0..BATCH {
                world.send_to(&peer, &[number], &address).await;
            }
            mail.until("lost").await;
            yield_now().await;
            assert_eq!(mail.events(), ["made", "letter", "lost"]);
            assert!(!lost_inside.get());
        }
    });
}
