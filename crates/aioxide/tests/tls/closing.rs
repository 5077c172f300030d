//! The ends that are as they should be.

use std::time::Duration;

use aioxide::TlsTimeouts;
use aioxide::tls::SHUTDOWN_TIMEOUT;

use crate::common::world::pattern;
use crate::common::{Log, Recorder, World};
use crate::toy::{CLOSE, DATA, Mood, Secured, frame};
use crate::{ToyServer, calling_back, connected, greeted, say, toy_client};

crate::on_every_network!(
    what_was_written_leaves_before_the_close,
    a_close_waits_for_the_peers,
    a_peers_close_ends_the_connection,
    data_after_our_close_ends_the_connection,
    data_on_its_way_when_we_close_is_dropped,
    an_abort_says_nothing,
    closing_a_paused_connection_ends_it,
    closing_twice_is_closing_once,
    a_session_that_cannot_close_ends_the_connection,
    closing_inside_any_callback_ends_the_connection,
    a_closed_loop_leaves_nothing,
);

fn what_was_written_leaves_before_the_close(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
        let log = Log::default();
        let client = connected(&world, server.port, &Mood::default(), &log).await;
        let count = if world.network().is_some() {
            30_000
        } else {
            8 << 20
        };
        client.write(&pattern(count));
        client.write(b"end");
        client.close();
        assert!(client.is_closing());
        client.write(b"too late");
        server.log.until("lost").await;
        log.until("lost").await;
        assert!(*server.log.data() == [pattern(count), b"end".to_vec()].concat());
        assert_eq!((log.error(), server.log.error()), (None, None));
        assert_eq!(log.count("lost"), 1);
        server.end().await;
    });
}

fn a_close_waits_for_the_peers(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
        let peer = greeted(&world, server.port).await;
        server.log.until("made").await;
        server.log.transport().write(b"bye");
        server.log.transport().close();
        let expected = [frame(DATA, b"bye"), frame(CLOSE, &[])].concat();
        assert_eq!(world.read_exactly(&peer, expected.len()).await, expected);
        world.turns(5).await;
        assert!(!server.log.has("lost"));
        say(&world, &peer, CLOSE, &[]).await;
        server.log.until("lost").await;
        assert_eq!(server.log.events(), ["made", "lost"]);
        assert_eq!(world.read_all(&peer).await, b"");
        server.end().await;
    });
}

fn a_peers_close_ends_the_connection(world: World) {
    world.run(async |world| {
        for keep_open in [false, true] {
            let server = ToyServer::new(&world, Mood::default(), |log| Recorder {
                keep_open,
                ..Recorder::new(log)
            })
            .await;
            let peer = greeted(&world, server.port).await;
            let wire = [frame(DATA, b"abc"), frame(CLOSE, &[])].concat();
            world.event_loop.sock_sendall(&peer, &wire).await.unwrap();
            assert_eq!(world.read_all(&peer).await, frame(CLOSE, &[]));
            server.log.until("lost").await;
            assert_eq!(server.log.events(), ["made", "data", "eof", "lost"]);
            assert_eq!(server.log.error(), None);
            server.end().await;
        }
    });
}

fn data_after_our_close_ends_the_connection(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
        let peer = greeted(&world, server.port).await;
        server.log.until("made").await;
        server.log.transport().close();
        world.read_exactly(&peer, 5).await;
        say(&world, &peer, DATA, b"I go on").await;
        server.log.until("lost").await;
        assert_eq!(server.log.events(), ["made", "lost"]);
        assert_eq!(server.log.error(), None);
        server.end().await;
    });
}

fn data_on_its_way_when_we_close_is_dropped(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
        let peer = greeted(&world, server.port).await;
        server.log.until("made").await;
        let transport = server.log.transport();
        transport.pause_reading();
        say(&world, &peer, DATA, b"unread").await;
        say(&world, &peer, CLOSE, &[]).await;
        world.turns(3).await;
        transport.close();
        server.log.until("lost").await;
        assert_eq!(server.log.events(), ["made", "lost"]);
        server.end().await;
    });
}

fn an_abort_says_nothing(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
        let peer = greeted(&world, server.port).await;
        server.log.until("made").await;
        server.log.transport().abort();
        assert!(server.log.transport().is_closing() && !server.log.has("lost"));
        server.log.until("lost").await;
        assert_eq!(server.log.events(), ["made", "lost"]);
        assert_eq!(server.log.error(), None);
        assert_eq!(world.read_all(&peer).await, b"");
        server.end().await;
    });
}

fn closing_a_paused_connection_ends_it(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
        let log = Log::default();
        let client = connected(&world, server.port, &Mood::default(), &log).await;
        server.log.until("made").await;
        for transport in [&client, &server.log.transport()] {
            transport.pause_reading();
        }
        client.write(b"abc");
        world.turns(3).await;
        client.close();
        server.log.transport().close();
        log.until("lost").await;
        server.log.until("lost").await;
        assert_eq!(log.events(), ["made", "lost"]);
        assert_eq!(server.log.events(), ["made", "lost"]);
        server.end().await;
    });
}

fn closing_twice_is_closing_once(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
        let log = Log::default();
        let client = connected(&world, server.port, &Mood::default(), &log).await;
        client.close();
        client.close();
        world.turns(1).await;
        client.close();
        client.abort();
        client.abort();
        client.close();
        log.until("lost").await;
        client.close();
        client.abort();
        client.resume_reading();
        client.pause_reading();
        server.log.until("lost").await;
        world.turns(5).await;
        assert_eq!((log.count("lost"), server.log.count("lost")), (1, 1));
        server.end().await;
    });
}

fn a_session_that_cannot_close_ends_the_connection(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
        let mood = Mood {
            cannot_close: true,
            ..Mood::default()
        };
        let log = Log::default();
        let client = connected(&world, server.port, &mood, &log).await;
        client.write(b"abc");
        client.close();
        log.until("lost").await;
        server.log.until("lost").await;
        assert_eq!(log.error().as_deref(), Some("the session cannot close"));
        if !world.has_moods() {
            assert_eq!(*server.log.data(), b"abc", "as far as there was room");
        }
        let reports = world.reports();
        assert_eq!(
            reports,
            ["Fatal error on SSL protocol: the session cannot close"]
        );
        server.end().await;
    });
}

/// Whatever the session is asked to do: the program closes the connection from inside of it.
fn closing_inside_any_callback_ends_the_connection(world: World) {
    world.run(async |world| {
        for (at, abort) in (0..12).flat_map(|at| [(at, false), (at, true)]) {
            let server = ToyServer::new(&world, Mood::default(), Recorder::echo).await;
            let log = Log::default();
            let (calls, inside) = (std::cell::Cell::new(0), log.clone());
            let mood = calling_back(move || {
                calls.set(calls.get() + 1);
                if calls.get() > at && inside.has("made") {
                    match abort {
                        true => inside.transport().abort(),
                        false => inside.transport().close(),
                    }
                }
            });
            let secured = toy_client(&world, &mood, Recorder::new(&log));
            world.connect(server.port, secured).await;
            log.until("made").await;
            for _ in 0..12 {
                log.transport().write(b"abc");
                world.turns(1).await;
            }
            log.transport().close();
            log.until("lost").await;
            server.log.until("lost").await;
            assert_eq!(
                (log.count("lost"), server.log.count("lost")),
                (1, 1),
                "{at}"
            );
            server.end().await;
        }
    });
}

fn a_closed_loop_leaves_nothing(world: World) {
    let held = world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
        let log = Log::default();
        let client = connected(&world, server.port, &Mood::default(), &log).await;
        client.write(&pattern(1 << 20));
        let never = Mood {
            never_done: true,
            ..Mood::default()
        };
        let unfinished = toy_client(&world, &never, Recorder::new(&log));
        let unfinished = world.connect(server.port, unfinished).await;
        (server, client, unfinished, log)
    });
    let (server, client, unfinished, log) = held;
    assert!(!log.has("lost"));
    client.write(b"x");
    client.close();
    unfinished.close();
    server.server.close();
}

/// Virtual time: the others would sleep.
mod in_time {
    use super::*;

    #[test]
    fn a_peer_that_does_not_answer_a_close_has_its_time() {
        for seed in 0..3 {
            World::simulated(seed).run(async |world| {
                let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
                let peer = greeted(&world, server.port).await;
                server.log.until("made").await;
                let begun = world.event_loop.time();
                server.log.transport().close();
                server.log.until("lost").await;
                let took = world.event_loop.time() - begun;
                assert!(took >= SHUTDOWN_TIMEOUT && took < SHUTDOWN_TIMEOUT * 2);
                assert_eq!(
                    server.log.error().as_deref(),
                    Some("SSL shutdown timed out")
                );
                drop(peer);
                server.end().await;
            });
        }
    }

    #[test]
    fn a_slow_peer_that_goes_on_reading_is_waited_for() {
        for seed in 0..3 {
            World::simulated(seed).run(async |world| {
                let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
                let peer = greeted(&world, server.port).await;
                server.log.until("made").await;
                let count = 3 << 20;
                server.log.transport().write(&pattern(count));
                server.log.transport().close();
                let mut received = 0;
                loop {
                    let bytes = world.event_loop.sock_recv(&peer, 64 << 10).await.unwrap();
                    received += bytes.len();
                    if bytes.ends_with(&frame(CLOSE, &[])) || bytes.is_empty() {
                        break;
                    }
                    world.event_loop.sleep(SHUTDOWN_TIMEOUT / 2).await;
                }
                assert!(received > count);
                say(&world, &peer, CLOSE, &[]).await;
                server.log.until("lost").await;
                assert_eq!(server.log.error(), None);
                server.end().await;
            });
        }
    }

    #[test]
    fn a_peer_that_stops_reading_while_we_close_has_its_time() {
        World::simulated(0).run(async |world| {
            let timeouts = TlsTimeouts {
                shutdown: Duration::from_secs(7),
                ..TlsTimeouts::default()
            };
            let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
            let log = Log::default();
            let client = Secured {
                timeouts,
                ..toy_client(&world, &Mood::default(), Recorder::new(&log))
            };
            world.connect(server.port, client).await;
            log.until("made").await;
            server.log.until("made").await;
            server.log.transport().pause_reading();
            log.transport().write(&pattern(8 << 20));
            let begun = world.event_loop.time();
            log.transport().close();
            log.until("lost").await;
            let took = world.event_loop.time() - begun;
            assert!(
                took >= timeouts.shutdown && took < timeouts.shutdown * 3,
                "{took:?}"
            );
            assert_eq!(log.error().as_deref(), Some("SSL shutdown timed out"));
            server.log.transport().abort();
            server.end().await;
        });
    }
}

#[test]
fn timeouts_are_asyncios() {
    let timeouts = TlsTimeouts::default();
    assert_eq!(timeouts.handshake, Duration::from_secs(60));
    assert_eq!(timeouts.shutdown, Duration::from_secs(30));
}
