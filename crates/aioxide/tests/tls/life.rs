//! A connection from its handshake to its end, and the bytes in between.

use std::cell::RefCell;
use std::rc::Rc;

use aioxide::Transport;

use crate::common::world::pattern;
use crate::common::{Log, Recorder, World};
use crate::toy::{Mood, Secured, Toy};
use crate::{ToyServer, calling_back, connected, toy_client};

crate::on_every_network!(
    bytes_come_back_as_they_were,
    nothing_is_made_before_the_handshake_is_over,
    what_is_written_when_the_connection_is_made_arrives_first,
    many_small_writes_leave_together_and_in_order,
    a_protocol_that_lends_its_memory_is_filled,
    two_layers_are_one_connection,
    a_session_may_call_the_program,
    a_rekeying_session_keeps_the_order,
    the_transport_is_what_lies_below,
);

fn bytes_come_back_as_they_were(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::echo).await;
        let log = Log::default();
        let client = connected(&world, server.port, &Mood::default(), &log).await;
        let mut sent = 0;
        for size in [1, 2, 999, 1000, 1001, 5000, 30_000] {
            client.write(&pattern(size));
            sent += size;
            log.received(sent).await;
            assert!(log.data()[sent - size..] == pattern(size));
        }
        client.close();
        log.until("lost").await;
        server.log.until("lost").await;
        assert_eq!(log.events(), ["made", "data", "lost"]);
        assert_eq!(server.log.events(), ["made", "data", "eof", "lost"]);
        assert_eq!((log.error(), server.log.error()), (None, None));
        assert_eq!(server.outcome.take(), Some(Ok(())));
        server.end().await;
    });
}

fn nothing_is_made_before_the_handshake_is_over(world: World) {
    world.run(async |world| {
        for flights in 1..6 {
            let (log, at_server) = (Log::default(), Log::default());
            let (event_loop, recorder) = (world.event_loop.clone(), Recorder::new(&at_server));
            let factory = move || Secured::new(&event_loop, Toy::server(flights), recorder.clone());
            let (server, port) = world.serve(factory).await;
            let toy = Toy::client(flights);
            let calls = Rc::clone(&toy.calls);
            let client = Secured::new(&world.event_loop, toy, Recorder::new(&log));
            let below = world.connect(port, client).await;
            assert!(log.events().is_empty() && !below.is_closing());
            log.until("made").await;
            assert!(!log.transport().is(&below));
            at_server.until("made").await;
            log.transport().close();
            log.until("lost").await;
            at_server.until("lost").await;
            let calls = calls.borrow();
            let shaken = calls
                .iter()
                .take_while(|call| **call == "handshake")
                .count();
            assert!(shaken > 0 && calls[shaken..].iter().all(|call| *call != "handshake"));
            assert_eq!(calls.iter().filter(|call| **call == "close").count(), 1);
            server.close();
            server.wait_closed().await;
        }
    });
}

fn what_is_written_when_the_connection_is_made_arrives_first(world: World) {
    world.run(async |world| {
        let greet = |transport: &Transport| {
            transport.write(b"hello, ");
            transport.write(b"who ");
        };
        let server = ToyServer::new(&world, Mood::default(), |log| Recorder {
            greet: Some(Rc::new(greet)),
            ..Recorder::new(log)
        })
        .await;
        let log = Log::default();
        connected(&world, server.port, &Mood::default(), &log).await;
        server.log.until("made").await;
        server.log.transport().write(b"are you?");
        server.log.transport().close();
        log.until("lost").await;
        assert_eq!(*log.data(), b"hello, who are you?");
        assert_eq!(log.events(), ["made", "data", "eof", "lost"]);
        server.end().await;
    });
}

fn many_small_writes_leave_together_and_in_order(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
        let log = Log::default();
        let client = connected(&world, server.port, &Mood::default(), &log).await;
        let sends = world.sends();
        let bytes = pattern(600);
        for piece in bytes.chunks(3) {
            client.write(piece);
        }
        client.writelines(bytes.chunks(7));
        client.write(b"");
        server.log.received(1200).await;
        if !world.has_moods() {
            assert_eq!(world.sends() - sends, 1);
        }
        assert!(*server.log.data() == [bytes.clone(), bytes].concat());
        client.close();
        server.log.until("lost").await;
        server.end().await;
    });
}

/// Lends memory of an odd size.
struct Lender {
    memory: [u8; 7],
    log: Log,
    recorder: Recorder,
}

impl aioxide::BufferedProtocol for Lender {
    fn connection_made(&mut self, transport: Transport) {
        aioxide::Protocol::connection_made(&mut self.recorder, transport);
    }

    fn get_buffer(&mut self, _: usize) -> &mut [u8] {
        &mut self.memory
    }

    fn buffer_updated(&mut self, count: usize) {
        aioxide::Protocol::data_received(&mut self.recorder, &self.memory[..count]);
    }

    fn connection_lost(&mut self, error: Option<std::io::Error>) {
        aioxide::Protocol::connection_lost(&mut self.recorder, error);
        assert!(self.log.has("lost"));
    }
}

fn a_protocol_that_lends_its_memory_is_filled(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let (event_loop, at_server) = (world.event_loop.clone(), log.clone());
        let factory = move || {
            let lender = Lender {
                memory: [0; 7],
                log: at_server.clone(),
                recorder: Recorder::echo(&at_server),
            };
            Secured::new(&event_loop, Toy::server(2), aioxide::Buffered(lender))
        };
        let (server, port) = world.serve(factory).await;
        let at_client = Log::default();
        let client = connected(&world, port, &Mood::default(), &at_client).await;
        client.write(&pattern(5000));
        at_client.received(5000).await;
        assert!(*at_client.data() == pattern(5000));
        client.close();
        log.until("lost").await;
        server.close();
        server.wait_closed().await;
    });
}

fn two_layers_are_one_connection(world: World) {
    world.run(async |world| {
        let (log, at_server) = (Log::default(), Log::default());
        let (event_loop, recorder) = (world.event_loop.clone(), Recorder::echo(&at_server));
        let factory = move || {
            let inner = Secured::new(&event_loop, Toy::server(1), recorder.clone());
            Secured::new(&event_loop, Toy::server(2), inner)
        };
        let (server, port) = world.serve(factory).await;
        let inner = Secured::new(&world.event_loop, Toy::client(1), Recorder::new(&log));
        let outer = Secured::new(&world.event_loop, Toy::client(2), inner);
        world.connect(port, outer).await;
        log.until("made").await;
        let client = log.transport();
        client.write(&pattern(20_000));
        log.received(20_000).await;
        assert!(*log.data() == pattern(20_000));
        client.close();
        log.until("lost").await;
        at_server.until("lost").await;
        assert_eq!(log.events(), ["made", "data", "lost"]);
        assert_eq!(at_server.events(), ["made", "data", "eof", "lost"]);
        server.close();
        server.wait_closed().await;
    });
}

fn a_session_may_call_the_program(world: World) {
    world.run(async |world| {
        let transport = Rc::<RefCell<Option<Transport>>>::default();
        let inside = Rc::clone(&transport);
        let mood = calling_back(move || {
            // What it asks for meanwhile waits until the session has returned.
            if let Some(transport) = &*inside.borrow() {
                transport.write(b".");
                let _ = transport.write_buffer_size();
                transport.pause_reading();
                transport.resume_reading();
                transport.set_write_buffer_limits(None, None).unwrap();
            }
        });
        let server = ToyServer::new(&world, Mood::default(), Recorder::echo).await;
        let log = Log::default();
        let client = connected(&world, server.port, &mood, &log).await;
        transport.replace(Some(client.clone()));
        client.write(b"abc");
        log.when(|log| log.data().starts_with(b"abc") || log.data().ends_with(b"abc"))
            .await;
        transport.take();
        client.close();
        server.log.until("lost").await;
        log.until("lost").await;
        let letters = |log: &Log| -> Vec<u8> {
            let data = log.data();
            data.iter().copied().filter(|byte| *byte != b'.').collect()
        };
        assert_eq!(letters(&server.log), b"abc");
        server.end().await;
    });
}

fn a_rekeying_session_keeps_the_order(world: World) {
    world.run(async |world| {
        let mood = Mood {
            rekeys_after: Some(1500),
            ..Mood::default()
        };
        let server = ToyServer::new(&world, mood.clone(), Recorder::echo).await;
        let log = Log::default();
        let client = connected(&world, server.port, &mood, &log).await;
        let bytes = pattern(25_000);
        for piece in bytes.chunks(999) {
            client.write(piece);
        }
        log.received(bytes.len()).await;
        assert!(*log.data() == bytes);
        client.write(&bytes);
        client.close();
        server.log.until("lost").await;
        log.until("lost").await;
        assert!(*server.log.data() == [bytes.clone(), bytes].concat());
        server.end().await;
    });
}

fn the_transport_is_what_lies_below(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
        let log = Log::default();
        let secured = toy_client(&world, &Mood::default(), Recorder::new(&log));
        let below = world.connect(server.port, secured).await;
        log.until("made").await;
        let client = log.transport();
        assert_eq!(client.fd(), below.fd());
        assert_eq!(client.peer_address(), below.peer_address());
        assert_eq!(client.local_address(), below.local_address());
        assert!(!client.can_write_eof());
        let error = client.write_eof().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
        let marks = client.water_marks();
        assert_eq!((marks.low(), marks.high()), (128 * 1024, 512 * 1024));
        assert!(client.layer().is_some() && below.layer().is_none());
        client.abort();
        log.until("lost").await;
        assert!(client.is_lost() && client.fd().is_none());
        server.log.until("lost").await;
        server.end().await;
    });
}
