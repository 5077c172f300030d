//! A peer that completes rather than waits for readiness: the echo server on compio, over io_uring.

use std::error::Error;
use std::io;
use std::os::fd::AsFd;

use aioxide_bench::{RECEIVE_BUFFER, announce, listen};
use compio::BufResult;
use compio::buf::{IntoInner, IoBuf};
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::Runtime;
use compio::runtime::fd::PollFd;

fn main() -> Result<(), Box<dyn Error>> {
    let listener = listen()?;
    Runtime::new()?.block_on(async {
        let stdin = PollFd::new(io::stdin().as_fd().try_clone_to_owned()?)?;
        announce(&listener)?;
        let listener = TcpListener::from_std(listener)?;
        compio::runtime::spawn(async move { accept(listener).await.ok() }).detach();
        // Nothing is ever written to it, so readable is ended.
        Ok(stdin.read_ready().await?)
    })
}

async fn accept(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        rustix::net::sockopt::set_tcp_nodelay(&stream, true)?;
        // A connection that fails is the client's to notice; the server goes on.
        compio::runtime::spawn(async move { echo(stream).await.ok() }).detach();
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(RECEIVE_BUFFER);
    loop {
        buffer.clear();
        let BufResult(received, filled) = stream.read(buffer).await;
        let received = received?;
        if received == 0 {
            return Ok(());
        }
        let BufResult(sent, slice) = stream.write_all(filled.slice(..received)).await;
        sent?;
        buffer = slice.into_inner();
    }
}
