//! What is sent: when, in how many pieces, and what becomes of it at the end.

use std::rc::Rc;

use aioxide::transports::Output;
use aioxide::{Protocol, Transport};

use crate::common::world::pattern;
use crate::common::{Log, Recorder, World};

crate::on_every_network!(
    close_sends_what_is_buffered,
    abort_ends_at_once,
    a_close_that_hangs_can_be_aborted,
    writes_after_close_are_dropped,
    writes_after_the_end_are_dropped_and_reported,
    the_end_follows_what_was_written;
    calm: writes_of_one_callback_leave_together,
    writes_of_one_iteration_leave_together,
    a_large_write_leaves_at_once,
    kept_pieces_of_one_iteration_leave_together,
    what_follows_a_large_write_waits_for_the_end_of_the_iteration,
    a_turn_that_is_too_large_leaves_before_its_end,
    with_a_low_mark_nothing_more_than_it_waits,
);

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
        assert!(!log.has("lost") && transport.base().is_sending());
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

/// Writes bytes that the queue may keep.
fn write_kept(transport: &Transport, bytes: &[u8]) {
    let keep = || bytes.to_vec();
    let keep = Some(&keep as &dyn Fn() -> Vec<u8>);
    transport.try_write(Output { bytes, keep }).unwrap();
}

fn kept_pieces_of_one_iteration_leave_together(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        log.until("made").await;
        let before = world.sends();
        let all = pattern(100_000);
        for piece in all.chunks(10_000) {
            write_kept(&log.transport(), piece);
        }
        assert_eq!(world.sends(), before);
        assert!(world.read_exactly(&peer, all.len()).await == all);
        if world.network().is_none() {
            assert_eq!(world.sends() - before, 1);
        }
        drop(peer);
        server.close();
        server.wait_closed().await;
    });
}

fn what_follows_a_large_write_waits_for_the_end_of_the_iteration(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        log.until("made").await;
        // The same again: what a turn has learned of the one before changes no byte.
        for _ in 0..3 {
            let all = pattern(500_000);
            let before = world.sends();
            for piece in all.chunks(100_000) {
                write_kept(&log.transport(), piece);
            }
            if world.network().is_none() {
                assert!(world.sends() - before <= 1);
            }
            assert!(world.read_exactly(&peer, all.len()).await == all);
        }
        drop(peer);
        server.close();
        server.wait_closed().await;
    });
}

fn a_turn_that_is_too_large_leaves_before_its_end(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        log.until("made").await;
        let before = world.sends();
        let piece = pattern(8_000);
        // A MiB waits, and no more: 131 pieces.
        for _ in 0..131 {
            write_kept(&log.transport(), &piece);
        }
        assert_eq!(world.sends(), before);
        write_kept(&log.transport(), &piece);
        assert!(world.sends() > before);
        assert!(world.read_exactly(&peer, 132 * 8_000).await == piece.repeat(132));
        drop(peer);
        server.close();
        server.wait_closed().await;
    });
}

fn with_a_low_mark_nothing_more_than_it_waits(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        log.until("made").await;
        let transport = log.transport();
        transport
            .set_write_buffer_limits(Some(10_000), None)
            .unwrap();
        let before = world.sends();
        write_kept(&transport, &[1; 8_000]);
        assert_eq!(world.sends(), before);
        write_kept(&transport, &[1; 8_000]);
        assert!(world.sends() > before);
        world.read_exactly(&peer, 16_000).await;
        drop(peer);
        server.close();
        server.wait_closed().await;
    });
}
