//! What programs and peers do wrong: panics in every callback, resets, exhaustion, and many
//! connections. The loop goes on, and nothing is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use aioxide::reactor::simulated::Call;
use aioxide::server::ACCEPT_RETRY_DELAY;
use aioxide::{Buffered, BufferedProtocol, Transport};
use common::world::pattern;
use common::{Log, Recorder, World};

on_every_network!(
    a_panic_in_each_callback_ends_at_most_its_connection,
    a_panic_in_a_buffered_callback_ends_its_connection,
    peers_that_reset_end_their_connection_alone,
    connections_come_and_go,
    a_loop_that_is_closed_in_the_middle_leaves_nothing,
    a_program_that_forgets_everything_leaves_nothing,
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

fn peers_that_reset_end_their_connection_alone(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(|| Recorder::echo(&Log::default())).await;
        let well = Log::default();
        let client = world.connect(port, Recorder::new(&well)).await;
        for _ in 0..20 {
            let peer = world.peer(port).await;
            world
                .event_loop
                .sock_sendall(&peer, b"never read")
                .await
                .unwrap();
            // The echo that it does not read makes its close a reset.
            world.event_loop.wait_until_readable(&peer).await;
            drop(peer);
        }
        client.write(b"alive");
        well.received(5).await;
        client.close();
        server.close();
        server.wait_closed().await;
        assert_eq!((world.open_sockets(), world.waiting()), (0, 0));
    });
}

/// What a test waits for without reading.
trait WaitUntilReadable {
    async fn wait_until_readable(&self, socket: &aioxide::Socket);
}

impl WaitUntilReadable for aioxide::EventLoop {
    async fn wait_until_readable(&self, socket: &aioxide::Socket) {
        let readable = self.create_future::<()>();
        let told = readable.clone();
        let read = move || drop(told.set_result(()));
        self.add_reader(socket, read).unwrap();
        readable.await.unwrap();
        self.remove_reader(socket);
    }
}

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

#[test]
fn a_server_rests_when_there_are_no_descriptors() {
    let world = World::simulated(0);
    world.run(async |world| {
        let (server, port) = world.serve(|| Recorder::echo(&Log::default())).await;
        let network = world.network().unwrap();
        network.fail_next(Call::Accept, libc::EMFILE);
        let before = world.event_loop.time();
        let log = Log::default();
        let client = world.connect(port, Recorder::new(&log)).await;
        client.write(b"patience");
        log.received(8).await;
        assert!(world.event_loop.time() - before >= ACCEPT_RETRY_DELAY);
        let reports = world.reports();
        assert!(
            reports.len() == 1 && reports[0].starts_with("socket.accept() out of system resource"),
            "{reports:?}"
        );
        client.close();
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn a_server_closed_while_it_rests_stays_closed() {
    let world = World::simulated(0);
    world.run(async |world| {
        let (server, port) = world.serve(Recorder::default).await;
        world
            .network()
            .unwrap()
            .fail_next(Call::Accept, libc::EMFILE);
        let peer = world.peer(port).await;
        world.turns(3).await;
        assert_eq!(world.reports().len(), 1);
        server.close();
        server.wait_closed().await;
        world.event_loop.sleep(ACCEPT_RETRY_DELAY * 2).await;
        assert_eq!(world.waiting(), 0);
        drop(peer);
    });
}

#[test]
fn descriptors_run_out_and_come_back() {
    let world = World::simulated(3);
    world.run(async |world| {
        let (server, port) = world.serve(|| Recorder::echo(&Log::default())).await;
        world.network().unwrap().limit_descriptors(6);
        let mut logs = Vec::new();
        // A listener, and room for five ends: not all connections have two.
        for _ in 0..3 {
            let log = Log::default();
            world.connect(port, Recorder::new(&log)).await;
            logs.push(log);
        }
        let refused = world.event_loop.open_connection("127.0.0.1", port).await;
        assert!(refused.unwrap_err().to_string().contains("no socket"));
        world.turns(3).await;
        world.network().unwrap().limit_descriptors(1000);
        for log in &logs {
            log.transport().write(b"x");
            log.received(1).await;
            log.transport().close();
        }
        server.close();
        server.wait_closed().await;
        assert!(!world.reports().is_empty());
    });
}

#[test]
fn a_reset_in_the_network_reaches_both_protocols() {
    for seed in 0..5 {
        let world = World::simulated(seed);
        world.run(async |world| {
            let (at_server, at_client) = (Log::default(), Log::default());
            let recorder = Recorder::new(&at_server);
            let (server, port) = world.serve(move || recorder.clone()).await;
            let client = world.connect(port, Recorder::new(&at_client)).await;
            at_server.until("made").await;
            world
                .network()
                .unwrap()
                .reset(client.fd().unwrap())
                .unwrap();
            for log in [at_server, at_client] {
                log.until("lost").await;
                assert_eq!(log.errno(), Some(libc::ECONNRESET));
                assert_eq!(log.events(), ["made", "lost"]);
            }
            server.close();
            server.wait_closed().await;
        });
    }
}

#[test]
fn a_stalled_peer_holds_up_nobody_else() {
    let world = World::simulated(0);
    world.run(async |world| {
        let stalled = Log::default();
        let recorder = Recorder {
            greet: Some(Rc::new(|transport| transport.write(&vec![1; 1 << 20]))),
            ..Recorder::new(&stalled)
        };
        let (slow, slow_port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(slow_port).await;
        world.network().unwrap().stall(peer.fd()).unwrap();
        stalled.until("pause").await;
        let (server, port) = world.serve(|| Recorder::echo(&Log::default())).await;
        let log = Log::default();
        let client = world.connect(port, Recorder::new(&log)).await;
        client.write(b"alive");
        log.received(5).await;
        client.close();
        world.event_loop.sleep(Duration::from_secs(3600)).await;
        assert!(!stalled.has("resume"));
        slow.close();
        slow.abort_clients();
        slow.wait_closed().await;
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn failures_of_the_network_reach_the_protocol() {
    for (call, errno) in [
        (Call::Receive, libc::ETIMEDOUT),
        (Call::Send, libc::EPIPE),
        (Call::Receive, libc::EHOSTUNREACH),
    ] {
        let world = World::simulated(0);
        world.run(async move |world| {
            let (server, port) = world.serve(Recorder::default).await;
            let log = Log::default();
            let client = world.connect(port, Recorder::new(&log)).await;
            let network = world.network().unwrap();
            network.fail_next_on(client.fd().unwrap(), call, errno);
            client.write(b"x");
            log.until("lost").await;
            assert_eq!(log.errno(), Some(errno));
            server.close();
            server.wait_closed().await;
        });
    }
}
