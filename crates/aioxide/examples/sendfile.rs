//! Layer 2 below layer 3: a server that sends each client the same file, which does not pass
//! through the program. Its length goes before it, on a line.
//!
//! ```text
//! cargo run --example sendfile path [port]
//! ```

use std::fs::File;
use std::io;
use std::rc::Rc;

use aioxide::{StreamReader, StreamWriter, running, start_server};

async fn send(file: &File, writer: &StreamWriter) -> io::Result<u64> {
    let length = file.metadata()?.len();
    writer.write(format!("{length}\n").as_bytes());
    let transport = writer.transport();
    running()?.sendfile(transport, file, 0, Some(length)).await
}

async fn serve(path: &str, port: u16) -> io::Result<()> {
    let file = Rc::new(File::open(path)?);
    let client = move |_reader: StreamReader, writer: StreamWriter| {
        let file = Rc::clone(&file);
        async move {
            let sent = send(&file, &writer).await?;
            println!("sent {sent} bytes");
            Ok(()) // Dropping the writer closes the connection.
        }
    };
    let server = start_server(client, Some("127.0.0.1"), port).await?;
    println!("Serving on {}", server.local_addresses()[0]);
    server.serve_forever().await
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "Cargo.toml".into());
    let port = arguments.next().map_or(Ok(0), |port| port.parse());
    let port = port.map_err(io::Error::other)?;
    aioxide::run(async move { serve(&path, port).await })?
}
