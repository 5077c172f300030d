//! Layer 3: the client of `streams_echo_server`.
//!
//! ```text
//! cargo run --example streams_echo_client port
//! ```

use std::io;

use aioxide::open_connection;

async fn echo_client(port: u16, message: &str) -> io::Result<()> {
    let (mut reader, writer) = open_connection("127.0.0.1", port).await?;
    println!("Send: {message:?}");
    writer.write(message.as_bytes());
    writer.drain().await?;
    let data = reader.read(100).await?;
    println!("Received: {:?}", String::from_utf8_lossy(&data));
    println!("Close the connection");
    writer.close();
    writer.wait_closed().await
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_default();
    let port = port.parse().map_err(io::Error::other)?;
    aioxide::run(echo_client(port, "Hello World!"))?
}
