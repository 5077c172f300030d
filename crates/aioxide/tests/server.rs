//! Servers: listening, their clients, their end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use aioxide::{Family, ServerOptions};
use common::world::port_of;
use common::{Log, Recorder, World};

on_every_network!(
    a_server_listens_when_it_is_told_to,
    many_clients_are_served,
    a_closed_server_accepts_nobody,
    closing_leaves_the_clients,
    wait_closed_waits_for_the_close_and_for_the_clients,
    serve_forever_ends_with_the_server,
    close_clients_sends_what_they_have_buffered,
    abort_clients_does_not,
    a_factory_that_panics_costs_one_connection,
    an_address_that_is_taken_is_refused,
    every_port_zero_is_another_port,
    a_server_lives_without_its_handle,
    a_client_that_has_gone_before_it_was_accepted_is_no_failure,
);

fn a_server_listens_when_it_is_told_to(world: World) {
    world.run(async |world| {
        let options = ServerOptions {
            start_serving: false,
            ..ServerOptions::default()
        };
        let server = world
            .event_loop
            .create_server(Recorder::default, Some("127.0.0.1"), 0, &options)
            .await
            .unwrap();
        assert!(!server.is_serving() && !server.is_closed());
        let address = server.local_addresses()[0].clone();
        let socket = world.socket();
        let refused = world
            .event_loop
            .sock_connect(&socket, address.clone())
            .await;
        assert_eq!(
            refused.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        server.start_serving().unwrap();
        server.start_serving().unwrap();
        assert!(server.is_serving());
        let socket = world.socket();
        let connected = world.event_loop.sock_connect(&socket, address);
        connected.await.unwrap();
        drop(socket);
        server.close();
        assert!(server.start_serving().is_err() && server.is_closed());
        server.abort_clients();
        server.wait_closed().await;
    });
}

fn many_clients_are_served(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(|| Recorder::echo(&Log::default())).await;
        let mut clients = Vec::new();
        for number in 0..50_u8 {
            let log = Log::default();
            let transport = world.connect(port, Recorder::new(&log)).await;
            transport.write(&[number; 10]);
            clients.push((number, log));
        }
        for (number, log) in &clients {
            log.received(10).await;
            assert_eq!(*log.data(), [*number; 10]);
        }
        assert_eq!(server.client_count(), 50);
        clients.iter().for_each(|(_, log)| log.transport().close());
        server.close();
        server.wait_closed().await;
        assert_eq!((server.client_count(), world.open_sockets()), (0, 0));
    });
}

fn a_closed_server_accepts_nobody(world: World) {
    world.run(async |world| {
        let (server, _) = world.serve(Recorder::default).await;
        let address = server.local_addresses()[0].clone();
        server.close();
        server.close();
        assert!(server.local_addresses().is_empty() && server.fds().is_empty());
        let socket = world.socket();
        let refused = world.event_loop.sock_connect(&socket, address).await;
        assert_eq!(
            refused.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        server.wait_closed().await;
    });
}

fn closing_leaves_the_clients(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(|| Recorder::echo(&Log::default())).await;
        let log = Log::default();
        let client = world.connect(port, Recorder::new(&log)).await;
        client.write(b"one");
        log.received(3).await;
        server.close();
        client.write(b"two");
        log.received(6).await;
        client.close();
        server.wait_closed().await;
    });
}

fn wait_closed_waits_for_the_close_and_for_the_clients(world: World) {
    world.run(async |world| {
        let at_server = Log::default();
        let recorder = Recorder::new(&at_server);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let client = world.connect(port, Recorder::default()).await;
        at_server.until("made").await;
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let server = server.clone();
                world
                    .event_loop
                    .spawn(async move { server.wait_closed().await })
            })
            .collect();
        let finished = || waiting.iter().filter(|task| task.is_finished()).count();
        world.turns(3).await;
        assert_eq!(finished(), 0, "not closed");
        server.close();
        world.turns(3).await;
        assert_eq!(finished(), 0, "a client is there");
        client.close();
        at_server.until("lost").await;
        for task in waiting {
            task.await.unwrap();
        }
        server.wait_closed().await;
    });
}

fn serve_forever_ends_with_the_server(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(Recorder::default).await;
        let serving = server.clone();
        let task = world
            .event_loop
            .spawn(async move { serving.serve_forever().await });
        world.turns(3).await;
        assert!(!task.is_finished());
        task.cancel();
        assert!(server.is_serving(), "dropping it changes nothing");
        let serving = server.clone();
        let task = world
            .event_loop
            .spawn(async move { serving.serve_forever().await });
        let client = world.connect(port, Recorder::default()).await;
        server.close();
        task.await.unwrap().unwrap();
        assert!(server.serve_forever().await.is_err());
        client.close();
        server.wait_closed().await;
    });
}

fn close_clients_sends_what_they_have_buffered(world: World) {
    world.run(async |world| {
        let count = 60_000;
        let log = Log::default();
        let recorder = Recorder {
            greet: Some(Rc::new(move |transport| transport.write(&vec![7; count]))),
            ..Recorder::new(&log)
        };
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        log.until("made").await;
        server.close();
        server.close_clients();
        assert_eq!(world.read_all(&peer).await.len(), count);
        server.wait_closed().await;
        assert_eq!(log.count("lost"), 1);
    });
}

fn abort_clients_does_not(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder {
            greet: Some(Rc::new(move |transport| {
                transport.write(&vec![7; 64 << 20])
            })),
            ..Recorder::new(&log)
        };
        let (server, port) = world.serve(move || recorder.clone()).await;
        let peer = world.peer(port).await;
        log.until("made").await;
        server.close();
        server.close_clients();
        world.turns(3).await;
        assert!(!log.has("lost"));
        server.abort_clients();
        server.wait_closed().await;
        assert_eq!(log.events().last(), Some(&"lost"));
        drop(peer);
    });
}

fn a_factory_that_panics_costs_one_connection(world: World) {
    world.run(async |world| {
        for debug in [false, true] {
            world.event_loop.set_debug(debug);
            let count = Rc::new(Cell::new(0));
            let log = Log::default();
            let recorder = Recorder::echo(&log);
            let factory = move || {
                count.set(count.get() + 1);
                assert!(count.get() > 1, "the first client");
                recorder.clone()
            };
            let (server, port) = world.serve(factory).await;
            let unlucky = world.peer(port).await;
            assert_eq!(world.read_all(&unlucky).await, b"");
            let client = world.connect(port, Recorder::default()).await;
            client.write(b"x");
            log.received(1).await;
            client.close();
            assert_eq!(
                world.reports().len(),
                usize::from(debug),
                "only debug mode speaks"
            );
            server.close();
            server.wait_closed().await;
        }
    });
}

fn an_address_that_is_taken_is_refused(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(Recorder::default).await;
        let before = world.open_sockets();
        let taken = world
            .event_loop
            .create_server(
                Recorder::default,
                Some("127.0.0.1"),
                port,
                &ServerOptions::default(),
            )
            .await
            .unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        assert!(
            taken.to_string().contains(&format!("127.0.0.1:{port}")),
            "{taken}"
        );
        assert_eq!(world.open_sockets(), before);
        server.close();
        server.wait_closed().await;
    });
}

fn every_port_zero_is_another_port(world: World) {
    world.run(async |world| {
        let options = ServerOptions {
            family: Family::INET,
            ..ServerOptions::default()
        };
        let mut ports = Vec::new();
        let mut servers = Vec::new();
        for _ in 0..5 {
            let server =
                world
                    .event_loop
                    .create_server(Recorder::default, Some("127.0.0.1"), 0, &options);
            servers.push(server.await.unwrap());
            ports.push(port_of(&servers[servers.len() - 1]));
        }
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 5);
        for server in servers {
            server.close();
            server.wait_closed().await;
        }
    });
}

fn a_server_lives_without_its_handle(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(|| Recorder::echo(&Log::default())).await;
        drop(server);
        let log = Log::default();
        let client = world.connect(port, Recorder::new(&log)).await;
        client.write(b"x");
        log.received(1).await;
        client.close();
        log.until("lost").await;
    });
    assert_eq!(world.open_sockets(), 0, "until the loop is closed");
}

fn a_client_that_has_gone_before_it_was_accepted_is_no_failure(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let options = ServerOptions {
            start_serving: false,
            ..ServerOptions::default()
        };
        let server = world
            .event_loop
            .create_server(move || recorder.clone(), Some("127.0.0.1"), 0, &options)
            .await
            .unwrap();
        server.start_serving().unwrap();
        for _ in 0..5 {
            drop(world.peer(port_of(&server)).await);
        }
        log.when(|log| log.count("lost") == 5).await;
        server.close();
        server.wait_closed().await;
    });
}
