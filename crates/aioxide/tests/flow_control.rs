//! Flow control: when a writer is told to pause, and when a reader holds its peer back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io;

use aioxide::{Server, Transport, WaterMarks};
use common::world::{pattern, yield_now};
use common::{Log, Recorder, World};

on_every_network!(
    marks_have_asyncios_defaults,
    a_full_buffer_pauses_and_a_drained_one_resumes,
    a_high_mark_of_zero_pauses_whenever_something_is_buffered,
    a_lower_mark_pauses_at_once,
    a_low_mark_of_zero_resumes_when_all_is_sent,
    what_is_queued_does_not_change_with_the_callers_buffer,
    a_paused_reader_receives_nothing,
    a_paused_reader_hears_the_end_when_it_resumes,
    reading_can_be_paused_from_inside_data_received,
    pausing_twice_is_pausing_once,
);

/// More than any network here takes at once.
const MUCH: usize = 64 << 20;

/// A server with one client, which reads by hand: its transport's log, and the socket.
async fn with_peer(world: &World) -> (Server, Log, aioxide::Socket) {
    let log = Log::default();
    let recorder = Recorder::new(&log);
    let (server, port) = world.serve(move || recorder.clone()).await;
    let peer = world.peer(port).await;
    log.until("made").await;
    (server, log, peer)
}

async fn end(server: Server) {
    server.close();
    server.abort_clients();
    server.wait_closed().await;
}

fn marks(transport: &Transport) -> (usize, usize) {
    let marks = transport.water_marks();
    (marks.low(), marks.high())
}

fn marks_have_asyncios_defaults(world: World) {
    world.run(async |world| {
        let (server, log, _peer) = with_peer(&world).await;
        let transport = log.transport();
        assert_eq!(marks(&transport), (16 * 1024, 64 * 1024));
        transport.set_write_buffer_limits(Some(1000), None).unwrap();
        assert_eq!(marks(&transport), (250, 1000));
        transport.set_write_buffer_limits(None, Some(1000)).unwrap();
        assert_eq!(marks(&transport), (1000, 4000));
        let wrong = transport.set_write_buffer_limits(Some(1), Some(2));
        assert_eq!(wrong.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(marks(&transport), (1000, 4000), "unchanged");
        transport.set_water_marks(WaterMarks::default());
        assert_eq!(marks(&transport), (16 * 1024, 64 * 1024));
        end(server).await;
    });
}

/// Reads until the transport has nothing more to send.
async fn drain(world: &World, log: &Log, peer: &aioxide::Socket) -> usize {
    let mut count = 0;
    while log.transport().write_buffer_size() > 0 {
        count += world
            .event_loop
            .sock_recv(peer, 1 << 20)
            .await
            .unwrap()
            .len();
    }
    count
}

/// More than the network's own buffers hold, and not more than passes in a moment.
fn small_enough(world: &World) -> usize {
    if world.network().is_some() {
        40_000
    } else {
        16 << 20
    }
}

fn a_full_buffer_pauses_and_a_drained_one_resumes(world: World) {
    world.run(async |world| {
        let (server, log, peer) = with_peer(&world).await;
        let count = small_enough(&world).max(100_000);
        log.transport().write(&pattern(count));
        assert_eq!(log.events(), ["made", "pause"], "from inside the write");
        let buffered = log.transport().write_buffer_size();
        assert!(buffered > 64 << 10);
        let mut received = Vec::new();
        while !log.has("resume") {
            assert!(log.transport().base().is_sending());
            let bytes = world.event_loop.sock_recv(&peer, 8 << 10).await.unwrap();
            received.extend(bytes);
        }
        assert!(log.transport().write_buffer_size() <= 16 << 10);
        log.transport().close();
        received.extend(world.read_all(&peer).await);
        assert!(received == pattern(count));
        assert_eq!(log.events(), ["made", "pause", "resume", "lost"]);
        end(server).await;
    });
}

fn a_high_mark_of_zero_pauses_whenever_something_is_buffered(world: World) {
    world.run(async |world| {
        let (server, log, peer) = with_peer(&world).await;
        let transport = log.transport();
        transport.set_write_buffer_limits(Some(0), None).unwrap();
        assert_eq!(marks(&transport), (0, 0));
        transport.write(&pattern(small_enough(&world)));
        assert_eq!(log.count("pause"), 1);
        drain(&world, &log, &peer).await;
        log.until("resume").await;
        end(server).await;
    });
}

fn a_lower_mark_pauses_at_once(world: World) {
    world.run(async |world| {
        let (server, log, peer) = with_peer(&world).await;
        let transport = log.transport();
        transport
            .set_write_buffer_limits(Some(MUCH), Some(0))
            .unwrap();
        transport.write(&pattern(small_enough(&world)));
        assert!(transport.write_buffer_size() > 0 && !log.has("pause"));
        transport.set_write_buffer_limits(Some(0), None).unwrap();
        assert!(log.has("pause"));
        drain(&world, &log, &peer).await;
        log.until("resume").await;
        end(server).await;
    });
}

fn a_low_mark_of_zero_resumes_when_all_is_sent(world: World) {
    world.run(async |world| {
        let (server, log, peer) = with_peer(&world).await;
        let transport = log.transport();
        transport
            .set_write_buffer_limits(Some(10), Some(0))
            .unwrap();
        let count = small_enough(&world);
        transport.write(&pattern(count));
        assert!(log.has("pause"));
        while transport.write_buffer_size() > 0 {
            assert!(!log.has("resume"));
            world.event_loop.sock_recv(&peer, 10_000).await.unwrap();
        }
        log.until("resume").await;
        end(server).await;
    });
}

fn what_is_queued_does_not_change_with_the_callers_buffer(world: World) {
    world.run(async |world| {
        let (server, log, peer) = with_peer(&world).await;
        let count = small_enough(&world);
        let mut bytes = pattern(count);
        log.transport().write(&bytes);
        bytes.fill(b'!');
        log.transport().close();
        assert!(world.read_all(&peer).await == pattern(count));
        end(server).await;
    });
}

fn a_paused_reader_receives_nothing(world: World) {
    world.run(async |world| {
        let (server, log, peer) = with_peer(&world).await;
        let transport = log.transport();
        transport.pause_reading();
        assert!(!transport.is_reading() && !transport.base().is_receiving());
        world.event_loop.sock_sendall(&peer, b"held").await.unwrap();
        world.turns(5).await;
        assert_eq!(log.events(), ["made"]);
        transport.resume_reading();
        assert!(transport.is_reading() && transport.base().is_receiving());
        log.received(4).await;
        end(server).await;
    });
}

fn a_paused_reader_hears_the_end_when_it_resumes(world: World) {
    world.run(async |world| {
        let (server, log, peer) = with_peer(&world).await;
        log.transport().pause_reading();
        drop(peer);
        world.turns(5).await;
        assert_eq!(log.events(), ["made"]);
        log.transport().resume_reading();
        log.until("lost").await;
        assert_eq!(log.events(), ["made", "eof", "lost"]);
        end(server).await;
    });
}

/// Pauses itself at each piece.
struct Sipper {
    recorder: Recorder,
}

impl aioxide::Protocol for Sipper {
    fn connection_made(&mut self, transport: Transport) {
        self.recorder.connection_made(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        let transport = self.recorder.log.transport();
        assert!(transport.is_reading(), "nothing comes while paused");
        transport.pause_reading();
        self.recorder.data_received(data);
    }

    fn eof_received(&mut self) -> bool {
        self.recorder.eof_received()
    }

    fn connection_lost(&mut self, error: Option<io::Error>) {
        self.recorder.connection_lost(error);
    }
}

fn reading_can_be_paused_from_inside_data_received(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let factory = move || Sipper {
            recorder: recorder.clone(),
        };
        let (server, port) = world.serve(factory).await;
        let client = world.connect(port, Recorder::default()).await;
        client.write(&pattern(40_000));
        client.close();
        while !log.has("eof") {
            if let Some(reading) = log.has("made").then(|| log.transport()) {
                reading.resume_reading();
            }
            world
                .event_loop
                .sleep(std::time::Duration::from_micros(50))
                .await;
            yield_now().await;
        }
        log.until("lost").await;
        assert!(*log.data() == pattern(40_000));
        end(server).await;
    });
}

fn pausing_twice_is_pausing_once(world: World) {
    world.run(async |world| {
        let (server, log, peer) = with_peer(&world).await;
        let transport = log.transport();
        transport.resume_reading();
        transport.pause_reading();
        transport.pause_reading();
        transport.resume_reading();
        world.event_loop.sock_sendall(&peer, b"x").await.unwrap();
        log.received(1).await;
        transport.close();
        transport.pause_reading();
        transport.resume_reading();
        assert!(!transport.is_reading(), "closing");
        end(server).await;
    });
}
