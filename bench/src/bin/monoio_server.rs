//! A peer that completes rather than waits for readiness: the echo server on monoio, over io_uring.

use std::error::Error;
use std::io;
use std::os::fd::AsFd;

use aioxide_bench::{RECEIVE_BUFFER, announce, listen};
use monoio::buf::IoBuf;
use monoio::fs::File;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};

fn main() -> Result<(), Box<dyn Error>> {
    let listener = listen()?;
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new().build()?;
    runtime.block_on(async {
        let stdin = File::from_std(io::stdin().as_fd().try_clone_to_owned()?.into())?;
        announce(&listener)?;
        let listener = TcpListener::from_std(listener)?;
        monoio::spawn(async move { accept(listener).await.ok() });
        // A pipe has no position: this reads whatever comes, and nothing comes but the end.
        let (ended, _) = stdin.read_at(vec![0; 1], 0).await;
        ended?;
        Ok(())
    })
}

async fn accept(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A connection that fails is the client's to notice; the server goes on.
        monoio::spawn(async move { echo(stream).await.ok() });
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(RECEIVE_BUFFER);
    loop {
        buffer.clear();
        let (received, filled) = stream.read(buffer).await;
        let received = received?;
        if received == 0 {
            return Ok(());
        }
        let (sent, slice) = stream.write_all(filled.slice(..received)).await;
        sent?;
        buffer = slice.into_inner();
    }
}
