//! Layer 3: the client of `unix_echo_server`.
//!
//! ```text
//! cargo run --example unix_echo_client path
//! ```

use std::io;

use aioxide::open_unix_connection;

async fn echo_client(path: String) -> io::Result<()> {
    let (mut reader, writer) = open_unix_connection(path).await?;
    for message in ["Hello", "World!"] {
        println!("Send: {message:?}");
        writer.write(format!("{message}\n").as_bytes());
        writer.drain().await?;
        let line = reader.readline().await?;
        println!("Received: {:?}", String::from_utf8_lossy(&line).trim_end());
    }
    println!("Close the connection");
    writer.close();
    writer.wait_closed().await
}

fn main() -> io::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_default();
    aioxide::run(echo_client(path))?
}
