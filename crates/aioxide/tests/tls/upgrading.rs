//! TLS on a connection that stands: `Tls::upgrade`.

use std::rc::Rc;

use aioxide::tls::{Tls, TlsTimeouts};
use aioxide::{AnyProtocol, Transport};

use crate::common::world::pattern;
use crate::common::{Log, Recorder, World};
use crate::toy::{HELLO, Outcome, Toy, frame};

crate::on_every_network!(
    a_protocol_goes_on_behind_the_layer,
    what_was_received_before_belongs_to_the_layer,
    a_paused_writer_resumes_above_the_layer,
    a_new_protocol_is_told_of_its_connection,
    a_handshake_that_fails_ends_the_connection,
);

/// Puts a toy between `transport` and its protocol.
fn upgrade(transport: &Transport, toy: Toy, received: &[u8]) -> (Transport, Outcome) {
    let outcome = Outcome::default();
    let settled = outcome.clone();
    let tls = Tls::new(
        transport.event_loop(),
        Box::new(toy),
        transport.stream_protocol().unwrap(),
        TlsTimeouts::default(),
        Box::new(move |result| {
            settled
                .0
                .set(Some(result.map_err(|error| error.to_string())));
        }),
    );
    tls.upgrade(transport, received);
    (tls.transport(), outcome)
}

async fn settled(world: &World, outcome: &Outcome) -> Result<(), String> {
    loop {
        if let Some(result) = outcome.take() {
            return result;
        }
        world.turns(1).await;
    }
}

fn a_protocol_goes_on_behind_the_layer(world: World) {
    world.run(async |world| {
        let (log, at_server) = (Log::default(), Log::default());
        let recorder = Recorder::new(&at_server);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let client = world.connect(port, Recorder::new(&log)).await;
        client.write(b"STARTTLS");
        at_server.received(8).await;
        let (above, served) = upgrade(&at_server.transport(), Toy::server(2), &[]);
        let (client, outcome) = upgrade(&client, Toy::client(2), &[]);
        assert_eq!(settled(&world, &outcome).await, Ok(()));
        assert_eq!(settled(&world, &served).await, Ok(()));
        client.write(&pattern(3000));
        at_server.received(3008).await;
        above.write(b"yes");
        log.received(3).await;
        client.close();
        log.until("lost").await;
        at_server.until("lost").await;
        assert_eq!(log.events(), ["made", "data", "lost"]);
        assert_eq!(at_server.events(), ["made", "data", "eof", "lost"]);
        assert!(at_server.data()[8..] == pattern(3000));
        server.close();
        server.wait_closed().await;
    });
}

fn what_was_received_before_belongs_to_the_layer(world: World) {
    world.run(async |world| {
        for early in [0, 1, 4, 5, 100, 305, 400] {
            let at_server = Log::default();
            let recorder = Recorder::new(&at_server);
            let (server, port) = world.serve(move || recorder.clone()).await;
            let peer = world.peer(port).await;
            at_server.until("made").await;
            let wire = [
                frame(HELLO, &[0; 300]),
                frame(crate::toy::DATA, &pattern(500)),
            ]
            .concat();
            let (received, rest) = wire.split_at(early);
            let (above, outcome) = upgrade(&at_server.transport(), Toy::server(1), received);
            world.event_loop.sock_sendall(&peer, rest).await.unwrap();
            assert_eq!(settled(&world, &outcome).await, Ok(()));
            at_server.received(500).await;
            assert!(*at_server.data() == pattern(500));
            above.abort();
            at_server.until("lost").await;
            server.close();
            server.wait_closed().await;
        }
    });
}

fn a_paused_writer_resumes_above_the_layer(world: World) {
    world.run(async |world| {
        let at_server = Log::default();
        let recorder = Recorder::new(&at_server);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        at_server.until("made").await;
        let plain = at_server.transport();
        let mut written = 0;
        while !at_server.has("pause") {
            let piece = if world.network().is_some() {
                10_000
            } else {
                1 << 20
            };
            plain.write(&pattern(piece));
            written += piece;
        }
        let (above, outcome) = upgrade(&plain, Toy::server(1), &[]);
        assert!(above.base().is_writing_paused());
        world.read_exactly(&peer, written).await;
        let hello = frame(HELLO, &[0; 300]);
        world.event_loop.sock_sendall(&peer, &hello).await.unwrap();
        world.read_exactly(&peer, hello.len()).await;
        assert_eq!(settled(&world, &outcome).await, Ok(()));
        at_server.until("resume").await;
        above.write(b"abc");
        world.read_exactly(&peer, 8).await;
        above.abort();
        at_server.until("lost").await;
        assert_eq!(at_server.events(), ["made", "pause", "resume", "lost"]);
        server.close();
        server.wait_closed().await;
    });
}

fn a_new_protocol_is_told_of_its_connection(world: World) {
    world.run(async |world| {
        let (at_server, after) = (Log::default(), Log::default());
        let recorder = Recorder::new(&at_server);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        at_server.until("made").await;
        let plain = at_server.transport();
        let tls = Tls::new(
            &world.event_loop,
            Box::new(Toy::server(1)),
            Recorder::echo(&after).into_stream_protocol(),
            TlsTimeouts::default(),
            Box::new(|_| ()),
        );
        tls.take_over(&plain, &[]);
        let hello = frame(HELLO, &[0; 300]);
        world.event_loop.sock_sendall(&peer, &hello).await.unwrap();
        world.read_exactly(&peer, hello.len()).await;
        after.until("made").await;
        assert!(after.transport().is(&tls.transport()));
        assert!(Rc::strong_count(&tls) > 1);
        drop(peer);
        after.until("lost").await;
        assert_eq!(at_server.events(), ["made"]);
        assert_eq!(after.events(), ["made", "eof", "lost"]);
        server.close();
        server.wait_closed().await;
    });
}

fn a_handshake_that_fails_ends_the_connection(world: World) {
    world.run(async |world| {
        let at_server = Log::default();
        let recorder = Recorder::new(&at_server);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        at_server.until("made").await;
        let (_, outcome) = upgrade(&at_server.transport(), Toy::server(1), &[]);
        let garbage = frame(crate::toy::DATA, b"garbage");
        world
            .event_loop
            .sock_sendall(&peer, &garbage)
            .await
            .unwrap();
        assert_eq!(settled(&world, &outcome).await, Err("no hello".to_owned()));
        at_server.until("lost").await;
        assert_eq!(at_server.events(), ["made", "lost"]);
        assert_eq!(at_server.error().as_deref(), Some("no hello"));
        server.close();
        server.wait_closed().await;
    });
}
