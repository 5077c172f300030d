//! Layer 3: an echo with streams.
//!
//! ```text
//! cargo run --example streams_echo_server [port]
//! ```

use std::io;

use aioxide::{StreamReader, StreamWriter, start_server};

async fn handle_echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    let data = reader.read(100).await?;
    let message = String::from_utf8_lossy(&data);
    if let Some(peer) = writer.peer_address() {
        println!("Received {message:?} from {peer}");
    }
    println!("Send: {message:?}");
    writer.write(&data);
    writer.drain().await?;
    println!("Close the connection");
    writer.close();
    writer.wait_closed().await
}

async fn serve(port: u16) -> io::Result<()> {
    let server = start_server(handle_echo, Some("127.0.0.1"), port).await?;
    println!("Serving on {}", server.local_addresses()[0]);
    server.serve_forever().await
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse());
    aioxide::run(serve(port.map_err(io::Error::other)?))?
}
