//! HTTP with hyper, over our streams: whatever speaks the futures-io traits runs on the loop.
//!
//! ```text
//! cargo run --example hyper_server [port]
//! curl http://127.0.0.1:port/
//! ```

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aioxide::{Stream, StreamReader, StreamWriter, start_server};
use futures_util::io::{AsyncBufRead, AsyncWrite};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

/// hyper has traits of its own; this says them in terms of futures-io's.
struct Hyper(Stream);

impl Read for Hyper {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = ready!(Pin::new(&mut self.0).poll_fill_buf(cx))?;
        let count = bytes.len().min(buffer.remaining());
        buffer.put_slice(&bytes[..count]);
        Pin::new(&mut self.0).consume(count);
        Poll::Ready(Ok(()))
    }
}

impl Write for Hyper {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    println!("{} {}", request.method(), request.uri());
    let text = format!("Hello from {}\n", request.uri().path());
    Ok(Response::new(Full::from(text)))
}

async fn serve_http(reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    http1::Builder::new()
        .serve_connection(Hyper(Stream::new(reader, writer)), service_fn(answer))
        .await
        .map_err(io::Error::other)
}

async fn serve(port: u16) -> io::Result<()> {
    let server = start_server(serve_http, Some("127.0.0.1"), port).await?;
    println!("Serving on {}", server.local_addresses()[0]);
    server.serve_forever().await
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse());
    aioxide::run(serve(port.map_err(io::Error::other)?))?
}
