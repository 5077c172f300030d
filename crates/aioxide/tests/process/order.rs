//! What a protocol is told, and in which order.

use std::rc::Rc;

use aioxide::process::UNKNOWN_EXIT_CODE;
use aioxide::sys;

use crate::common::World;
use crate::diary::{Diary, Observer, assert_reaped, end_input, piped, script, start, start_with};

#[test]
fn a_process_is_made_speaks_exits_and_is_lost() {
    World::epoll().run(async |world| {
        let mut command = script("read line; echo out; echo err >&2; exit 3");
        let (process, diary) = start(&world, &mut command).await;
        assert_eq!(diary.events(), ["made"]);
        assert_eq!(process.status(), None);
        process.pipe_transport(0).unwrap().write(b"go\n");
        diary.until("lost").await;

        let events = diary.events();
        assert_eq!(events.first(), Some(&"made"));
        assert_eq!(events.last(), Some(&"lost"));
        let at = |event: &str| {
            let mut found = events
                .iter()
                .enumerate()
                .filter(|(_, other)| **other == event);
            let (index, _) = found
                .next()
                .unwrap_or_else(|| panic!("{event}: {events:?}"));
            assert!(found.next().is_none(), "{event} came twice: {events:?}");
            index
        };
        assert!(at("out") < at("lost out"));
        assert!(at("err") < at("lost err"));
        assert!(at("lost in") < at("lost") && at("exited") < at("lost"));
        assert_eq!(events.len(), 8, "{events:?}");
        assert_eq!(
            (diary.text(1).as_str(), diary.text(2).as_str()),
            ("out", "err")
        );
        assert_eq!((diary.code(), diary.errors()), (Some(3), vec![]));
        assert_eq!(process.status().unwrap().code(), Some(3));
        assert!(process.is_lost() && !process.is_closing());
        assert_reaped(process.id());
    });
}

#[test]
fn only_what_is_piped_is_told_of() {
    World::epoll().run(async |world| {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", "exit 0"]);
        let (process, diary) = start(&world, &mut command).await;
        assert!((0..3).all(|number| process.pipe_transport(number).is_none()));
        diary.until("lost").await;
        assert_eq!(diary.events(), ["made", "exited", "lost"]);

        command.stdout(std::process::Stdio::piped());
        let (process, diary) = start(&world, &mut command).await;
        let pipes = [0, 1, 2, 3].map(|number| process.pipe_transport(number).is_some());
        assert_eq!(pipes, [false, true, false, false]);
        diary.until("lost").await;
        assert_eq!(diary.events().len(), 4, "{:?}", diary.events());
    });
}

#[test]
fn exits_are_told_by_code_and_by_signal() {
    World::epoll().run(async |world| {
        for (text, code) in [
            ("exit 0", 0),
            ("exit 1", 1),
            ("exit 255", 255),
            ("kill -TERM $$", -libc::SIGTERM),
            ("kill -KILL $$", -libc::SIGKILL),
            ("kill -USR1 $$", -libc::SIGUSR1),
        ] {
            let (process, diary) = start(&world, &mut script(text)).await;
            let status = process.wait().await;
            assert_eq!(aioxide::process::return_code(status), code, "{text}");
            diary.until("lost").await;
            assert_eq!(diary.code(), Some(code));
        }
    });
}

#[test]
fn signals_reach_the_process_until_it_has_ended() {
    World::epoll().run(async |world| {
        let handled = "trap 'echo caught' USR1; echo ready; while :; do sleep 0.01; done";
        let (process, diary) = start(&world, &mut script(handled)).await;
        diary.received(1, 6).await;
        process.send_signal(libc::SIGUSR1).unwrap();
        diary.received(1, 13).await;
        assert_eq!(diary.text(1), "ready\ncaught");
        let invalid = process.send_signal(1000).unwrap_err();
        assert_eq!(invalid.raw_os_error(), Some(libc::EINVAL));
        process.terminate().unwrap();
        diary.until("lost").await;
        assert_eq!(diary.code(), Some(-libc::SIGTERM));
        for signalled in [
            process.send_signal(libc::SIGUSR1),
            process.terminate(),
            process.kill(),
        ] {
            signalled.unwrap();
        }
    });
}

#[test]
fn a_grandchild_that_keeps_the_pipe_keeps_the_connection() {
    World::epoll().run(async |world| {
        let text = "exec 2>&-; sleep 60 & echo $!; exit 5";
        let (process, diary) = start(&world, &mut script(text)).await;
        assert_eq!(process.wait().await.code(), Some(5));
        diary.until("exited").await;
        world.turns(5).await;
        assert!(
            !diary.has("lost out") && !diary.has("lost"),
            "{:?}",
            diary.events()
        );
        assert_reaped(process.id());
        let grandchild = diary.text(1).parse().unwrap();
        sys::process::kill(grandchild, libc::SIGKILL).unwrap();
        diary.until("lost").await;
        assert!(diary.has("lost out"));
        assert_eq!(diary.events().last(), Some(&"lost"));
    });
}

#[test]
fn closing_ends_the_pipes_that_a_grandchild_keeps() {
    World::epoll().run(async |world| {
        let text = "sleep 60 & echo $!; exit 0";
        let (process, diary) = start(&world, &mut script(text)).await;
        diary.until("exited").await;
        diary.until("out").await;
        process.close();
        diary.until("lost").await;
        assert_eq!(diary.code(), Some(0));
        let grandchild = diary.text(1).parse().unwrap();
        sys::process::kill(grandchild, libc::SIGKILL).unwrap();
    });
}

#[test]
fn pipes_may_end_before_the_process() {
    World::epoll().run(async |world| {
        let text = "exec >&- 2>&-; read line; exit 4";
        let (process, diary) = start(&world, &mut script(text)).await;
        diary.until("lost out").await;
        diary.until("lost err").await;
        world.turns(5).await;
        assert_eq!(process.status(), None);
        assert!(!diary.has("lost"));
        process.pipe_transport(0).unwrap().write(b"go\n");
        diary.until("lost").await;
        let mut last = diary.events().split_off(3);
        last.sort_unstable();
        assert_eq!(last, ["exited", "lost", "lost in"]);
        assert_eq!(diary.code(), Some(4));
    });
}

#[test]
fn a_status_that_somebody_else_has_taken_counts_as_255() {
    World::epoll().run(async |world| {
        let (process, diary) = start(&world, &mut piped("cat")).await;
        // The loop has no chance to look in between.
        process.kill().unwrap();
        sys::process::wait_until_ended(process.id()).unwrap();
        assert!(sys::process::reap(process.id()).unwrap().is_some());
        assert_eq!(process.wait().await.code(), Some(UNKNOWN_EXIT_CODE));
        diary.until("lost").await;
        assert_eq!(diary.code(), Some(UNKNOWN_EXIT_CODE));
    });
}

#[test]
fn a_panic_in_each_callback_is_reported_and_costs_nothing_else() {
    World::epoll().run(async |world| {
        let names = [
            ("made", "connection_made"),
            ("out", "pipe_data_received"),
            ("err", "pipe_data_received"),
            ("lost in", "pipe_connection_lost"),
            ("lost out", "pipe_connection_lost"),
            ("lost err", "pipe_connection_lost"),
            ("exited", "process_exited"),
            ("lost", "connection_lost"),
        ];
        for (event, callback) in names {
            let diary = Diary::default();
            let observer = Observer {
                panic_at: Some(event),
                ..Observer::new(&diary)
            };
            let mut command = script("read line; echo out; echo err >&2; exit 3");
            let process = start_with(&world, &mut command, observer).await;
            process.pipe_transport(0).unwrap().write(b"go\n");
            diary.until("lost").await;
            world.turns(2).await;
            let report = format!("{callback}() panicked: panicked: at {event}");
            assert_eq!(world.reports(), [report]);
            assert_eq!(diary.events().len(), 8, "{event}: {:?}", diary.events());
            assert_eq!((diary.code(), diary.text(1)), (Some(3), "out".to_owned()));
        }
    });
}

#[test]
fn a_panic_in_flow_control_is_reported() {
    World::epoll().run(async |world| {
        for (event, callback) in [("pause", "pause_writing"), ("resume", "resume_writing")] {
            let diary = Diary::default();
            let observer = Observer {
                panic_at: Some(event),
                ..Observer::new(&diary)
            };
            let process = start_with(&world, &mut piped("cat"), observer).await;
            process
                .pipe_transport(0)
                .unwrap()
                .write(&vec![b'x'; 1 << 20]);
            diary.until("resume").await;
            end_input(&process);
            diary.until("lost").await;
            let report = format!("{callback}() panicked: panicked: at {event}");
            assert_eq!(world.reports(), [report]);
            assert_eq!(diary.data(1).len(), 1 << 20);
        }
    });
}

#[test]
fn every_callback_may_close_the_process() {
    World::epoll().run(async |world| {
        for event in ["made", "out", "lost in", "lost out", "exited", "lost"] {
            let diary = Diary::default();
            let act = move |at: &'static str, process: &aioxide::SubprocessTransport| {
                if at == event {
                    process.close();
                    process.close();
                    assert!(process.is_closing());
                }
            };
            let observer = Observer {
                act: Some(Rc::new(act)),
                ..Observer::new(&diary)
            };
            let mut command = script("read line; echo out; exec <&- >&-; read line; exit 3");
            let process = start_with(&world, &mut command, observer).await;
            process.pipe_transport(0).unwrap().write(b"go\n");
            diary.until("lost").await;
            world.turns(2).await;
            let events = diary.events();
            assert_eq!(events.iter().filter(|other| **other == "lost").count(), 1);
            assert!(diary.has("lost in") && diary.has("exited"), "{events:?}");
            assert_reaped(process.id());
        }
    });
}
