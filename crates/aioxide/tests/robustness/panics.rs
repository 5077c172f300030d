//! A panic in every callback.

use std::io;

use aioxide::{Buffered, BufferedProtocol, Transport};

use crate::common::world::pattern;
use crate::common::{Log, Recorder, World};

crate::on_every_network!(
    a_panic_in_each_callback_ends_at_most_its_connection,
    a_panic_in_a_buffered_callback_ends_its_connection,
);

/// Serves one client whose protocol panics at `event`, and then another that is served well.
async fn survive(world: &World, event: &'static str) -> (Log, Vec<String>) {
    let log = Log::default();
    let recorder = Recorder {
        panic_at: Some(event),
        ..Recorder::new(&log)
    };
    let (server, port) = world.serve(move || recorder.clone()).await;
    let peer = world.peer(port).await;
    match event {
        "pause" | "resume" => {
            log.until("made").await;
            log.transport().write(&pattern(200_000));
            log.transport().write(&vec![0; 8 << 20]);
            if event == "resume" {
                while !log.has("resume") {
                    world.event_loop.sock_recv(&peer, 1 << 20).await.unwrap();
                }
            }
            log.transport().abort();
        }
        _ => {
            let _ = world.event_loop.sock_sendall(&peer, b"x").await;
            let _ = world.event_loop.reactor().shutdown_write(peer.fd());
        }
    }
    if event == "made" {
        // Its connection goes on, as in asyncio.
        log.until("data").await;
    }
    log.until("lost").await;
    world.turns(3).await;
    drop(peer);
    server.close();
    server.wait_closed().await;
    let reports = world.reports();
    let (server, port) = world.serve(|| Recorder::echo(&Log::default())).await;
    let well = Log::default();
    let client = world.connect(port, Recorder::new(&well)).await;
    client.write(b"alive");
    well.received(5).await;
    client.close();
    server.close();
    server.wait_closed().await;
    assert_eq!(world.open_sockets(), 0);
    (log, reports)
}

fn a_panic_in_each_callback_ends_at_most_its_connection(world: World) {
    world.run(async |world| {
        for (event, report, error) in [
            ("made", "connection_made() panicked", None),
            (
                "data",
                "data_received() panicked",
                Some("panicked: at data"),
            ),
            (
                "eof",
                "Fatal error: protocol.eof_received() call failed.",
                Some("panicked: at eof"),
            ),
            ("lost", "connection_lost() panicked", None),
            ("pause", "pause_writing() panicked", None),
        ] {
            let (log, reports) = survive(&world, event).await;
            assert_eq!(reports, [format!("{report}: panicked: at {event}")]);
            assert_eq!(log.error().as_deref(), error, "{event}");
            assert_eq!(log.count("lost"), 1, "{event}");
        }
    });
}

#[test]
fn a_panic_in_resume_writing_is_reported() {
    // Megabytes have to pass: not for a network that dribbles.
    for world in [World::epoll(), World::simulated(1)] {
        world.run(async |world| {
            let (_, reports) = survive(&world, "resume").await;
            assert_eq!(reports, ["resume_writing() panicked: panicked: at resume"]);
        });
    }
}

struct Clumsy {
    log: Log,
    memory: [u8; 8],
    in_get_buffer: bool,
}

impl BufferedProtocol for Clumsy {
    fn connection_made(&mut self, _transport: Transport) {
        self.log.push("made");
    }

    fn get_buffer(&mut self, _size_hint: usize) -> &mut [u8] {
        assert!(!self.in_get_buffer, "get_buffer");
        &mut self.memory
    }

    fn buffer_updated(&mut self, _count: usize) {
        panic!("buffer_updated");
    }

    fn connection_lost(&mut self, error: Option<io::Error>) {
        assert!(error.is_some());
        self.log.push("lost");
    }
}

fn a_panic_in_a_buffered_callback_ends_its_connection(world: World) {
    world.run(async |world| {
        for in_get_buffer in [true, false] {
            let log = Log::default();
            let at_server = log.clone();
            let factory = move || {
                Buffered(Clumsy {
                    log: at_server.clone(),
                    memory: [0; 8],
                    in_get_buffer,
                })
            };
            let (server, port) = world.serve(factory).await;
            let peer = world.peer(port).await;
            world.event_loop.sock_sendall(&peer, b"x").await.unwrap();
            log.until("lost").await;
            let called = if in_get_buffer {
                "get_buffer"
            } else {
                "buffer_updated"
            };
            let expected = format!("{called}() panicked: panicked: {called}");
            assert_eq!(world.reports(), [expected]);
            server.close();
            server.wait_closed().await;
        }
    });
}
