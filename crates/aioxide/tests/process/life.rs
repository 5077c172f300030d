//! How processes begin and end: failures to start, closing, cancellation, loops that are closed
//! first.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use aioxide::process::{UNKNOWN_EXIT_CODE, return_code};
use aioxide::{EventLoop, SubprocessTransport};

use crate::common::World;
use crate::diary::{
    Diary, Observer, assert_reaped, end_input, piped, script, start, start_with, until_reaped,
};

#[test]
fn a_program_that_is_not_there_is_not_found() {
    World::epoll().run(async |world| {
        for (program, kind) in [
            ("/no/such/program", io::ErrorKind::NotFound),
            ("no-such-program-anywhere", io::ErrorKind::NotFound),
            ("/", io::ErrorKind::PermissionDenied),
        ] {
            let mut command = piped(program);
            let factory = || -> Observer { unreachable!("there is nothing to observe") };
            let started = world.event_loop.subprocess_exec(factory, &mut command);
            assert_eq!(started.await.unwrap_err().kind(), kind, "{program}");
        }
        assert_eq!(world.waiting(), 0);
    });
}

/// The child of this process that runs `program` under a name of its own, if there is one.
fn children_called(name: &str) -> usize {
    let is_called = |entry: io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path().join("cmdline");
        let line = std::fs::read(path).ok()?;
        line.starts_with(name.as_bytes()).then_some(())
    };
    let processes = std::fs::read_dir("/proc").unwrap();
    processes.filter_map(is_called).count()
}

#[test]
fn a_factory_that_panics_ends_the_process() {
    use std::os::unix::process::CommandExt;
    let world = World::epoll();
    world.run(async |world| {
        let mut command = piped("cat");
        command.arg0("aioxide-test-factory");
        let factory = || -> Observer { panic!("no protocol") };
        let started = world.event_loop.subprocess_exec(factory, &mut command);
        let error = started.await.unwrap_err();
        assert!(error.to_string().contains("no protocol"), "{error}");
        while children_called("aioxide-test-factory") > 0 {
            world.turns(1).await;
        }
    });
}

#[test]
fn a_closed_loop_starts_nothing() {
    let world = World::epoll();
    world.event_loop.close().unwrap();
    let event_loop = world.event_loop.clone();
    let started = aioxide::run(async move {
        let observer = Observer::default();
        let mut command = piped("/no/such/program");
        event_loop.subprocess_exec(|| observer, &mut command).await
    });
    let error = started.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
}

#[test]
fn closing_kills() {
    World::epoll().run(async |world| {
        let (process, diary) = start(&world, &mut piped("cat")).await;
        process.close();
        process.close();
        assert!(process.is_closing() && !process.is_lost());
        assert_eq!(process.wait().await.code(), None);
        diary.until("lost").await;
        assert_eq!(diary.code(), Some(-libc::SIGKILL));
        let mut events = diary.events();
        assert_eq!(events.pop(), Some("lost"));
        events.sort_unstable();
        assert_eq!(
            events,
            ["exited", "lost err", "lost in", "lost out", "made"]
        );
        assert_reaped(process.id());
        process.close();
        process.kill().unwrap();
    });
}

#[test]
fn a_process_that_has_ended_is_not_killed_by_closing() {
    World::epoll().run(async |world| {
        let (process, diary) = start(&world, &mut script("exit 6")).await;
        diary.until("lost").await;
        process.close();
        world.turns(3).await;
        assert_eq!(process.status().map(return_code), Some(6));
        assert_eq!(diary.events().last(), Some(&"lost"));
    });
}

#[test]
fn dropping_the_future_that_creates_it_kills_the_process() {
    World::epoll().run(async |world| {
        let diary = Diary::default();
        let observer = Observer::new(&diary);
        {
            let mut command = piped("cat");
            let starting = world.event_loop.subprocess_exec(|| observer, &mut command);
            let mut starting = pin!(starting);
            poll_fn(|cx| {
                assert!(starting.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        diary.until("lost").await;
        assert_eq!(diary.code(), Some(-libc::SIGKILL));
        assert_reaped(diary.transport().id());
    });
}

#[test]
fn dropping_every_handle_ends_nothing() {
    World::epoll().run(async |world| {
        let (process, diary) = start(&world, &mut script("read line; exit 9")).await;
        let input = process.pipe_transport(0).unwrap();
        let id = process.id();
        drop(process);
        world.turns(3).await;
        assert_eq!(diary.events(), ["made"]);
        input.write(b"go\n");
        diary.until("lost").await;
        assert_eq!(diary.code(), Some(9));
        assert_reaped(id);
    });
}

#[test]
fn fifty_at_once_end_each_with_its_own_status() {
    World::epoll().run(async |world| {
        let mut running = Vec::new();
        for number in 0..50 {
            let text = format!("read line; echo {number}; exit {number}");
            running.push(start(&world, &mut script(&text)).await);
        }
        for (process, _) in running.iter().rev() {
            end_input(process);
        }
        for (number, (process, diary)) in running.iter().enumerate() {
            diary.until("lost").await;
            assert_eq!(
                return_code(process.wait().await),
                i32::try_from(number).unwrap()
            );
            assert_eq!(diary.text(1), number.to_string());
            assert_reaped(process.id());
        }
        assert_eq!(world.waiting(), 0);
    });
}

#[test]
fn several_may_wait_and_a_wait_that_is_dropped_disturbs_nobody() {
    World::epoll().run(async |world| {
        let (process, diary) = start(&world, &mut script("read line; exit 2")).await;
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let process = process.clone();
                world.event_loop.spawn(async move { process.wait().await })
            })
            .collect();
        world.turns(2).await;
        assert!(waiting[1].cancel());
        let limited = world.event_loop.timeout(Duration::ZERO, process.wait());
        assert!(limited.await.is_err());
        end_input(&process);
        let mut codes = Vec::new();
        for task in waiting {
            codes.push(task.await.map(return_code).ok());
        }
        assert_eq!(codes, [Some(2), None, Some(2)]);
        diary.until("lost").await;
        assert_eq!(
            return_code(process.wait().await),
            2,
            "it can be asked again"
        );
    });
}

#[test]
fn cancelling_all_tasks_cancels_no_wait_of_the_loops_own() {
    let world = World::epoll();
    let diary = Diary::default();
    let event_loop = &world.event_loop;
    let process = {
        let (world, diary) = (world.clone(), diary.clone());
        let starting = async move {
            start_with(
                &world,
                &mut script("read line; exit 1"),
                Observer::new(&diary),
            )
            .await
        };
        event_loop.run_until_complete(starting).unwrap()
    };
    event_loop.cancel_tasks();
    end_input(&process);
    let told = diary.clone();
    world.run(async move |_| told.until("lost").await);
    assert_eq!(diary.code(), Some(1));
}

#[test]
fn a_loop_that_is_closed_kills_its_processes() {
    let world = World::epoll();
    let (process, diary) = world.run(async |world| start(&world, &mut piped("cat")).await);
    assert!(world.event_loop.is_closed());
    // Killed, and its status taken by nobody that could tell.
    until_reaped(process.id());
    assert_eq!(process.status().map(return_code), Some(UNKNOWN_EXIT_CODE));
    assert_eq!(diary.events(), ["made"], "a closed loop calls nothing");
    for signalled in [process.terminate(), process.kill()] {
        signalled.unwrap();
    }
    process.close();
    let status = aioxide::run(async move { process.wait().await }).unwrap();
    assert_eq!(return_code(status), UNKNOWN_EXIT_CODE);
}

#[test]
fn a_loop_that_is_closed_refers_to_its_processes_no_more() {
    let world = World::epoll();
    let program = Rc::new(());
    let kept = Rc::clone(&program);
    world.run(async |world| {
        let observer = Observer {
            // What a program's protocol holds, the transport's handle included.
            act: Some(Rc::new(move |_, _| drop(Rc::clone(&kept)))),
            ..Observer::default()
        };
        // With output that the process does not read, and output that nobody reads.
        let text = "head -c 300000 /dev/zero; exec sleep 60";
        let process = start_with(&world, &mut script(text), observer).await;
        process.pipe_transport(1).unwrap().pause_reading();
        process.pipe_transport(0).unwrap().write(&vec![0; 1 << 20]);
    });
    assert_eq!(Rc::strong_count(&program), 1, "the protocol lives on");
}

#[test]
fn a_loop_that_is_closed_before_its_first_turn_leaves_no_process() {
    let event_loop = EventLoop::new().unwrap();
    let diary = Diary::default();
    let started = {
        let observer = Observer::new(&diary);
        let event_loop = event_loop.clone();
        async move {
            let mut command = piped("cat");
            let starting = event_loop.subprocess_exec(|| observer, &mut command);
            let mut starting = pin!(starting);
            poll_fn(|cx| {
                assert!(starting.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            // Ends this turn, and the loop with it, before anything else.
            event_loop.stop();
            std::future::pending::<()>().await;
        }
    };
    assert!(event_loop.run_until_complete(started).is_err());
    event_loop.close().unwrap();
    assert_eq!(diary.events(), [""; 0]);
    // No handle, no number: whoever has a child still is told so.
    drop(diary);
}

#[test]
fn a_process_whose_wait_was_woken_for_nothing_is_not_taken_for_dead() {
    World::epoll().run(async |world| {
        let (process, diary) = start(&world, &mut script("read line; exit 8")).await;
        world.turns(2).await;
        // Whoever waits for a descriptor is woken when its reader is taken away.
        for fd in 0..1000 {
            world.event_loop.remove_reader(&fd);
        }
        world.turns(3).await;
        assert_eq!(process.status(), None);
        assert!(!diary.has("exited"), "{:?}", diary.events());
        end_input(&process);
        diary.until("lost").await;
        assert_eq!(diary.code(), Some(8));
    });
}

#[test]
fn a_process_shows_itself() {
    World::epoll().run(async |world| {
        let (process, diary) = start(&world, &mut piped("cat")).await;
        let shown = |process: &SubprocessTransport| format!("{process:?}");
        let id = process.id();
        assert_eq!(
            shown(&process),
            format!("<SubprocessTransport pid={id} running>")
        );
        end_input(&process);
        diary.until("lost").await;
        let expected = format!("<SubprocessTransport pid={id} exit status: 0>");
        assert_eq!(shown(&process), expected);
    });
}
