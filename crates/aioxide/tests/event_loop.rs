//! The loop itself: callbacks, timers, readers, threads, its beginning and its end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aioxide::{EventLoop, Time};
use common::world::yield_now;
use common::{Kind, Log, Recorder, World};

on_every_network!(
    callbacks_run_in_order_and_not_at_once,
    a_cancelled_callback_is_passed_over_and_dropped,
    a_callback_that_panics_is_reported,
    an_exception_handler_may_panic,
    stop_ends_the_iteration_not_the_callbacks,
    a_loop_runs_again_after_a_stop,
    a_running_loop_cannot_be_run_or_closed,
    closing_drops_everything_that_was_queued,
    a_closed_loop_runs_nothing,
    timers_fire_in_order_and_never_early,
    a_timer_of_no_delay_is_a_timer,
    a_cancelled_timer_does_not_fire,
    a_chain_of_callbacks_does_not_starve_sockets,
    readers_and_writers_are_called_until_removed,
    a_reader_is_replaced,
    a_reader_on_a_transports_descriptor_is_refused,
    a_reader_may_remove_itself_and_panic;
    calm:
    other_threads_are_heard,
    a_remote_outlives_its_loop,
    blocking_calls_run_beside_the_loop,
    a_blocking_call_that_panics_is_an_error,
);

type Trace = Rc<RefCell<Vec<u32>>>;

fn push(trace: &Trace, value: u32) -> impl FnOnce() + use<> {
    let trace = Rc::clone(trace);
    move || trace.borrow_mut().push(value)
}

fn callbacks_run_in_order_and_not_at_once(world: World) {
    world.run(async |world| {
        let trace = Trace::default();
        for value in 0..5 {
            drop(world.event_loop.call_soon(push(&trace, value)));
        }
        assert!(trace.borrow().is_empty());
        world.turns(2).await;
        assert_eq!(*trace.borrow(), [0, 1, 2, 3, 4]);
    });
}

fn a_cancelled_callback_is_passed_over_and_dropped(world: World) {
    world.run(async |world| {
        let trace = Trace::default();
        let handle = world.event_loop.call_soon(push(&trace, 1));
        let called = world.event_loop.call_soon(push(&trace, 2));
        handle.cancel();
        assert!(handle.cancelled());
        assert_eq!(Rc::strong_count(&trace), 2, "what it held is dropped now");
        world.turns(2).await;
        called.cancel();
        assert!(!called.cancelled(), "too late");
        assert_eq!(*trace.borrow(), [2]);
    });
}

fn a_callback_that_panics_is_reported(world: World) {
    world.run(async |world| {
        let trace = Trace::default();
        world.event_loop.call_soon(|| panic!("one"));
        world.event_loop.call_soon(push(&trace, 1));
        world
            .event_loop
            .call_later(Duration::from_millis(1), || panic!("two"));
        world.event_loop.sleep(Duration::from_millis(2)).await;
        assert_eq!(*trace.borrow(), [1]);
        let expected = ["one", "two"].map(|what| format!("Panic in a callback: panicked: {what}"));
        assert_eq!(world.reports(), expected);
    });
}

fn an_exception_handler_may_panic(world: World) {
    world.run(async |world| {
        let handler = |_: &EventLoop, _: &aioxide::Report<io::Error>| panic!("in the handler");
        world.event_loop.set_exception_handler(Some(handler));
        world.event_loop.call_soon(|| panic!("in the callback"));
        world.turns(3).await;
    });
}

fn stop_ends_the_iteration_not_the_callbacks(world: World) {
    let trace = Trace::default();
    let event_loop = &world.event_loop;
    event_loop.call_soon({
        let (event_loop, later) = (event_loop.clone(), push(&trace, 3));
        move || {
            event_loop.stop();
            event_loop.call_soon(later);
        }
    });
    event_loop.call_soon(push(&trace, 1));
    event_loop.run_forever().unwrap();
    assert_eq!(*trace.borrow(), [1]);
    event_loop.stop();
    event_loop.run_forever().unwrap();
    assert_eq!(*trace.borrow(), [1, 3], "stopped beforehand, it runs once");
    event_loop.close().unwrap();
}

fn a_loop_runs_again_after_a_stop(world: World) {
    let event_loop = &world.event_loop;
    assert_eq!(event_loop.run_until_complete(async { 1 }).unwrap(), 1);
    let stopping = event_loop.clone();
    let stopped = event_loop.run_until_complete(async move {
        stopping.stop();
        std::future::pending::<()>().await;
    });
    assert!(stopped.is_err());
    assert_eq!(event_loop.run_until_complete(async { 2 }).unwrap(), 2);
    event_loop.close().unwrap();
}

fn a_running_loop_cannot_be_run_or_closed(world: World) {
    world.run(async |world| {
        let event_loop = &world.event_loop;
        assert!(event_loop.is_running() && EventLoop::running().is_some());
        assert!(event_loop.run_forever().is_err());
        assert_eq!(
            event_loop.close().unwrap_err().kind(),
            io::ErrorKind::ResourceBusy
        );
        assert!(event_loop.run_until_complete(async {}).is_err());
        assert!(aioxide::run(async {}).is_err(), "nor another on its thread");
        assert!(event_loop.is_running());
    });
    assert!(EventLoop::running().is_none() && aioxide::running().is_err());
}

fn closing_drops_everything_that_was_queued(world: World) {
    let held = Rc::new(());
    let event_loop = &world.event_loop;
    for delay in [0, 1] {
        let (soon, later, task) = (held.clone(), held.clone(), held.clone());
        event_loop.call_soon(move || drop(soon));
        event_loop.call_later(Duration::from_secs(delay), move || drop(later));
        event_loop.spawn(async move {
            std::future::pending::<()>().await;
            drop(task);
        });
    }
    assert_eq!(Rc::strong_count(&held), 7);
    event_loop.close().unwrap();
    assert_eq!(Rc::strong_count(&held), 1);
    event_loop.close().unwrap();
    assert!(event_loop.is_closed());
}

fn a_closed_loop_runs_nothing(world: World) {
    let event_loop = &world.event_loop;
    event_loop.close().unwrap();
    let held = Rc::new(());
    let dropped = held.clone();
    event_loop.call_soon(move || drop(dropped));
    assert_eq!(Rc::strong_count(&held), 1);
    assert!(event_loop.run_forever().is_err());
    assert!(event_loop.run_until_complete(async {}).is_err());
}

fn timers_fire_in_order_and_never_early(world: World) {
    world.run(async |world| {
        let fired = Rc::<RefCell<Vec<(u64, Time)>>>::default();
        let begun = world.event_loop.time();
        for delay in [3_000, 1_000, 2_000, 1_000, 1] {
            let (fired, event_loop) = (Rc::clone(&fired), world.event_loop.clone());
            let delay = Duration::from_micros(delay);
            world.event_loop.call_at(begun + delay, move || {
                let late = (begun + delay).as_nanos();
                fired.borrow_mut().push((late, event_loop.time()));
            });
        }
        world.event_loop.sleep(Duration::from_millis(5)).await;
        let fired = fired.borrow();
        assert_eq!(fired.len(), 5);
        assert!(fired.is_sorted_by_key(|(deadline, _)| *deadline));
        assert!(
            fired
                .iter()
                .all(|(deadline, at)| at.as_nanos() >= *deadline)
        );
    });
}

fn a_timer_of_no_delay_is_a_timer(world: World) {
    world.run(async |world| {
        let trace = Trace::default();
        let handle = world.event_loop.call_later(Duration::ZERO, push(&trace, 1));
        assert!(handle.when() <= world.event_loop.time());
        assert!(trace.borrow().is_empty());
        world.turns(2).await;
        assert_eq!(*trace.borrow(), [1]);
    });
}

fn a_cancelled_timer_does_not_fire(world: World) {
    world.run(async |world| {
        let trace = Trace::default();
        let delay = Duration::from_millis(1);
        let first = world.event_loop.call_later(delay, push(&trace, 1));
        let second = world.event_loop.call_later(delay, push(&trace, 2));
        first.cancel();
        assert!(first.cancelled() && !second.cancelled());
        assert_eq!(Rc::strong_count(&trace), 2);
        world.event_loop.sleep(delay * 2).await;
        assert_eq!(*trace.borrow(), [2]);
        second.cancel();
        assert!(!second.cancelled());
    });
}

fn a_chain_of_callbacks_does_not_starve_sockets(world: World) {
    fn again(event_loop: &EventLoop, running: Rc<Cell<bool>>) {
        let next = event_loop.clone();
        event_loop.call_soon(move || {
            if running.get() {
                again(&next, running);
            }
        });
    }
    world.run(async |world| {
        let running = Rc::new(Cell::new(true));
        again(&world.event_loop, Rc::clone(&running));
        let (client, server) = world.socket_pair().await;
        world.event_loop.sock_sendall(&client, b"x").await.unwrap();
        let received = world.event_loop.sock_recv(&server, 1).await.unwrap();
        assert_eq!(received, b"x");
        world.event_loop.sleep(Duration::from_millis(1)).await;
        running.set(false);
    });
}

fn readers_and_writers_are_called_until_removed(world: World) {
    world.run(async |world| {
        let (client, server) = world.socket_pair().await;
        let calls = Rc::new(Cell::new((0, 0)));
        let (reads, writes) = (Rc::clone(&calls), Rc::clone(&calls));
        let event_loop = &world.event_loop;
        let read = move || reads.set((reads.get().0 + 1, reads.get().1));
        let write = move || writes.set((writes.get().0, writes.get().1 + 1));
        event_loop.add_reader(&server, read).unwrap();
        event_loop.add_writer(&server, write).unwrap();
        event_loop.sock_sendall(&client, b"x").await.unwrap();
        while calls.get().0 < 3 || calls.get().1 < 3 {
            yield_now().await;
        }
        assert!(event_loop.remove_reader(&server) && event_loop.remove_writer(&server));
        assert!(!event_loop.remove_reader(&server) && !event_loop.remove_writer(&server));
        let before = calls.get();
        world.turns(5).await;
        assert_eq!(calls.get(), before);
    });
}

fn a_reader_is_replaced(world: World) {
    world.run(async |world| {
        let (client, server) = world.socket_pair().await;
        let event_loop = &world.event_loop;
        let called = Rc::new(Cell::new(false));
        let second = Rc::clone(&called);
        event_loop
            .add_reader(&server, || panic!("replaced"))
            .unwrap();
        event_loop
            .add_reader(&server, move || second.set(true))
            .unwrap();
        event_loop.sock_sendall(&client, b"x").await.unwrap();
        while !called.get() {
            yield_now().await;
        }
        event_loop.remove_reader(&server);
    });
}

fn a_reader_on_a_transports_descriptor_is_refused(world: World) {
    world.run(async |world| {
        let (server, port) = world.serve(Recorder::default).await;
        let log = Log::default();
        let transport = world.connect(port, Recorder::new(&log)).await;
        let fd = transport.fd().unwrap();
        let refused = world.event_loop.add_reader(&fd, || {}).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        assert!(transport.is_receiving());
        transport.close();
        server.close();
        server.wait_closed().await;
    });
}

fn a_reader_may_remove_itself_and_panic(world: World) {
    world.run(async |world| {
        let (client, server) = world.socket_pair().await;
        let event_loop = world.event_loop.clone();
        let fd = server.fd();
        let read = move || {
            event_loop.remove_reader(&fd);
            panic!("in a reader");
        };
        world.event_loop.add_reader(&server, read).unwrap();
        world.event_loop.sock_sendall(&client, b"x").await.unwrap();
        while world.waiting() > 0 {
            yield_now().await;
        }
        world.turns(2).await;
        assert_eq!(
            world.reports(),
            ["Panic in a callback: panicked: in a reader"]
        );
    });
}

fn other_threads_are_heard(world: World) {
    world.run(async |world| {
        let remote = world.event_loop.remote();
        let calls = Arc::new(AtomicUsize::new(0));
        let done = world.event_loop.create_future::<()>();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (remote, calls) = (remote.clone(), Arc::clone(&calls));
                std::thread::spawn(move || {
                    for _ in 0..100 {
                        let calls = Arc::clone(&calls);
                        remote
                            .call_soon(move || {
                                calls.fetch_add(1, Ordering::Relaxed);
                            })
                            .unwrap();
                    }
                })
            })
            .collect();
        let waiting = async {
            while calls.load(Ordering::Relaxed) < 400 {
                yield_now().await;
            }
            done.set_result(()).unwrap();
        };
        waiting.await;
        assert!(done.done());
        threads.into_iter().for_each(|one| one.join().unwrap());
    });
}

fn a_remote_outlives_its_loop(world: World) {
    let remote = world.event_loop.remote();
    world.event_loop.close().unwrap();
    assert_eq!(
        remote.call_soon(|| {}).unwrap_err().kind(),
        io::ErrorKind::NotConnected
    );
    drop(world);
    assert!(remote.call_soon(|| {}).is_err());
}

/// Polls in turns: a virtual clock would not wait for a thread.
async fn answered<T: 'static>(
    event_loop: &EventLoop,
    answer: impl Future<Output = T> + 'static,
) -> T {
    let task = event_loop.spawn(answer);
    while !task.is_finished() {
        yield_now().await;
    }
    task.await.unwrap()
}

fn blocking_calls_run_beside_the_loop(world: World) {
    world.run(async |world| {
        let here = std::thread::current().id();
        let calls: Vec<_> = (0..8)
            .map(|number| {
                let event_loop = world.event_loop.clone();
                async move {
                    let call = move || (number, std::thread::current().id());
                    event_loop.run_in_executor(call).await.unwrap()
                }
            })
            .collect();
        for (expected, call) in calls.into_iter().enumerate() {
            let (number, there) = answered(&world.event_loop, call).await;
            assert_eq!(number, expected);
            assert_ne!(here, there);
        }
    });
}

fn a_blocking_call_that_panics_is_an_error(world: World) {
    world.run(async |world| {
        let event_loop = world.event_loop.clone();
        let call = async move {
            event_loop
                .run_in_executor(|| -> u8 { panic!("blocked") })
                .await
        };
        let error = answered(&world.event_loop, call).await.unwrap_err();
        assert!(error.to_string().contains("blocked"));
    });
}

#[test]
fn an_hour_of_virtual_time_takes_none() {
    let world = World::simulated(0);
    let begun = std::time::Instant::now();
    world.run(async |world| {
        let before = world.event_loop.time();
        world.event_loop.sleep(Duration::from_secs(3600)).await;
        assert_eq!(
            world.event_loop.time() - before,
            Duration::from_secs(3600),
            "to the nanosecond"
        );
    });
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(world.kind, Kind::Simulated);
}
