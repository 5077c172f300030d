//! The echo server of `make demo`: sends back what it receives, until the client ends, and shows
//! what passed over the wire.
//!
//! ```text
//! cargo run --example echo_server [port]
//! ```

use std::io;

use aioxide::{StreamReader, StreamWriter, start_server};

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    let peer = writer
        .peer_address()
        .and_then(|peer| peer.port())
        .unwrap_or(0);
    println!("[{peer}] connected");
    loop {
        let data = reader.read(64 * 1024).await?;
        if data.is_empty() {
            break;
        }
        println!("[{peer}] -> {:?}", String::from_utf8_lossy(&data));
        writer.write(&data);
        writer.drain().await?;
        println!("[{peer}] <- {:?}", String::from_utf8_lossy(&data));
    }
    writer.close();
    writer.wait_closed().await?;
    println!("[{peer}] closed");
    Ok(())
}

async fn serve(port: u16) -> io::Result<()> {
    let server = start_server(echo, Some("127.0.0.1"), port).await?;
    println!("Serving on {}", server.local_addresses()[0]);
    server.serve_forever().await
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse());
    aioxide::run(serve(port.map_err(io::Error::other)?))?
}
