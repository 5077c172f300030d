//! What is logged when nobody has set an exception handler, and in debug mode.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::cell::RefCell;
use std::time::Duration;

use aioxide::{EventLoop, Report};
use common::{Log, Recorder, World};

thread_local! {
    /// Tests run on threads of their own, and so do their loops.
    static RECORDS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Collector;

impl log::Log for Collector {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Warn {
            let text = format!("{} {}", record.level(), record.args());
            RECORDS.with_borrow_mut(|records| records.push(text));
        }
    }

    fn flush(&self) {}
}

/// A world without an exception handler; a second call finds the collector installed.
fn world() -> World {
    let _ = log::set_logger(&Collector);
    log::set_max_level(log::LevelFilter::Trace);
    let world = World::epoll();
    let none: Option<fn(&EventLoop, &Report<std::io::Error>)> = None;
    world.event_loop.set_exception_handler(none);
    world
}

fn records() -> Vec<String> {
    RECORDS.take()
}

#[test]
fn failures_are_logged_when_nobody_handles_them() {
    world().run(async |world| {
        world.event_loop.call_soon(|| panic!("unhandled"));
        drop(world.event_loop.spawn(async { panic!("alone") }));
        world.turns(3).await;
        let expected = [
            "ERROR Panic in a callback: panicked: unhandled",
            "ERROR Task panicked and nobody awaits it: alone",
        ];
        assert_eq!(records(), expected);
    });
}

#[test]
fn a_handler_that_panics_is_logged_with_what_it_was_told() {
    world().run(async |world| {
        let handler = |_: &EventLoop, _: &Report<std::io::Error>| panic!("clumsy");
        world.event_loop.set_exception_handler(Some(handler));
        world.event_loop.call_soon(|| panic!("first"));
        world.turns(3).await;
        let expected = [
            "ERROR Panic in a callback: panicked: first",
            "ERROR the exception handler panicked: panicked: clumsy",
        ];
        assert_eq!(records(), expected);
    });
}

#[test]
fn debug_mode_tells_what_was_slow() {
    world().run(async |world| {
        let event_loop = &world.event_loop;
        let slow = || std::thread::sleep(Duration::from_millis(30));
        event_loop.set_slow_callback_duration(Duration::from_millis(20));
        event_loop.call_soon(slow);
        world.turns(2).await;
        assert_eq!(records(), [""; 0], "only in debug mode");
        event_loop.set_debug(true);
        assert!(event_loop.debug());
        event_loop.call_soon(slow);
        event_loop.spawn(async move { slow() }).await.unwrap();
        world.turns(2).await;
        let records = records();
        let told = |what: &str| {
            let start = format!("WARN executing a {what} took 0.");
            records.iter().any(|record| record.starts_with(&start))
        };
        assert!(told("callback") && told("task"), "{records:?}");
    });
}

#[test]
fn many_writes_to_a_lost_connection_are_warned_of() {
    world().run(async |world| {
        let (server, port) = world.serve(Recorder::default).await;
        let log = Log::default();
        let transport = world.connect(port, Recorder::new(&log)).await;
        transport.abort();
        (0..4).for_each(|_| transport.write(b"x"));
        assert_eq!(records(), [""; 0]);
        transport.write(b"x");
        assert_eq!(
            records(),
            ["WARN write to a lost connection, for the 5th time"]
        );
        server.close();
        server.wait_closed().await;
    });
}
