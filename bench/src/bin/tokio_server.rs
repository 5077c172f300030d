//! The peer: the echo server as tokio's own tutorial writes it, on the current_thread runtime.

use std::error::Error;
use std::io;
use std::os::fd::AsFd;

use aioxide_bench::{RECEIVE_BUFFER, announce, listen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Receiver;
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = listen()?;
    let mut stdin = Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    announce(&listener)?;
    let listener = TcpListener::from_std(listener)?;
    tokio::select! {
        ended = stdin.read_u8() => drop(ended),
        failed = accept(listener) => failed?,
    }
    Ok(())
}

async fn accept(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A connection that fails is the client's to notice; the server goes on.
        tokio::spawn(async move { echo(stream).await.ok() });
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; RECEIVE_BUFFER];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            received => stream.write_all(&buffer[..received]).await?,
        }
    }
}
