//! call_soon, and fairness.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use aioxide::EventLoop;

use crate::common::World;

crate::on_every_network!(
    callbacks_run_in_order_and_not_at_once,
    a_cancelled_callback_is_passed_over_and_dropped,
    a_callback_that_panics_is_reported,
    an_exception_handler_may_panic,
    a_chain_of_callbacks_does_not_starve_sockets,
);

pub type Trace = Rc<RefCell<Vec<u32>>>;

pub fn push(trace: &Trace, value: u32) -> impl FnOnce() + use<> {
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
