//! Layer 2, datagrams: listens to a multicast group on this machine, until somebody says goodbye.
//! The socket is made by hand, because joining a group is the socket's business.
//!
//! ```text
//! cargo run --example multicast_listener [port]
//! ```

use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use aioxide::{DatagramProtocol, DatagramTransport, Future, SocketAddress};

/// A group of the range that stays within an organisation (RFC 2365).
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 1);

struct Listener {
    transport: Option<DatagramTransport>,
    on_connection_lost: Future<()>,
}

impl DatagramProtocol for Listener {
    fn connection_made(&mut self, transport: DatagramTransport) {
        self.transport = Some(transport);
    }

    fn datagram_received(&mut self, data: &[u8], peer: Option<&SocketAddress>) {
        let text = String::from_utf8_lossy(data);
        if let Some(peer) = peer {
            println!("{text:?} from {peer}");
        }
        if data == b"goodbye"
            && let Some(transport) = &self.transport
        {
            transport.close();
        }
    }

    fn connection_lost(&mut self, _error: Option<io::Error>) {
        // Fails only if it was set before, and connection_lost is called once.
        let _ = self.on_connection_lost.set_result(());
    }
}

async fn listen(port: u16) -> io::Result<()> {
    let event_loop = aioxide::running()?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    socket.join_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST)?;
    println!("Listening to {GROUP}:{}", socket.local_addr()?.port());
    let on_connection_lost = event_loop.create_future();
    let listener = Listener {
        transport: None,
        on_connection_lost: on_connection_lost.clone(),
    };
    event_loop
        .create_datagram_endpoint_on(|| listener, socket)
        .await?;
    let lost = on_connection_lost.await;
    lost.map_err(|error| io::Error::other(error.to_string()))
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse());
    aioxide::run(listen(port.map_err(io::Error::other)?))?
}
