//! Layer 2: an echo that answers the client's end with its own.
//!
//! ```text
//! cargo run --example parts_echo_server [port]
//! ```

use std::io;

use aioxide::{Protocol, ServerOptions, Transport};

#[derive(Default)]
struct EchoServer {
    transport: Option<Transport>,
    name: String,
}

impl EchoServer {
    fn log(&self, what: &str) {
        println!("{}: {what}", self.name);
    }
}

impl Protocol for EchoServer {
    fn connection_made(&mut self, transport: Transport) {
        let peer = transport.peer_address();
        self.name = format!(
            "EchoServer_{}",
            peer.and_then(|peer| peer.port()).unwrap_or(0)
        );
        self.log("connection accepted");
        self.transport = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        self.log(&format!("received {text:?}"));
        if let Some(transport) = &self.transport {
            transport.write(data);
            self.log(&format!("sent {text:?}"));
        }
    }

    /// False: the transport closes itself, after what was written.
    fn eof_received(&mut self) -> bool {
        self.log("received EOF");
        if let Some(transport) = &self.transport
            && transport.can_write_eof()
            && let Err(error) = transport.write_eof()
        {
            self.log(&format!("cannot answer it: {error}"));
        }
        false
    }

    fn connection_lost(&mut self, error: Option<io::Error>) {
        match error {
            Some(error) => self.log(&format!("ERROR: {error}")),
            None => self.log("closing"),
        }
    }
}

async fn serve(port: u16) -> io::Result<()> {
    let server = aioxide::running()?
        .create_server(
            EchoServer::default,
            Some("127.0.0.1"),
            port,
            &ServerOptions::default(),
        )
        .await?;
    println!("Serving on {}", server.local_addresses()[0]);
    server.serve_forever().await
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse());
    aioxide::run(serve(port.map_err(io::Error::other)?))?
}
