//! add_reader and add_writer.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use crate::common::world::yield_now;
use crate::common::{Log, Recorder, World};

crate::on_every_network!(
    readers_and_writers_are_called_until_removed,
    a_reader_is_replaced,
    a_reader_on_a_transports_descriptor_is_refused,
    a_reader_may_remove_itself_and_panic,
);

fn readers_and_writers_are_called_until_removed(world: World) {
    world.run(async |world| {
        let (client, server) = world.socket_pair().await;
        let calls = Rc::new(Cell::new((0, 0)));
        let (reads, writes) = (Rc::clone(&calls), Rc::clone(&calls));
        let event_loop = &world.event_loop;
        let read = move || reads.set((reads.get().0 + 1, reads.get().1));
        let write = move || writes.set((writes.get().0, writes.get().1 + 1));
        event_loop.add_reader(&server, read).unwrap();
        event_loop.add_writer(&server, write).unwrap();
        event_loop.sock_sendall(&client, b"x").await.unwrap();
        while calls.get().0 < 3 || calls.get().1 < 3 {
            yield_now().await;
        }
        assert!(event_loop.remove_reader(&server) && event_loop.remove_writer(&server));
        assert!(!event_loop.remove_reader(&server) && !event_loop.remove_writer(&server));
        let before = calls.get();
        world.turns(5).await;
        assert_eq!(calls.get(), before);
    });
}

fn a_reader_is_replaced(world: World) {
    world.run(async |world| {
        let (client, server) = world.socket_pair().await;
        let event_loop = &world.event_loop;
        let called = Rc::new(Cell::new(false));
        let second = Rc::clone(&called);
        event_loop
            .add_reader(&server, || panic!("replaced"))
            .unwrap();
        event_loop
            .add_reader(&server, move || second.set(true))
            .unwrap();
        event_loop.sock_sendall(&client, b"x").await.unwrap();
        while !called.get() {
            yield_now().await;
        }
        event_loop.remove_reader(&server);
    });
}

fn a_reader_on_a_transports_descriptor_is_refused(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(Recorder::default).await;
        let log = Log::default();
        let transport = world.connect(port, Recorder::new(&log)).await;
        let fd = transport.fd().unwrap();
        let refused = world.event_loop.add_reader(&fd, || {}).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        assert!(transport.base().is_receiving());
        transport.close();
        server.close();
        server.wait_closed().await;
    });
}

fn a_reader_may_remove_itself_and_panic(world: World) {
    world.run(async |world| {
        let (client, server) = world.socket_pair().await;
        let event_loop = world.event_loop.clone();
        let fd = server.fd();
        let read = move || {
            event_loop.remove_reader(&fd);
            panic!("in a reader");
        };
        world.event_loop.add_reader(&server, read).unwrap();
        world.event_loop.sock_sendall(&client, b"x").await.unwrap();
        while world.waiting() > 0 {
            yield_now().await;
        }
        world.turns(2).await;
        assert_eq!(
            world.reports(),
            ["Panic in a callback: panicked: in a reader"]
        );
    });
}
