//! Layer 2: the client of `protocol_echo_server`. A future tells when the connection is lost.
//!
//! ```text
//! cargo run --example protocol_echo_client port
//! ```

use std::io;

use aioxide::{ConnectOptions, Future, Protocol, Transport};

struct Client {
    message: &'static str,
    on_connection_lost: Future<()>,
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: Transport) {
        transport.write(self.message.as_bytes());
        println!("Data sent: {}", self.message);
    }

    fn data_received(&mut self, data: &[u8]) {
        println!("Data received: {}", String::from_utf8_lossy(data));
    }

    fn connection_lost(&mut self, _error: Option<io::Error>) {
        println!("The server closed the connection");
        // Fails only if it was set before, and connection_lost is called once.
        let _ = self.on_connection_lost.set_result(());
    }
}

async fn talk(port: u16) -> io::Result<()> {
    let event_loop = aioxide::running()?;
    let on_connection_lost = event_loop.create_future();
    let client = Client {
        message: "Hello World!",
        on_connection_lost: on_connection_lost.clone(),
    };
    let options = ConnectOptions::default();
    let transport = event_loop
        .create_connection(|| client, "127.0.0.1", port, &options)
        .await?;
    let waited = on_connection_lost.await;
    transport.close();
    waited.map_err(|error| io::Error::other(error.to_string()))
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_default();
    aioxide::run(talk(port.parse().map_err(io::Error::other)?))?
}
