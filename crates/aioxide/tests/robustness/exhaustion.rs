//! No descriptors left.

use aioxide::DatagramOptions;
use aioxide::reactor::simulated::Call;
use aioxide::server::ACCEPT_RETRY_DELAY;

use crate::common::{Correspondent, Log, Recorder, World};

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
fn an_endpoint_without_a_descriptor_says_so() {
    let world = World::simulated(0);
    world.run(async |world| {
        let network = world.network().unwrap();
        network.limit_descriptors(1);
        let (endpoint, _) = world.endpoint(Correspondent::default()).await;
        let options = DatagramOptions::default();
        let here = Some(("127.0.0.1", 0));
        let refused =
            world
                .event_loop
                .create_datagram_endpoint(Correspondent::default, here, None, &options);
        assert!(refused.await.unwrap_err().to_string().contains("no socket"));
        assert!(network.pipe().is_err());
        endpoint.close();
    });
}
