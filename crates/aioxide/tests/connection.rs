//! create_connection: from a host and a port to a transport.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use aioxide::endpoints::{Endpoint, HappyEyeballs, Stage};
use aioxide::reactor::simulated::{CONNECT_TIMEOUT, Config};
use aioxide::{AddressErrors, AnyProtocol, ConnectOptions, Family, Task};
use common::world::loopback;
use common::{Log, Recorder, World};

on_every_network!(
    a_refused_connection_is_told_with_its_address,
    a_local_address_is_used,
    a_local_address_of_another_family_is_refused,
    the_first_address_that_answers_is_taken,
    a_refusal_of_all_is_told_in_order,
    the_factory_is_called_when_the_connection_stands,
    a_cancelled_connect_leaves_no_socket,
    a_connection_that_nobody_waits_for_any_more_is_closed,
    a_socket_of_ones_own_becomes_a_transport,
);

async fn free_port(world: &World) -> u16 {
    let (listener, address) = world.listener();
    drop(listener);
    address.port().unwrap()
}

fn a_refused_connection_is_told_with_its_address(world: World) {
    world.run(async |world| {
        let port = free_port(&world).await;
        let error = world
            .event_loop
            .create_connection(
                Recorder::default,
                "127.0.0.1",
                port,
                &ConnectOptions::default(),
            )
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(
            error.to_string().contains(&format!("127.0.0.1:{port}")),
            "{error}"
        );
        let [inside] = AddressErrors::of(&error).unwrap().errors() else {
            panic!("one address, one error: {error}");
        };
        assert_eq!(
            (inside.stage, &inside.address),
            (Stage::Connect, &loopback(port))
        );
        assert_eq!(inside.error.raw_os_error(), Some(libc::ECONNREFUSED));
        assert_eq!(world.open_sockets(), 0);
    });
}

fn a_local_address_is_used(world: World) {
    world.run(async |world| {
        let at_server = Log::default();
        let recorder = Recorder::new(&at_server);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let local = free_port(&world).await;
        let options = ConnectOptions {
            local_address: Some(("127.0.0.1".into(), local)),
            ..ConnectOptions::default()
        };
        let transport = world
            .event_loop
            .create_connection(Recorder::default, "127.0.0.1", port, &options)
            .await
            .unwrap();
        assert_eq!(transport.local_address(), Some(loopback(local)));
        at_server.until("made").await;
        assert_eq!(at_server.transport().peer_address(), Some(loopback(local)));
        transport.abort();
        server.close();
        server.wait_closed().await;
    });
}

fn a_local_address_of_another_family_is_refused(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(Recorder::default).await;
        let options = ConnectOptions {
            local_address: Some(("::1".into(), 0)),
            ..ConnectOptions::default()
        };
        let error = world
            .event_loop
            .create_connection(Recorder::default, "127.0.0.1", port, &options)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("no local address"), "{error}");
        server.close();
        server.wait_closed().await;
        assert_eq!(world.open_sockets(), 0);
    });
}

fn the_first_address_that_answers_is_taken(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(Recorder::default).await;
        let closed = free_port(&world).await;
        let remote = [closed, closed, port].map(|port| Endpoint::stream(loopback(port)));
        let connected = world
            .event_loop
            .connect_any(remote.into(), None, HappyEyeballs::default());
        let (socket, address) = connected.await.unwrap();
        assert_eq!(address, loopback(port));
        assert_eq!(world.open_sockets() - server.client_count(), 2);
        drop(socket);
        server.close();
        server.wait_closed().await;
    });
}

fn a_refusal_of_all_is_told_in_order(world: World) {
    world.run(async |world| {
        let ports = [free_port(&world).await, free_port(&world).await];
        let connect = async |remote| {
            let how = HappyEyeballs::default();
            let connected = world.event_loop.connect_any(remote, None, how);
            connected.await.unwrap_err()
        };
        let remote = ports.map(|port| Endpoint::stream(loopback(port)));
        let errors = connect(remote.into()).await;
        let addresses = errors.errors().iter().map(|error| error.address.clone());
        assert!(addresses.eq(ports.map(loopback)));
        let none = connect(Vec::new()).await;
        assert!(none.errors().is_empty());
        assert_eq!(none.to_string(), "no address was found");
    });
}

fn the_factory_is_called_when_the_connection_stands(world: World) {
    world.run(async |world| {
        let port = free_port(&world).await;
        let called = Rc::new(Cell::new(false));
        let inside = Rc::clone(&called);
        let factory = move || {
            inside.set(true);
            Recorder::default()
        };
        let refused = world
            .event_loop
            .create_connection(factory, "127.0.0.1", port, &ConnectOptions::default())
            .await;
        assert!(refused.is_err() && !called.get());
    });
}

fn a_cancelled_connect_leaves_no_socket(world: World) {
    world.run(async |world| {
        let (listener, address) = world.listener();
        let port = address.port().unwrap();
        // At each of its awaits.
        for turns in 0..6 {
            let event_loop = world.event_loop.clone();
            let log = Log::default();
            let recorder = Recorder::new(&log);
            let task = world.event_loop.spawn(async move {
                event_loop
                    .create_connection(|| recorder, "127.0.0.1", port, &ConnectOptions::default())
                    .await
                    .map(|transport| transport.close())
            });
            world.turns(turns).await;
            task.cancel();
            world.turns(6).await;
            assert_eq!(log.count("made"), log.count("lost"));
            assert_eq!(
                (world.open_sockets(), world.waiting()),
                (1, 0),
                "after {turns} turns"
            );
        }
        drop(listener);
    });
}

fn a_connection_that_nobody_waits_for_any_more_is_closed(world: World) {
    world.run(async |world| {
        let (listener, address) = world.listener();
        let port = address.port().unwrap();
        let log = Log::default();
        let event_loop = world.event_loop.clone();
        let task = Rc::<RefCell<Option<Task<_>>>>::default();
        // Cancels its own creation, between connection_made and the creator's waking.
        let cancelled = Rc::clone(&task);
        let recorder = Recorder {
            greet: Some(Rc::new(move |_| {
                cancelled.borrow().as_ref().unwrap().cancel();
            })),
            ..Recorder::new(&log)
        };
        let creating = world.event_loop.spawn(async move {
            let options = ConnectOptions::default();
            event_loop
                .create_connection(|| recorder, "127.0.0.1", port, &options)
                .await
        });
        task.replace(Some(creating));
        log.until("lost").await;
        assert_eq!(log.events(), ["made", "lost"]);
        let (server, _) = world.event_loop.sock_accept(&listener).await.unwrap();
        assert_eq!(world.read_all(&server).await, b"");
    });
}

fn a_socket_of_ones_own_becomes_a_transport(world: World) {
    world.run(async |world| {
        let (client, server) = world.socket_pair().await;
        let log = Log::default();
        let protocol = Recorder::new(&log).into_stream_protocol();
        let peer = world
            .event_loop
            .reactor()
            .peer_address(client.fd())
            .unwrap();
        let (transport, made) = world.event_loop.start_transport(client, protocol, None);
        made.await;
        assert_eq!(transport.peer_address(), Some(peer));
        world.event_loop.sock_sendall(&server, b"hi").await.unwrap();
        log.received(2).await;
        transport.close();
        log.until("lost").await;
    });
}

#[test]
fn a_socket_of_the_program_is_adopted() {
    let world = World::epoll();
    world.run(async |world| {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let transport = world
            .event_loop
            .connect_accepted_socket(|| recorder, ours)
            .await
            .unwrap();
        theirs.set_nonblocking(true).unwrap();
        world.event_loop.sock_sendall(&theirs, b"hi").await.unwrap();
        log.received(2).await;
        transport.close();
        log.until("lost").await;
        assert_eq!(world.event_loop.sock_recv(&theirs, 1).await.unwrap(), b"");
        let datagrams = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let refused = world
            .event_loop
            .connect_accepted_socket(Recorder::default, datagrams)
            .await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn names_are_resolved_beside_the_loop() {
    let world = World::epoll();
    world.run(async |world| {
        let options = aioxide::ServerOptions {
            family: Family::INET,
            ..aioxide::ServerOptions::default()
        };
        let server = world
            .event_loop
            .create_server(
                || Recorder::echo(&Log::default()),
                Some("localhost"),
                0,
                &options,
            )
            .await
            .unwrap();
        let port = common::world::port_of(&server);
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let options = ConnectOptions::default();
        let connected =
            world
                .event_loop
                .create_connection(|| recorder, "localhost", port, &options);
        let transport = connected.await.unwrap();
        transport.write(b"x");
        log.received(1).await;
        transport.close();
        server.close();
        server.wait_closed().await;
        let unknown =
            world
                .event_loop
                .create_connection(Recorder::default, "name.invalid", 1, &options);
        assert!(
            unknown
                .await
                .unwrap_err()
                .to_string()
                .contains("name.invalid")
        );
    });
}

#[test]
fn a_connect_that_nobody_answers_gives_up() {
    let world = World::with(Config::new(0).latency(Duration::from_millis(50)));
    world.run(async |world| {
        let (listener, address) = world.listener();
        let port = address.port().unwrap();
        let network = world.network().unwrap();
        network.fail_connects(port, libc::ETIMEDOUT);
        let before = world.event_loop.time();
        let error = world
            .event_loop
            .create_connection(
                Recorder::default,
                "127.0.0.1",
                port,
                &ConnectOptions::default(),
            )
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let took = world.event_loop.time() - before;
        assert!(took >= Duration::from_millis(100) && took <= CONNECT_TIMEOUT);
        drop(listener);
    });
}
