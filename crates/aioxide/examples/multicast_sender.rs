//! Layer 2, datagrams: says two words to the group that `multicast_listener` listens to.
//!
//! ```text
//! cargo run --example multicast_sender port
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use aioxide::{DatagramProtocol, SocketAddress};

/// The listener's.
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 1);

struct Sender;

impl DatagramProtocol for Sender {
    fn error_received(&mut self, error: io::Error) {
        println!("not sent: {error}");
    }
}

async fn send(port: u16) -> io::Result<()> {
    let event_loop = aioxide::running()?;
    // Bound to an address of the interface through which the words shall leave.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let transport = event_loop
        .create_datagram_endpoint_on(|| Sender, socket)
        .await?;
    let group = SocketAddress::from(SocketAddr::from((GROUP, port)));
    for word in ["hello", "goodbye"] {
        println!("Send {word:?} to {group}");
        transport.send_to(word.as_bytes(), &group)?;
    }
    transport.close();
    Ok(())
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_default();
    aioxide::run(send(port.parse().map_err(io::Error::other)?))?
}
