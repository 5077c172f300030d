//! Layer 2, datagrams: an echo server and its client, in one program.
//!
//! ```text
//! cargo run --example udp_echo
//! ```

use std::io;

use aioxide::{DatagramOptions, DatagramProtocol, DatagramTransport, Future, SocketAddress};

struct Server {
    transport: Option<DatagramTransport>,
}

impl DatagramProtocol for Server {
    fn connection_made(&mut self, transport: DatagramTransport) {
        self.transport = Some(transport);
    }

    fn datagram_received(&mut self, data: &[u8], peer: Option<&SocketAddress>) {
        println!("Server: {:?}", String::from_utf8_lossy(data));
        if let (Some(transport), Some(peer)) = (&self.transport, peer)
            && let Err(error) = transport.send_to(data, peer)
        {
            println!("Server: no answer to {peer}: {error}");
        }
    }
}

struct Client {
    /// Words to say, last one first.
    words: Vec<&'static str>,
    transport: Option<DatagramTransport>,
    on_connection_lost: Future<()>,
}

impl Client {
    /// Says the next word, or ends.
    fn say(&mut self) {
        let Some(transport) = &self.transport else {
            return;
        };
        match self.words.pop() {
            Some(word) => {
                println!("Client: send {word:?}");
                // The endpoint has a remote address: none is needed.
                if let Err(error) = transport.send_to(word.as_bytes(), None) {
                    println!("Client: not sent: {error}");
                }
            }
            None => transport.close(),
        }
    }
}

impl DatagramProtocol for Client {
    fn connection_made(&mut self, transport: DatagramTransport) {
        self.transport = Some(transport);
        self.say();
    }

    fn datagram_received(&mut self, data: &[u8], _peer: Option<&SocketAddress>) {
        println!("Client: received {:?}", String::from_utf8_lossy(data));
        self.say();
    }

    fn error_received(&mut self, error: io::Error) {
        println!("Client: {error}");
    }

    fn connection_lost(&mut self, _error: Option<io::Error>) {
        println!("Client: closed");
        // Fails only if it was set before, and connection_lost is called once.
        let _ = self.on_connection_lost.set_result(());
    }
}

async fn talk() -> io::Result<()> {
    let event_loop = aioxide::running()?;
    let options = DatagramOptions::default();
    let server = event_loop
        .create_datagram_endpoint(
            || Server { transport: None },
            Some(("127.0.0.1", 0)),
            None,
            &options,
        )
        .await?;
    let port = server.local_address().and_then(|address| address.port());
    let on_connection_lost = event_loop.create_future();
    let client = Client {
        words: vec!["twice", "once"],
        transport: None,
        on_connection_lost: on_connection_lost.clone(),
    };
    let remote = Some(("127.0.0.1", port.unwrap_or_default()));
    event_loop
        .create_datagram_endpoint(|| client, None, remote, &options)
        .await?;
    let lost = on_connection_lost.await;
    server.close();
    lost.map_err(|error| io::Error::other(error.to_string()))
}

fn main() -> io::Result<()> {
    aioxide::run(talk())?
}
