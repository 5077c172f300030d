//! Layer 1: operations on the program's own sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use aioxide::SocketAddress;

use common::World;
use common::world::{loopback, pattern};

on_every_network!(
    bytes_pass_both_ways,
    much_is_sent_in_parts,
    receiving_into_memory_fills_what_has_come,
    the_end_is_an_empty_receive,
    a_connect_that_is_refused_fails,
    a_connect_is_not_over_because_somebody_woke_it,
    an_accept_waits_for_a_client,
    a_cancelled_receive_leaves_nothing_and_loses_nothing,
    a_cancelled_send_leaves_nothing,
    a_cancelled_accept_leaves_nothing,
    a_cancelled_connect_leaves_nothing,
    two_may_wait_on_one_socket,
    a_socket_that_is_not_open_fails,
);

const HOUR: Duration = Duration::from_secs(3600);

fn bytes_pass_both_ways(world: World) {
    world.run(async |world| {
        let (client, server) = world.socket_pair().await;
        let event_loop = &world.event_loop;
        for _ in 0..3 {
            event_loop.sock_sendall(&client, b"question").await.unwrap();
            assert_eq!(world.read_exactly(&server, 8).await, b"question");
            event_loop.sock_sendall(&server, b"answer").await.unwrap();
            assert_eq!(world.read_exactly(&client, 6).await, b"answer");
        }
        event_loop.sock_sendall(&client, b"").await.unwrap();
    });
}

fn much_is_sent_in_parts(world: World) {
    world.run(async |world| {
        let (client, server) = world.socket_pair().await;
        let count = if world.network().is_some() {
            100_000
        } else {
            8 << 20
        };
        let event_loop = world.event_loop.clone();
        let sender = world.event_loop.spawn(async move {
            let sent = event_loop.sock_sendall(&client, &pattern(count)).await;
            sent.unwrap();
        });
        let received = world.read_all(&server).await;
        assert!(received == pattern(count));
        sender.await.unwrap();
    });
}

fn receiving_into_memory_fills_what_has_come(world: World) {
    world.run(async |world| {
        let (client, server) = world.socket_pair().await;
        let event_loop = &world.event_loop;
        event_loop.sock_sendall(&client, b"abc").await.unwrap();
        let (mut memory, mut filled) = ([b'-'; 6], 0);
        while filled < 3 {
            let free = &mut memory[filled..];
            filled += event_loop.sock_recv_into(&server, free).await.unwrap();
        }
        assert_eq!(&memory, b"abc---");
    });
}

fn the_end_is_an_empty_receive(world: World) {
    world.run(async |world| {
        let (client, server) = world.socket_pair().await;
        let event_loop = &world.event_loop;
        event_loop.sock_sendall(&client, b"last").await.unwrap();
        event_loop.reactor().shutdown_write(client.fd()).unwrap();
        assert_eq!(world.read_all(&server).await, b"last");
        event_loop.sock_sendall(&server, b"half").await.unwrap();
        drop(server);
        assert_eq!(world.read_all(&client).await, b"half");
    });
}

fn a_connect_that_is_refused_fails(world: World) {
    world.run(async |world| {
        let (listener, address) = world.listener();
        drop(listener);
        let client = world.socket();
        let refused = world.event_loop.sock_connect(&client, address).await;
        assert_eq!(
            refused.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    });
}

fn a_connect_is_not_over_because_somebody_woke_it(world: World) {
    world.run(async |world| {
        let (listener, address) = world.listener();
        let client = world.socket();
        let fd = client.fd();
        let event_loop = world.event_loop.clone();
        let meddler = world.event_loop.spawn(async move {
            event_loop.remove_writer(&fd);
        });
        let connected = world.event_loop.sock_connect(&client, address);
        connected.await.unwrap();
        assert!(world.event_loop.reactor().peer_address(fd).is_ok());
        meddler.await.unwrap();
        drop(listener);
    });
}

fn an_accept_waits_for_a_client(world: World) {
    world.run(async |world| {
        let (listener, address) = world.listener();
        let event_loop = world.event_loop.clone();
        let accepting = world
            .event_loop
            .spawn(async move { event_loop.sock_accept(&listener).await.unwrap() });
        world.turns(2).await;
        assert!(!accepting.is_finished());
        let client = world.socket();
        let connected = world.event_loop.sock_connect(&client, address);
        connected.await.unwrap();
        let (server, peer) = accepting.await.unwrap();
        let reactor = world.event_loop.reactor();
        assert_eq!(peer.unwrap(), reactor.local_address(client.fd()).unwrap());
        drop(server);
    });
}

/// Starts `operation`, lets it wait, and drops it: no operation waits that did not before.
async fn cancel<T: 'static>(world: &World, operation: impl Future<Output = T> + 'static) {
    let before = world.waiting();
    let task = world.event_loop.spawn(operation);
    world.turns(2).await;
    assert_eq!(world.waiting(), before + 1, "it waits");
    assert!(task.cancel());
    assert_eq!(world.waiting(), before, "it has left something behind");
}

fn a_cancelled_receive_leaves_nothing_and_loses_nothing(world: World) {
    world.run(async |world| {
        let (client, server) = world.socket_pair().await;
        let (event_loop, fd) = (world.event_loop.clone(), server.fd());
        cancel(&world, async move { event_loop.sock_recv(&fd, 10).await }).await;
        let sent = world.event_loop.sock_sendall(&client, b"kept");
        sent.await.unwrap();
        assert_eq!(world.read_exactly(&server, 4).await, b"kept");
    });
}

fn a_cancelled_send_leaves_nothing(world: World) {
    world.run(async |world| {
        let (client, _server) = world.socket_pair().await;
        // Fills every buffer on the way.
        let (event_loop, fd) = (world.event_loop.clone(), client.fd());
        let filling = async move { event_loop.sock_sendall(&fd, &vec![0; 64 << 20]).await };
        let task = world.event_loop.spawn(filling);
        let limit = if world.network().is_some() {
            HOUR
        } else {
            Duration::from_millis(50)
        };
        world.event_loop.sleep(limit).await;
        assert_eq!(world.waiting(), 1);
        assert!(task.cancel());
        assert_eq!(world.waiting(), 0);
    });
}

fn a_cancelled_accept_leaves_nothing(world: World) {
    world.run(async |world| {
        let (listener, address) = world.listener();
        let (event_loop, fd) = (world.event_loop.clone(), listener.fd());
        cancel(&world, async move { event_loop.sock_accept(&fd).await }).await;
        let client = world.socket();
        let connected = world.event_loop.sock_connect(&client, address);
        connected.await.unwrap();
        world.event_loop.sock_accept(&listener).await.unwrap();
    });
}

fn a_cancelled_connect_leaves_nothing(world: World) {
    world.run(async |world| {
        let (listener, address) = world.listener();
        let client = world.socket();
        {
            let connecting = world.event_loop.sock_connect(&client, address);
            let limited = world.event_loop.timeout(Duration::ZERO, connecting);
            // On loopback it may be over at once.
            let _ = limited.await;
        }
        assert_eq!(world.waiting(), 0);
        drop((client, listener));
        assert_eq!(world.open_sockets(), 0);
    });
}

fn two_may_wait_on_one_socket(world: World) {
    world.run(async |world| {
        let (listener, address) = world.listener();
        let accepting: Vec<_> = (0..2)
            .map(|_| {
                let (event_loop, fd) = (world.event_loop.clone(), listener.fd());
                world
                    .event_loop
                    .spawn(async move { event_loop.sock_accept(&fd).await.unwrap().0 })
            })
            .collect();
        world.turns(2).await;
        let mut sockets = Vec::new();
        for task in accepting {
            let client = world.socket();
            let connected = world.event_loop.sock_connect(&client, address.clone());
            connected.await.unwrap();
            sockets.push((client, task.await.unwrap()));
        }
        assert_eq!(world.open_sockets(), 5);
    });
}

fn a_socket_that_is_not_open_fails(world: World) {
    world.run(async |world| {
        let event_loop = &world.event_loop;
        for fd in [-1, i32::MAX] {
            let errors = [
                event_loop.sock_recv(&fd, 1).await.map(drop),
                event_loop.sock_sendall(&fd, b"x").await,
                event_loop.sock_accept(&fd).await.map(drop),
                event_loop.sock_connect(&fd, loopback(1)).await,
            ];
            for error in errors {
                assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EBADF));
            }
        }
    });
}

// ---- datagrams: on the kernel's network ----

/// A UDP socket on loopback that does not block, and its address.
fn udp() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn datagrams_come_one_by_one_with_their_senders() {
    World::epoll().run(async |world| {
        let event_loop = &world.event_loop;
        let (receiver, to) = udp();
        let (first, first_address) = udp();
        let (second, second_address) = udp();
        // An empty one counts as well.
        let datagrams = [
            (&first, &b"one"[..]),
            (&second, &b""[..]),
            (&first, &b"three"[..]),
        ];
        for (socket, data) in datagrams {
            let sent = event_loop.sock_sendto(socket, data, to).await.unwrap();
            assert_eq!(sent, data.len());
        }
        let peers = [first_address, second_address, first_address];
        for ((_, data), peer) in datagrams.into_iter().zip(peers) {
            let received = event_loop.sock_recvfrom(&receiver, 1000).await.unwrap();
            assert_eq!(received, (data.to_vec(), Some(SocketAddress::from(peer))));
        }
    });
}

#[test]
fn a_datagram_fills_memory_as_far_as_it_goes() {
    World::epoll().run(async |world| {
        let event_loop = &world.event_loop;
        let ((receiver, to), (sender, from)) = (udp(), udp());
        let mut memory = [b'-'; 4];
        for (data, expected) in [
            (&b"ab"[..], b"ab--"),
            (b"cdef", b"cdef"),
            (b"ghijkl", b"ghij"),
        ] {
            event_loop.sock_sendto(&sender, data, to).await.unwrap();
            let (count, peer) = event_loop
                .sock_recvfrom_into(&receiver, &mut memory)
                .await
                .unwrap();
            assert_eq!((count, &memory), (data.len().min(4), expected));
            assert_eq!(peer, Some(from.into()));
        }
        // What was cut off has gone, not the datagram after it.
        event_loop.sock_sendto(&sender, b"long", to).await.unwrap();
        event_loop.sock_sendto(&sender, b"next", to).await.unwrap();
        let cut = event_loop.sock_recvfrom(&receiver, 2).await.unwrap();
        assert_eq!(cut.0, b"lo");
        let none = event_loop.sock_recvfrom(&receiver, 0).await.unwrap();
        assert_eq!(none, (vec![], Some(from.into())));
    });
}

#[test]
fn receiving_waits_for_a_datagram() {
    World::epoll().run(async |world| {
        let ((receiver, to), (sender, from)) = (udp(), udp());
        let event_loop = world.event_loop.clone();
        let receiving = world
            .event_loop
            .spawn(async move { event_loop.sock_recvfrom(&receiver, 10).await.unwrap() });
        world.turns(2).await;
        assert!(!receiving.is_finished());
        let sent = world.event_loop.sock_sendto(&sender, b"late", to);
        sent.await.unwrap();
        assert_eq!(
            receiving.await.unwrap(),
            (b"late".to_vec(), Some(from.into()))
        );
    });
}

#[test]
fn a_cancelled_receive_loses_no_datagram() {
    World::epoll().run(async |world| {
        let ((receiver, to), (sender, _)) = (udp(), udp());
        let (event_loop, fd) = (world.event_loop.clone(), receiver.as_raw_fd());
        cancel(
            &world,
            async move { event_loop.sock_recvfrom(&fd, 10).await },
        )
        .await;
        let sent = world.event_loop.sock_sendto(&sender, b"kept", to);
        sent.await.unwrap();
        let received = world.event_loop.sock_recvfrom(&receiver, 10).await;
        assert_eq!(received.unwrap().0, b"kept");
    });
}

#[test]
fn sending_waits_for_room() {
    World::epoll().run(async |world| {
        // A Unix socket's queue is full when its peer does not read; the Internet drops instead.
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        sender.set_nonblocking(true).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let (event_loop, socket) = (world.event_loop.clone(), sender.try_clone().unwrap());
        let sending = world.event_loop.spawn(async move {
            for number in 0..1000_u32 {
                let bytes = number.to_be_bytes();
                event_loop.sock_sendall(&socket, &bytes).await.unwrap();
            }
        });
        for _ in 0..3 {
            world.turns(2).await;
        }
        assert!(!sending.is_finished(), "a queue of a thousand");
        for number in 0..1000_u32 {
            let received = world.event_loop.sock_recvfrom(&receiver, 100).await;
            // Its peer has no name.
            assert_eq!(received.unwrap(), (number.to_be_bytes().to_vec(), None));
        }
        sending.await.unwrap();
    });
}

#[test]
fn a_named_unix_peer_is_told() {
    World::epoll().run(async |world| {
        let event_loop = &world.event_loop;
        let address = |side: &str| {
            // An abstract name: it goes with its socket.
            let name = format!("\0aioxide-{}-{side}", std::process::id());
            SocketAddress::unix(name).unwrap()
        };
        let open = |address: &SocketAddress| {
            let socket = event_loop
                .reactor()
                .open(address.family(), libc::SOCK_DGRAM, 0)
                .unwrap();
            event_loop.reactor().bind(socket.fd(), address).unwrap();
            socket
        };
        let (here, there) = (address("here"), address("there"));
        let (sender, receiver) = (open(&here), open(&there));
        let sent = event_loop.sock_sendto(&sender, b"named", there).await;
        assert_eq!(sent.unwrap(), 5);
        let received = event_loop.sock_recvfrom(&receiver, 100).await.unwrap();
        assert_eq!(received, (b"named".to_vec(), Some(here)));
    });
}

#[test]
fn the_errors_of_datagrams_are_the_kernels() {
    World::epoll().run(async |world| {
        let event_loop = &world.event_loop;
        let ((socket, to), (gone, nobody)) = (udp(), udp());
        let large = event_loop.sock_sendto(&socket, &[0; 70_000], to).await;
        assert_eq!(large.unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        drop(gone);
        socket.connect(nobody).unwrap();
        event_loop.sock_sendto(&socket, b"x", nobody).await.unwrap();
        let refused = event_loop.sock_recvfrom(&socket, 10).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        for fd in [-1, i32::MAX] {
            let mut memory = [0];
            let errors = [
                event_loop.sock_recvfrom(&fd, 1).await.map(drop),
                event_loop
                    .sock_recvfrom_into(&fd, &mut memory)
                    .await
                    .map(drop),
                event_loop.sock_sendto(&fd, b"x", to).await.map(drop),
            ];
            for error in errors {
                assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EBADF));
            }
        }
    });
}
