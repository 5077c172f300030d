//! Layer 3: readers and writers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod futures_io;
mod reading;
mod serving;
mod writing;

use std::io;

use aioxide::streams::DEFAULT_LIMIT;
use aioxide::{ConnectOptions, Server, ServerOptions, StreamReader, StreamWriter};
use common::World;
use common::world::port_of;

async fn serve(
    world: &World,
    limit: usize,
    client: impl AsyncFn(StreamReader, StreamWriter) -> io::Result<()> + 'static,
) -> (Server, u16) {
    let server = world
        .event_loop
        .start_server_with(
            client,
            Some("127.0.0.1"),
            0,
            &ServerOptions::default(),
            limit,
        )
        .await
        .unwrap();
    let port = port_of(&server);
    (server, port)
}

async fn end(server: Server) {
    server.close();
    server.close_clients();
    server.wait_closed().await;
}

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    loop {
        let bytes = reader.read(DEFAULT_LIMIT).await?;
        if bytes.is_empty() {
            return Ok(());
        }
        writer.write(&bytes);
        writer.drain().await?;
    }
}

/// A server that sends `bytes`, and then an end.
async fn send(world: &World, bytes: &'static [u8]) -> (Server, u16) {
    serve(world, DEFAULT_LIMIT, async move |_reader, writer| {
        writer.write(bytes);
        writer.drain().await
    })
    .await
}

async fn connect(world: &World, port: u16, limit: usize) -> (StreamReader, StreamWriter) {
    world
        .event_loop
        .open_connection_with("127.0.0.1", port, &ConnectOptions::default(), limit)
        .await
        .unwrap()
}
