//! Unix sockets: connections, servers and their files. On the kernel's network alone: the simulated
//! one has none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aioxide::{
    AddressErrors, Family, Server, Socket, SocketAddress, StreamReader, StreamWriter,
    UnixServerOptions,
};
use common::{Log, Recorder, World};

/// A directory of the test's own.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("aioxide-unix-{}-{count}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        Scratch(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.join("socket")
    }

    /// A name that is nobody else's.
    fn name(&self) -> String {
        format!("\0{}", self.0.display())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run<F: Future<Output = ()> + 'static>(test: impl FnOnce(World, Scratch) -> F) {
    World::epoll().run(|world| test(world, Scratch::new()));
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

async fn serve(world: &World, path: impl AsRef<Path>, options: &UnixServerOptions) -> Server {
    let factory = || Recorder::echo(&Log::default());
    let server = world.event_loop.create_unix_server(factory, path, options);
    server.await.unwrap()
}

async fn refusal(world: &World, path: impl AsRef<Path>) -> io::Error {
    let options = UnixServerOptions::default();
    let server = world
        .event_loop
        .create_unix_server(Recorder::default, path, &options);
    server.await.unwrap_err()
}

async fn end(server: Server) {
    server.close();
    server.wait_closed().await;
}

/// Sends a word, and has it back.
async fn greet(world: &World, path: impl AsRef<Path>) {
    let log = Log::default();
    let recorder = Recorder::new(&log);
    let connected = world
        .event_loop
        .create_unix_connection(|| recorder, path.as_ref());
    let transport = connected.await.unwrap();
    transport.write(b"hello");
    log.received(5).await;
    transport.close();
    log.until("lost").await;
    assert_eq!(*log.data(), b"hello");
}

#[test]
fn an_echo_over_a_path_and_over_an_abstract_name() {
    run(async |world, scratch| {
        let options = UnixServerOptions::default();
        for path in [scratch.path(), scratch.name().into()] {
            let server = serve(&world, &path, &options).await;
            assert!(server.is_serving());
            greet(&world, &path).await;
            end(server).await;
        }
    });
}

#[test]
fn streams_over_a_path() {
    async fn shout(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
        let line = reader.readline().await?;
        writer.write(&line.to_ascii_uppercase());
        writer.drain().await
    }
    run(async |_world, scratch| {
        let server = aioxide::start_unix_server(shout, scratch.path());
        let server = server.await.unwrap();
        let connected = aioxide::open_unix_connection(scratch.path());
        let (mut reader, writer) = connected.await.unwrap();
        writer.write(b"hello\n");
        assert_eq!(reader.read_to_end().await.unwrap(), b"HELLO\n");
        writer.close();
        writer.wait_closed().await.unwrap();
        end(server).await;
    });
}

#[test]
fn both_ends_know_their_addresses() {
    run(async |world, scratch| {
        let at_server = Log::default();
        let recorder = Recorder::new(&at_server);
        let factory = move || recorder.clone();
        let options = UnixServerOptions::default();
        let server = world
            .event_loop
            .create_unix_server(factory, scratch.path(), &options);
        let server = server.await.unwrap();
        let address = SocketAddress::unix(scratch.path()).unwrap();
        assert_eq!(server.local_addresses()[0], address);
        assert_eq!(address.path(), Some(&*scratch.path()));

        let client = world
            .event_loop
            .create_unix_connection(Recorder::default, scratch.path());
        let client = client.await.unwrap();
        at_server.until("made").await;
        let accepted = at_server.transport();
        assert_eq!(client.peer_address(), Some(address.clone()));
        assert_eq!(accepted.local_address(), Some(address));
        for unnamed in [client.local_address(), accepted.peer_address()] {
            let unnamed = unnamed.unwrap();
            assert_eq!((unnamed.family(), unnamed.path()), (Family::UNIX, None));
            assert_eq!(unnamed.to_string(), "(unnamed)");
        }
        client.abort();
        end(server).await;
    });
}

#[test]
fn a_server_listens_when_it_is_told_to() {
    run(async |world, scratch| {
        let options = UnixServerOptions {
            start_serving: false,
            ..UnixServerOptions::default()
        };
        let server = serve(&world, scratch.path(), &options).await;
        let refused = world
            .event_loop
            .create_unix_connection(Recorder::default, scratch.path());
        let refused = refused.await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        server.start_serving().unwrap();
        greet(&world, scratch.path()).await;
        end(server).await;
        assert!(!scratch.path().exists());
    });
}

#[test]
fn a_closed_server_leaves_no_file() {
    run(async |world, scratch| {
        let server = serve(&world, scratch.path(), &UnixServerOptions::default()).await;
        assert!(is_socket(&scratch.path()));
        server.close();
        assert!(!scratch.path().exists());
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn a_server_may_leave_its_file() {
    run(async |world, scratch| {
        let options = UnixServerOptions {
            cleanup_socket: false,
            ..UnixServerOptions::default()
        };
        let server = serve(&world, scratch.path(), &options).await;
        end(server).await;
        assert!(is_socket(&scratch.path()));
    });
}

#[test]
fn a_server_removes_no_file_but_its_own() {
    run(async |world, scratch| {
        let options = UnixServerOptions::default();
        let first = serve(&world, scratch.path(), &options).await;
        let second = serve(&world, scratch.path(), &options).await;
        end(first).await;
        greet(&world, scratch.path()).await;
        std::fs::remove_file(scratch.path()).unwrap();
        end(second).await;
        let third = serve(&world, scratch.path(), &options).await;
        std::fs::remove_file(scratch.path()).unwrap();
        std::fs::write(scratch.path(), "precious").unwrap();
        end(third).await;
        assert!(scratch.path().exists());
    });
}

#[test]
fn closing_the_loop_removes_the_file_too() {
    let (world, scratch) = (World::epoll(), Scratch::new());
    let path = scratch.path();
    world.run(async |world| {
        let server = serve(&world, path, &UnixServerOptions::default()).await;
        drop(server);
    });
    assert!(!scratch.path().exists());
}

#[test]
fn a_file_that_a_server_has_left_is_replaced() {
    run(async |world, scratch| {
        drop(std::os::unix::net::UnixListener::bind(scratch.path()).unwrap());
        assert!(is_socket(&scratch.path()));
        let server = serve(&world, scratch.path(), &UnixServerOptions::default()).await;
        greet(&world, scratch.path()).await;
        end(server).await;
    });
}

#[test]
fn what_is_no_socket_is_neither_replaced_nor_removed() {
    run(async |world, scratch| {
        std::fs::write(scratch.path(), "precious").unwrap();
        let refused = refusal(&world, scratch.path()).await;
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        let path = scratch.path().display().to_string();
        assert!(refused.to_string().contains(&path), "{refused}");
        assert_eq!(std::fs::read(scratch.path()).unwrap(), b"precious");
        assert_eq!(world.open_sockets(), 0);
    });
}

#[test]
fn an_abstract_name_is_given_once() {
    run(async |world, scratch| {
        let server = serve(&world, scratch.name(), &UnixServerOptions::default()).await;
        let refused = refusal(&world, scratch.name()).await;
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        end(server).await;
        let server = serve(&world, scratch.name(), &UnixServerOptions::default()).await;
        end(server).await;
    });
}

#[test]
fn a_path_that_cannot_be_is_refused() {
    run(async |world, scratch| {
        let too_long = scratch.0.join("x".repeat(108));
        let nowhere = scratch.0.join("no").join("directory");
        let below_a_file = scratch.path().join("below");
        std::fs::write(scratch.path(), "a file").unwrap();
        for (path, errno) in [
            (Path::new(""), None),
            (&too_long, None),
            (&nowhere, Some(libc::ENOENT)),
            (&below_a_file, Some(libc::ENOTDIR)),
        ] {
            let connected = world
                .event_loop
                .create_unix_connection(Recorder::default, path);
            for error in [connected.await.unwrap_err(), refusal(&world, path).await] {
                let inside = AddressErrors::of(&error).map(|all| all.errors());
                let inside = inside.and_then(|all| all[0].error.raw_os_error());
                assert_eq!(inside, errno, "{error}");
            }
        }
        assert_eq!(world.open_sockets(), 0);
    });
}

/// A listener with room for one client, which is there.
async fn full(world: &World, path: &Path) -> (Socket, Socket) {
    let reactor = world.event_loop.reactor();
    let open = || reactor.open(Family::UNIX, libc::SOCK_STREAM, 0).unwrap();
    let (listener, client) = (open(), open());
    let address = SocketAddress::unix(path).unwrap();
    reactor.bind(listener.fd(), &address).unwrap();
    reactor.listen(listener.fd(), 0).unwrap();
    let connected = world.event_loop.sock_connect(&client, address);
    connected.await.unwrap();
    (listener, client)
}

#[test]
fn a_full_queue_is_waited_for() {
    run(async |world, scratch| {
        let (listener, first) = full(&world, &scratch.path()).await;
        let log = Log::default();
        let recorder = Recorder::new(&log);
        let (event_loop, path) = (world.event_loop.clone(), scratch.path());
        let connecting = world.event_loop.spawn(async move {
            event_loop
                .create_unix_connection(|| recorder, path)
                .await
                .unwrap()
        });
        // Some attempts long.
        world.event_loop.sleep(Duration::from_millis(10)).await;
        assert!(!connecting.is_finished() && !log.has("made"));
        let (accepted, _) = world.event_loop.sock_accept(&listener).await.unwrap();
        let transport = connecting.await.unwrap();
        assert!(log.has("made"));
        let (second, _) = world.event_loop.sock_accept(&listener).await.unwrap();
        let sent = world.event_loop.sock_sendall(&second, b"welcome");
        sent.await.unwrap();
        log.received(7).await;
        transport.close();
        drop((listener, first, accepted));
    });
}

#[test]
fn nobody_waits_for_a_queue_any_more() {
    run(async |world, scratch| {
        let held = full(&world, &scratch.path()).await;
        let connected = world
            .event_loop
            .create_unix_connection(Recorder::default, scratch.path());
        let limit = Duration::from_millis(10);
        let timed_out = world.event_loop.timeout(limit, connected).await;
        assert!(timed_out.is_err());
        assert_eq!((world.open_sockets(), world.waiting()), (2, 0));
        drop(held);
    });
}

#[test]
fn a_listener_that_goes_away_is_no_longer_waited_for() {
    run(async |world, scratch| {
        let (listener, client) = full(&world, &scratch.path()).await;
        let (event_loop, path) = (world.event_loop.clone(), scratch.path());
        let connecting = world.event_loop.spawn(async move {
            let connected = event_loop.create_unix_connection(Recorder::default, path);
            connected.await.map(drop)
        });
        world.turns(2).await;
        drop((listener, client));
        let refused = connecting.await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    });
}
