//! From connection_made to connection_lost.

use std::rc::Rc;

use aioxide::Transport;

use crate::common::world::yield_now;
use crate::common::{Log, Recorder, World};

crate::on_every_network!(
    a_life_has_its_order,
    the_creator_wakes_after_connection_made,
    an_end_closes_unless_the_protocol_keeps_it_open,
    a_half_closed_connection_still_sends,
    close_in_connection_made_receives_nothing,
    connection_lost_is_never_called_inside_close_or_abort,
    addresses_are_kept_after_the_end,
    a_peer_that_resets_is_told,
);

fn a_life_has_its_order(world: World) {
    world.run(async |world| {
        let (at_server, at_client) = (Log::default(), Log::default());
        let log = at_server.clone();
        let (server, port) = world.serve(move || Recorder::echo(&log)).await;
        let client = world.connect(port, Recorder::new(&at_client)).await;
        assert_eq!(at_client.events(), ["made"]);
        client.write(b"ping");
        at_client.received(4).await;
        client.close();
        at_client.until("lost").await;
        at_server.until("lost").await;
        assert_eq!(at_client.events(), ["made", "data", "lost"]);
        assert_eq!(at_server.events(), ["made", "data", "eof", "lost"]);
        assert_eq!((at_client.error(), at_server.error()), (None, None));
        server.close();
        server.wait_closed().await;
        assert_eq!((world.open_sockets(), world.waiting()), (0, 0));
    });
}

fn the_creator_wakes_after_connection_made(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(Recorder::default).await;
        let log = Log::default();
        let transport = world.connect(port, Recorder::new(&log)).await;
        assert_eq!(log.events(), ["made"]);
        assert!(
            transport.is_reading() && transport.base().is_receiving() && !transport.is_closing()
        );
        assert!(transport.is(&log.transport()));
        transport.abort();
        server.close();
        server.wait_closed().await;
    });
}

fn an_end_closes_unless_the_protocol_keeps_it_open(world: World) {
    world.run(async |world| {
        for keep_open in [false, true] {
            let log = Log::default();
            let recorder = Recorder {
                keep_open,
                ..Recorder::new(&log)
            };
            let (server, port) = world.serve(move || recorder.clone()).await;
            let peer = world.peer(port).await;
            world
                .event_loop
                .reactor()
                .shutdown_write(peer.fd())
                .unwrap();
            log.until("eof").await;
            assert_eq!(log.transport().is_closing(), !keep_open);
            if keep_open {
                world.turns(3).await;
                assert!(!log.has("lost"));
                assert!(!log.transport().base().is_receiving(), "or it would spin");
                log.transport().close();
            }
            log.until("lost").await;
            assert_eq!(world.read_all(&peer).await, b"");
            server.close();
            server.wait_closed().await;
        }
    });
}

fn a_half_closed_connection_still_sends(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder {
            keep_open: true,
            ..Recorder::new(&log)
        };
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        world.event_loop.sock_sendall(&peer, b"ask").await.unwrap();
        world
            .event_loop
            .reactor()
            .shutdown_write(peer.fd())
            .unwrap();
        log.until("eof").await;
        assert_eq!(*log.data(), b"ask");
        for _ in 0..3 {
            log.transport().write(b"answer");
            yield_now().await;
        }
        log.transport().close();
        assert_eq!(world.read_all(&peer).await, b"answeransweranswer");
        server.close();
        server.wait_closed().await;
    });
}

fn close_in_connection_made_receives_nothing(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder {
            greet: Some(Rc::new(Transport::close)),
            ..Recorder::new(&log)
        };
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        let _ = world.event_loop.sock_sendall(&peer, b"x").await;
        log.until("lost").await;
        assert_eq!(log.events(), ["made", "lost"]);
        server.close();
        server.wait_closed().await;
    });
}

fn connection_lost_is_never_called_inside_close_or_abort(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(Recorder::default).await;
        for end in [Transport::close, Transport::abort] {
            let log = Log::default();
            let transport = world.connect(port, Recorder::new(&log)).await;
            end(&transport);
            end(&transport);
            transport.abort();
            transport.close();
            assert!(!log.has("lost") && !transport.is_lost());
            log.until("lost").await;
            world.turns(3).await;
            assert_eq!(log.events(), ["made", "lost"]);
            assert!(transport.is_lost() && transport.fd().is_none());
        }
        server.close();
        server.wait_closed().await;
    });
}

fn addresses_are_kept_after_the_end(world: World) {
    world.run(async |world| {
        let at_server = Log::default();
        let recorder = Recorder::new(&at_server);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let transport = world.connect(port, Recorder::default()).await;
        let (local, peer) = (transport.local_address(), transport.peer_address());
        assert_eq!(peer.as_ref().unwrap().port(), Some(port));
        at_server.until("made").await;
        assert_eq!(at_server.transport().peer_address(), local);
        assert_eq!(at_server.transport().local_address(), peer);
        transport.close();
        server.close();
        server.wait_closed().await;
        assert_eq!(
            (transport.local_address(), transport.peer_address()),
            (local, peer)
        );
    });
}

fn a_peer_that_resets_is_told(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        log.until("made").await;
        log.transport().write(b"unread");
        // Closing with unread bytes is a reset.
        while world
            .event_loop
            .sock_recv(&peer, 1)
            .await
            .unwrap()
            .is_empty()
        {}
        drop(peer);
        log.until("lost").await;
        assert_eq!(log.errno(), Some(libc::ECONNRESET));
        assert_eq!(log.count("lost"), 1);
        server.close();
        server.wait_closed().await;
    });
}
