//! The peer of the TLS rows: the echo server on tokio's current_thread runtime, through tokio-rustls.

use std::error::Error;
use std::io;
use std::os::fd::AsFd;

use aioxide_bench::{RECEIVE_BUFFER, announce, listen_with_certificate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Receiver;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (listener, config) = listen_with_certificate()?;
    let mut stdin = Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    announce(&listener)?;
    let listener = TcpListener::from_std(listener)?;
    tokio::select! {
        ended = stdin.read_u8() => drop(ended),
        failed = accept(listener, config.into()) => failed?,
    }
    Ok(())
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        // A connection that fails is the client's to notice; the server goes on.
        tokio::spawn(async move { echo(stream, acceptor).await.ok() });
    }
}

async fn echo(stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut buffer = vec![0; RECEIVE_BUFFER];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            received => {
                stream.write_all(&buffer[..received]).await?;
                // What is encrypted and not sent yet leaves with a flush only.
                stream.flush().await?;
            }
        }
    }
}
