//! The two ends of a connection, without a network around them.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::Duration;

use crate::reactor::simulated::connection::{Connection, Wire};
use crate::reactor::simulated::end::Role;
use crate::reactor::simulated::end::Role::{Client, Server};
use crate::sys::buffer::Buffer;
use crate::sys::clock::Time;

const NOW: Time = Time::ZERO;

fn connection() -> Connection {
    connection_of(Duration::ZERO)
}

fn connection_of(latency: Duration) -> Connection {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let wire = Wire {
        send_buffer: 4,
        receive_buffer: 4,
        latency,
    };
    Connection::new(wire, address, address)
}

fn send(connection: &mut Connection, role: Role, bytes: &[u8]) -> Result<usize, i32> {
    let sent = connection.send(role, &[IoSlice::new(bytes)], usize::MAX, NOW);
    sent.map_err(|error| error.raw_os_error().unwrap_or(0))
}

fn receive(connection: &mut Connection, role: Role) -> Result<usize, i32> {
    let mut memory = [0; 16];
    let received = connection.receive(role, &mut Buffer::from(&mut memory[..]), 16, NOW);
    received.map_err(|error| error.raw_os_error().unwrap_or(0))
}

#[test]
fn two_buffers_bound_a_sender() {
    let mut connection = connection();
    assert_eq!(send(&mut connection, Client, &[0; 9]), Ok(4));
    assert_eq!(send(&mut connection, Client, &[0; 9]), Ok(4));
    assert_eq!(send(&mut connection, Client, &[0; 9]), Err(libc::EAGAIN));
    assert!(!connection.is_writable(Client));
    assert_eq!(receive(&mut connection, Server), Ok(4));
    assert!(connection.is_writable(Client));
    assert_eq!(connection.bytes_in_flight(), 4);
}

#[test]
fn a_half_close_ends_one_direction() {
    let mut connection = connection();
    assert_eq!(send(&mut connection, Client, b"ab"), Ok(2));
    assert!(connection.shutdown_write(Client, NOW).is_ok());
    assert!(
        connection.shutdown_write(Client, NOW).is_ok(),
        "twice is as good as once"
    );
    assert_eq!(send(&mut connection, Client, b"c"), Err(libc::EPIPE));
    assert_eq!(receive(&mut connection, Server), Ok(2));
    assert_eq!(receive(&mut connection, Server), Ok(0));
    assert_eq!(receive(&mut connection, Server), Ok(0));
    assert_eq!(send(&mut connection, Server, b"yes"), Ok(3));
    assert_eq!(receive(&mut connection, Client), Ok(3));
}

#[test]
fn the_first_send_to_a_closed_peer_succeeds_and_the_next_fails() {
    let mut connection = connection();
    connection.close(Server, NOW);
    assert_eq!(send(&mut connection, Client, b"a"), Ok(1));
    assert_eq!(send(&mut connection, Client, b"a"), Err(libc::EPIPE));
    assert_eq!(send(&mut connection, Client, b"a"), Err(libc::EPIPE));
    assert_eq!(receive(&mut connection, Client), Ok(0));
    connection.close(Client, NOW);
    assert!(connection.is_over());
}

#[test]
fn closing_with_bytes_unreceived_resets() {
    let mut connection = connection();
    assert_eq!(send(&mut connection, Server, b"bye"), Ok(3));
    assert_eq!(send(&mut connection, Client, b"a"), Ok(1));
    connection.close(Server, NOW);
    assert_eq!(
        receive(&mut connection, Client),
        Ok(3),
        "delivered before the reset"
    );
    assert_eq!(
        receive(&mut connection, Client),
        Err(libc::ECONNRESET),
        "once"
    );
    assert_eq!(receive(&mut connection, Client), Ok(0));
    assert_eq!(send(&mut connection, Client, b"a"), Err(libc::EPIPE));
    assert!(connection.shutdown_write(Client, NOW).is_err());
}

#[test]
fn a_close_delivers_what_was_sent_before() {
    let mut connection = connection();
    assert_eq!(send(&mut connection, Client, &[0; 4]), Ok(4));
    assert_eq!(send(&mut connection, Client, &[0; 4]), Ok(4));
    connection.close(Client, NOW);
    assert_eq!(receive(&mut connection, Server), Ok(4));
    assert_eq!(receive(&mut connection, Server), Ok(4));
    assert_eq!(receive(&mut connection, Server), Ok(0));
}

#[test]
fn a_cut_reaches_both_ends() {
    let mut connection = connection();
    connection.end_mut(Client).incoming.stalled = true;
    connection.cut(NOW);
    for role in Role::BOTH {
        assert!(connection.end(role).is_readable() && connection.is_writable(role));
        assert_eq!(receive(&mut connection, role), Err(libc::ECONNRESET));
    }
}

#[test]
fn a_segment_travels_for_as_long_as_the_wire_is() {
    let mut connection = connection_of(Duration::from_nanos(7));
    assert_eq!(send(&mut connection, Client, b"a"), Ok(1));
    assert_eq!(receive(&mut connection, Server), Err(libc::EAGAIN));
    let arrival = connection.next_arrival(NOW).unwrap_or_default();
    assert_eq!(arrival, Time::from_nanos(7));
    connection.settle(arrival);
    assert_eq!(receive(&mut connection, Server), Ok(1));
}
