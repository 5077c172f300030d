//! Protocols that are exchanged, and those with memory of their own.

use std::cell::RefCell;
use std::rc::Rc;

use aioxide::{Buffered, BufferedProtocol};

use crate::common::world::pattern;
use crate::common::{Log, Recorder, World};

crate::on_every_network!(
    a_protocol_is_exchanged,
    a_buffered_protocol_receives_into_its_own_memory,
    a_buffered_protocol_that_lends_nothing_is_closed,
);

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
