//! Servers of streams, and what their callbacks do wrong.

use std::io;

use aioxide::streams::DEFAULT_LIMIT;

use crate::common::World;
use crate::common::world::yield_now;
use crate::{connect, echo, end, serve};

crate::on_every_network!(
    an_echo_of_lines,
    a_client_callback_that_fails_is_reported_and_closed,
    a_client_callback_that_panics_is_reported_and_closed,
);

fn an_echo_of_lines(world: World) {
    world.run(async |world| {
        let (server, port) = serve(&world, DEFAULT_LIMIT, echo).await;
        let (mut reader, writer) = aioxide::open_connection("127.0.0.1", port).await.unwrap();
        writer.writelines([&b"one\n"[..], b"two\n", b"three"]);
        writer.drain().await.unwrap();
        writer.write_eof().unwrap();
        let mut lines = reader.lines();
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(all, ["one\n", "two\n", "three"]);
        assert!(reader.at_eof());
        assert_eq!(reader.readline().await.unwrap(), b"");
        assert_eq!(reader.read(1).await.unwrap(), b"");
        writer.close();
        writer.wait_closed().await.unwrap();
        end(server).await;
    });
}

fn a_client_callback_that_fails_is_reported_and_closed(world: World) {
    world.run(async |world| {
        let (server, port) = serve(&world, DEFAULT_LIMIT, async |mut reader, _writer| {
            reader.readexactly(1).await?;
            Err(io::Error::other("no more"))
        })
        .await;
        let (mut reader, writer) = connect(&world, port, DEFAULT_LIMIT).await;
        writer.write(b"x");
        assert_eq!(reader.read_to_end().await.unwrap(), b"");
        let expected = "Unhandled exception in client_connected_cb: no more";
        assert_eq!(world.reports(), [expected]);
        end(server).await;
    });
}

fn a_client_callback_that_panics_is_reported_and_closed(world: World) {
    world.run(async |world| {
        let (server, port) = serve(&world, DEFAULT_LIMIT, async |_reader, _writer| {
            yield_now().await;
            panic!("client")
        })
        .await;
        let (mut reader, _writer) = connect(&world, port, DEFAULT_LIMIT).await;
        assert_eq!(reader.read_to_end().await.unwrap(), b"");
        let expected = "Unhandled exception in client_connected_cb: the task panicked: client";
        assert_eq!(world.reports(), [expected]);
        end(server).await;
    });
}
