//! Futures: a result that somebody will set, and who is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use aioxide::{Future, FutureError};
use common::World;

on_every_network!(
    a_result_is_set_once,
    an_error_is_set_in_the_place_of_a_result,
    a_cancelled_future_has_neither,
    callbacks_are_called_soon_and_in_order,
    a_callback_added_late_is_called_soon,
    callbacks_can_be_removed,
    everyone_who_awaits_gets_the_result,
    a_callback_that_panics_is_reported,
    ten_futures_are_completed_by_callbacks,
);

fn invalid<T>(result: Result<T, FutureError>) -> bool {
    matches!(result, Err(FutureError::InvalidState(_)))
}

fn a_result_is_set_once(world: World) {
    world.run(async |world| {
        let future = world.event_loop.create_future::<u8>();
        assert!(!future.done() && invalid(future.result()) && invalid(future.exception()));
        future.set_result(1).unwrap();
        assert!(invalid(future.set_result(2)));
        assert!(invalid(future.set_exception(io::Error::other("late"))));
        assert!(!future.cancel());
        assert!(future.done() && !future.cancelled());
        assert_eq!(*future.result().unwrap(), 1);
        assert!(future.exception().unwrap().is_none());
        assert_eq!(future.await.unwrap(), 1);
    });
}

fn an_error_is_set_in_the_place_of_a_result(world: World) {
    world.run(async |world| {
        let future = world.event_loop.create_future::<u8>();
        future.set_exception(io::Error::other("reason")).unwrap();
        assert!(future.done());
        assert_eq!(future.exception().unwrap().unwrap().to_string(), "reason");
        assert_eq!(future.await.unwrap_err().to_string(), "reason");
    });
}

fn a_cancelled_future_has_neither(world: World) {
    world.run(async |world| {
        let future = world.event_loop.create_future::<u8>();
        assert!(future.cancel() && !future.cancel());
        assert!(future.done() && future.cancelled());
        assert!(matches!(future.result(), Err(FutureError::Cancelled)));
        assert!(matches!(future.exception(), Err(FutureError::Cancelled)));
        assert!(invalid(future.set_result(1)));
    });
}

fn traced(trace: &Rc<RefCell<Vec<u8>>>, value: u8) -> impl FnOnce(&Future<()>) + use<> {
    let trace = Rc::clone(trace);
    move |future| {
        assert!(future.done());
        trace.borrow_mut().push(value);
    }
}

fn callbacks_are_called_soon_and_in_order(world: World) {
    world.run(async |world| {
        let trace = Rc::default();
        let future = world.event_loop.create_future();
        for value in 0..3 {
            future.add_done_callback(traced(&trace, value));
        }
        future.set_result(()).unwrap();
        assert!(trace.borrow().is_empty(), "never from inside set_result");
        world.turns(2).await;
        assert_eq!(*trace.borrow(), [0, 1, 2]);
    });
}

fn a_callback_added_late_is_called_soon(world: World) {
    world.run(async |world| {
        let trace = Rc::default();
        let future = world.event_loop.create_future();
        future.set_result(()).unwrap();
        future.add_done_callback(traced(&trace, 1));
        assert!(trace.borrow().is_empty());
        world.turns(2).await;
        assert_eq!(*trace.borrow(), [1]);
    });
}

fn callbacks_can_be_removed(world: World) {
    world.run(async |world| {
        let trace = Rc::default();
        let future = world.event_loop.create_future();
        let first = future.add_done_callback(traced(&trace, 1));
        future.add_done_callback(traced(&trace, 2));
        assert_eq!(future.remove_done_callback(first), 1);
        assert_eq!(future.remove_done_callback(first), 0);
        future.set_result(()).unwrap();
        world.turns(2).await;
        assert_eq!(*trace.borrow(), [2]);
    });
}

fn everyone_who_awaits_gets_the_result(world: World) {
    world.run(async |world| {
        let future = world.event_loop.create_future::<String>();
        let tasks: Vec<_> = (0..3)
            .map(|_| world.event_loop.spawn(future.clone()))
            .collect();
        world.turns(2).await;
        future.set_result("all".into()).unwrap();
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap(), "all");
        }
    });
}

fn a_callback_that_panics_is_reported(world: World) {
    world.run(async |world| {
        let trace = Rc::default();
        let future = world.event_loop.create_future();
        future.add_done_callback(|_| panic!("told"));
        future.add_done_callback(traced(&trace, 1));
        future.set_result(()).unwrap();
        world.turns(2).await;
        assert_eq!(*trace.borrow(), [1]);
        assert_eq!(world.reports(), ["Panic in a callback: panicked: told"]);
    });
}

fn ten_futures_are_completed_by_callbacks(world: World) {
    let sum = world.run(async |world| {
        let futures: Vec<_> = (0..10)
            .map(|number| {
                let future = world.event_loop.create_future::<u32>();
                let completed = future.clone();
                world
                    .event_loop
                    .call_soon(move || completed.set_result(number).unwrap());
                future
            })
            .collect();
        let mut sum = 0;
        for future in futures {
            sum += future.await.unwrap();
        }
        sum
    });
    assert_eq!(sum, 45);
}
