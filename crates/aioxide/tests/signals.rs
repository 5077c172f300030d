//! Signals as callbacks. The tests share a process, so each has a signal of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use aioxide::{EventLoop, Signal};
use common::World;

/// Sends a signal to this thread: its handler has run when this returns.
fn raise(signal: Signal) {
    signal_hook::low_level::raise(signal.0).unwrap();
}

/// A bit mask of signals, as the kernel shows it of this process.
fn mask(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
}

fn is_caught(signal: Signal) -> bool {
    mask("SigCgt:") & 1 << (signal.0 - 1) != 0
}

/// What was called, in order. Clones share it.
#[derive(Clone, Default)]
struct Calls(Rc<RefCell<Vec<&'static str>>>);

impl Calls {
    fn noting(&self, what: &'static str) -> impl FnMut() + 'static {
        let calls = self.clone();
        move || calls.0.borrow_mut().push(what)
    }

    fn take(&self) -> Vec<&'static str> {
        self.0.take()
    }
}

#[test]
fn a_handler_is_called_by_the_loop() {
    World::epoll().run(async |world| {
        let (calls, signal) = (Calls::default(), Signal::USR1);
        world
            .event_loop
            .add_signal_handler(signal, calls.noting("called"))
            .unwrap();
        raise(signal);
        assert_eq!(calls.take(), [""; 0], "before its turn");
        world.turns(2).await;
        assert_eq!(calls.take(), ["called"]);
        assert_eq!(world.waiting(), 1);
        assert!(world.event_loop.remove_signal_handler(signal));
        assert!(!world.event_loop.remove_signal_handler(signal));
        assert_eq!(world.waiting(), 0);
    });
}

#[test]
fn each_signal_is_a_call_and_their_order_is_kept() {
    World::epoll().run(async |world| {
        let calls = Calls::default();
        let (first, second) = (Signal::realtime(1), Signal::realtime(2));
        let event_loop = &world.event_loop;
        event_loop
            .add_signal_handler(first, calls.noting("first"))
            .unwrap();
        event_loop
            .add_signal_handler(second, calls.noting("second"))
            .unwrap();
        for signal in [second, first, first, second] {
            raise(signal);
        }
        world.turns(2).await;
        assert_eq!(calls.take(), ["second", "first", "first", "second"]);
        event_loop.remove_signal_handler(first);
        event_loop.remove_signal_handler(second);
    });
}

#[test]
fn many_signals_hide_none() {
    World::epoll().run(async |world| {
        let (often, once) = (Signal::realtime(3), Signal::realtime(4));
        let count = Rc::new(Cell::new(0));
        let counted = Rc::clone(&count);
        let event_loop = &world.event_loop;
        event_loop
            .add_signal_handler(often, move || counted.set(counted.get() + 1))
            .unwrap();
        let done = event_loop.create_future::<()>();
        let told = done.clone();
        event_loop
            .add_signal_handler(once, move || told.set_result(()).unwrap())
            .unwrap();
        (0..10_000).for_each(|_| raise(often));
        raise(once);
        done.await.unwrap();
        assert_eq!(count.get(), 10_000);
        event_loop.remove_signal_handler(often);
        event_loop.remove_signal_handler(once);
    });
}

#[test]
fn a_sleeping_loop_is_woken() {
    World::epoll().run(async |world| {
        let signal = Signal::realtime(5);
        let done = world.event_loop.create_future::<()>();
        let told = done.clone();
        world
            .event_loop
            .add_signal_handler(signal, move || told.set_result(()).unwrap())
            .unwrap();
        // To another thread: it interrupts no system call of this one.
        let sender = std::thread::spawn(move || raise(signal));
        done.await.unwrap();
        sender.join().unwrap();
        world.event_loop.remove_signal_handler(signal);
    });
}

#[test]
fn a_signal_before_the_run_is_told_in_it() {
    let (event_loop, signal) = (EventLoop::new().unwrap(), Signal::realtime(6));
    let stopping = event_loop.clone();
    event_loop
        .add_signal_handler(signal, move || stopping.stop())
        .unwrap();
    raise(signal);
    event_loop.run_forever().unwrap();
    event_loop.close().unwrap();
}

#[test]
fn a_handler_replaces_the_one_before() {
    World::epoll().run(async |world| {
        let (calls, signal) = (Calls::default(), Signal::realtime(7));
        let event_loop = &world.event_loop;
        let held = Rc::new(());
        let kept = Rc::clone(&held);
        event_loop
            .add_signal_handler(signal, move || drop(Rc::clone(&kept)))
            .unwrap();
        assert_eq!(Rc::strong_count(&held), 2);
        event_loop
            .add_signal_handler(signal, calls.noting("second"))
            .unwrap();
        assert_eq!(Rc::strong_count(&held), 1, "the first was dropped");
        raise(signal);
        world.turns(2).await;
        assert_eq!(calls.take(), ["second"]);
        event_loop.remove_signal_handler(signal);
    });
}

#[test]
fn a_handler_that_was_removed_is_not_called_for_what_came_before() {
    World::epoll().run(async |world| {
        let (calls, signal) = (Calls::default(), Signal::realtime(8));
        world
            .event_loop
            .add_signal_handler(signal, calls.noting("called"))
            .unwrap();
        let remover = world.event_loop.clone();
        let other = Signal::realtime(9);
        world
            .event_loop
            .add_signal_handler(other, move || {
                remover.remove_signal_handler(signal);
                remover.remove_signal_handler(other);
            })
            .unwrap();
        raise(other);
        raise(signal);
        world.turns(3).await;
        assert_eq!(calls.take(), [""; 0]);
    });
}

#[test]
fn a_handler_may_replace_itself() {
    World::epoll().run(async |world| {
        let (calls, signal) = (Calls::default(), Signal::realtime(10));
        let (event_loop, next) = (world.event_loop.clone(), calls.clone());
        world
            .event_loop
            .add_signal_handler(signal, move || {
                next.0.borrow_mut().push("first");
                event_loop
                    .add_signal_handler(signal, next.noting("second"))
                    .unwrap();
            })
            .unwrap();
        raise(signal);
        world.turns(2).await;
        raise(signal);
        world.turns(2).await;
        assert_eq!(calls.take(), ["first", "second"]);
        world.event_loop.remove_signal_handler(signal);
    });
}

#[test]
fn a_panic_goes_to_the_exception_handler() {
    World::epoll().run(async |world| {
        let (calls, signal) = (Calls::default(), Signal::realtime(11));
        let mut noting = calls.noting("called");
        world
            .event_loop
            .add_signal_handler(signal, move || {
                noting();
                panic!("in a handler");
            })
            .unwrap();
        for _ in 0..2 {
            raise(signal);
            world.turns(2).await;
            assert_eq!(calls.take(), ["called"]);
            assert_eq!(
                world.reports(),
                ["Panic in a callback: panicked: in a handler"]
            );
        }
        world.event_loop.remove_signal_handler(signal);
    });
}

#[test]
fn loops_on_several_threads_are_all_told() {
    let signal = Signal::realtime(12);
    let (ready, listening) = channel();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let ready = ready.clone();
            std::thread::spawn(move || {
                World::epoll().run(async move |world| {
                    let done = world.event_loop.create_future::<()>();
                    let told = done.clone();
                    world
                        .event_loop
                        .add_signal_handler(signal, move || told.set_result(()).unwrap())
                        .unwrap();
                    ready.send(()).unwrap();
                    done.await.unwrap();
                    assert!(world.event_loop.remove_signal_handler(signal));
                });
            })
        })
        .collect();
    for _ in &threads {
        listening.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    raise(signal);
    threads.into_iter().for_each(|one| one.join().unwrap());
}

#[test]
fn one_of_two_loops_may_go_without_the_other() {
    let (first, second) = (EventLoop::new().unwrap(), EventLoop::new().unwrap());
    let (calls, signal) = (Calls::default(), Signal::realtime(13));
    first
        .add_signal_handler(signal, calls.noting("first"))
        .unwrap();
    second
        .add_signal_handler(signal, calls.noting("second"))
        .unwrap();
    raise(signal);
    first.close().unwrap();
    raise(signal);
    let waiting = second.clone();
    second
        .run(async move { waiting.sleep(Duration::from_millis(1)).await })
        .unwrap();
    assert_eq!(calls.take(), ["second", "second"]);
}

#[test]
fn the_end_of_a_child_is_told() {
    World::epoll().run(async |world| {
        let done = world.event_loop.create_future::<()>();
        let told = done.clone();
        world
            .event_loop
            .add_signal_handler(Signal::CHLD, move || {
                let _ = told.set_result(());
            })
            .unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        done.await.unwrap();
        assert!(child.wait().unwrap().success());
        world.event_loop.remove_signal_handler(Signal::CHLD);
    });
}

#[test]
fn what_cannot_be_handled_is_refused() {
    let event_loop = EventLoop::new().unwrap();
    for (signal, text) in [
        (Signal(libc::SIGKILL), "SIGKILL cannot be caught"),
        (Signal(libc::SIGSTOP), "SIGSTOP cannot be caught"),
        (
            Signal(libc::SIGSEGV),
            "SIGSEGV is nothing for an event loop: \
             it tells of an instruction that cannot be executed",
        ),
        (
            Signal(libc::SIGFPE),
            "SIGFPE is nothing for an event loop: \
             it tells of an instruction that cannot be executed",
        ),
        (
            Signal(libc::SIGILL),
            "SIGILL is nothing for an event loop: \
             it tells of an instruction that cannot be executed",
        ),
        (Signal(0), "there is no signal of the number 0"),
        (Signal(-1), "there is no signal of the number -1"),
        (Signal(32), "there is no signal of the number 32"),
        (Signal(65), "there is no signal of the number 65"),
        (Signal(1000), "there is no signal of the number 1000"),
    ] {
        let error = event_loop.add_signal_handler(signal, || {}).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{signal}");
        assert_eq!(error.to_string(), text);
        assert!(!event_loop.remove_signal_handler(signal));
    }
    event_loop.close().unwrap();
}

#[test]
fn a_closed_loop_refuses() {
    let event_loop = EventLoop::new().unwrap();
    event_loop.close().unwrap();
    let refused = event_loop.add_signal_handler(Signal::realtime(14), || {});
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert!(!event_loop.remove_signal_handler(Signal::realtime(14)));
}

#[test]
fn a_simulated_network_has_no_signals() {
    let world = World::simulated(0);
    let refused = world
        .event_loop
        .add_signal_handler(Signal::realtime(15), || {});
    assert!(refused.is_err());
    assert!(!is_caught(Signal::realtime(15)));
    world.event_loop.close().unwrap();
    world.assert_clean();
}

#[test]
fn a_loop_that_is_dropped_lets_its_handlers_go() {
    let (held, signal) = (Rc::new(()), Signal::realtime(16));
    for close in [true, false] {
        let event_loop = EventLoop::new().unwrap();
        let kept = Rc::clone(&held);
        event_loop
            .add_signal_handler(signal, move || drop(Rc::clone(&kept)))
            .unwrap();
        if close {
            event_loop.close().unwrap();
            assert_eq!(Rc::strong_count(&held), 1);
        }
        drop(event_loop);
        assert_eq!(Rc::strong_count(&held), 1);
        // Nobody reads the pipe any more, and nobody writes to it.
        raise(signal);
    }
}

#[test]
fn a_signal_that_nobody_handles_any_more_is_ignored_if_that_is_its_default() {
    World::epoll().run(async |world| {
        let (calls, signal) = (Calls::default(), Signal::WINCH);
        let event_loop = &world.event_loop;
        for _ in 0..2 {
            event_loop
                .add_signal_handler(signal, calls.noting("called"))
                .unwrap();
            raise(signal);
            world.turns(2).await;
            assert_eq!(calls.take(), ["called"]);
            event_loop.remove_signal_handler(signal);
            raise(signal);
            world.turns(2).await;
            assert_eq!(calls.take(), [""; 0]);
        }
    });
}

#[test]
fn a_handler_that_another_library_has_installed_goes_on() {
    let (signal, others) = (Signal::realtime(17), Arc::<AtomicUsize>::default());
    signal_hook::flag::register_usize(signal.0, Arc::clone(&others), 1).unwrap();
    let seen = Arc::clone(&others);
    World::epoll().run(async move |world| {
        let calls = Calls::default();
        world
            .event_loop
            .add_signal_handler(signal, calls.noting("called"))
            .unwrap();
        raise(signal);
        world.turns(2).await;
        assert_eq!(calls.take(), ["called"]);
        assert_eq!(seen.swap(0, Ordering::SeqCst), 1);
        world.event_loop.remove_signal_handler(signal);
    });
    raise(signal);
    assert_eq!(others.load(Ordering::SeqCst), 1);
}

#[test]
fn running_a_loop_touches_no_signal() {
    aioxide::run(async {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
            assert!(!is_caught(signal), "{signal}");
        }
    })
    .unwrap();
}
