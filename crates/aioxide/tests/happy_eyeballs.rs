//! Several addresses, tried side by side: RFC 8305.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aioxide::endpoints::{AddressErrors, Endpoint, HappyEyeballs, Stage};
use aioxide::reactor::simulated::{CONNECT_TIMEOUT, Call, Config};
use aioxide::{ConnectOptions, Family, Socket, SocketAddress};
use common::world::loopback;
use common::{Recorder, World};

on_every_network!(
    a_silent_address_gets_company,
    an_address_that_answers_stays_alone,
    a_failure_does_not_wait_for_the_delay,
    failures_are_told_in_the_order_of_the_addresses,
    each_attempt_has_a_local_address,
    giving_up_closes_every_socket,
    a_connection_takes_the_options,
);

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);
/// Short, for the kernel's network, where it is real.
const SHORT: Duration = Duration::from_millis(10);

fn after(delay: Duration) -> HappyEyeballs {
    HappyEyeballs {
        delay: Some(delay),
        interleave: None,
    }
}

/// An address from which no answer comes: a listener's whose queue is full. It is silent until the
/// sockets are dropped.
async fn silent(world: &World) -> (SocketAddress, [Socket; 2]) {
    let listener = world.socket();
    let reactor = world.event_loop.reactor();
    reactor.bind(listener.fd(), &loopback(0)).unwrap();
    reactor.listen(listener.fd(), 0).unwrap();
    let address = reactor.local_address(listener.fd()).unwrap();
    let only = world.peer(address.port().unwrap()).await;
    (address, [listener, only])
}

/// An address at which nobody listens.
fn refusing(world: &World) -> SocketAddress {
    let (listener, address) = world.listener();
    drop(listener);
    address
}

async fn connect(
    world: &World,
    addresses: &[&SocketAddress],
    how: HappyEyeballs,
) -> Result<(Socket, SocketAddress), AddressErrors> {
    let addresses = addresses.iter().copied().cloned();
    let remote = addresses.map(Endpoint::stream).collect();
    world.event_loop.connect_any(remote, None, how).await
}

fn a_silent_address_gets_company(world: World) {
    world.run(async |world| {
        let (silent, held) = silent(&world).await;
        let (listener, answering) = world.listener();
        let begun = world.event_loop.time();
        let (socket, address) = connect(&world, &[&silent, &answering], after(SHORT))
            .await
            .unwrap();
        assert_eq!(address, answering);
        assert!(world.event_loop.time() - begun >= SHORT);
        assert_eq!(world.open_sockets(), 4, "the other one is closed");
        assert_eq!(world.waiting(), 0);
        drop((socket, listener, held));
    });
}

fn an_address_that_answers_stays_alone(world: World) {
    world.run(async |world| {
        let (first, one) = world.listener();
        let (second, other) = world.listener();
        let (socket, address) = connect(&world, &[&one, &other], after(LONG)).await.unwrap();
        assert_eq!(address, one);
        let nobody = world
            .event_loop
            .timeout(SHORT, world.event_loop.sock_accept(&second))
            .await;
        assert!(nobody.is_err());
        drop((socket, first));
    });
}

fn a_failure_does_not_wait_for_the_delay(world: World) {
    world.run(async |world| {
        let (listener, answering) = world.listener();
        let refusing = [refusing(&world), refusing(&world)];
        let addresses = [&refusing[0], &refusing[1], &answering];
        let begun = world.event_loop.time();
        let (socket, address) = connect(&world, &addresses, after(LONG)).await.unwrap();
        assert_eq!(address, answering);
        assert!(world.event_loop.time() - begun < LONG);
        assert_eq!(world.open_sockets(), 2);
        drop((socket, listener));
    });
}

fn failures_are_told_in_the_order_of_the_addresses(world: World) {
    world.run(async |world| {
        let refusing = [(); 4].map(|()| refusing(&world));
        for delay in [Duration::ZERO, SHORT, LONG] {
            let errors = connect(&world, &refusing.each_ref(), after(delay)).await;
            let errors = errors.unwrap_err();
            let addresses = errors.errors().iter().map(|error| &error.address);
            assert!(addresses.eq(&refusing), "{errors}");
        }
    });
}

fn each_attempt_has_a_local_address(world: World) {
    world.run(async |world| {
        let (silent, held) = silent(&world).await;
        let (listener, answering) = world.listener();
        // The first is nobody's to give: it is passed over, and told.
        let local = [
            SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 0)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
            SocketAddr::from((Ipv4Addr::new(127, 0, 0, 9), 0)),
        ];
        let local = local.map(|address| Endpoint::stream(address.into()));
        let remote = vec![Endpoint::stream(silent), Endpoint::stream(answering)];
        let connected = world
            .event_loop
            .connect_any(remote, Some(&local), after(SHORT));
        let (socket, _) = connected.await.unwrap();
        let address = world.event_loop.reactor().local_address(socket.fd());
        let ip = address.unwrap().ip().unwrap().ip();
        assert_eq!(ip, Ipv4Addr::new(127, 0, 0, 9));

        let remote = vec![Endpoint::stream(refusing(&world))];
        let refused = world
            .event_loop
            .connect_any(remote, Some(&local), after(SHORT));
        let errors = refused.await.unwrap_err();
        let stages: Vec<_> = errors.errors().iter().map(|error| error.stage).collect();
        assert_eq!(stages, [Stage::Bind, Stage::Connect]);
        drop((socket, listener, held));
    });
}

fn giving_up_closes_every_socket(world: World) {
    world.run(async |world| {
        let (one, held) = silent(&world).await;
        let (other, held_too) = silent(&world).await;
        let remote = [&one, &other, &one].map(|address| Endpoint::stream(address.clone()));
        let event_loop = world.event_loop.clone();
        let task = world.event_loop.spawn(async move {
            let connected = event_loop.connect_any(remote.into(), None, after(SHORT));
            connected.await.map(drop)
        });
        while world.waiting() < 3 {
            world.event_loop.sleep(SHORT).await;
        }
        assert_eq!(world.open_sockets(), 4 + 3);
        assert!(task.cancel());
        assert_eq!((world.open_sockets(), world.waiting()), (4, 0));
        drop((held, held_too));
    });
}

fn a_connection_takes_the_options(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(Recorder::default).await;
        let options = ConnectOptions {
            happy_eyeballs_delay: Some(SHORT),
            interleave: Some(2),
            ..ConnectOptions::default()
        };
        let transport = world
            .event_loop
            .create_connection(Recorder::default, "127.0.0.1", port, &options)
            .await
            .unwrap();
        transport.abort();
        server.close();
        server.wait_closed().await;
    });
}

// What follows depends on exact times, or on what the kernel does not do on demand.

#[test]
fn the_families_take_turns() {
    let world = World::simulated(0);
    world.run(async |world| {
        let ours = SocketAddress::from(SocketAddr::from((Ipv6Addr::LOCALHOST, 80)));
        let reactor = world.event_loop.reactor();
        let listener = reactor.open(Family::INET6, libc::SOCK_STREAM, 0).unwrap();
        reactor.bind(listener.fd(), &ours).unwrap();
        reactor.listen(listener.fd(), 1).unwrap();
        let nowhere = [1, 2, 3].map(|last| -> SocketAddress {
            SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), 80)).into()
        });
        let addresses = [&nowhere[0], &nowhere[1], &nowhere[2], &ours];
        let delay = Duration::from_millis(250);
        for (interleave, delays) in [(None, 1), (Some(0), 3), (Some(1), 1), (Some(2), 2)] {
            let how = HappyEyeballs {
                delay: Some(delay),
                interleave,
            };
            let begun = world.event_loop.time();
            let (socket, address) = connect(&world, &addresses, how).await.unwrap();
            assert_eq!(address, ours);
            let took = world.event_loop.time() - begun;
            assert_eq!(took, delay * delays, "{interleave:?}");
            drop(socket);
            drop(world.event_loop.sock_accept(&listener).await.unwrap());
        }
        let one_by_one = HappyEyeballs {
            delay: None,
            interleave: Some(1),
        };
        let begun = world.event_loop.time();
        let connected = connect(&world, &addresses, one_by_one).await;
        assert_eq!(connected.unwrap().1, ours);
        assert_eq!(world.event_loop.time() - begun, CONNECT_TIMEOUT);
    });
}

#[test]
fn an_attempt_that_cannot_begin_has_failed() {
    let world = World::simulated(0);
    world.run(async |world| {
        let (listener, answering) = world.listener();
        let network = world.network().unwrap();
        network.fail_next(Call::Open, libc::EAFNOSUPPORT);
        let begun = world.event_loop.time();
        let addresses = [&answering, &answering];
        let connected = connect(&world, &addresses, after(LONG)).await;
        assert_eq!(connected.unwrap().1, answering);
        assert_eq!(world.event_loop.time(), begun);
        drop(listener);
    });
}

#[test]
fn the_last_to_fail_ends_it() {
    let world = World::with(Config::new(0).latency(Duration::from_millis(10)));
    world.run(async |world| {
        // Gives up after two minutes; the other refuses at once, and is told behind it.
        let nowhere = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 80)).into();
        let addresses = [&nowhere, &refusing(&world)];
        let begun = world.event_loop.time();
        let errors = connect(&world, &addresses, after(SHORT)).await.unwrap_err();
        assert_eq!(world.event_loop.time() - begun, CONNECT_TIMEOUT);
        let told: Vec<_> = errors
            .errors()
            .iter()
            .map(|it| it.error.raw_os_error())
            .collect();
        assert_eq!(told, [Some(libc::ETIMEDOUT), Some(libc::ECONNREFUSED)]);
    });
}

#[test]
fn whoever_answers_first_wins() {
    for seed in 0..20 {
        // Each connection has a length of its own: sometimes the second overtakes the first.
        let config = Config::new(seed).jitter(Duration::from_millis(100));
        let world = World::with(config);
        world.run(async |world| {
            let (one, first) = world.listener();
            let (other, second) = world.listener();
            let connected = connect(&world, &[&first, &second], after(SHORT)).await;
            let (socket, address) = connected.unwrap();
            assert_eq!(world.open_sockets(), 3, "one winner");
            assert!(address == first || address == second);
            drop((socket, one, other));
        });
    }
}
