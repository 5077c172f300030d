//! Tasks: futures that the loop runs, their cancelling, their panics; waiting by the clock.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use aioxide::{Task, TaskError};
use common::World;
use common::world::yield_now;

on_every_network!(
    tasks_run_in_turns,
    a_task_that_is_not_awaited_runs_on,
    a_cancelled_task_is_dropped_at_once,
    a_task_cancels_itself_at_its_next_await,
    a_cancelled_task_wakes_who_awaits_it,
    a_panic_is_told_to_who_awaits,
    a_panic_that_nobody_awaits_is_reported,
    tasks_that_are_left_are_cancelled_at_the_end,
    a_timeout_drops_its_future,
    a_timeout_lets_through_what_comes_in_time,
    sleeping_tasks_wake_by_their_deadlines,
    a_dropped_sleep_takes_its_timer_back,
    free_functions_use_the_running_loop,
);

fn tasks_run_in_turns(world: World) {
    world.run(async |world| {
        let trace = Rc::<RefCell<Vec<_>>>::default();
        let tasks: Vec<_> = (0..2)
            .map(|number| {
                let trace = Rc::clone(&trace);
                world.event_loop.spawn(async move {
                    for step in 0..3 {
                        trace.borrow_mut().push((step, number));
                        yield_now().await;
                    }
                    number
                })
            })
            .collect();
        assert!(trace.borrow().is_empty(), "a task starts later");
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), number);
        }
        let expected = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)];
        assert_eq!(*trace.borrow(), expected);
    });
}

fn a_task_that_is_not_awaited_runs_on(world: World) {
    world.run(async |world| {
        let future = world.event_loop.create_future();
        let done = future.clone();
        drop(world.event_loop.spawn(async move {
            yield_now().await;
            done.set_result(7).unwrap();
        }));
        assert_eq!(future.await.unwrap(), 7);
    });
}

fn a_cancelled_task_is_dropped_at_once(world: World) {
    world.run(async |world| {
        let held = Rc::new(());
        let inside = Rc::clone(&held);
        let task = world.event_loop.spawn(async move {
            std::future::pending::<()>().await;
            drop(inside);
        });
        world.turns(1).await;
        assert!(!task.is_finished() && task.take_result().is_none());
        assert!(task.cancel() && !task.cancel());
        assert_eq!(Rc::strong_count(&held), 1);
        assert!(task.is_finished());
        assert_eq!(task.await, Err(TaskError::Cancelled));
    });
}

fn a_task_cancels_itself_at_its_next_await(world: World) {
    world.run(async |world| {
        let this = Rc::<RefCell<Option<Task<()>>>>::default();
        let steps = Rc::new(Cell::new(0));
        let (handle, count) = (Rc::clone(&this), Rc::clone(&steps));
        let task = world.event_loop.spawn(async move {
            assert!(handle.borrow().as_ref().unwrap().cancel());
            count.set(1);
            yield_now().await;
            count.set(2);
        });
        this.replace(Some(task));
        world.turns(3).await;
        assert_eq!(steps.get(), 1);
        let task = this.take().unwrap();
        assert_eq!(task.await, Err(TaskError::Cancelled));
    });
}

fn a_cancelled_task_wakes_who_awaits_it(world: World) {
    world.run(async |world| {
        let task = Rc::new(world.event_loop.spawn(std::future::pending::<()>()));
        let cancelled = Rc::clone(&task);
        world
            .event_loop
            .call_later(Duration::from_millis(1), move || {
                cancelled.cancel();
            });
        while !task.is_finished() {
            world.event_loop.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(task.take_result(), Some(Err(TaskError::Cancelled)));
        assert_eq!(task.take_result(), None);
    });
}

fn a_panic_is_told_to_who_awaits(world: World) {
    world.run(async |world| {
        let task = world.event_loop.spawn(async {
            yield_now().await;
            panic!("inside");
        });
        let error: TaskError = task.await.unwrap_err();
        assert_eq!(error, TaskError::Panicked("inside".into()));
        assert!(io::Error::from(error).to_string().contains("inside"));
    });
}

fn a_panic_that_nobody_awaits_is_reported(world: World) {
    world.run(async |world| {
        drop(world.event_loop.spawn(async { panic!("alone") }));
        world.turns(3).await;
        assert_eq!(
            world.reports(),
            ["Task panicked and nobody awaits it: alone"]
        );
    });
}

fn tasks_that_are_left_are_cancelled_at_the_end(world: World) {
    let (held, task) = world.run(async |world| {
        let held = Rc::new(());
        let inside = Rc::clone(&held);
        let sleep = world.event_loop.sleep(Duration::from_secs(3600));
        let task = world.event_loop.spawn(async move {
            sleep.await;
            drop(inside);
        });
        world.turns(1).await;
        (held, task)
    });
    assert_eq!(Rc::strong_count(&held), 1);
    assert_eq!(task.take_result(), Some(Err(TaskError::Cancelled)));
}

fn a_timeout_drops_its_future(world: World) {
    world.run(async |world| {
        let held = Rc::new(());
        let inside = Rc::clone(&held);
        let before = world.event_loop.time();
        let limit = Duration::from_millis(5);
        let forever = async move {
            std::future::pending::<()>().await;
            drop(inside);
        };
        let error = world.event_loop.timeout(limit, forever).await.unwrap_err();
        assert_eq!(error.0, limit);
        assert!(world.event_loop.time() - before >= limit);
        assert_eq!(Rc::strong_count(&held), 1);
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
    });
}

fn a_timeout_lets_through_what_comes_in_time(world: World) {
    world.run(async |world| {
        let limit = Duration::from_secs(3600);
        let event_loop = world.event_loop.clone();
        let soon = async move {
            event_loop.sleep(Duration::from_micros(100)).await;
            5
        };
        assert_eq!(world.event_loop.timeout(limit, soon).await, Ok(5));
        let at_once = world
            .event_loop
            .timeout(Duration::ZERO, std::future::ready(6));
        assert_eq!(at_once.await, Ok(6));
    });
}

fn sleeping_tasks_wake_by_their_deadlines(world: World) {
    world.run(async |world| {
        let trace = Rc::<RefCell<Vec<_>>>::default();
        let begun = world.event_loop.time();
        let tasks: Vec<_> = [3, 1, 2]
            .into_iter()
            .map(|delay| {
                let trace = Rc::clone(&trace);
                let deadline = begun + Duration::from_millis(delay);
                let event_loop = world.event_loop.clone();
                world.event_loop.spawn(async move {
                    event_loop.sleep_until(deadline).await;
                    assert!(event_loop.time() >= deadline);
                    trace.borrow_mut().push(delay);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*trace.borrow(), [1, 2, 3]);
    });
}

fn a_dropped_sleep_takes_its_timer_back(world: World) {
    world.run(async |world| {
        // Shorter than the patience of a test, whose timer is the only one that is left.
        let delay = Duration::from_secs(5);
        let soon = world.event_loop.time() + delay * 2;
        for _ in 0..200 {
            let sleep = world.event_loop.sleep(delay);
            let limited = world.event_loop.timeout(Duration::ZERO, sleep);
            assert!(limited.await.is_err());
        }
        // Something that the loop has to wait for.
        let (client, server) = world.socket_pair().await;
        let sender = world.event_loop.clone();
        world
            .event_loop
            .spawn(async move { sender.sock_sendall(&client, b"x").await });
        let received = world.event_loop.sock_recv(&server, 1).await.unwrap();
        assert_eq!(received, b"x");
        assert!(world.deadline().unwrap() > soon, "a timer is left");
    });
}

fn free_functions_use_the_running_loop(world: World) {
    world.run(async |world| {
        assert!(format!("{:?}", aioxide::running().unwrap()).contains("running=true"));
        let task = aioxide::spawn(async {
            aioxide::sleep(Duration::from_micros(1)).await.unwrap();
            1
        });
        assert_eq!(task.unwrap().await, Ok(1));
        let limited = aioxide::timeout(Duration::from_micros(1), std::future::pending::<()>());
        assert_eq!(limited.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        world.turns(1).await;
    });
    assert!(aioxide::spawn(async {}).is_err());
}
