//! Reading: in every way, held back, cancelled, fed by hand.

use std::io;
use std::time::Duration;

use aioxide::streams::DEFAULT_LIMIT;
use aioxide::{ReadError, StreamReader};

use crate::common::World;
use crate::common::world::pattern;
use crate::{connect, end, send, serve};

crate::on_every_network!(
    reading_in_every_way,
    an_incomplete_read_gives_what_came,
    a_line_that_is_too_long_is_an_error_and_the_next_is_read,
    too_much_before_a_separator_stays,
    exactly_more_than_the_limit_can_be_read,
    a_reader_that_is_not_read_holds_its_peer_back,
    a_cancelled_read_loses_nothing,
    readers_can_be_fed_by_hand,
    a_dropped_reader_throws_away,
);

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
        let mut reader = StreamReader::new(16);
        assert!(!reader.at_eof());
        reader.feed_data(b"a\nb");
        assert_eq!(reader.readline().await.unwrap(), b"a\n");
        reader.feed_eof();
        reader.feed_data(b"after the end");
        assert_eq!(reader.readline().await.unwrap(), b"b");
        assert!(reader.at_eof());
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
