//! Layer 3: readers and writers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use aioxide::streams::DEFAULT_LIMIT;
use aioxide::{
    ConnectOptions, ReadError, Server, ServerOptions, Stream, StreamReader, StreamWriter,
};
use common::World;
use common::world::{pattern, port_of, yield_now};

on_every_network!(
    an_echo_of_lines,
    much_passes_with_drain,
    reading_in_every_way,
    an_incomplete_read_gives_what_came,
    a_line_that_is_too_long_is_an_error_and_the_next_is_read,
    too_much_before_a_separator_stays,
    exactly_more_than_the_limit_can_be_read,
    a_reader_that_is_not_read_holds_its_peer_back,
    a_cancelled_read_loses_nothing,
    draining_waits_only_while_paused,
    draining_a_lost_connection_fails,
    an_end_answers_an_end,
    wait_closed_gives_the_error,
    a_client_callback_that_fails_is_reported_and_closed,
    a_client_callback_that_panics_is_reported_and_closed,
    a_dropped_writer_closes,
    a_dropped_reader_throws_away,
    readers_can_be_fed_by_hand,
    futures_io_reads_and_writes,
    futures_io_reads_lines,
    futures_io_waits_for_room,
);

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

async fn ignore(_reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    writer.wait_closed().await
}

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

/// A server that sends `bytes`, and then an end.
async fn send(world: &World, bytes: &'static [u8]) -> (Server, u16) {
    serve(world, DEFAULT_LIMIT, async move |_reader, writer| {
        writer.write(bytes);
        writer.drain().await
    })
    .await
}

fn reading_in_every_way(world: World) {
    world.run(async |world| {
        let (server, port) = send(&world, b"exactly line\nuntil;or:rest of it").await;
        let (mut reader, _writer) = world
            .event_loop
            .open_connection("127.0.0.1", port)
            .await
            .unwrap();
        assert_eq!(reader.readexactly(0).await.unwrap(), b"");
        assert_eq!(reader.read(0).await.unwrap(), b"");
        assert_eq!(reader.readexactly(8).await.unwrap(), b"exactly ");
        assert_eq!(reader.readline().await.unwrap(), b"line\n");
        assert_eq!(reader.readuntil(b";").await.unwrap(), b"until;");
        assert_eq!(reader.readuntil_any(&[b"it", b":"]).await.unwrap(), b"or:");
        assert_eq!(reader.read_to_end().await.unwrap(), b"rest of it");
        assert!(reader.at_eof() && reader.exception().is_none());
        for wrong in [reader.readuntil(b"").await, reader.readuntil_any(&[]).await] {
            let kind = io::Error::from(wrong.unwrap_err()).kind();
            assert_eq!(kind, io::ErrorKind::InvalidInput);
        }
        end(server).await;
    });
}

fn an_incomplete_read_gives_what_came(world: World) {
    world.run(async |world| {
        let (server, port) = send(&world, b"abc").await;
        let (mut reader, _writer) = world
            .event_loop
            .open_connection("127.0.0.1", port)
            .await
            .unwrap();
        match reader.readexactly(5).await {
            Err(ReadError::IncompleteRead { partial, expected }) => {
                assert_eq!((partial.as_slice(), expected), (&b"abc"[..], Some(5)));
            }
            other => panic!("{other:?}"),
        }
        match reader.readuntil(b"\n").await {
            Err(ReadError::IncompleteRead { partial, expected }) => {
                assert_eq!((partial.as_slice(), expected), (&b""[..], None));
            }
            other => panic!("{other:?}"),
        }
        end(server).await;
    });
}

async fn connect(world: &World, port: u16, limit: usize) -> (StreamReader, StreamWriter) {
    world
        .event_loop
        .open_connection_with("127.0.0.1", port, &ConnectOptions::default(), limit)
        .await
        .unwrap()
}

fn a_line_that_is_too_long_is_an_error_and_the_next_is_read(world: World) {
    world.run(async |world| {
        let (server, port) = send(&world, b"0123456789\nnext\n").await;
        let (mut reader, _writer) = connect(&world, port, 8).await;
        let mut overruns = 0;
        loop {
            // What comes in parts is dropped in parts.
            match reader.readline().await {
                Err(ReadError::LimitOverrun { consumed }) => overruns += usize::from(consumed > 8),
                line => {
                    let line = line.unwrap();
                    if line == b"next\n" {
                        break;
                    }
                    assert!(b"0123456789\n".ends_with(&line), "{line:?}");
                }
            }
        }
        assert_eq!(overruns, 1);
        end(server).await;
    });
}

fn too_much_before_a_separator_stays(world: World) {
    world.run(async |world| {
        let (server, port) = send(&world, b"0123456789;").await;
        let (mut reader, _writer) = connect(&world, port, 8).await;
        let consumed = match reader.readuntil(b";").await {
            Err(ReadError::LimitOverrun { consumed }) => consumed,
            other => panic!("{other:?}"),
        };
        assert!((9..=10).contains(&consumed));
        assert_eq!(reader.readexactly(11).await.unwrap(), b"0123456789;");
        end(server).await;
    });
}

fn exactly_more_than_the_limit_can_be_read(world: World) {
    world.run(async |world| {
        let (server, port) = serve(&world, DEFAULT_LIMIT, async |_reader, writer| {
            writer.write(&pattern(50_000));
            writer.drain().await
        })
        .await;
        let (mut reader, _writer) = connect(&world, port, 100).await;
        assert!(reader.readexactly(50_000).await.unwrap() == pattern(50_000));
        end(server).await;
    });
}

fn a_reader_that_is_not_read_holds_its_peer_back(world: World) {
    world.run(async |world| {
        let (server, port) = serve(&world, DEFAULT_LIMIT, async |_reader, writer| {
            writer.write(&pattern(60_000));
            writer.drain().await
        })
        .await;
        let (mut reader, writer) = connect(&world, port, 1000).await;
        let transport = writer.transport().clone();
        while transport.is_reading() {
            world.event_loop.sleep(Duration::from_micros(100)).await;
        }
        assert_eq!(reader.read(1).await.unwrap(), [0]);
        assert!(!transport.is_reading(), "there is more than the limit");
        let mut count = 1;
        while !transport.is_reading() {
            count += reader.read(100).await.unwrap().len();
        }
        assert!(count >= 1000, "from above 2 × limit to the limit");
        let rest = reader.read_to_end().await.unwrap();
        assert!(rest == pattern(60_000)[count..]);
        end(server).await;
    });
}

fn a_cancelled_read_loses_nothing(world: World) {
    world.run(async |world| {
        let (server, port) = serve(&world, DEFAULT_LIMIT, async |mut reader, writer| {
            for piece in ["ab", "cd", "ef\n"] {
                reader.readexactly(1).await?;
                writer.write(piece.as_bytes());
            }
            writer.drain().await
        })
        .await;
        let (mut reader, writer) = connect(&world, port, DEFAULT_LIMIT).await;
        for _ in 0..2 {
            writer.write(b"?");
            let limit = Duration::from_millis(if world.network().is_some() { 500 } else { 20 });
            let line = world.event_loop.timeout(limit, reader.readline()).await;
            assert!(line.is_err());
            let exactly = world
                .event_loop
                .timeout(Duration::ZERO, reader.readexactly(10));
            assert!(exactly.await.is_err());
            let all = world
                .event_loop
                .timeout(Duration::ZERO, reader.read_to_end());
            assert!(all.await.is_err());
        }
        writer.write(b"?");
        assert_eq!(reader.readline().await.unwrap(), b"abcdef\n");
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

fn a_dropped_reader_throws_away(world: World) {
    world.run(async |world| {
        let (server, port) = serve(&world, DEFAULT_LIMIT, async |mut reader, writer| {
            writer.write(&pattern(50_000));
            writer.drain().await?;
            assert_eq!(reader.read_to_end().await?, b"seen");
            Ok(())
        })
        .await;
        let (reader, writer) = connect(&world, port, 10).await;
        world.turns(5).await;
        drop(reader);
        writer.write(b"seen");
        writer.write_eof().unwrap();
        server.close();
        // The peer ends the connection once everything has passed, and we see it.
        writer.transport().resume_reading();
        server.wait_closed().await;
        assert!(writer.transport().is_reading());
        writer.close();
        writer.wait_closed().await.unwrap();
    });
}

fn readers_can_be_fed_by_hand(world: World) {
    world.run(async |world| {
        let reader = Rc::new(RefCell::new(StreamReader::new(16)));
        assert!(!reader.borrow().at_eof());
        reader.borrow().feed_data(b"a\nb");
        assert_eq!(reader.borrow_mut().readline().await.unwrap(), b"a\n");
        reader.borrow().feed_eof();
        reader.borrow().feed_data(b"after the end");
        assert_eq!(reader.borrow_mut().readline().await.unwrap(), b"b");
        assert!(reader.borrow().at_eof());
        let failed = StreamReader::default();
        failed.feed_data(b"data");
        failed.set_exception(io::Error::from_raw_os_error(libc::EPIPE));
        assert!(failed.exception().is_some());
        let mut failed = failed;
        for _ in 0..2 {
            let error = failed.read(1).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        }
        world.turns(1).await;
    });
}

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
