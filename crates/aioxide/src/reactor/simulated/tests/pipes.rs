//! Pipes on a host with few descriptors, and in a bad mood.

use super::*;

fn write(reactor: &SimulatedReactor, pipe: &Socket, bytes: &[u8]) -> io::Result<usize> {
    reactor.write(pipe.fd(), &[IoSlice::new(bytes)])
}

fn read(reactor: &SimulatedReactor, pipe: &Socket) -> io::Result<usize> {
    reactor.read(pipe.fd(), &mut Buffer::from(&mut [0; 100][..]))
}

#[test]
fn a_pipe_takes_two_descriptors_and_gives_them_back() {
    let reactor = SimulatedReactor::with(Config::new(0).descriptors(3));
    let network = reactor.network();
    let (reader, writer) = network.pipe().unwrap();
    assert_eq!(network.descriptors(), [reader.fd(), writer.fd()]);
    assert_eq!(code(network.pipe()), Some(libc::EMFILE));
    write(&reactor, &writer, b"unread").unwrap();
    assert_eq!(network.bytes_in_flight(), 6);
    drop(writer);
    assert_eq!(network.bytes_in_flight(), 6);
    drop(reader);
    assert_eq!(network.bytes_in_flight(), 0);
    assert!(network.pipe().is_ok());
    assert_eq!(network.open_descriptors(), 0);
}

#[test]
fn a_pipe_can_dribble() {
    let reactor = SimulatedReactor::with(Config::new(0).pipe_capacity(1));
    let (reader, writer) = reactor.network().pipe().unwrap();
    reactor.network().limit_transfers(2);
    assert_eq!(write(&reactor, &writer, b"abc").unwrap(), 2);
    assert_eq!(write(&reactor, &writer, b"c").unwrap(), 1);
    assert_eq!(read(&reactor, &reader).unwrap(), 2);
    assert_eq!(read(&reactor, &reader).unwrap(), 1);
    assert_eq!(code(read(&reactor, &reader)), Some(libc::EAGAIN));
}

#[test]
fn a_pipe_can_be_made_to_fail() {
    let reactor = SimulatedReactor::new(0);
    let (reader, writer) = reactor.network().pipe().unwrap();
    let network = reactor.network();
    reactor.submit(reader.fd(), Op::Receive, Token(1)).unwrap();
    network.fail_next_on(reader.fd(), Call::Receive, libc::EIO);
    assert_eq!(look(&reactor), [1]);
    assert_eq!(code(read(&reactor, &reader)), Some(libc::EIO));
    network.fail_next_on(writer.fd(), Call::Send, libc::EIO);
    assert_eq!(code(write(&reactor, &writer, b"x")), Some(libc::EIO));
    assert_eq!(write(&reactor, &writer, b"x").unwrap(), 1);
    reactor.cancel(reader.fd(), Side::Read);
}
