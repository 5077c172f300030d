//! Layer 2: a protocol that sends back what it receives, and closes.
//!
//! ```text
//! cargo run --example protocol_echo_server [port]
//! ```

use std::io;

use aioxide::{Protocol, ServerOptions, Transport};

#[derive(Default)]
struct Echo {
    transport: Option<Transport>,
}

impl Protocol for Echo {
    fn connection_made(&mut self, transport: Transport) {
        if let Some(peer) = transport.peer_address() {
            println!("Connection from {peer}");
        }
        self.transport = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        let message = String::from_utf8_lossy(data);
        println!("Data received: {message}");
        if let Some(transport) = &self.transport {
            println!("Send: {message}");
            transport.write(data);
            println!("Close the client socket");
            transport.close();
        }
    }
}

async fn serve(port: u16) -> io::Result<()> {
    let options = ServerOptions {
        start_serving: false,
        ..ServerOptions::default()
    };
    let server = aioxide::running()?
        .create_server(Echo::default, Some("127.0.0.1"), port, &options)
        .await?;
    server.start_serving()?;
    println!("Serving on {}", server.local_addresses()[0]);
    server.serve_forever().await
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse());
    aioxide::run(serve(port.map_err(io::Error::other)?))?
}
