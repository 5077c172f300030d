//! Flow control, both ways, above and below the layer.

use std::cell::Cell;
use std::rc::Rc;

use aioxide::{Protocol, Transport};

use crate::common::world::{pattern, yield_now};
use crate::common::{Log, Recorder, World};
use crate::toy::{CLOSE, DATA, Mood, Secured, Toy, frame};
use crate::{FLIGHTS, ToyServer, connected, greeted, say, toy_client};

crate::on_every_network!(
    a_writer_is_paused_and_resumed,
    a_paused_reader_gets_nothing_and_loses_nothing,
    reading_is_paused_between_two_pieces,
    a_paused_reader_hears_of_the_end_when_it_resumes,
    a_connection_that_is_paused_before_it_stands_receives_nothing,
    a_session_that_waits_holds_its_writer_back,
);

/// Writes more than any network takes, to a peer that does not read yet.
fn a_writer_is_paused_and_resumed(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
        let peer = greeted(&world, server.port).await;
        server.log.until("made").await;
        let transport = server.log.transport();
        // One byte at a time, or by the megabyte.
        let piece = pattern(if world.network().is_some() {
            10_000
        } else {
            1 << 20
        });
        transport
            .set_write_buffer_limits(Some(piece.len()), None)
            .unwrap();
        let mut written = 0;
        while !server.log.has("pause") {
            transport.write(&piece);
            written += piece.len();
            yield_now().await;
        }
        assert!(transport.write_buffer_size() > piece.len());
        let mut received = 0;
        let frames = written.div_ceil(1000);
        while !server.log.has("resume") {
            let bytes = world.event_loop.sock_recv(&peer, 8 << 10).await.unwrap();
            received += bytes.len();
        }
        assert!(transport.write_buffer_size() <= piece.len() / 4);
        transport.close();
        // Every piece is a number of frames, and the last is the close.
        received += world.read_until(&peer, &frame(CLOSE, &[])).await.len();
        assert!(received >= written + frames * 5 + 5);
        say(&world, &peer, CLOSE, &[]).await;
        server.log.until("lost").await;
        assert_eq!(server.log.events(), ["made", "pause", "resume", "lost"]);
        server.end().await;
    });
}

fn a_paused_reader_gets_nothing_and_loses_nothing(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
        let peer = greeted(&world, server.port).await;
        server.log.until("made").await;
        let transport = server.log.transport();
        assert!(transport.is_reading());
        transport.pause_reading();
        assert!(!transport.is_reading() && !transport.base().is_receiving());
        say(&world, &peer, DATA, b"abc").await;
        world.turns(5).await;
        assert!(server.log.data().is_empty());
        transport.resume_reading();
        server.log.received(3).await;
        say(&world, &peer, DATA, b"def").await;
        server.log.received(6).await;
        assert_eq!(*server.log.data(), b"abcdef");
        transport.close();
        drop(peer);
        server.log.until("lost").await;
        server.end().await;
    });
}

/// Pauses at every piece, and resumes later.
struct Hesitant {
    log: Log,
    transport: Option<Transport>,
    memory: [u8; 5],
    paused: Rc<Cell<bool>>,
}

impl aioxide::BufferedProtocol for Hesitant {
    fn connection_made(&mut self, transport: Transport) {
        self.transport = Some(transport.clone());
        Recorder::new(&self.log).connection_made(transport);
    }

    fn get_buffer(&mut self, _: usize) -> &mut [u8] {
        &mut self.memory
    }

    fn buffer_updated(&mut self, count: usize) {
        assert!(!self.paused.replace(true), "it was paused");
        let transport = self.transport.clone().unwrap();
        transport.pause_reading();
        Recorder::new(&self.log).data_received(&self.memory[..count]);
        let paused = Rc::clone(&self.paused);
        let resume = move || {
            paused.set(false);
            transport.resume_reading();
        };
        let event_loop = self.transport.as_ref().unwrap().event_loop();
        event_loop.call_soon(resume);
    }

    fn eof_received(&mut self) -> bool {
        assert!(!self.paused.get(), "it was paused");
        self.log.push("eof");
        false
    }

    fn connection_lost(&mut self, error: Option<std::io::Error>) {
        Recorder::new(&self.log).connection_lost(error);
    }
}

fn reading_is_paused_between_two_pieces(world: World) {
    world.run(async |world| {
        for cut_off in [false, true] {
            let log = Log::default();
            let (event_loop, at_server) = (world.event_loop.clone(), log.clone());
            let factory = move || {
                let hesitant = Hesitant {
                    log: at_server.clone(),
                    transport: None,
                    memory: [0; 5],
                    paused: Rc::default(),
                };
                Secured::new(
                    &event_loop,
                    Toy::server(FLIGHTS),
                    aioxide::Buffered(hesitant),
                )
            };
            let (server, port) = world.serve(factory).await;
            let peer = greeted(&world, port).await;
            let bytes = pattern(503);
            let mut wire: Vec<u8> = bytes
                .chunks(17)
                .flat_map(|piece| frame(DATA, piece))
                .collect();
            if !cut_off {
                wire.extend(frame(crate::toy::CLOSE, &[]));
            }
            world.event_loop.sock_sendall(&peer, &wire).await.unwrap();
            drop(peer);
            log.until("lost").await;
            assert!(*log.data() == bytes);
            assert_eq!(log.events(), ["made", "data", "eof", "lost"]);
            assert_eq!(log.error(), cut_off.then(|| "cut off".to_owned()));
            server.close();
            server.wait_closed().await;
        }
    });
}

fn a_paused_reader_hears_of_the_end_when_it_resumes(world: World) {
    world.run(async |world| {
        for said in [true, false] {
            let server = ToyServer::new(&world, Mood::default(), Recorder::new).await;
            let peer = greeted(&world, server.port).await;
            server.log.until("made").await;
            let transport = server.log.transport();
            transport.pause_reading();
            say(&world, &peer, DATA, b"abc").await;
            if said {
                say(&world, &peer, crate::toy::CLOSE, &[]).await;
            }
            drop(peer);
            world.turns(5).await;
            assert_eq!(server.log.events(), ["made"]);
            transport.resume_reading();
            server.log.until("lost").await;
            assert_eq!(server.log.events(), ["made", "data", "eof", "lost"]);
            assert_eq!(server.log.error().is_some(), !said);
            server.end().await;
        }
    });
}

fn a_connection_that_is_paused_before_it_stands_receives_nothing(world: World) {
    world.run(async |world| {
        let server = ToyServer::new(&world, Mood::default(), |log| Recorder {
            greet: Some(Rc::new(Transport::pause_reading)),
            ..Recorder::new(log)
        })
        .await;
        let log = Log::default();
        let client = connected(&world, server.port, &Mood::default(), &log).await;
        client.write(b"abc");
        server.log.until("made").await;
        world.turns(5).await;
        assert!(server.log.data().is_empty());
        server.log.transport().resume_reading();
        server.log.received(3).await;
        client.close();
        server.log.until("lost").await;
        server.end().await;
    });
}

/// The session writes nothing until it was answered, and the peer does not answer.
fn a_session_that_waits_holds_its_writer_back(world: World) {
    world.run(async |world| {
        let mood = Mood {
            rekeys_after: Some(10),
            ..Mood::default()
        };
        let server = ToyServer::new(&world, Mood::default(), Recorder::echo).await;
        let log = Log::default();
        let secured = toy_client(&world, &mood, Recorder::new(&log));
        world.connect(server.port, secured).await;
        log.until("made").await;
        server.log.until("made").await;
        server.log.transport().pause_reading();
        let client = log.transport();
        client.set_write_buffer_limits(Some(100), None).unwrap();
        client.write(&pattern(10));
        assert_eq!(client.write_buffer_size(), 0);
        client.write(&pattern(90));
        assert!(!log.has("pause"));
        assert_eq!(client.write_buffer_size(), 90);
        client.write(&pattern(20));
        log.until("pause").await;
        world.turns(3).await;
        assert_eq!(client.write_buffer_size(), 110);
        server.log.transport().resume_reading();
        log.until("resume").await;
        log.received(120).await;
        client.close();
        server.log.until("lost").await;
        server.end().await;
    });
}
