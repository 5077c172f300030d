//! Writing: draining, the end, closing.

use std::io;

use aioxide::streams::DEFAULT_LIMIT;
use aioxide::{StreamReader, StreamWriter};

use crate::common::World;
use crate::common::world::{pattern, yield_now};
use crate::{connect, echo, end, serve};

crate::on_every_network!(
    much_passes_with_drain,
    draining_waits_only_while_paused,
    draining_a_lost_connection_fails,
    an_end_answers_an_end,
    wait_closed_gives_the_error,
    a_dropped_writer_closes,
);

async fn ignore(_reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    writer.wait_closed().await
}

fn much_passes_with_drain(world: World) {
    world.run(async |world| {
        let count = if world.network().is_some() {
            40_000
        } else {
            16 << 20
        };
        let (server, port) = serve(&world, DEFAULT_LIMIT, echo).await;
        let (mut reader, writer) = world
            .event_loop
            .open_connection("127.0.0.1", port)
            .await
            .unwrap();
        let sender = world.event_loop.spawn(async move {
            for piece in pattern(count).chunks(10_000) {
                writer.write(piece);
                writer.drain().await.unwrap();
            }
            writer.write_eof().unwrap();
            writer
        });
        assert!(reader.read_to_end().await.unwrap() == pattern(count));
        drop(sender.await.unwrap());
        end(server).await;
    });
}

fn draining_waits_only_while_paused(world: World) {
    world.run(async |world| {
        let (server, port) = serve(&world, DEFAULT_LIMIT, async |mut reader, _writer| {
            reader.readexactly(1).await?;
            reader.read_to_end().await.map(drop)
        })
        .await;
        let (_reader, writer) = connect(&world, port, DEFAULT_LIMIT).await;
        writer.write(b"x");
        writer.drain().await.unwrap();
        let transport = writer.transport().clone();
        transport.set_write_buffer_limits(Some(1000), None).unwrap();
        let count = if world.network().is_some() {
            100_000
        } else {
            32 << 20
        };
        writer.write(&vec![0; count]);
        assert!(transport.write_buffer_size() > 1000);
        writer.drain().await.unwrap();
        assert!(transport.write_buffer_size() <= 250);
        writer.close();
        writer.wait_closed().await.unwrap();
        end(server).await;
    });
}

fn draining_a_lost_connection_fails(world: World) {
    world.run(async |world| {
        let (server, port) = serve(&world, DEFAULT_LIMIT, ignore).await;
        let (_reader, writer) = connect(&world, port, DEFAULT_LIMIT).await;
        writer.transport().abort();
        let mut rounds = 0;
        let error = loop {
            writer.write(b"x");
            if let Err(error) = writer.drain().await {
                break error;
            }
            rounds += 1;
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(rounds <= 2, "it learns of it soon");
        end(server).await;
    });
}

fn an_end_answers_an_end(world: World) {
    world.run(async |world| {
        let (server, port) = serve(&world, DEFAULT_LIMIT, async |mut reader, writer| {
            let all = reader.read_to_end().await?;
            writer.write(&all);
            writer.write_eof()?;
            writer.drain().await
        })
        .await;
        let (mut reader, writer) = connect(&world, port, DEFAULT_LIMIT).await;
        for part in ["in ", "parts"] {
            writer.write(part.as_bytes());
            writer.drain().await.unwrap();
            yield_now().await;
        }
        assert!(writer.can_write_eof());
        writer.write_eof().unwrap();
        assert_eq!(reader.read_to_end().await.unwrap(), b"in parts");
        assert!(!writer.is_closing());
        end(server).await;
    });
}

fn wait_closed_gives_the_error(world: World) {
    world.run(async |world| {
        let (server, port) = serve(&world, DEFAULT_LIMIT, async |_reader, writer| {
            writer
                .transport()
                .fail("given up", io::Error::other("because"));
            for _ in 0..2 {
                assert_eq!(
                    writer.wait_closed().await.unwrap_err().to_string(),
                    "because"
                );
            }
            Ok(())
        })
        .await;
        let (mut reader, _writer) = connect(&world, port, DEFAULT_LIMIT).await;
        assert_eq!(reader.read_to_end().await.unwrap(), b"");
        assert_eq!(world.reports(), ["given up: because"]);
        end(server).await;
    });
}

fn a_dropped_writer_closes(world: World) {
    world.run(async |world| {
        let (server, port) = serve(&world, DEFAULT_LIMIT, async |_reader, writer| {
            writer.write(b"bye");
            Ok(())
        })
        .await;
        let (mut reader, writer) = connect(&world, port, DEFAULT_LIMIT).await;
        assert_eq!(reader.read_to_end().await.unwrap(), b"bye");
        let transport = writer.transport().clone();
        drop(writer);
        while !transport.is_lost() {
            yield_now().await;
        }
        end(server).await;
        assert_eq!(world.open_sockets(), 0);
    });
}
