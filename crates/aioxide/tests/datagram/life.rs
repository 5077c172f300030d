//! From connection_made to connection_lost.

use std::io::ErrorKind;

use aioxide::{DatagramOptions, DatagramTransport, Family};

use crate::common::world::yield_now;
use crate::common::{Correspondent, Mail, World};

crate::on_every_network!(
    a_life_has_its_order,
    the_creator_wakes_after_connection_made,
    close_in_connection_made_receives_nothing,
    connection_lost_is_never_called_inside_close_or_abort,
    addresses_are_kept_after_the_end,
    a_protocol_is_exchanged,
    a_closed_transport_takes_no_protocol,
    an_endpoint_needs_an_address_or_a_family,
    an_endpoint_of_a_family_can_send,
    two_endpoints_are_not_bound_to_one_port,
    the_loop_owns_an_endpoint,
    an_endpoint_that_nobody_waits_for_is_closed,
);

fn a_life_has_its_order(world: World) {
    world.run(async |world| {
        let (at_server, at_client) = (Mail::default(), Mail::default());
        let (server, address) = world.endpoint(Correspondent::echo(&at_server)).await;
        let port = address.port().unwrap();
        let client = world
            .endpoint_to(port, Correspondent::new(&at_client))
            .await;
        client.send_to(b"ping", None).unwrap();
        at_client.received(1).await;
        assert_eq!(at_client.texts(), [b"ping"]);
        assert_eq!(at_client.sender(), Some(address));
        assert_eq!(at_server.sender(), client.local_address());
        client.close();
        at_client.until("lost").await;
        world.turns(3).await;
        server.close();
        at_server.until("lost").await;
        for mail in [at_server, at_client] {
            assert_eq!(mail.events(), ["made", "letter", "lost"]);
            assert_eq!(mail.lost_with(), None);
        }
        assert_eq!((world.open_sockets(), world.waiting()), (0, 0));
    });
}

fn the_creator_wakes_after_connection_made(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, _) = world.endpoint(Correspondent::new(&mail)).await;
        assert_eq!(mail.events(), ["made"]);
        assert!(transport.is(&mail.transport()) && !transport.is_closing());
        assert!(transport.is_reading() && transport.base().is_receiving());
        assert!(!transport.base().is_sending());
        transport.abort();
    });
}

fn close_in_connection_made_receives_nothing(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let act = |mail: &Mail, event| {
            if event == "made" {
                mail.transport().close();
            }
        };
        let (transport, _) = world.endpoint(Correspondent::acting(&mail, act)).await;
        assert!(transport.is_closing());
        mail.until("lost").await;
        assert_eq!(mail.events(), ["made", "lost"]);
    });
}

fn connection_lost_is_never_called_inside_close_or_abort(world: World) {
    world.run(async |world| {
        for end in [DatagramTransport::close, DatagramTransport::abort] {
            let mail = Mail::default();
            let (transport, _) = world.endpoint(Correspondent::new(&mail)).await;
            end(&transport);
            end(&transport);
            transport.abort();
            transport.close();
            assert!(!mail.has("lost") && !transport.is_lost());
            assert!(transport.is_closing() && !transport.is_reading());
            mail.until("lost").await;
            world.turns(3).await;
            assert_eq!(mail.events(), ["made", "lost"]);
            assert!(transport.is_lost() && transport.fd().is_none());
        }
    });
}

fn addresses_are_kept_after_the_end(world: World) {
    world.run(async |world| {
        let (server, address) = world.endpoint(Correspondent::default()).await;
        assert_eq!(server.peer_address(), None);
        let port = address.port().unwrap();
        let client = world.endpoint_to(port, Correspondent::default()).await;
        let local = client.local_address();
        assert!(local.as_ref().unwrap().port() > Some(0));
        for transport in [&server, &client] {
            transport.close();
        }
        world.turns(5).await;
        assert!(client.is_lost());
        assert_eq!(server.local_address(), Some(address.clone()));
        assert_eq!(client.local_address(), local);
        assert_eq!(client.peer_address(), Some(address));
    });
}

fn a_protocol_is_exchanged(world: World) {
    world.run(async |world| {
        let (first, second) = (Mail::default(), Mail::default());
        let (transport, address) = world.endpoint(Correspondent::new(&first)).await;
        let (peer, _) = world.datagram_socket(Family::INET);
        world.send_to(&peer, b"one", &address).await;
        first.received(1).await;
        transport.set_protocol(Correspondent::new(&second));
        world.send_to(&peer, b"two", &address).await;
        second.received(1).await;
        transport.close();
        second.until("lost").await;
        assert_eq!(first.events(), ["made", "letter"]);
        assert_eq!(second.events(), ["letter", "lost"]);
        assert_eq!(
            (first.texts(), second.texts()),
            (vec![b"one".to_vec()], vec![b"two".to_vec()])
        );
    });
}

fn a_closed_transport_takes_no_protocol(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, _) = world.endpoint(Correspondent::new(&mail)).await;
        transport.close();
        mail.until("lost").await;
        world.turns(2).await;
        transport.set_protocol(Correspondent::default());
        assert!(transport.message_protocol().is_none());
    });
}

fn an_endpoint_needs_an_address_or_a_family(world: World) {
    world.run(async |world| {
        let options = DatagramOptions::default();
        let made =
            world
                .event_loop
                .create_datagram_endpoint(Correspondent::default, None, None, &options);
        assert_eq!(made.await.unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

fn an_endpoint_of_a_family_can_send(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (server, address) = world.endpoint(Correspondent::echo(&Mail::default())).await;
        let options = DatagramOptions {
            family: Family::INET,
            allow_broadcast: true,
            ..DatagramOptions::default()
        };
        let protocol = Correspondent::new(&mail);
        let made = world
            .event_loop
            .create_datagram_endpoint(|| protocol, None, None, &options);
        let transport = made.await.unwrap();
        assert_eq!(transport.peer_address(), None);
        transport.send_to(b"hello", &address).unwrap();
        mail.received(1).await;
        assert_eq!(mail.sender(), Some(address));
        transport.close();
        server.close();
    });
}

fn two_endpoints_are_not_bound_to_one_port(world: World) {
    world.run(async |world| {
        let (transport, address) = world.endpoint(Correspondent::default()).await;
        let port = address.port().unwrap();
        let options = DatagramOptions::default();
        let made = world.event_loop.create_datagram_endpoint(
            Correspondent::default,
            Some(("127.0.0.1", port)),
            None,
            &options,
        );
        assert_eq!(made.await.unwrap_err().kind(), ErrorKind::AddrInUse);
        transport.close();
    });
}

fn the_loop_owns_an_endpoint(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let (transport, address) = world.endpoint(Correspondent::echo(&mail)).await;
        drop(transport);
        let (peer, _) = world.datagram_socket(Family::INET);
        world.send_to(&peer, b"still there?", &address).await;
        assert_eq!(world.receive_datagram(&peer).await, b"still there?");
        mail.transport().close();
    });
}

fn an_endpoint_that_nobody_waits_for_is_closed(world: World) {
    world.run(async |world| {
        let mail = Mail::default();
        let made = Box::pin(world.endpoint(Correspondent::new(&mail)));
        let not_made = world.event_loop.timeout(std::time::Duration::ZERO, made);
        assert!(not_made.await.is_err());
        while world.open_sockets() > 0 {
            yield_now().await;
        }
        assert!(!mail.has("made") || mail.has("lost"));
    });
}
