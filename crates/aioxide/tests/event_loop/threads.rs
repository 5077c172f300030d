//! Other threads: those that call the loop, and those that it calls.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aioxide::EventLoop;

use crate::common::World;
use crate::common::world::yield_now;

crate::on_every_network!(

    ; calm: other_threads_are_heard,
    a_remote_outlives_its_loop,
    blocking_calls_run_beside_the_loop,
    a_blocking_call_that_panics_is_an_error,
);

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
