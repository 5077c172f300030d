//! Many connections, loops that are closed in the middle, programs that forget.

use std::rc::Rc;

use aioxide::Transport;

use crate::common::{Log, Recorder, World};

crate::on_every_network!(
    connections_come_and_go,
    a_loop_that_is_closed_in_the_middle_leaves_nothing,
    a_program_that_forgets_everything_leaves_nothing,
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
