//! What can be an end, and two of them in one loop.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use aioxide::{EventLoop, Transport};

use crate::common::world::pattern;
use crate::common::{Log, Recorder, World};

crate::on_every_network!(
    both_ends_in_one_loop,
    a_socket_can_be_an_end,
    descriptors_that_are_closed_are_refused,
    the_loop_owns_both_ends,
);

fn both_ends_in_one_loop(world: World) {
    world.run(async |world| {
        let (reader, writer) = world.pipe();
        let (at_reader, at_writer) = (Log::default(), Log::default());
        world.read_pipe(reader, Recorder::new(&at_reader)).await;
        let protocol = Recorder::new(&at_writer);
        let transport = world.write_pipe(writer, protocol).await;
        let count = 12_000;
        transport.write(&pattern(count));
        transport.close();
        at_reader.until("lost").await;
        at_writer.until("lost").await;
        assert!(*at_reader.data() == pattern(count));
        assert_eq!(at_reader.events(), ["made", "data", "eof", "lost"]);
        assert_eq!((at_reader.error(), at_writer.error()), (None, None));
        world.turns(2).await;
        assert_eq!((world.open_sockets(), world.waiting()), (0, 0));
    });
}

fn a_socket_can_be_an_end(world: World) {
    world.run(async |world| {
        let (one, other) = world.socket_pair().await;
        let (at_reader, at_writer) = (Log::default(), Log::default());
        world.read_pipe(one, Recorder::new(&at_reader)).await;
        let transport = world.write_pipe(other, Recorder::new(&at_writer)).await;
        transport.write(&pattern(3000));
        at_reader.received(3000).await;
        assert!(*at_reader.data() == pattern(3000));
        // The reader that goes is noticed here too.
        at_reader.transport().close();
        at_writer.until("lost").await;
        assert_eq!(at_writer.events(), ["made", "lost"]);
    });
}

fn descriptors_that_are_closed_are_refused(world: World) {
    world.run(async |world| {
        for fd in [-1, i32::MAX] {
            let checks = [
                world.event_loop.check_read_pipe(fd),
                world.event_loop.check_write_pipe(fd),
            ];
            for check in checks {
                assert_eq!(check.unwrap_err().raw_os_error(), Some(libc::EBADF));
            }
        }
        let (reader, writer) = world.pipe();
        world.event_loop.check_read_pipe(reader.fd()).unwrap();
        world.event_loop.check_write_pipe(writer.fd()).unwrap();
    });
}

fn the_loop_owns_both_ends(world: World) {
    world.run(async |world| {
        let (reader, writer) = world.pipe();
        let log = Log::default();
        drop(world.read_pipe(reader, Recorder::new(&log)).await);
        let greet: std::rc::Rc<dyn Fn(&Transport)> =
            std::rc::Rc::new(|transport| transport.write(b"hello"));
        let recorder = Recorder {
            greet: Some(greet),
            ..Recorder::default()
        };
        drop(world.write_pipe(writer, recorder).await);
        log.received(5).await;
        log.transport().close();
    });
}

/// A program's own descriptors, through the upper half of the endpoints: the kernel's alone.
fn on_the_kernel<F: Future<Output = ()> + 'static>(test: impl FnOnce(EventLoop) -> F) {
    let world = World::epoll();
    world.run(|world| test(world.event_loop.clone()));
}

#[test]
fn regular_files_are_refused() {
    on_the_kernel(async |event_loop| {
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        let fd = file.as_raw_fd();
        let log = Log::default();
        for refused in [
            event_loop.check_read_pipe(fd),
            event_loop.check_write_pipe(fd),
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        let read = event_loop.connect_read_pipe(|| Recorder::new(&log), file.try_clone().unwrap());
        assert_eq!(read.await.unwrap_err().kind(), ErrorKind::InvalidInput);
        let write = event_loop.connect_write_pipe(|| Recorder::new(&log), file);
        assert_eq!(write.await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(log.events().is_empty());
    });
}

#[test]
fn a_programs_pipe_is_connected() {
    on_the_kernel(async |event_loop| {
        let (reader, writer) = std::io::pipe().unwrap();
        let (at_reader, at_writer) = (Log::default(), Log::default());
        let reading = event_loop.connect_read_pipe(|| Recorder::new(&at_reader), reader);
        reading.await.unwrap();
        let writing = event_loop.connect_write_pipe(|| Recorder::new(&at_writer), writer);
        let transport = writing.await.unwrap();
        transport.write(b"hello");
        at_reader.received(5).await;
        transport.close();
        at_reader.until("lost").await;
    });
}

#[test]
fn a_reader_that_writes_back_on_a_socket_is_as_good_as_gone() {
    // As on CPython's loop: whoever writes through a pipe transport expects nothing to read.
    on_the_kernel(async |event_loop| {
        let (one, mut other) = UnixStream::pair().unwrap();
        let log = Log::default();
        let writing = event_loop.connect_write_pipe(|| Recorder::new(&log), one);
        writing.await.unwrap();
        std::io::Write::write_all(&mut other, b"what?").unwrap();
        log.until("lost").await;
        assert_eq!(log.error(), None);
    });
}

#[test]
fn a_factory_that_panics_loses_its_pipe() {
    on_the_kernel(async |event_loop| {
        let (reader, _writer) = std::io::pipe().unwrap();
        let made = event_loop.connect_read_pipe(|| -> Recorder { panic!("no protocol") }, reader);
        let error = made.await.unwrap_err();
        assert!(error.to_string().contains("no protocol"));
    });
}
