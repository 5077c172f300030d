//! Handshakes that fail, connections that break.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use aioxide::TlsTimeouts;
use aioxide::tls::HANDSHAKE_TIMEOUT;

use crate::common::world::pattern;
use crate::common::{Log, Recorder, World};
use crate::toy::{DATA, HELLO, Mood, Secured, frame};
use crate::{ToyServer, calling_back, connected, greeted, say, toy_client};

crate::on_every_network!(
    a_failed_handshake_is_told_with_its_reason,
    a_failed_handshake_tells_the_peer_why,
    a_peer_that_leaves_in_the_handshake_is_told,
    closing_in_the_handshake_ends_it,
    a_program_may_close_inside_a_handshake,
    garbage_in_the_place_of_a_handshake_is_refused,
    what_came_before_a_failure_is_delivered,
    an_end_without_a_close_is_told,
    a_truncation_may_be_forgiven,
    what_a_session_waits_for_does_not_come_after_the_end,
    a_panic_costs_the_connection,
    a_peer_that_resets_is_told,
);

fn a_failed_handshake_is_told_with_its_reason(world: World) {
    world.run(async |world| {
        for at in [1, 2] {
            let mood = Mood {
                fails_at_flight: Some(at),
                ..Mood::default()
            };
            let server = ToyServer::new(&world, mood, Recorder::new).await;
            let log = Log::default();
            let client = toy_client(&world, &Mood::default(), Recorder::new(&log));
            let outcome = client.outcome.clone();
            let below = world.connect(server.port, client).await;
            while !below.is_lost() {
                world.turns(1).await;
            }
            while server.server.client_count() > 0 {
                world.turns(1).await;
            }
            assert_eq!(server.outcome.take(), Some(Err("a bad flight".to_owned())));
            assert!(outcome.take().is_some_and(|outcome| outcome.is_err()));
            assert!(log.events().is_empty() && server.log.events().is_empty());
            server.end().await;
        }
    });
}

fn a_failed_handshake_tells_the_peer_why(world: World) {
    world.run(async |world| {
        let mood = Mood {
            fails_at_flight: Some(1),
            ..Mood::default()
        };
        let server = ToyServer::new(&world, mood, Recorder::new).await;
        let peer = world.peer(server.port).await;
        say(&world, &peer, HELLO, &[0; 300]).await;
        let why = frame(crate::toy::CLOSE, b"why");
        let told = world.read_all(&peer).await;
        // As far as there was room.
        assert!(told == why || world.has_moods() && why.starts_with(&told));
        server.end().await;
    });
}

fn a_peer_that_leaves_in_the_handshake_is_told(world: World) {
    world.run(async |world| {
        for said in [0, 7, 305] {
            let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
            let peer = world.peer(server.port).await;
            let hello = frame(HELLO, &[0; 300]);
            world
                .event_loop
                .sock_sendall(&peer, &hello[..said])
                .await
                .unwrap();
            world
                .event_loop
                .reactor()
                .shutdown_write(peer.fd())
                .unwrap();
            world.read_all(&peer).await;
            let outcome = server.outcome.take().unwrap();
            assert!(outcome.is_err_and(|error| error.contains("reset")));
            assert!(server.log.events().is_empty());
            server.end().await;
        }
    });
}

fn closing_in_the_handshake_ends_it(world: World) {
    world.run(async |world| {
        let never = Mood {
            never_done: true,
            ..Mood::default()
        };
        for abort in [false, true] {
            let server = ToyServer::new(&world, never.clone(), Recorder::new).await;
            let peer = world.peer(server.port).await;
            while server.server.client_count() == 0 {
                world.turns(1).await;
            }
            world.turns(2).await;
            match abort {
                true => server.server.abort_clients(),
                false => server.server.close_clients(),
            }
            assert_eq!(world.read_all(&peer).await, b"");
            assert!(server.outcome.take().unwrap().is_err());
            server.end().await;
        }
    });
}

/// The session calls the program in its handshake, and that gives the connection up.
fn a_program_may_close_inside_a_handshake(world: World) {
    world.run(async |world| {
        for at in 0..4 {
            let server = Rc::<RefCell<Option<aioxide::Server>>>::default();
            let (inside, calls) = (Rc::clone(&server), Cell::new(0));
            let mood = calling_back(move || {
                calls.set(calls.get() + 1);
                if let Some(server) = &*inside.borrow()
                    && calls.get() > at
                {
                    server.close_clients();
                }
            });
            let served = ToyServer::new(&world, mood, Recorder::new).await;
            server.replace(Some(served.server.clone()));
            let log = Log::default();
            let client = toy_client(&world, &Mood::default(), Recorder::new(&log));
            let below = world.connect(served.port, client).await;
            while !below.is_lost() {
                world.turns(1).await;
            }
            served.server.close();
            served.server.wait_closed().await;
            assert!(served.log.count("made") == served.log.count("lost"));
            server.take();
            served.end().await;
        }
    });
}

fn garbage_in_the_place_of_a_handshake_is_refused(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
        let peer = world.peer(server.port).await;
        say(&world, &peer, DATA, b"GET / HTTP/1.1").await;
        world.read_all(&peer).await;
        assert_eq!(server.outcome.take(), Some(Err("no hello".to_owned())));
        server.end().await;
    });
}

fn what_came_before_a_failure_is_delivered(world: World) {
    world.run(async |world| {
        let mood = Mood {
            fails_after: Some(7000),
            ..Mood::default()
        };
        let server = ToyServer::new(&world, mood, Recorder::new).await;
        let log = Log::default();
        let client = connected(&world, server.port, &Mood::default(), &log).await;
        client.write(&pattern(9000));
        server.log.until("lost").await;
        log.until("lost").await;
        assert!(*server.log.data() == pattern(7000));
        assert_eq!(server.log.events(), ["made", "data", "lost"]);
        assert_eq!(server.log.error().as_deref(), Some("a bad record"));
        server.end().await;
    });
}

fn an_end_without_a_close_is_told(world: World) {
    world.run(async |world| {
        for keep_open in [false, true] {
            let server = ToyServer::new(&world, Mood::default(), |log| Recorder {
                keep_open,
                ..Recorder::new(log)
            })
            .await;
            let peer = greeted(&world, server.port).await;
            say(&world, &peer, DATA, b"abc").await;
            world
                .event_loop
                .reactor()
                .shutdown_write(peer.fd())
                .unwrap();
            server.log.until("lost").await;
            assert_eq!(server.log.events(), ["made", "data", "eof", "lost"]);
            assert_eq!(server.log.error().as_deref(), Some("cut off"));
            drop(peer);
            server.end().await;
        }
    });
}

/// A session that would have to receive something to go on writing waits no longer for it.
fn what_a_session_waits_for_does_not_come_after_the_end(world: World) {
    world.run(async |world| {
        let mood = Mood {
            rekeys_after: Some(10),
            ..Mood::default()
        };
        let server = ToyServer::new(&world, mood, Recorder::new).await;
        let peer = greeted(&world, server.port).await;
        server.log.until("made").await;
        for _ in 0..3 {
            server.log.transport().write(&pattern(100));
            world.turns(1).await;
        }
        assert!(server.log.transport().write_buffer_size() > 0);
        let begun = world.event_loop.time();
        world
            .event_loop
            .reactor()
            .shutdown_write(peer.fd())
            .unwrap();
        server.log.until("lost").await;
        let took = world.event_loop.time() - begun;
        assert!(took < aioxide::tls::SHUTDOWN_TIMEOUT / 2, "{took:?}");
        server.end().await;
    });
}

fn a_truncation_may_be_forgiven(world: World) {
    world.run(async |world| {
        let mood = Mood {
            forgives_truncation: true,
            ..Mood::default()
        };
        for cut in [0, 3, 6] {
            let server = ToyServer::new(&world, mood.clone(), Recorder::new).await;
            let peer = greeted(&world, server.port).await;
            say(&world, &peer, DATA, b"abc").await;
            let next = frame(DATA, b"def");
            world
                .event_loop
                .sock_sendall(&peer, &next[..cut])
                .await
                .unwrap();
            drop(peer);
            server.log.until("lost").await;
            assert_eq!(*server.log.data(), b"abc");
            assert_eq!(server.log.error().is_some(), cut > 0, "within a record");
            server.end().await;
        }
    });
}

fn a_panic_costs_the_connection(world: World) {
    world.run(async |world| {
        for at in ["made", "data", "eof", "lost"] {
            let server = ToyServer::new(&world, Mood::default(), |log| Recorder {
                panic_at: Some(at),
                ..Recorder::new(log)
            })
            .await;
            let log = Log::default();
            let client = toy_client(&world, &Mood::default(), Recorder::new(&log));
            let below = world.connect(server.port, client).await;
            if at != "made" {
                log.until("made").await;
                log.transport().write(b"abc");
                server.log.until("data").await;
                log.transport().close();
            }
            server.log.until("lost").await;
            while !below.is_lost() {
                world.turns(1).await;
            }
            let reports = world.reports();
            assert!(
                matches!(&reports[..], [report] if report.contains(&format!("at {at}"))),
                "{at}: {reports:?}"
            );
            server.end().await;
        }
    });
}

fn a_peer_that_resets_is_told(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
        let log = Log::default();
        let client = connected(&world, server.port, &Mood::default(), &log).await;
        server.log.until("made").await;
        // What nobody reads makes the end a reset.
        client.pause_reading();
        server.log.transport().write(b"unread");
        world.turns(5).await;
        client.abort();
        server.log.until("lost").await;
        assert_eq!(server.log.count("lost"), 1);
        server.end().await;
    });
}

/// Virtual time.
mod in_time {
    use super::*;

    #[test]
    fn a_handshake_has_its_time() {
        for seed in 0..3 {
            World::simulated(seed).run(async |world| {
                let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
                let begun = world.event_loop.time();
                let peer = world.peer(server.port).await;
                world.read_all(&peer).await;
                let took = world.event_loop.time() - begun;
                assert!(took >= HANDSHAKE_TIMEOUT && took < HANDSHAKE_TIMEOUT * 2);
                let outcome = server.outcome.take().unwrap().unwrap_err();
                assert!(outcome.contains("longer than 60.0 seconds"), "{outcome}");
                server.end().await;
            });
        }
    }

    /// A peer that sends a byte now and then gains no time.
    #[test]
    fn a_handshake_that_dawdles_has_no_more_time() {
        World::simulated(0).run(async |world| {
            let timeouts = TlsTimeouts {
                handshake: Duration::from_secs(5),
                ..TlsTimeouts::default()
            };
            let log = Log::default();
            let (event_loop, recorder) = (world.event_loop.clone(), Recorder::new(&log));
            let factory = move || Secured {
                timeouts,
                ..Secured::new(&event_loop, crate::toy::Toy::server(1), recorder.clone())
            };
            let (server, port) = world.serve(factory).await;
            let peer = Rc::new(world.peer(port).await);
            let begun = world.event_loop.time();
            let (event_loop, dawdler) = (world.event_loop.clone(), Rc::clone(&peer));
            let dawdling = world.event_loop.spawn(async move {
                for byte in frame(HELLO, &[0; 300]) {
                    if event_loop.sock_sendall(&dawdler, &[byte]).await.is_err() {
                        return;
                    }
                    event_loop.sleep(Duration::from_secs(1)).await;
                }
            });
            while server.client_count() > 0 || log.events().is_empty() {
                world.event_loop.sleep(Duration::from_millis(100)).await;
                if world.event_loop.time() - begun > timeouts.handshake {
                    break;
                }
            }
            world.turns(5).await;
            assert_eq!(server.client_count(), 0);
            assert!(log.events().is_empty());
            dawdling.cancel();
            server.close();
            server.wait_closed().await;
        });
    }
}
