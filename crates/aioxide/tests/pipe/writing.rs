//! The writing end.

use std::rc::Rc;

use aioxide::transports::{Output, WriteError};
use aioxide::{Socket, Transport};

use crate::common::world::{pattern, yield_now};
use crate::common::{Log, Recorder, World};

crate::on_every_network!(
    what_is_written_leaves_at_once_and_in_order,
    close_sends_what_is_buffered,
    the_end_that_is_written_is_the_end,
    abort_drops_what_is_buffered,
    a_full_buffer_pauses_and_a_drained_one_resumes,
    a_reader_that_goes_is_noticed_without_a_write,
    a_reader_that_goes_before_everything_was_written_breaks_the_pipe,
    a_write_to_a_reader_that_has_gone_breaks_the_pipe,
    a_reader_that_goes_while_the_writer_closes_breaks_the_pipe,
    writes_after_close_are_dropped,
    the_writing_end_does_not_read,
    what_is_queued_does_not_change_with_the_callers_buffer,
    a_panic_in_each_callback_is_reported,
);

/// More than a pipe holds.
fn much(world: &World) -> usize {
    if world.network().is_some() {
        12_000
    } else {
        1 << 20
    }
}

/// A transport of the writing end, its log, and the reading end.
async fn writer(world: &World) -> (Transport, Log, Socket) {
    let (reader, writer) = world.pipe();
    let log = Log::default();
    let transport = world.write_pipe(writer, Recorder::new(&log)).await;
    (transport, log, reader)
}

/// Exactly so many bytes.
async fn read_exactly(world: &World, reader: &Socket, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        let bytes = world.read_some(reader, count - all.len()).await;
        assert!(!bytes.is_empty(), "the end came after {} bytes", all.len());
        all.extend(bytes);
    }
    all
}

fn what_is_written_leaves_at_once_and_in_order(world: World) {
    world.run(async |world| {
        let (transport, log, reader) = writer(&world).await;
        let limited = world.read_some(&reader, 1);
        let first = async {
            yield_now().await;
            transport.write(b"one ");
        };
        let (byte, ()) = futures_util::join!(limited, first);
        assert_eq!(byte, b"o");
        transport.writelines([&b"two "[..], b"", b"three"]);
        transport.write(b"");
        assert_eq!(read_exactly(&world, &reader, 12).await, b"ne two three");
        assert_eq!(transport.write_buffer_size(), 0);
        transport.close();
        assert_eq!(world.drain_pipe(&reader).await, b"");
        log.until("lost").await;
        assert_eq!(log.events(), ["made", "lost"]);
    });
}

fn close_sends_what_is_buffered(world: World) {
    world.run(async |world| {
        let (transport, log, reader) = writer(&world).await;
        let count = much(&world);
        transport.write(&pattern(count));
        transport.close();
        assert!(transport.is_closing() && transport.write_buffer_size() > 0);
        world.turns(3).await;
        assert!(!log.has("lost"), "output is left");
        assert!(world.drain_pipe(&reader).await == pattern(count));
        log.until("lost").await;
        assert_eq!(log.error(), None);
    });
}

fn the_end_that_is_written_is_the_end(world: World) {
    world.run(async |world| {
        let (transport, log, reader) = writer(&world).await;
        assert!(transport.can_write_eof());
        transport.write(b"all");
        transport.write_eof().unwrap();
        transport.write_eof().unwrap();
        assert!(transport.is_closing());
        transport.write(b"more");
        assert_eq!(world.drain_pipe(&reader).await, b"all");
        log.until("lost").await;
        assert_eq!(log.error(), None);
    });
}

fn abort_drops_what_is_buffered(world: World) {
    world.run(async |world| {
        let (transport, log, reader) = writer(&world).await;
        let count = much(&world);
        transport.write(&pattern(count));
        let left = transport.write_buffer_size();
        transport.abort();
        assert_eq!(transport.write_buffer_size(), 0);
        log.until("lost").await;
        assert_eq!(log.error(), None);
        let sent = world.drain_pipe(&reader).await;
        assert!(sent == pattern(count)[..count - left]);
    });
}

fn a_full_buffer_pauses_and_a_drained_one_resumes(world: World) {
    world.run(async |world| {
        let (transport, log, reader) = writer(&world).await;
        let count = much(&world);
        transport
            .set_write_buffer_limits(Some(2_000), Some(500))
            .unwrap();
        transport.write(&pattern(count));
        assert_eq!(log.events(), ["made", "pause"], "from inside the write");
        let mut received = Vec::new();
        while !log.has("resume") {
            received.extend(world.read_some(&reader, 1000).await);
        }
        // Not at the low-water mark: a pipe's transport looks at it when all is sent, as asyncio's.
        assert_eq!(transport.write_buffer_size(), 0);
        transport.close();
        received.extend(world.drain_pipe(&reader).await);
        assert!(received == pattern(count));
        log.until("lost").await;
        assert_eq!(log.events(), ["made", "pause", "resume", "lost"]);
    });
}

fn a_reader_that_goes_is_noticed_without_a_write(world: World) {
    world.run(async |world| {
        let (transport, log, reader) = writer(&world).await;
        transport.write(b"taken, never read");
        world.turns(2).await;
        let left = transport.write_buffer_size();
        drop(reader);
        log.until("lost").await;
        let broken = (left > 0).then_some(libc::EPIPE);
        assert_eq!(log.errno(), broken, "what the pipe has taken is not missed");
        assert_eq!(log.events(), ["made", "lost"]);
        assert!(transport.is_lost());
    });
}

fn a_reader_that_goes_before_everything_was_written_breaks_the_pipe(world: World) {
    world.run(async |world| {
        let (transport, log, reader) = writer(&world).await;
        transport.write(&pattern(much(&world)));
        assert!(transport.base().is_sending());
        drop(reader);
        log.until("lost").await;
        assert_eq!(log.errno(), Some(libc::EPIPE));
        assert_eq!(transport.write_buffer_size(), 0);
    });
}

fn a_write_to_a_reader_that_has_gone_breaks_the_pipe(world: World) {
    world.run(async |world| {
        let (transport, log, reader) = writer(&world).await;
        drop(reader);
        transport.write(b"x");
        assert!(transport.is_closing() && !log.has("lost"));
        log.until("lost").await;
        assert_eq!(log.errno(), Some(libc::EPIPE));
        assert_eq!(log.events(), ["made", "lost"]);
    });
}

fn a_reader_that_goes_while_the_writer_closes_breaks_the_pipe(world: World) {
    world.run(async |world| {
        let (transport, log, reader) = writer(&world).await;
        transport.write(&pattern(much(&world)));
        transport.close();
        drop(reader);
        log.until("lost").await;
        assert_eq!(log.errno(), Some(libc::EPIPE));
        assert_eq!(log.count("lost"), 1);
    });
}

fn writes_after_close_are_dropped(world: World) {
    world.run(async |world| {
        let (transport, log, reader) = writer(&world).await;
        let count = much(&world);
        transport.write(&pattern(count));
        transport.close();
        let left = transport.write_buffer_size();
        for _ in 0..10 {
            transport.write(b"dropped");
        }
        assert_eq!(transport.write_buffer_size(), left, "a pipe's end is final");
        let output = Output {
            bytes: b"dropped",
            keep: None,
        };
        assert_eq!(transport.try_write(output), Err(WriteError::Lost(10)));
        assert!(world.drain_pipe(&reader).await == pattern(count));
        log.until("lost").await;
        transport.write(b"dropped");
        transport.writelines([b"a", b"b"]);
        transport.write_eof().unwrap();
        assert_eq!(log.error(), None);
    });
}

fn the_writing_end_does_not_read(world: World) {
    world.run(async |world| {
        let (transport, log, reader) = writer(&world).await;
        assert!(!transport.is_reading());
        transport.pause_reading();
        transport.resume_reading();
        assert!(!transport.is_reading());
        drop(reader);
        log.until("lost").await;
        assert_eq!(log.events(), ["made", "lost"], "no end is received");
    });
}

fn what_is_queued_does_not_change_with_the_callers_buffer(world: World) {
    world.run(async |world| {
        let (transport, _, reader) = writer(&world).await;
        let count = much(&world);
        let mut bytes = pattern(count);
        transport.write(&bytes);
        bytes.fill(b'!');
        transport.close();
        assert!(world.drain_pipe(&reader).await == pattern(count));
    });
}

fn a_panic_in_each_callback_is_reported(world: World) {
    world.run(async |world| {
        for (event, callback) in [
            ("made", "connection_made"),
            ("pause", "pause_writing"),
            ("resume", "resume_writing"),
            ("lost", "connection_lost"),
        ] {
            let (reader, writer) = world.pipe();
            let log = Log::default();
            let recorder = Recorder {
                panic_at: Some(event),
                greet: Some(Rc::new(|transport| {
                    transport.set_write_buffer_limits(Some(0), None).unwrap();
                })),
                ..Recorder::new(&log)
            };
            let transport = world.write_pipe(writer, recorder).await;
            let count = much(&world);
            transport.write(&pattern(count));
            assert!(read_exactly(&world, &reader, count).await == pattern(count));
            log.until("resume").await;
            transport.close();
            log.until("lost").await;
            world.turns(2).await;
            let expected = format!("{callback}() panicked: panicked: at {event}");
            assert_eq!(world.reports(), [expected]);
            assert_eq!(log.events(), ["made", "pause", "resume", "lost"]);
        }
    });
}
