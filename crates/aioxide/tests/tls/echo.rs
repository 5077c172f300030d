//! An echo server over TLS, with rustls, and its clients.

use std::io;

use aioxide::{ClientTls, Server, ServerTls, Transport};

use crate::common::world::port_of;
use crate::common::{Log, Recorder, World};
use crate::paper::{over, serving};

/// A server over TLS, and what happens to its clients.
pub async fn serve(world: &World, tls: &ServerTls, log: &Log) -> (Server, u16) {
    let recorder = Recorder::echo(log);
    let factory = move || recorder.clone();
    let server = world
        .event_loop
        .create_server(factory, Some("127.0.0.1"), 0, &serving(tls))
        .await
        .unwrap();
    let port = port_of(&server);
    (server, port)
}

pub async fn connect(
    world: &World,
    port: u16,
    tls: &ClientTls,
    log: &Log,
) -> io::Result<Transport> {
    let factory = || Recorder::new(log);
    world
        .event_loop
        .create_connection(factory, "127.0.0.1", port, &over(tls))
        .await
}

pub async fn end(server: Server) {
    server.close();
    server.wait_closed().await;
}
