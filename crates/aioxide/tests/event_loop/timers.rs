//! Timers and the clock.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use aioxide::Time;

use crate::callbacks::{Trace, push};
use crate::common::{Kind, World};

crate::on_every_network!(
    timers_fire_in_order_and_never_early,
    a_timer_of_no_delay_is_a_timer,
    a_cancelled_timer_does_not_fire,
);

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
