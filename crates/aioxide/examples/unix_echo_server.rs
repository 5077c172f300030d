//! Layer 3: an echo of lines on a Unix socket.
//!
//! ```text
//! cargo run --example unix_echo_server path
//! ```

use std::io;

use aioxide::{StreamReader, StreamWriter, start_unix_server};

async fn handle_echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    let mut lines = reader.lines();
    while let Some(line) = lines.next().await? {
        let message = String::from_utf8_lossy(&line);
        println!("Received {:?}", message.trim_end());
        writer.write(&line);
        writer.drain().await?;
    }
    println!("Close the connection");
    writer.close();
    writer.wait_closed().await
}

async fn serve(path: String) -> io::Result<()> {
    let server = start_unix_server(handle_echo, path).await?;
    println!("Serving on {}", server.local_addresses()[0]);
    server.serve_forever().await
}

fn main() -> io::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_default();
    aioxide::run(serve(path))?
}
