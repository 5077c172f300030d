//! Layer 1: the client of `sock_quit_server`. It says what it reads from its input, line by line.
//!
//! ```text
//! cargo run --example sock_quit_client port
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use aioxide::{EventLoop, Family};

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_default();
    let port: u16 = port.parse().map_err(io::Error::other)?;
    let event_loop = EventLoop::new()?;
    event_loop.run(request(event_loop.clone(), port))?
}

async fn request(event_loop: EventLoop, port: u16) -> io::Result<()> {
    // SOCK_STREAM is 1 on Linux.
    let client = event_loop.reactor().open(Family::INET, 1, 0)?;
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    event_loop.sock_connect(&client, server).await?;
    event_loop
        .sock_sendall(&client, b"ack from client connect success")
        .await?;
    let answer = event_loop.sock_recv(&client, 1024).await?;
    println!("{}", String::from_utf8_lossy(&answer));
    loop {
        // Reading the terminal blocks, so another thread does it.
        let line = event_loop.run_in_executor(read_line).await??;
        let message = line.as_deref().unwrap_or("quit");
        event_loop.sock_sendall(&client, message.as_bytes()).await?;
        if message == "quit" {
            return Ok(());
        }
        let answer = event_loop.sock_recv(&client, 1024).await?;
        println!(
            "got message from server: {}",
            String::from_utf8_lossy(&answer)
        );
    }
}

/// `None` at the end of the input.
fn read_line() -> io::Result<Option<String>> {
    let mut line = String::new();
    let count = io::stdin().read_line(&mut line)?;
    Ok((count > 0).then(|| line.trim_end().to_owned()))
}
