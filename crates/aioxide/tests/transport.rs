//! The stream transport: its life from connection_made to connection_lost, and what it sends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use aioxide::{Buffered, BufferedProtocol, Protocol, Transport};
use common::world::{pattern, yield_now};
use common::{Log, Recorder, World};

on_every_network!(
    a_life_has_its_order,
    the_creator_wakes_after_connection_made,
    an_end_closes_unless_the_protocol_keeps_it_open,
    a_half_closed_connection_still_sends,
    close_sends_what_is_buffered,
    close_in_connection_made_receives_nothing,
    connection_lost_is_never_called_inside_close_or_abort,
    abort_ends_at_once,
    a_close_that_hangs_can_be_aborted,
    writes_after_close_are_dropped,
    writes_after_the_end_are_dropped_and_reported,
    the_end_follows_what_was_written,
    addresses_are_kept_after_the_end,
    a_protocol_is_exchanged,
    a_buffered_protocol_receives_into_its_own_memory,
    a_buffered_protocol_that_lends_nothing_is_closed,
    a_peer_that_resets_is_told;
    calm: writes_of_one_callback_leave_together,
    writes_of_one_iteration_leave_together,
    a_large_write_leaves_at_once,
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
        assert!(transport.is_reading() && transport.is_receiving() && !transport.is_closing());
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
                assert!(!log.transport().is_receiving(), "or it would spin");
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

fn close_sends_what_is_buffered(world: World) {
    world.run(async |world| {
        let count = if world.network().is_some() {
            60_000
        } else {
            8 << 20
        };
        let greet: Rc<dyn Fn(&Transport)> = Rc::new(move |transport| {
            transport.write(&pattern(count));
            transport.close();
            assert!(transport.is_closing());
        });
        let log = Log::default();
        let recorder = Recorder {
            greet: Some(greet),
            ..Recorder::new(&log)
        };
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        log.until("made").await;
        world.turns(3).await;
        assert!(!log.has("lost"), "output is left");
        assert!(world.read_all(&peer).await == pattern(count));
        log.until("lost").await;
        assert_eq!(log.error(), None);
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

fn abort_ends_at_once(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        log.until("made").await;
        let transport = log.transport();
        transport.write(&vec![0; 64 << 20]);
        assert!(transport.write_buffer_size() > 0);
        transport.abort();
        assert_eq!(transport.write_buffer_size(), 0);
        log.until("lost").await;
        assert_eq!(log.error(), None);
        drop(peer);
        server.close();
        server.wait_closed().await;
    });
}

fn a_close_that_hangs_can_be_aborted(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        log.until("made").await;
        let transport = log.transport();
        transport.write(&vec![0; 64 << 20]);
        transport.close();
        world.turns(3).await;
        assert!(!log.has("lost") && transport.is_sending());
        transport.abort();
        log.until("lost").await;
        drop(peer);
        server.close();
        server.wait_closed().await;
    });
}

fn writes_after_close_are_dropped(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(Recorder::default).await;
        let log = Log::default();
        let transport = world.connect(port, Recorder::new(&log)).await;
        transport.close();
        for _ in 0..10 {
            transport.write(b"dropped");
        }
        assert_eq!(transport.write_buffer_size(), 0);
        log.until("lost").await;
        transport.write(b"dropped");
        transport.writelines([b"a", b"b"]);
        transport.write_eof().unwrap();
        transport.pause_reading();
        transport.resume_reading();
        server.close();
        server.wait_closed().await;
    });
}

fn writes_after_the_end_are_dropped_and_reported(world: World) {
    world.run(async |world| {
        let at_server = Log::default();
        let recorder = Recorder::echo(&at_server);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let log = Log::default();
        let transport = world.connect(port, Recorder::new(&log)).await;
        transport.write(b"all");
        assert!(transport.can_write_eof());
        transport.write_eof().unwrap();
        transport.write_eof().unwrap();
        transport.write(b"more");
        log.until("lost").await;
        assert_eq!(*log.data(), b"all");
        assert_eq!(
            world.reports(),
            ["Bytes were written after the end: Cannot call write() after write_eof()"]
        );
        server.close();
        server.wait_closed().await;
    });
}

fn the_end_follows_what_was_written(world: World) {
    world.run(async |world| {
        let count = if world.network().is_some() {
            50_000
        } else {
            8 << 20
        };
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        log.until("made").await;
        let transport = log.transport();
        transport.write(&pattern(count));
        transport.write_eof().unwrap();
        assert!(world.read_all(&peer).await == pattern(count));
        world.event_loop.sock_sendall(&peer, b"back").await.unwrap();
        log.received(4).await;
        assert!(!log.has("lost"), "the other direction is open");
        transport.close();
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

fn a_protocol_is_exchanged(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(|| Recorder::echo(&Log::default())).await;
        let (first, second) = (Log::default(), Log::default());
        let transport = world.connect(port, Recorder::new(&first)).await;
        let other = aioxide::AnyProtocol::into_stream_protocol(Recorder::new(&second));
        transport.set_stream_protocol(other);
        transport.write(b"x");
        second.received(1).await;
        transport.close();
        second.until("lost").await;
        assert_eq!(first.events(), ["made"]);
        assert_eq!(second.events(), ["data", "lost"]);
        server.close();
        server.wait_closed().await;
    });
}

/// Receives into memory of its own, three bytes at a time.
struct Small {
    log: Log,
    memory: [u8; 3],
    received: Rc<RefCell<Vec<u8>>>,
}

impl BufferedProtocol for Small {
    fn get_buffer(&mut self, _size_hint: usize) -> &mut [u8] {
        &mut self.memory
    }

    fn buffer_updated(&mut self, count: usize) {
        assert!((1..=3).contains(&count));
        self.received.borrow_mut().extend(&self.memory[..count]);
    }

    fn eof_received(&mut self) -> bool {
        self.log.push("eof");
        false
    }

    fn connection_lost(&mut self, _error: Option<std::io::Error>) {
        self.log.push("lost");
    }
}

fn a_buffered_protocol_receives_into_its_own_memory(world: World) {
    world.run(async |world| {
        let (log, received) = (Log::default(), Rc::<RefCell<Vec<u8>>>::default());
        let (server_log, bytes) = (log.clone(), Rc::clone(&received));
        let factory = move || {
            Buffered(Small {
                log: server_log.clone(),
                memory: [0; 3],
                received: Rc::clone(&bytes),
            })
        };
        let (server, port) = world.serve(factory).await;
        let client = world.connect(port, Recorder::default()).await;
        client.write(&pattern(1000));
        client.close();
        log.until("lost").await;
        assert_eq!(*received.borrow(), pattern(1000));
        assert_eq!(log.events(), ["eof", "lost"]);
        server.close();
        server.wait_closed().await;
    });
}

struct Miser(Log);

impl BufferedProtocol for Miser {
    fn get_buffer(&mut self, _size_hint: usize) -> &mut [u8] {
        &mut []
    }

    fn buffer_updated(&mut self, _count: usize) {
        unreachable!("it lends nothing");
    }

    fn connection_lost(&mut self, error: Option<std::io::Error>) {
        assert!(error.is_some());
        self.0.push("lost");
    }
}

fn a_buffered_protocol_that_lends_nothing_is_closed(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let miser = log.clone();
        let (server, port) = world.serve(move || Buffered(Miser(miser.clone()))).await;
        let client = world.connect(port, Recorder::default()).await;
        client.write(b"x");
        log.until("lost").await;
        let reports = world.reports();
        assert!(
            reports.len() == 1 && reports[0].contains("empty buffer"),
            "{reports:?}"
        );
        server.close();
        server.wait_closed().await;
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

struct ManyWrites {
    transport: Option<Transport>,
    writes: usize,
}

impl Protocol for ManyWrites {
    fn connection_made(&mut self, transport: Transport) {
        self.transport = Some(transport);
    }

    fn data_received(&mut self, _data: &[u8]) {
        for _ in 0..self.writes {
            self.transport.as_ref().unwrap().write(b"0123456789");
        }
    }
}

fn writes_of_one_callback_leave_together(world: World) {
    world.run(async |world| {
        let factory = || ManyWrites {
            transport: None,
            writes: 10,
        };
        let (server, port) = world.serve(factory).await;
        let peer = world.peer(port).await;
        let before = world.sends();
        world.event_loop.sock_sendall(&peer, b"?").await.unwrap();
        world.read_exactly(&peer, 100).await;
        assert_eq!(world.sends() - before, 2, "the question, and ten writes");
        drop(peer);
        server.close();
        server.wait_closed().await;
    });
}

fn writes_of_one_iteration_leave_together(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        log.until("made").await;
        let before = world.sends();
        for _ in 0..100 {
            let transport = log.transport();
            world.event_loop.call_soon(move || transport.write(b"x"));
        }
        world.read_exactly(&peer, 100).await;
        assert_eq!(world.sends() - before, 1);
        drop(peer);
        server.close();
        server.wait_closed().await;
    });
}

fn a_large_write_leaves_at_once(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        log.until("made").await;
        let before = world.sends();
        log.transport().write(b"small");
        assert_eq!(world.sends(), before);
        log.transport().write(&[1; 20_000]);
        assert_eq!(world.sends(), before + 1, "with the small one before it");
        let received = world.read_exactly(&peer, 20_005).await;
        assert!(received.starts_with(b"small\x01"));
        drop(peer);
        server.close();
        server.wait_closed().await;
    });
}
