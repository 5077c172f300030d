//! An HTTP client, third way: with streams.
//!
//! ```text
//! python3 -m http.server 8000 &
//! cargo run --example http_get_streams localhost 8000
//! ```

use std::io;

use aioxide::open_connection;

async fn get(host: String, port: u16) -> io::Result<()> {
    let (mut reader, writer) = open_connection(&host, port).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    writer.write(request.as_bytes());
    writer.drain().await?;
    let mut lines = reader.lines();
    while let Some(line) = lines.next().await? {
        print!("{}", String::from_utf8_lossy(&line));
    }
    writer.close();
    writer.wait_closed().await
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or_else(|| "localhost".into());
    let port = arguments.next().map_or(Ok(8000), |port| port.parse());
    aioxide::run(get(host, port.map_err(io::Error::other)?))?
}
