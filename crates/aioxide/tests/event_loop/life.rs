//! Running, stopping, closing.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use aioxide::EventLoop;

use crate::callbacks::{Trace, push};
use crate::common::World;

crate::on_every_network!(
    stop_ends_the_iteration_not_the_callbacks,
    a_loop_runs_again_after_a_stop,
    a_running_loop_cannot_be_run_or_closed,
    closing_drops_everything_that_was_queued,
    a_closed_loop_runs_nothing,
);

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
