//! The reading end.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;

use aioxide::reactor::simulated::Call;
use aioxide::{Buffered, BufferedProtocol, Transport};

use crate::common::world::pattern;
use crate::common::{Log, Recorder, World};

crate::on_every_network!(
    what_is_written_is_received_and_then_the_end,
    an_end_closes_whatever_the_protocol_says_to_it,
    the_creator_wakes_after_connection_made,
    a_paused_reader_receives_nothing,
    a_paused_reader_hears_the_end_when_it_resumes,
    close_is_told_to_the_writer,
    close_in_connection_made_receives_nothing,
    closing_from_inside_data_received_is_the_end_of_it,
    the_reading_end_cannot_be_written_to,
    a_protocol_is_exchanged,
    a_buffered_protocol_receives_into_its_own_memory,
    a_panic_in_each_callback_is_reported_and_costs_nothing,
);

fn what_is_written_is_received_and_then_the_end(world: World) {
    world.run(async |world| {
        let (reader, writer) = world.pipe();
        let log = Log::default();
        let transport = world.read_pipe(reader, Recorder::new(&log)).await;
        world.fill_pipe(&writer, &pattern(12_000)).await;
        log.received(12_000).await;
        assert!(!transport.is_closing());
        drop(writer);
        log.until("lost").await;
        assert!(*log.data() == pattern(12_000));
        assert_eq!(log.events(), ["made", "data", "eof", "lost"]);
        assert_eq!(log.error(), None);
        world.turns(2).await;
        assert!(transport.is_lost() && transport.fd().is_none());
    });
}

fn an_end_closes_whatever_the_protocol_says_to_it(world: World) {
    world.run(async |world| {
        let (reader, writer) = world.pipe();
        let log = Log::default();
        let recorder = Recorder {
            keep_open: true,
            ..Recorder::new(&log)
        };
        let transport = world.read_pipe(reader, recorder).await;
        drop(writer);
        log.until("eof").await;
        assert!(transport.is_closing(), "before the protocol is told");
        log.until("lost").await;
        assert_eq!(log.events(), ["made", "eof", "lost"]);
    });
}

fn the_creator_wakes_after_connection_made(world: World) {
    world.run(async |world| {
        let (reader, _writer) = world.pipe();
        let log = Log::default();
        let fd = reader.fd();
        let transport = world.read_pipe(reader, Recorder::new(&log)).await;
        assert_eq!(log.events(), ["made"]);
        assert!(transport.is(&log.transport()) && transport.fd() == Some(fd));
        assert!(transport.is_reading() && transport.base().is_receiving());
        assert_eq!(
            (transport.local_address(), transport.peer_address()),
            (None, None)
        );
        assert_eq!(transport.write_buffer_size(), 0);
        transport.abort();
        log.until("lost").await;
    });
}

fn a_paused_reader_receives_nothing(world: World) {
    world.run(async |world| {
        let (reader, writer) = world.pipe();
        let log = Log::default();
        let transport = world.read_pipe(reader, Recorder::new(&log)).await;
        transport.pause_reading();
        transport.pause_reading();
        assert!(!transport.is_reading() && !transport.base().is_receiving());
        world.fill_pipe(&writer, b"held").await;
        world.turns(5).await;
        assert_eq!(log.events(), ["made"]);
        transport.resume_reading();
        assert!(transport.is_reading() && transport.base().is_receiving());
        log.received(4).await;
        transport.close();
        transport.resume_reading();
        assert!(!transport.is_reading());
    });
}

fn a_paused_reader_hears_the_end_when_it_resumes(world: World) {
    world.run(async |world| {
        let (reader, writer) = world.pipe();
        let log = Log::default();
        let transport = world.read_pipe(reader, Recorder::new(&log)).await;
        transport.pause_reading();
        world.fill_pipe(&writer, b"last").await;
        drop(writer);
        world.turns(5).await;
        assert_eq!(log.events(), ["made"]);
        transport.resume_reading();
        log.until("lost").await;
        assert_eq!(*log.data(), b"last");
        assert_eq!(log.events(), ["made", "data", "eof", "lost"]);
    });
}

fn close_is_told_to_the_writer(world: World) {
    world.run(async |world| {
        for end in [Transport::close, Transport::abort] {
            let (reader, writer) = world.pipe();
            let log = Log::default();
            let transport = world.read_pipe(reader, Recorder::new(&log)).await;
            world.fill_pipe(&writer, b"unread").await;
            end(&transport);
            end(&transport);
            assert!(transport.is_closing() && !log.has("lost"));
            log.until("lost").await;
            world.turns(2).await;
            assert_eq!(log.events(), ["made", "lost"]);
            assert_eq!(log.error(), None);
            let slices = [std::io::IoSlice::new(b"x")];
            let written = world.event_loop.reactor().write(writer.fd(), &slices);
            assert_eq!(written.unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
    });
}

fn close_in_connection_made_receives_nothing(world: World) {
    world.run(async |world| {
        let (reader, writer) = world.pipe();
        world.fill_pipe(&writer, b"unread").await;
        let log = Log::default();
        let recorder = Recorder {
            greet: Some(Rc::new(Transport::close)),
            ..Recorder::new(&log)
        };
        world.read_pipe(reader, recorder).await;
        log.until("lost").await;
        assert_eq!(log.events(), ["made", "lost"]);
    });
}

/// Closes its transport at the first bytes.
struct Sated(Log, Option<Transport>);

impl aioxide::Protocol for Sated {
    fn connection_made(&mut self, transport: Transport) {
        self.1 = Some(transport);
    }

    fn data_received(&mut self, _data: &[u8]) {
        self.0.push("piece");
        self.1.as_ref().unwrap().close();
    }

    fn connection_lost(&mut self, error: Option<std::io::Error>) {
        assert!(error.is_none());
        self.0.push("lost");
    }
}

fn closing_from_inside_data_received_is_the_end_of_it(world: World) {
    world.run(async |world| {
        let (reader, writer) = world.pipe();
        let log = Log::default();
        world.read_pipe(reader, Sated(log.clone(), None)).await;
        world.fill_pipe(&writer, b"bytes").await;
        log.until("lost").await;
        world.turns(2).await;
        assert_eq!(log.events(), ["piece", "lost"]);
    });
}

fn the_reading_end_cannot_be_written_to(world: World) {
    world.run(async |world| {
        let (reader, _writer) = world.pipe();
        let log = Log::default();
        let transport = world.read_pipe(reader, Recorder::new(&log)).await;
        assert!(!transport.can_write_eof());
        let ended = transport.write_eof();
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Unsupported);
        transport.write(b"x");
        assert_eq!(
            world.reports(),
            ["Bytes were written to the reading end of a pipe: \
              the reading end of a pipe cannot be written to"]
        );
        assert!(!transport.is_closing());
        transport.close();
        log.until("lost").await;
    });
}

fn a_protocol_is_exchanged(world: World) {
    world.run(async |world| {
        let (reader, writer) = world.pipe();
        let (first, second) = (Log::default(), Log::default());
        let transport = world.read_pipe(reader, Recorder::new(&first)).await;
        world.fill_pipe(&writer, b"one").await;
        first.received(3).await;
        transport.set_protocol(Recorder::new(&second));
        world.fill_pipe(&writer, b"two").await;
        drop(writer);
        second.until("lost").await;
        assert_eq!(first.events(), ["made", "data"]);
        assert_eq!(second.events(), ["data", "eof", "lost"]);
    });
}

/// Receives into memory of its own, three bytes at a time.
struct Small {
    log: Log,
    memory: [u8; 3],
    received: Rc<RefCell<Vec<u8>>>,
}

impl BufferedProtocol for Small {
    fn get_buffer(&mut self, _size_hint: usize) -> &mut [u8] {
        &mut self.memory
    }

    fn buffer_updated(&mut self, count: usize) {
        self.received.borrow_mut().extend(&self.memory[..count]);
    }

    fn connection_lost(&mut self, _error: Option<std::io::Error>) {
        self.log.push("lost");
    }
}

fn a_buffered_protocol_receives_into_its_own_memory(world: World) {
    world.run(async |world| {
        let (reader, writer) = world.pipe();
        let (log, received) = (Log::default(), Rc::<RefCell<Vec<u8>>>::default());
        let protocol = Buffered(Small {
            log: log.clone(),
            memory: [0; 3],
            received: Rc::clone(&received),
        });
        world.read_pipe(reader, protocol).await;
        world.fill_pipe(&writer, &pattern(1000)).await;
        drop(writer);
        log.until("lost").await;
        assert_eq!(*received.borrow(), pattern(1000));
    });
}

fn a_panic_in_each_callback_is_reported_and_costs_nothing(world: World) {
    world.run(async |world| {
        for (event, callback) in [
            ("made", "connection_made"),
            ("data", "data_received"),
            ("eof", "eof_received"),
            ("lost", "connection_lost"),
        ] {
            let (reader, writer) = world.pipe();
            let log = Log::default();
            let recorder = Recorder {
                panic_at: Some(event),
                ..Recorder::new(&log)
            };
            world.read_pipe(reader, recorder).await;
            world.fill_pipe(&writer, b"x").await;
            log.until("data").await;
            drop(writer);
            log.until("lost").await;
            world.turns(2).await;
            let expected = format!("{callback}() panicked: panicked: at {event}");
            assert_eq!(world.reports(), [expected]);
            assert_eq!(log.error(), None, "{event}");
            assert_eq!(log.events(), ["made", "data", "eof", "lost"]);
        }
    });
}

#[test]
fn a_terminal_that_has_gone_is_no_news_and_other_failures_are() {
    for (errno, reported) in [(libc::EIO, false), (libc::ENOMEM, true)] {
        let world = World::simulated(0);
        world.run(async move |world| {
            let (reader, _writer) = world.pipe();
            let log = Log::default();
            let fd = reader.fd();
            world.read_pipe(reader, Recorder::new(&log)).await;
            let network = world.network().unwrap();
            network.fail_next_on(fd, Call::Receive, errno);
            log.until("lost").await;
            assert_eq!(log.errno(), Some(errno));
            let reports = world.reports();
            assert_eq!(reports.len(), usize::from(reported), "{reports:?}");
            let message = "Fatal read error on pipe transport";
            assert!(reports.iter().all(|report| report.starts_with(message)));
        });
    }
}
