//! The echo client of `make demo`: sends three lines, one after the other, and shows the answers.
//!
//! ```text
//! cargo run --example echo_client port
//! ```

use std::io;

use aioxide::open_connection;

async fn talk(port: u16) -> io::Result<()> {
    let (mut reader, writer) = open_connection("127.0.0.1", port).await?;
    for line in ["hello\n", "from Rust\n", "goodbye\n"] {
        println!("sent     {line:?}");
        writer.write(line.as_bytes());
        writer.drain().await?;
        let answer = reader.readexactly(line.len()).await?;
        println!("received {:?}", String::from_utf8_lossy(&answer));
    }
    writer.write_eof()?;
    let rest = reader.read_to_end().await?;
    println!(
        "the server closed the connection, {} bytes were left",
        rest.len()
    );
    writer.close();
    writer.wait_closed().await
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_default();
    aioxide::run(talk(port.parse().map_err(io::Error::other)?))?
}
