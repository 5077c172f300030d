//! What is no socket: the ends of pipes, and files that are sent.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use aioxide::sys::datagrams::Datagrams;
use aioxide::sys::file::Kind;
use aioxide::sys::socket::set_nonblocking;

use super::*;

/// Runs every case on every back-end, each with a maker of pipes.
macro_rules! with_pipes {
    ($($case:ident,)*) => {
        on_every_reactor! { $($case,)* }
        $(fn $case(reactor: &impl Pipes) { cases::$case(reactor, &|| reactor.pipe()) })*
    };
}

with_pipes! {
    bytes_pass_through_a_pipe,
    a_pipe_holds_its_writer_back,
    small_writes_are_whole,
    a_writer_that_closes_is_the_end,
    a_reader_that_closes_breaks_the_pipe,
    a_reader_that_closes_makes_the_writers_reading_side_ready,
    an_end_is_for_one_way,
    a_socket_is_a_file_too,
    kinds_are_told_apart,
    a_file_is_sent_from_an_offset,
    a_file_is_sent_as_room_allows,
    what_has_no_positions_is_not_sent,
    bad_descriptors_are_refused_as_files,
}

/// A back-end on whose host a pipe can be made.
trait Pipes: Reactor + Sized {
    fn pipe(&self) -> (Socket, Socket);
}

impl Pipes for EpollReactor {
    fn pipe(&self) -> (Socket, Socket) {
        let (reader, writer) = std::io::pipe().unwrap();
        let socket = |fd: OwnedFd| {
            set_nonblocking(fd.as_raw_fd()).unwrap();
            Socket::from(fd)
        };
        (socket(reader.into()), socket(writer.into()))
    }
}

impl Pipes for SimulatedReactor {
    fn pipe(&self) -> (Socket, Socket) {
        self.network().pipe().unwrap()
    }
}

type MakePipe<'a> = &'a dyn Fn() -> (Socket, Socket);

mod cases {
    use super::*;

    pub fn bytes_pass_through_a_pipe(reactor: &dyn Reactor, pipe: MakePipe<'_>) {
        let (reader, writer) = pipe();
        reactor.submit(reader.fd(), Op::Receive, Token(1)).unwrap();
        assert_eq!(look(reactor), []);
        assert_eq!(kind(read(reactor, &reader, 9)), ErrorKind::WouldBlock);
        let slices = [&b"ab"[..], b"", b"cde"].map(IoSlice::new);
        assert_eq!(reactor.write(writer.fd(), &slices).unwrap(), 5);
        assert_eq!(write(reactor, &writer, b"").unwrap(), 0);
        for _ in 0..3 {
            until(reactor, Token(1));
        }
        assert_eq!(read(reactor, &reader, 2).unwrap(), b"ab");
        until(reactor, Token(1));
        assert_eq!(read(reactor, &reader, 9).unwrap(), b"cde");
        assert_eq!(look(reactor), []);
        reactor.cancel(reader.fd(), Side::Read);
    }

    pub fn a_pipe_holds_its_writer_back(reactor: &dyn Reactor, pipe: MakePipe<'_>) {
        let (reader, writer) = pipe();
        reactor.submit(writer.fd(), Op::Send, Token(1)).unwrap();
        assert_eq!(look(reactor), [Token(1)]);
        let much = vec![b'x'; 1 << 20];
        let mut count = write(reactor, &writer, &much).unwrap();
        assert!(count < much.len(), "as much as fits");
        while let Ok(more) = write(reactor, &writer, b"x") {
            count += more;
        }
        assert_eq!(kind(write(reactor, &writer, b"x")), ErrorKind::WouldBlock);
        assert_eq!(look(reactor), []);
        let mut received = 0;
        while received < count {
            received += read(reactor, &reader, 10_000).unwrap().len();
        }
        assert_eq!(received, count);
        until(reactor, Token(1));
        reactor.cancel(writer.fd(), Side::Write);
    }

    pub fn small_writes_are_whole(reactor: &dyn Reactor, pipe: MakePipe<'_>) {
        let (_reader, writer) = pipe();
        let block = [b'x'; 4096];
        loop {
            match write(reactor, &writer, &block) {
                Ok(count) => assert_eq!(count, block.len()),
                Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    pub fn a_writer_that_closes_is_the_end(reactor: &dyn Reactor, pipe: MakePipe<'_>) {
        let (reader, writer) = pipe();
        write(reactor, &writer, b"last").unwrap();
        drop(writer);
        reactor.submit(reader.fd(), Op::Receive, Token(1)).unwrap();
        until(reactor, Token(1));
        assert_eq!(read(reactor, &reader, 9).unwrap(), b"last");
        for _ in 0..2 {
            until(reactor, Token(1));
            assert_eq!(read(reactor, &reader, 9).unwrap(), b"");
        }
        reactor.cancel(reader.fd(), Side::Read);
    }

    pub fn a_reader_that_closes_breaks_the_pipe(reactor: &dyn Reactor, pipe: MakePipe<'_>) {
        let (reader, writer) = pipe();
        write(reactor, &writer, b"unread").unwrap();
        while write(reactor, &writer, &[0; 4096]).is_ok() {}
        reactor.submit(writer.fd(), Op::Send, Token(1)).unwrap();
        assert_eq!(look(reactor), []);
        drop(reader);
        until(reactor, Token(1));
        reactor.cancel(writer.fd(), Side::Write);
        for _ in 0..2 {
            assert_eq!(code(write(reactor, &writer, b"x")), libc::EPIPE);
        }
    }

    pub fn a_reader_that_closes_makes_the_writers_reading_side_ready(
        reactor: &dyn Reactor,
        pipe: MakePipe<'_>,
    ) {
        let (reader, writer) = pipe();
        reactor.submit(writer.fd(), Op::PeerGone, Token(1)).unwrap();
        write(reactor, &writer, b"x").unwrap();
        assert_eq!(look(reactor), []);
        drop(reader);
        until(reactor, Token(1));
        until(reactor, Token(1));
        reactor.cancel(writer.fd(), Side::Read);
    }

    pub fn an_end_is_for_one_way(reactor: &dyn Reactor, pipe: MakePipe<'_>) {
        let (reader, writer) = pipe();
        assert_eq!(code(read(reactor, &writer, 1)), libc::EBADF);
        assert_eq!(code(write(reactor, &reader, b"x")), libc::EBADF);
        for end in [&reader, &writer] {
            assert_eq!(code(receive(reactor, end, 1)), libc::ENOTSOCK);
            assert_eq!(code(send(reactor, end, b"x")), libc::ENOTSOCK);
            assert_eq!(code(reactor.send_to(end.fd(), b"x", None)), libc::ENOTSOCK);
            assert_eq!(code(reactor.local_address(end.fd())), libc::ENOTSOCK);
            assert_eq!(code(reactor.peer_address(end.fd())), libc::ENOTSOCK);
            assert_eq!(code(reactor.shutdown_write(end.fd())), libc::ENOTSOCK);
            assert_eq!(code(reactor.accept(end.fd())), libc::ENOTSOCK);
        }
    }

    pub fn a_socket_is_a_file_too(reactor: &dyn Reactor, _pipe: MakePipe<'_>) {
        let (client, server) = pair(reactor);
        assert_eq!(write(reactor, &client, b"hello").unwrap(), 5);
        readable(reactor, &server);
        assert_eq!(read(reactor, &server, 9).unwrap(), b"hello");
        drop(client);
        readable(reactor, &server);
        assert_eq!(read(reactor, &server, 9).unwrap(), b"");
    }

    pub fn kinds_are_told_apart(reactor: &dyn Reactor, pipe: MakePipe<'_>) {
        let (reader, writer) = pipe();
        assert_eq!(reactor.kind(reader.fd()).unwrap(), Kind::Pipe);
        assert_eq!(reactor.kind(writer.fd()).unwrap(), Kind::Pipe);
        let stream = open(reactor, Family::INET);
        let datagrams = reactor.open(Family::UNIX, libc::SOCK_DGRAM, 0).unwrap();
        for socket in [stream, datagrams] {
            assert_eq!(reactor.kind(socket.fd()).unwrap(), Kind::Socket);
        }
    }

    pub fn a_file_is_sent_from_an_offset(reactor: &dyn Reactor, _pipe: MakePipe<'_>) {
        let (client, server) = pair(reactor);
        let mut file = file_of(b"0123456789");
        let send = |file: &File, offset, count| {
            reactor.send_file(client.fd(), file.as_raw_fd(), offset, count)
        };
        assert_eq!(send(&file, 2, 3).unwrap(), 3);
        assert_eq!(send(&file, 8, 100).unwrap(), 2);
        assert_eq!(send(&file, 10, 100).unwrap(), 0, "the end");
        assert_eq!(send(&file, 1000, 1).unwrap(), 0);
        assert_eq!(send(&file, 0, 0).unwrap(), 0);
        assert_eq!(receive_exactly(reactor, &server, 5), b"23489");
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"0123456789", "its own position has not moved");
    }

    pub fn a_file_is_sent_as_room_allows(reactor: &dyn Reactor, _pipe: MakePipe<'_>) {
        let (client, server) = pair(reactor);
        let count = 8 << 20;
        let file = file_of(&vec![b'x'; count]);
        let mut sent = 0;
        let send = |offset: usize| {
            reactor.send_file(client.fd(), file.as_raw_fd(), offset as u64, count - offset)
        };
        while let Ok(more) = send(sent) {
            assert!(more > 0 && more < count);
            sent += more;
            pass(reactor, Duration::from_millis(1));
        }
        assert_eq!(kind(send(sent)), ErrorKind::WouldBlock);
        reactor.submit(client.fd(), Op::Send, Token(1)).unwrap();
        assert_eq!(look(reactor), []);
        assert_eq!(receive_exactly(reactor, &server, sent).len(), sent);
        until(reactor, Token(1));
        reactor.cancel(client.fd(), Side::Write);
        drop(server);
        let broken = loop {
            match send(0) {
                Ok(_) => pass(reactor, Duration::from_millis(1)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    pass(reactor, Duration::from_millis(1));
                }
                Err(error) => break error.raw_os_error().unwrap(),
            }
        };
        assert!([libc::EPIPE, libc::ECONNRESET].contains(&broken));
    }

    pub fn what_has_no_positions_is_not_sent(reactor: &dyn Reactor, _pipe: MakePipe<'_>) {
        let (client, _server) = pair(reactor);
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"bytes").unwrap();
        let sent = reactor.send_file(client.fd(), reader.as_raw_fd(), 0, 5);
        assert_eq!(code(sent), libc::ESPIPE);
        let unreadable = File::options().write(true).open("/dev/null").unwrap();
        let sent = reactor.send_file(client.fd(), unreadable.as_raw_fd(), 0, 5);
        assert_eq!(code(sent), libc::EBADF);
    }

    pub fn bad_descriptors_are_refused_as_files(reactor: &dyn Reactor, _pipe: MakePipe<'_>) {
        let file = file_of(b"x");
        for fd in [-1, RawFd::MIN, RawFd::MAX] {
            let slices = [IoSlice::new(b"a")];
            let mut memory = [0; 1];
            let buffer = &mut Buffer::from(&mut memory[..]);
            assert_eq!(code(reactor.read(fd, buffer)), libc::EBADF);
            assert_eq!(code(reactor.write(fd, &slices)), libc::EBADF);
            assert_eq!(code(reactor.kind(fd)), libc::EBADF);
            let mut datagrams = Datagrams::default();
            datagrams.clear(1);
            let received = reactor.receive_datagrams(fd, &mut datagrams);
            assert_eq!(code(received), libc::EBADF);
            assert_eq!(code(reactor.send_to(fd, b"a", None)), libc::EBADF);
            let two = [(slices[0], None), (slices[0], None)];
            assert_eq!(code(reactor.send_datagrams(fd, &two)), libc::EBADF);
            let sent = reactor.send_file(fd, file.as_raw_fd(), 0, 1);
            assert_eq!(code(sent), libc::EBADF);
        }
    }
}

// ---------------------------------------------------------------------------------------------
// What the cases are made of

fn read(reactor: &dyn Reactor, end: &Socket, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; limit];
    let count = reactor.read(end.fd(), &mut Buffer::from(&mut bytes[..]))?;
    bytes.truncate(count);
    Ok(bytes)
}

fn write(reactor: &dyn Reactor, end: &Socket, bytes: &[u8]) -> io::Result<usize> {
    reactor.write(end.fd(), &[IoSlice::new(bytes)])
}

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
