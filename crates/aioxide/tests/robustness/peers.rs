//! Peers that reset, stall and leave; networks that fail.

use std::rc::Rc;
use std::time::Duration;

use aioxide::reactor::simulated::Call;

use crate::common::{Log, Recorder, World};

crate::on_every_network!(peers_that_reset_end_their_connection_alone,);

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
