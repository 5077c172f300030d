//! Layer 2: a client that sends its message in parts, then its end, and waits for the server's.
//!
//! ```text
//! cargo run --example parts_echo_client port
//! ```

use std::io;

use aioxide::{ConnectOptions, Future, Protocol, Transport};

const PARTS: [&str; 3] = ["This is the message. ", "It will be sent ", "in parts."];

struct EchoClient {
    done: Future<()>,
}

impl Protocol for EchoClient {
    fn connection_made(&mut self, transport: Transport) {
        if let Some(peer) = transport.peer_address() {
            println!("EchoClient: connected to {peer}");
        }
        for part in PARTS {
            transport.write(part.as_bytes());
            println!("EchoClient: sending {part:?}");
        }
        if transport.can_write_eof()
            && let Err(error) = transport.write_eof()
        {
            println!("EchoClient: cannot send an end: {error}");
        }
    }

    fn data_received(&mut self, data: &[u8]) {
        println!("EchoClient: received {:?}", String::from_utf8_lossy(data));
    }

    fn eof_received(&mut self) -> bool {
        println!("EchoClient: received EOF");
        false
    }

    fn connection_lost(&mut self, _error: Option<io::Error>) {
        println!("EchoClient: server closed connection");
        let _ = self.done.set_result(());
    }
}

async fn talk(port: u16) -> io::Result<()> {
    let event_loop = aioxide::running()?;
    let done = event_loop.create_future();
    let client = EchoClient { done: done.clone() };
    let options = ConnectOptions::default();
    event_loop
        .create_connection(|| client, "127.0.0.1", port, &options)
        .await?;
    done.await
        .map_err(|error| io::Error::other(error.to_string()))
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_default();
    aioxide::run(talk(port.parse().map_err(io::Error::other)?))?
}
