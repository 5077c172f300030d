//! Layer 1: a server on a socket of the program's own. It answers whatever a client says, until the
//! client says `quit`.
//!
//! ```text
//! cargo run --example sock_quit_server [port]
//! ```

use std::io;
use std::net::TcpListener;

use aioxide::{EventLoop, Socket, SocketAddress};

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse());
    let port: u16 = port.map_err(io::Error::other)?;
    let event_loop = EventLoop::new()?;
    event_loop.run(run_server(event_loop.clone(), port))?
}

async fn run_server(event_loop: EventLoop, port: u16) -> io::Result<()> {
    // Any socket will do, as long as it does not block.
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    listener.set_nonblocking(true)?;
    println!("Serving on {}", listener.local_addr()?);
    loop {
        let (client, peer) = event_loop.sock_accept(&listener).await?;
        let Some(peer) = peer else { continue };
        println!("connected to client: {peer}");
        let serving = event_loop.clone();
        event_loop.spawn(async move {
            if let Err(error) = handle_client(serving, client, &peer).await {
                println!("lost {peer}: {error}");
            }
        });
    }
}

async fn handle_client(
    event_loop: EventLoop,
    client: Socket,
    peer: &SocketAddress,
) -> io::Result<()> {
    loop {
        let said = event_loop.sock_recv(&client, 1024).await?;
        if said.is_empty() {
            return Ok(());
        }
        println!("got from {peer}: {}", String::from_utf8_lossy(&said));
        event_loop.sock_sendall(&client, b"got message").await?;
        if said == b"quit" {
            return Ok(());
        }
    }
}
