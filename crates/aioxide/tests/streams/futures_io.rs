//! The streams through the futures-io traits.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use aioxide::Stream;
use aioxide::streams::DEFAULT_LIMIT;

use crate::common::World;
use crate::common::world::pattern;
use crate::{connect, end, send, serve};

crate::on_every_network!(
    futures_io_reads_and_writes,
    futures_io_reads_lines,
    futures_io_waits_for_room,
);

fn futures_io_reads_and_writes(world: World) {
    use futures_util::io::{AsyncReadExt, AsyncWriteExt};
    world.run(async |world| {
        let (server, port) = serve(&world, DEFAULT_LIMIT, async |reader, writer| {
            let mut stream = Stream::new(reader, writer);
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await?;
            stream.write_all(&all).await?;
            stream.flush().await?;
            stream.close().await
        })
        .await;
        let mut stream = Stream::from(connect(&world, port, DEFAULT_LIMIT).await);
        let count = 10_000;
        stream.write_all(&pattern(count)).await.unwrap();
        stream.close().await.unwrap();
        let mut head = [1; 10];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(head, pattern(10)[..]);
        let (mut reader, writer) = stream.split();
        let rest = reader.read_to_end().await.unwrap();
        assert!(rest == pattern(count)[10..]);
        drop(writer);
        end(server).await;
    });
}

fn futures_io_reads_lines(world: World) {
    use futures_util::io::{AsyncBufReadExt, AsyncReadExt};
    world.run(async |world| {
        let (server, port) = send(&world, b"one\ntwo\nrest").await;
        let (mut reader, _writer) = connect(&world, port, DEFAULT_LIMIT).await;
        let mut line = String::new();
        AsyncBufReadExt::read_line(&mut reader, &mut line)
            .await
            .unwrap();
        assert_eq!(line, "one\n");
        assert_eq!(reader.readline().await.unwrap(), b"two\n", "both ways mix");
        let mut rest = String::new();
        AsyncReadExt::read_to_string(&mut reader, &mut rest)
            .await
            .unwrap();
        assert_eq!(rest, "rest");
        end(server).await;
    });
}

fn futures_io_waits_for_room(world: World) {
    use futures_util::io::AsyncWriteExt;
    world.run(async |world| {
        let started = Rc::new(Cell::new(false));
        let start = Rc::clone(&started);
        let (server, port) = serve(&world, 100, async move |reader, writer| {
            while !start.get() {
                writer
                    .transport()
                    .event_loop()
                    .sleep(Duration::from_millis(1))
                    .await;
            }
            let mut reader = reader;
            reader.read_to_end().await.map(drop)
        })
        .await;
        let (_reader, mut writer) = connect(&world, port, DEFAULT_LIMIT).await;
        writer
            .transport()
            .set_write_buffer_limits(Some(1000), None)
            .unwrap();
        let count = if world.network().is_some() {
            60_000
        } else {
            32 << 20
        };
        writer.write_all(&vec![0; count]).await.unwrap();
        let limit = Duration::from_millis(5);
        let more = AsyncWriteExt::write(&mut writer, b"x");
        assert!(world.event_loop.timeout(limit, more).await.is_err());
        started.set(true);
        writer.write_all(b"x").await.unwrap();
        AsyncWriteExt::close(&mut writer).await.unwrap();
        let after = writer.write_all(b"after the end").await.unwrap_err();
        assert_eq!(after.kind(), io::ErrorKind::BrokenPipe);
        end(server).await;
    });
}
