//! Many connections, loops that are closed in the middle, programs that forget.

use std::rc::Rc;

use aioxide::Transport;

use crate::common::{Correspondent, Log, Mail, Recorder, World};

crate::on_every_network!(
    connections_come_and_go,
    a_loop_that_is_closed_in_the_middle_leaves_nothing,
    a_program_that_forgets_everything_leaves_nothing,
    endpoints_and_pipes_come_and_go,
    a_loop_that_is_closed_over_endpoints_and_pipes_leaves_nothing,
);

fn connections_come_and_go(world: World) {
    world.run(async |world| {
        let rounds = if world.network().is_some() { 20 } else { 500 };
        let (server, port) = world.serve(|| Recorder::echo(&Log::default())).await;
        for round in 0..rounds {
            let log = Log::default();
            let client = world.connect(port, Recorder::new(&log)).await;
            client.write(b"hello");
            if round % 3 == 0 {
                client.abort();
            } else {
                log.received(5).await;
                client.close();
            }
            log.until("lost").await;
        }
        server.close();
        server.wait_closed().await;
        assert_eq!((world.open_sockets(), world.waiting()), (0, 0));
    });
}

fn a_loop_that_is_closed_in_the_middle_leaves_nothing(world: World) {
    let held = world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let client = world.connect(port, Recorder::default()).await;
        log.until("made").await;
        log.transport().write(&vec![0; 64 << 20]);
        server.close();
        (server, client, log)
    });
    // The loop is closed, and every handle is still held.
    let (server, client, log) = held;
    assert!(!log.has("lost"), "a closed loop calls nothing");
    client.write(b"x");
    client.close();
    log.transport().abort();
    assert_eq!(server.client_count(), 0);
}

fn a_program_that_forgets_everything_leaves_nothing(world: World) {
    world.run(async |world| {
        let greet: Rc<dyn Fn(&Transport)> = Rc::new(|transport| transport.write(b"hello"));
        let recorder = Recorder {
            greet: Some(greet),
            ..Recorder::default()
        };
        let (_server, port) = world.serve(move || recorder.clone()).await;
        for _ in 0..5 {
            world.connect(port, Recorder::default()).await;
        }
        world.turns(5).await;
        assert!(world.open_sockets() >= 11, "the loop owns its connections");
    });
}

fn endpoints_and_pipes_come_and_go(world: World) {
    world.run(async |world| {
        let rounds = if world.network().is_some() { 10 } else { 200 };
        let echo = Correspondent::echo(&Mail::default());
        let (server, address) = world.endpoint(echo).await;
        let port = address.port().unwrap();
        for round in 0..rounds {
            let mail = Mail::default();
            let client = world.endpoint_to(port, Correspondent::new(&mail)).await;
            client.send_to(b"hello", None).unwrap();
            let (reader, writer) = world.pipe();
            let log = Log::default();
            let reading = world.read_pipe(reader, Recorder::new(&log)).await;
            let writing = world.write_pipe(writer, Recorder::default()).await;
            writing.write(b"hello");
            if round % 3 == 0 {
                client.abort();
                reading.abort();
            } else {
                mail.received(1).await;
                client.close();
                writing.close();
            }
            mail.until("lost").await;
            log.until("lost").await;
        }
        server.close();
        world.turns(5).await;
        assert_eq!((world.open_sockets(), world.waiting()), (0, 0));
    });
}

fn a_loop_that_is_closed_over_endpoints_and_pipes_leaves_nothing(world: World) {
    let held = world.run(async |world| {
        let (mail, log) = (Mail::default(), Log::default());
        let (peer, name) = world.datagram_socket(aioxide::Family::UNIX);
        let protocol = Correspondent::new(&mail);
        let endpoint = world.unix_endpoint_to(&name, protocol).await;
        while endpoint.write_buffer_size() == 0 {
            endpoint.send_to(b"hello", None).unwrap();
        }
        let (reader, writer) = world.pipe();
        let reading = world.read_pipe(reader, Recorder::default()).await;
        let writing = world.write_pipe(writer, Recorder::new(&log)).await;
        reading.pause_reading();
        writing.write(&vec![0; 1 << 20]);
        drop(peer);
        (mail, log, endpoint, reading, writing)
    });
    // The loop is closed, and every handle is still held.
    let (mail, log, endpoint, reading, writing) = held;
    assert!(
        !mail.has("lost") && !log.has("lost"),
        "a closed loop calls nothing"
    );
    endpoint.send_to(b"x", None).unwrap();
    endpoint.close();
    reading.resume_reading();
    writing.write(b"x");
    writing.abort();
}
