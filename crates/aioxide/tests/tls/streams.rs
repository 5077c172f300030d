//! Streams over TLS, and streams that begin it later.

use std::io;

use aioxide::streams::DEFAULT_LIMIT;
use aioxide::{Stream, StreamReader, StreamWriter};
use futures_util::{AsyncReadExt, AsyncWriteExt};

use crate::common::World;
use crate::common::world::{pattern, port_of};
use crate::echo::end;
use crate::paper::{over, papers, serving};

crate::on_every_network!(
    lines_come_back,
    a_stream_is_upgraded_with_what_it_has_read_already,
    what_was_slipped_in_before_is_not_read_after,
    a_stream_that_has_ended_is_not_upgraded,
    a_stream_without_a_name_for_its_server_stands_as_it_was,
    an_end_without_a_close_fails_what_is_read_after_it,
    a_libraries_stream_is_closed_well,
);

async fn shout(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    let mut lines = reader.lines();
    while let Some(line) = lines.next().await? {
        writer.write(&line.to_ascii_uppercase());
        writer.drain().await?;
    }
    Ok(())
}

fn lines_come_back(world: World) {
    world.run(async |world| {
        let (authority, tls) = papers();
        let event_loop = &world.event_loop;
        let server = event_loop
            .start_server_with(shout, Some("127.0.0.1"), 0, &serving(&tls), DEFAULT_LIMIT)
            .await
            .unwrap();
        let port = port_of(&server);
        let options = over(&authority.client());
        let (mut reader, writer) = event_loop
            .open_connection_with("127.0.0.1", port, &options, DEFAULT_LIMIT)
            .await
            .unwrap();
        assert!(writer.tls().is_some());
        for line in [&b"hello\n"[..], b"\n", b"good bye\n"] {
            writer.write(line);
            writer.drain().await.unwrap();
            assert_eq!(reader.readline().await.unwrap(), line.to_ascii_uppercase());
        }
        writer.close();
        writer.wait_closed().await.unwrap();
        end(server).await;
    });
}

fn a_stream_is_upgraded_with_what_it_has_read_already(world: World) {
    world.run(async |world| {
        let (authority, tls) = papers();
        let client = async move |mut reader: StreamReader, mut writer: StreamWriter| {
            assert_eq!(reader.readline().await?, b"STARTTLS\n");
            // The client did not wait for an answer: some of its hello may be here already.
            writer.start_tls(&mut reader, tls.clone()).await?;
            assert!(writer.tls().is_some());
            shout(reader, writer).await
        };
        let event_loop = &world.event_loop;
        let server = event_loop
            .start_server(client, Some("127.0.0.1"), 0)
            .await
            .unwrap();
        let port = port_of(&server);
        let plain = event_loop.open_connection("127.0.0.1", port).await.unwrap();
        let mut stream = Stream::from(plain);
        stream.writer().write(b"STARTTLS\n");
        let tls = authority.client().with_server_name("localhost").unwrap();
        stream.start_tls(tls).await.unwrap();
        let (mut reader, writer) = stream.split();
        writer.write(b"in secret\n");
        assert_eq!(reader.readline().await.unwrap(), b"IN SECRET\n");
        writer.close();
        writer.wait_closed().await.unwrap();
        end(server).await;
    });
}

fn what_was_slipped_in_before_is_not_read_after(world: World) {
    world.run(async |world| {
        let (_, tls) = papers();
        let refused = std::rc::Rc::new(std::cell::Cell::new(false));
        let told = refused.clone();
        let client = async move |mut reader: StreamReader, mut writer: StreamWriter| {
            assert_eq!(reader.readline().await?, b"STARTTLS\n");
            let upgraded = writer.start_tls(&mut reader, tls.clone()).await;
            let error = upgraded.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            assert!(reader.readline().await.is_err());
            told.set(true);
            Ok(())
        };
        let event_loop = &world.event_loop;
        let server = event_loop
            .start_server(client, Some("127.0.0.1"), 0)
            .await
            .unwrap();
        let peer = world.peer(port_of(&server)).await;
        let slipped = b"STARTTLS\nRCPT TO: somebody else\n";
        event_loop.sock_sendall(&peer, slipped).await.unwrap();
        while let Ok(bytes) = event_loop.sock_recv(&peer, 100).await
            && !bytes.is_empty()
        {}
        while !refused.get() {
            world.turns(1).await;
        }
        end(server).await;
    });
}

fn a_stream_that_has_ended_is_not_upgraded(world: World) {
    world.run(async |world| {
        let (_, tls) = papers();
        let client = async move |mut reader: StreamReader, mut writer: StreamWriter| {
            assert_eq!(reader.read_to_end().await?, b"bye");
            let error = writer.start_tls(&mut reader, tls.clone()).await;
            let error = error.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            writer.write(b"plain");
            Ok(())
        };
        let event_loop = &world.event_loop;
        let server = event_loop
            .start_server(client, Some("127.0.0.1"), 0)
            .await
            .unwrap();
        let peer = world.peer(port_of(&server)).await;
        event_loop.sock_sendall(&peer, b"bye").await.unwrap();
        event_loop.reactor().shutdown_write(peer.fd()).unwrap();
        assert_eq!(world.read_all(&peer).await, b"plain");
        end(server).await;
    });
}

fn a_stream_without_a_name_for_its_server_stands_as_it_was(world: World) {
    world.run(async |world| {
        let (authority, _) = papers();
        let event_loop = &world.event_loop;
        let server = event_loop
            .start_server(shout, Some("127.0.0.1"), 0)
            .await
            .unwrap();
        let port = port_of(&server);
        let plain = event_loop.open_connection("127.0.0.1", port).await.unwrap();
        let (mut reader, mut writer) = plain;
        writer.write(b"one\ntwo\n");
        assert_eq!(reader.readline().await.unwrap(), b"ONE\n");
        let nameless = writer.start_tls(&mut reader, authority.client()).await;
        let error = nameless.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("with_server_name"), "{error}");
        writer.write(b"three\n");
        for line in ["TWO\n", "THREE\n"] {
            assert_eq!(reader.readline().await.unwrap(), line.as_bytes());
        }
        assert!(writer.tls().is_none());
        writer.close();
        writer.wait_closed().await.unwrap();
        end(server).await;
    });
}

fn an_end_without_a_close_fails_what_is_read_after_it(world: World) {
    world.run(async |world| {
        let (authority, tls) = papers();
        let event_loop = &world.event_loop;
        let cut = {
            let event_loop = event_loop.clone();
            move |mut reader: StreamReader, writer: StreamWriter| {
                let event_loop = event_loop.clone();
                async move {
                    writer.write(b"all of it");
                    reader.readline().await?;
                    let fd = writer.transport().fd().unwrap();
                    event_loop.reactor().shutdown_write(fd)?;
                    let _ = reader.read_to_end().await;
                    Ok(())
                }
            }
        };
        let server = event_loop
            .start_server_with(cut, Some("127.0.0.1"), 0, &serving(&tls), DEFAULT_LIMIT)
            .await
            .unwrap();
        let options = over(&authority.client());
        let connection = event_loop
            .open_connection_with("127.0.0.1", port_of(&server), &options, DEFAULT_LIMIT)
            .await;
        let (mut reader, writer) = connection.unwrap();
        // A protocol with an end of its own reads up to it, and is well.
        assert_eq!(reader.readexactly(9).await.unwrap(), b"all of it");
        writer.write(b"Thank you.\n");
        for _ in 0..2 {
            let error = reader.read_to_end().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert!(error.to_string().contains("close_notify"), "{error}");
        }
        drop(writer);
        end(server).await;
    });
}

fn a_libraries_stream_is_closed_well(world: World) {
    world.run(async |world| {
        let (authority, tls) = papers();
        let client = async |reader: StreamReader, writer: StreamWriter| {
            let mut stream = Stream::new(reader, writer);
            let mut bytes = vec![0; 50_000];
            stream.read_exact(&mut bytes).await?;
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            stream.close().await
        };
        let event_loop = &world.event_loop;
        let server = event_loop
            .start_server_with(client, Some("127.0.0.1"), 0, &serving(&tls), DEFAULT_LIMIT)
            .await
            .unwrap();
        let port = port_of(&server);
        let options = over(&authority.client());
        let connection = event_loop
            .open_connection_with("127.0.0.1", port, &options, DEFAULT_LIMIT)
            .await;
        let mut stream = Stream::from(connection.unwrap());
        stream.write_all(&pattern(50_000)).await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert!(back == pattern(50_000));
        drop(stream);
        end(server).await;
    });
}
