//! Files that are sent: through a socket of the program's, and through a transport.

use std::fs::File;
use std::io::{ErrorKind, Seek, Write};
use std::time::Duration;

use crate::common::world::pattern;
use crate::common::{Log, Recorder, World};

crate::on_every_network!(
    a_file_is_sent_whole_or_in_part,
    a_slow_reader_is_waited_for,
    a_peer_that_goes_ends_the_sending,
    giving_up_leaves_the_position_behind_what_was_sent,
    what_was_written_before_goes_before_the_file,
    nothing_else_is_sent_or_read_meanwhile,
    a_transport_that_closes_ends_the_sending,
    a_pipe_takes_no_file,
);

/// A file without a name, at its beginning.
fn file_of(bytes: &[u8]) -> File {
    let name = format!(
        "aioxide-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    );
    let path = std::env::temp_dir().join(name);
    let options = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path);
    let mut file = options.unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// More than the network holds.
fn much(world: &World) -> usize {
    if world.network().is_some() {
        40_000
    } else {
        16 << 20
    }
}

fn a_file_is_sent_whole_or_in_part(world: World) {
    world.run(async |world| {
        let (one, other) = world.socket_pair().await;
        let mut file = file_of(&pattern(5000));
        let event_loop = &world.event_loop;
        for (offset, count, sent) in [
            (0, None, 5000),
            (100, Some(50), 50),
            (4990, Some(50), 10),
            (5000, None, 0),
            (9000, Some(1), 0),
            (0, Some(0), 0),
        ] {
            let told = event_loop.sock_sendfile(&one, &file, offset, count).await;
            assert_eq!(told.unwrap(), sent);
            let (from, count) = (offset as usize, sent as usize);
            let received = world.read_exactly(&other, count).await;
            assert!(count == 0 || received == pattern(5000)[from..from + count]);
            assert_eq!(file.stream_position().unwrap(), offset + sent);
        }
    });
}

fn a_slow_reader_is_waited_for(world: World) {
    world.run(async |world| {
        let (one, other) = world.socket_pair().await;
        let count = much(&world);
        let file = file_of(&pattern(count));
        let sending = async {
            let sent = world.event_loop.sock_sendfile(&one, &file, 0, None).await;
            drop(one);
            sent.unwrap()
        };
        let (sent, received) = futures_util::join!(sending, world.read_all(&other));
        assert_eq!(sent, count as u64);
        assert!(received == pattern(count));
    });
}

fn a_peer_that_goes_ends_the_sending(world: World) {
    world.run(async |world| {
        let (one, other) = world.socket_pair().await;
        // Not sent before the news of the end is back.
        let file = file_of(&pattern(much(&world).max(1 << 20)));
        let leaving = async move {
            world.turns(3).await;
            drop(other);
            world
        };
        let event_loop = aioxide::EventLoop::running().unwrap();
        let sending = event_loop.sock_sendfile(&one, &file, 0, None);
        let (sent, _world) = futures_util::join!(sending, leaving);
        let kinds = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
        assert!(kinds.contains(&sent.unwrap_err().kind()));
    });
}

fn giving_up_leaves_the_position_behind_what_was_sent(world: World) {
    world.run(async |world| {
        let (one, other) = world.socket_pair().await;
        let count = much(&world);
        let mut file = file_of(&pattern(count));
        let sending = world.event_loop.sock_sendfile(&one, &file, 0, None);
        let a_while = Duration::from_millis(200);
        assert!(world.event_loop.timeout(a_while, sending).await.is_err());
        drop(one);
        let received = world.read_all(&other).await;
        let position = file.stream_position().unwrap();
        assert!(position > 0 && position < count as u64);
        assert!(received == pattern(count)[..position as usize]);
    });
}

fn what_was_written_before_goes_before_the_file(world: World) {
    world.run(async |world| {
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let (server, port) = world.serve(move || recorder.clone()).await;
        let transport = world.connect(port, Recorder::default()).await;
        let file = file_of(b" file ");
        let count = much(&world);
        transport.write(&pattern(count));
        let sent = world.event_loop.sendfile(&transport, &file, 0, None).await;
        assert_eq!(sent.unwrap(), 6);
        transport.write(b"after");
        transport.close();
        log.until("lost").await;
        let data = log.data().clone();
        let (before, rest) = data.split_at(count);
        assert!(before == pattern(count));
        assert_eq!(rest, b" file after");
        server.close();
        server.wait_closed().await;
    });
}

fn nothing_else_is_sent_or_read_meanwhile(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(|| Recorder::echo(&Log::default())).await;
        let log = Log::default();
        let transport = world.connect(port, Recorder::new(&log)).await;
        let sender = transport.begin_sendfile().unwrap();
        assert!(!transport.is_reading());
        transport.write(b"x");
        assert_eq!(
            world.reports(),
            ["Bytes were written while a file is being sent: \
              unable to write; sendfile is in progress"]
        );
        let second = transport.begin_sendfile().err().unwrap();
        assert_eq!(second.kind(), ErrorKind::ResourceBusy);
        drop(sender);
        assert!(transport.is_reading());
        transport.write(b"again");
        log.received(5).await;
        transport.close();
        let closed = transport.begin_sendfile().err().unwrap();
        assert_eq!(closed.kind(), ErrorKind::NotConnected);
        server.close();
        server.wait_closed().await;
    });
}

fn a_transport_that_closes_ends_the_sending(world: World) {
    world.run(async |world| {
        for abort in [false, true] {
            let log = Log::default();
            let recorder = Recorder::new(&log);
            let (server, port) = world.serve(move || recorder.clone()).await;
            // It does not read.
            let peer = world.peer(port).await;
            log.until("made").await;
            let transport = log.transport();
            let file = file_of(&pattern(much(&world)));
            let sending = world.event_loop.sendfile(&transport, &file, 0, None);
            let closing = async {
                world.turns(20).await;
                if abort {
                    transport.abort();
                } else {
                    transport.close();
                }
            };
            let (sent, ()) = futures_util::join!(sending, closing);
            assert_eq!(sent.unwrap_err().kind(), ErrorKind::ConnectionAborted);
            log.until("lost").await;
            assert_eq!(log.error(), None);
            drop(peer);
            server.close();
            server.wait_closed().await;
        }
    });
}

fn a_pipe_takes_no_file(world: World) {
    world.run(async |world| {
        let (_reader, writer) = world.pipe();
        let transport = world.write_pipe(writer, Recorder::default()).await;
        let refused = transport.begin_sendfile().err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        transport.write(b"x");
        transport.close();
    });
}
