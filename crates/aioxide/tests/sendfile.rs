//! Files that go to a socket without passing through the program: `sock_sendfile`, and `sendfile`
//! through a transport. On the kernel's network; what every network shows is in
//! `transport/files.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use aioxide::transports::{Output, WriteError};
use aioxide::{Server, Socket, Transport};

use common::world::pattern;
use common::{Log, Recorder, World};

/// More than a socket's buffers take at once.
const MUCH: usize = 16 << 20;

/// So many bytes that tell where they belong: made once.
fn much() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| pattern(MUCH))
}

/// A file of this test's own, without a name: it goes when it is closed.
fn file(bytes: &[u8]) -> File {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("aioxide-sendfile-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(path).unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn position(file: &File) -> u64 {
    (&*file).stream_position().unwrap()
}

/// Bytes that wait in a socket.
fn receivable(socket: &Socket) -> usize {
    aioxide::sys::socket::receivable(socket.fd()).unwrap()
}

/// Polls once, and finds that it waits.
async fn expect_pending(future: std::pin::Pin<&mut impl Future>) {
    let mut future = Some(future);
    poll_fn(|cx| {
        assert!(future.take().unwrap().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

// ---- sock_sendfile ----

#[test]
fn a_file_is_sent_whole_or_in_part() {
    World::epoll().run(async |world| {
        let data = pattern(100_000);
        for (offset, count, expected) in [
            (0, None, &data[..]),
            (0, Some(10), &data[..10]),
            (99_990, Some(10), &data[99_990..]),
            (50_000, None, &data[50_000..]),
            (99_000, Some(1 << 40), &data[99_000..]),
            (0, Some(0), &[]),
            (100_000, None, &[]),
            (1 << 40, Some(1), &[]),
        ] {
            let (client, server) = world.socket_pair().await;
            let file = file(&data);
            // Where the file stands does not matter.
            (&file).seek(io::SeekFrom::Start(7)).unwrap();
            let event_loop = &world.event_loop;
            let sent = event_loop.sock_sendfile(&client, &file, offset, count);
            assert_eq!(sent.await.unwrap(), expected.len() as u64);
            assert_eq!(position(&file), offset + expected.len() as u64);
            drop(client);
            assert!(
                world.read_all(&server).await == expected,
                "{offset} {count:?}"
            );
        }
    });
}

#[test]
fn a_file_that_does_not_fit_is_sent_in_parts() {
    World::epoll().run(async |world| {
        let (client, server) = world.socket_pair().await;
        let event_loop = world.event_loop.clone();
        let sending = world.event_loop.spawn(async move {
            let file = file(much());
            let sent = event_loop.sock_sendfile(&client, &file, 1, None).await;
            (sent.unwrap(), position(&file))
        });
        let received = world.read_all(&server).await;
        assert!(received == much()[1..]);
        let all = MUCH as u64;
        assert_eq!(sending.await.unwrap(), (all - 1, all));
    });
}

#[test]
fn a_peer_that_always_has_room_keeps_the_loop_from_nobody() {
    // Only a network whose peers are never full, and which takes little at once, shows it.
    let world = World::simulated(1);
    world.network().unwrap().limit_transfers(100);
    world.run(async |world| {
        let (client, server) = world.socket_pair().await;
        let file = file(&pattern(1000));
        let mut polls = 0;
        {
            let sending = world.event_loop.sock_sendfile(&client, &file, 0, None);
            let mut sending = pin!(sending);
            let counted = poll_fn(|cx| {
                polls += 1;
                assert_eq!(world.waiting(), 0, "it waits for room");
                sending.as_mut().poll(cx)
            });
            assert_eq!(counted.await.unwrap(), 1000);
        }
        assert!(polls >= 10, "all was sent in {polls} turns");
        drop(client);
        assert!(world.read_all(&server).await == pattern(1000));
    });
}

#[test]
fn a_sending_that_is_dropped_leaves_the_position_behind_what_was_sent() {
    World::epoll().run(async |world| {
        let (client, server) = world.socket_pair().await;
        let file = file(much());
        {
            let sending = world.event_loop.sock_sendfile(&client, &file, 5, None);
            let mut sending = pin!(sending);
            // Until nothing goes any more.
            while world.waiting() == 0 {
                expect_pending(sending.as_mut()).await;
                world.turns(1).await;
            }
        }
        assert_eq!(world.waiting(), 0, "it has left something behind");
        let sent = usize::try_from(position(&file)).unwrap();
        drop(client);
        let received = world.read_all(&server).await;
        assert!(received == much()[5..sent]);
        assert!(sent > 5 && sent < MUCH);
    });
}

#[test]
fn a_peer_that_resets_is_an_error() {
    World::epoll().run(async |world| {
        let (client, server) = world.socket_pair().await;
        let file = file(much());
        let sending = world.event_loop.sock_sendfile(&client, &file, 0, None);
        let mut sending = pin!(sending);
        while world.waiting() == 0 {
            expect_pending(sending.as_mut()).await;
            world.turns(1).await;
        }
        // What it has not read makes the end a reset.
        drop(server);
        let error = sending.await.unwrap_err();
        let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
        assert!(kinds.contains(&error.kind()), "{error}");
        let sent = position(&file);
        assert!(sent > 0 && sent < MUCH as u64);
    });
}

#[test]
fn what_is_no_file_cannot_be_sent() {
    World::epoll().run(async |world| {
        let (client, _server) = world.socket_pair().await;
        let directory = File::open("/").unwrap();
        let (pipe, _writer) = io::pipe().unwrap();
        let pipe: File = OwnedFd::from(pipe).into();
        for (what, file) in [("a directory", &directory), ("a pipe", &pipe)] {
            let sent = world.event_loop.sock_sendfile(&client, file, 0, None);
            let error = sent.await.unwrap_err();
            let codes = [libc::EINVAL, libc::EISDIR, libc::ESPIPE].map(Some);
            assert!(codes.contains(&error.raw_os_error()), "{what}: {error}");
        }
        let file = file(b"x");
        let sent = world.event_loop.sock_sendfile(&-1, &file, 0, None);
        assert_eq!(sent.await.unwrap_err().raw_os_error(), Some(libc::EBADF));
    });
}

// ---- sendfile ----

/// A transport at a server, what happens to it, and the socket of its client.
async fn served(world: &World) -> (Server, Transport, Log, Socket) {
    let log = Log::default();
    let recorder = Recorder::new(&log);
    let (server, port) = world.serve(move || recorder.clone()).await;
    let peer = world.peer(port).await;
    log.until("made").await;
    (server, log.transport(), log, peer)
}

async fn end(world: &World, server: Server) {
    server.close();
    server.wait_closed().await;
    assert_eq!(world.waiting(), 0);
}

#[test]
fn a_file_goes_between_what_is_written_before_and_after() {
    World::epoll().run(async |world| {
        let (server, transport, log, peer) = served(&world).await;
        let sender = {
            let (event_loop, transport) = (world.event_loop.clone(), transport.clone());
            // More before it than the socket takes, so that the file has to wait.
            transport.write(&vec![b'<'; MUCH]);
            world.event_loop.spawn(async move {
                let file = file(much());
                let sent = event_loop.sendfile(&transport, &file, 3, Some(MUCH as u64 - 6));
                let sent = sent.await.unwrap();
                transport.write(b">>>");
                transport.close();
                (sent, position(&file))
            })
        };
        let received = world.read_all(&peer).await;
        let (before, rest) = received.split_at(MUCH);
        let (file, after) = rest.split_at(MUCH - 6);
        assert!(before.iter().all(|byte| *byte == b'<'));
        assert!(file == &much()[3..MUCH - 3]);
        assert_eq!(after, b">>>");
        let all = MUCH as u64;
        assert_eq!(sender.await.unwrap(), (all - 6, all - 3));
        log.until("lost").await;
        assert_eq!(log.error(), None);
        end(&world, server).await;
    });
}

#[test]
fn small_writes_of_the_same_turn_go_first() {
    World::epoll().run(async |world| {
        let (server, transport, log, peer) = served(&world).await;
        let file = file(b"file");
        transport.write(b"before ");
        let sent = world.event_loop.sendfile(&transport, &file, 0, None);
        assert_eq!(sent.await.unwrap(), 4);
        transport.write(b" after");
        transport.close();
        assert_eq!(world.read_all(&peer).await, b"before file after");
        log.until("lost").await;
        end(&world, server).await;
    });
}

#[test]
fn meanwhile_reading_is_paused_and_writing_refused() {
    World::epoll().run(async |world| {
        let (server, transport, log, peer) = served(&world).await;
        let file = file(much());
        {
            let sending = world.event_loop.sendfile(&transport, &file, 0, None);
            let mut sending = pin!(sending);
            expect_pending(sending.as_mut()).await;
            assert!(!transport.is_reading());
            let output = Output {
                bytes: b"in between",
                keep: None,
            };
            assert_eq!(transport.try_write(output), Err(WriteError::SendingFile));
            transport.write(b"in between");
            let reports = world.reports();
            assert_eq!(reports.len(), 1, "{reports:?}");
            assert!(reports[0].starts_with("Bytes were written while a file is being sent"));
            let other = world.event_loop.sendfile(&transport, &file, 0, None).await;
            assert_eq!(other.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
            let sent = world.event_loop.sock_sendall(&peer, b"question");
            sent.await.unwrap();
            world.turns(5).await;
            assert!(!log.has("data"));
            let (sent, received) = futures_util::join!(sending, world.read_exactly(&peer, MUCH));
            assert_eq!(sent.unwrap(), MUCH as u64);
            assert!(received == much());
        }
        assert!(transport.is_reading());
        log.received(8).await;
        assert_eq!(*log.data(), b"question");
        transport.write(b"answer");
        transport.close();
        assert_eq!(world.read_all(&peer).await, b"answer");
        end(&world, server).await;
    });
}

#[test]
fn reading_that_was_paused_before_stays_paused() {
    World::epoll().run(async |world| {
        let (server, transport, _log, _peer) = served(&world).await;
        transport.pause_reading();
        let file = file(b"file");
        let sent = world.event_loop.sendfile(&transport, &file, 0, None);
        sent.await.unwrap();
        assert!(!transport.is_reading());
        transport.close();
        end(&world, server).await;
    });
}

#[test]
fn a_sending_that_is_dropped_gives_the_transport_back() {
    World::epoll().run(async |world| {
        let (server, transport, log, peer) = served(&world).await;
        let file = file(much());
        {
            let sending = world.event_loop.sendfile(&transport, &file, 0, None);
            let mut sending = pin!(sending);
            // Polled until nothing goes any more.
            let mut before = None;
            while before != Some(receivable(&peer)) {
                before = Some(receivable(&peer));
                expect_pending(sending.as_mut()).await;
                world.turns(1).await;
            }
        }
        let sent = usize::try_from(position(&file)).unwrap();
        assert!(sent > 0 && sent < MUCH);
        assert!(transport.is_reading());
        let asked = world.event_loop.sock_sendall(&peer, b"question");
        asked.await.unwrap();
        log.received(8).await;
        transport.write(b"the rest is missing");
        transport.close();
        let received = world.read_all(&peer).await;
        assert!(received[..sent] == much()[..sent]);
        assert_eq!(&received[sent..], b"the rest is missing");
        end(&world, server).await;
    });
}

#[test]
fn a_sending_that_is_dropped_while_it_waits_for_its_turn_sends_nothing() {
    World::epoll().run(async |world| {
        let (server, transport, log, peer) = served(&world).await;
        transport.write(&vec![b'<'; MUCH]);
        let file = file(&pattern(100));
        {
            let sending = world.event_loop.sendfile(&transport, &file, 50, None);
            let mut sending = pin!(sending);
            expect_pending(sending.as_mut()).await;
        }
        assert_eq!(position(&file), 0, "nothing was sent");
        transport.write(b">");
        transport.close();
        let received = world.read_all(&peer).await;
        assert_eq!((received.len(), received.last()), (MUCH + 1, Some(&b'>')));
        log.until("lost").await;
        end(&world, server).await;
    });
}

#[test]
fn a_transport_that_is_closed_meanwhile_ends_the_sending() {
    World::epoll().run(async |world| {
        for (close, with_output) in [(true, true), (true, false), (false, true), (false, false)] {
            let (server, transport, log, peer) = served(&world).await;
            if with_output {
                transport.write(&vec![b'<'; MUCH]);
            }
            let file = file(much());
            let sending = world.event_loop.sendfile(&transport, &file, 0, None);
            let mut sending = pin!(sending);
            for _ in 0..5 {
                expect_pending(sending.as_mut()).await;
                world.turns(1).await;
            }
            if close {
                transport.close();
            } else {
                transport.abort();
            }
            let error = if close && with_output {
                // It learns of it when its turn would have come, or at once.
                let (sent, received) = futures_util::join!(sending, world.read_all(&peer));
                assert!(received == vec![b'<'; MUCH]);
                sent.unwrap_err()
            } else {
                sending.await.unwrap_err()
            };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "{error}");
            log.until("lost").await;
            assert_eq!(log.error(), None);
            let sent = position(&file);
            assert_eq!(sent > 0, !with_output, "{sent}");
            end(&world, server).await;
        }
    });
}

#[test]
fn a_peer_that_resets_meanwhile_ends_the_sending() {
    World::epoll().run(async |world| {
        let (server, transport, log, peer) = served(&world).await;
        let file = file(much());
        let sending = world.event_loop.sendfile(&transport, &file, 0, None);
        let mut sending = pin!(sending);
        for _ in 0..5 {
            expect_pending(sending.as_mut()).await;
            world.turns(1).await;
        }
        drop(peer);
        let error = sending.await.unwrap_err();
        let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
        assert!(kinds.contains(&error.kind()), "{error}");
        assert!(position(&file) > 0);
        // Reading, which goes on, finds it out too.
        log.until("lost").await;
        end(&world, server).await;
    });
}

#[test]
fn a_transport_that_is_closing_sends_no_file() {
    World::epoll().run(async |world| {
        let (server, transport, log, _peer) = served(&world).await;
        let file = file(b"file");
        transport.close();
        for _ in 0..2 {
            let refused = world.event_loop.sendfile(&transport, &file, 0, None).await;
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::NotConnected);
            log.until("lost").await;
        }
        end(&world, server).await;
    });
}

#[test]
fn a_pipe_sends_no_file() {
    World::epoll().run(async |world| {
        let (_reader, writer) = io::pipe().unwrap();
        let log = Log::default();
        let connecting = world
            .event_loop
            .connect_write_pipe(|| Recorder::new(&log), OwnedFd::from(writer));
        let transport = connecting.await.unwrap();
        let refused = world
            .event_loop
            .sendfile(&transport, &file(b"file"), 0, None)
            .await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::Unsupported);
        transport.write(b"alive");
        transport.close();
        log.until("lost").await;
    });
}
