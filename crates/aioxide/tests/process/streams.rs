//! Processes with streams: asyncio's `subprocess`.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::Poll;

use aioxide::Process;

use crate::common::World;
use crate::common::world::pattern;
use crate::diary::{assert_reaped, piped, script, until_reaped};

/// More than all pipes and buffers on the way hold.
const MUCH: usize = 4 << 20;

async fn start(world: &World, command: &mut Command) -> Process {
    let started = world.event_loop.create_subprocess_exec(command);
    started.await.unwrap()
}

#[test]
fn lines_go_to_and_fro() {
    World::epoll().run(async |world| {
        let mut process = start(&world, &mut piped("cat")).await;
        let stdin = process.stdin.take().unwrap();
        let mut stdout = process.stdout.take().unwrap();
        for round in 0..3 {
            let line = format!("line {round}\n");
            stdin.write(line.as_bytes());
            stdin.drain().await.unwrap();
            assert_eq!(stdout.readline().await.unwrap(), line.as_bytes());
        }
        assert_eq!((process.status(), process.returncode()), (None, None));
        stdin.close();
        stdin.wait_closed().await.unwrap();
        assert_eq!(stdout.readline().await.unwrap(), b"");
        assert!(process.wait().await.success());
        assert_eq!(process.returncode(), Some(0));
        assert_reaped(process.id());
        let drained = stdin.drain().await.unwrap_err();
        assert_eq!(drained.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn communicating_gives_all_that_was_written_and_the_status() {
    World::epoll().run(async |world| {
        let mut command = script("read line; echo \"$line, $line\"; echo oh >&2; exit 3");
        let mut process = start(&world, &mut command).await;
        let output = process.communicate(b"well\n").await.unwrap();
        assert_eq!(output.stdout, b"well, well\n");
        assert_eq!(output.stderr, b"oh\n");
        assert_eq!(output.status.code(), Some(3));
        assert!(process.stdin.is_none());
        let again = process.communicate(b"").await.unwrap();
        assert_eq!((again.stdout, again.status.code()), (vec![], Some(3)));
    });
}

#[test]
fn much_goes_both_ways_without_a_deadlock() {
    World::epoll().run(async |world| {
        let mut command = script("tee /dev/fd/2");
        let mut process = start(&world, &mut command).await;
        let output = process.communicate(&pattern(MUCH)).await.unwrap();
        assert!(output.stdout == pattern(MUCH));
        assert!(output.stderr == pattern(MUCH));
        assert!(output.status.success());
    });
}

#[test]
fn input_that_is_not_read_is_no_error() {
    World::epoll().run(async |world| {
        for text in ["exit 0", "exec <&-; echo done", "head -c 10 >/dev/null"] {
            let mut process = start(&world, &mut script(text)).await;
            let output = process.communicate(&pattern(MUCH)).await.unwrap();
            assert!(output.status.success(), "{text}");
        }
        // Also when it has ended before.
        let mut process = start(&world, &mut script("exit 1")).await;
        process.wait().await;
        world.turns(3).await;
        let output = process.communicate(b"too late").await.unwrap();
        assert_eq!(output.status.code(), Some(1));
    });
}

#[test]
fn input_needs_a_pipe() {
    World::epoll().run(async |world| {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "echo x"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = start(&world, &mut command).await;
        assert!(process.stdin.is_none() && process.stderr.is_none());
        let refused = process.communicate(b"input").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        let output = process.communicate(b"").await.unwrap();
        assert_eq!(
            (&output.stdout[..], &output.stderr[..]),
            (&b"x\n"[..], &b""[..])
        );
    });
}

/// Whether a process was stopped by a signal.
fn is_stopped(id: u32) -> bool {
    let line = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // The state follows the name, which stands in parentheses.
    line.rsplit_once(") ").unwrap().1.starts_with('T')
}

#[test]
fn communicating_that_is_dropped_loses_nothing() {
    World::epoll().run(async |world| {
        let text = "cat; echo first; kill -STOP $$; echo second; exit 4";
        let mut process = start(&world, &mut script(text)).await;
        let id = process.id();
        {
            let communicating = process.communicate(b"zeroth\n");
            let mut communicating = pin!(communicating);
            for until in [false, true, true] {
                // It is polled while there is nothing, something and all that comes before the
                // stop.
                poll_fn(|cx| {
                    assert!(communicating.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                while until && !is_stopped(id) {
                    world.turns(1).await;
                }
            }
        }
        process.send_signal(aioxide::Signal(libc::SIGCONT)).unwrap();
        let output = process.communicate(b"").await.unwrap();
        assert_eq!(output.stdout, b"zeroth\nfirst\nsecond\n");
        assert_eq!(output.status.code(), Some(4));
    });
}

#[test]
fn what_nobody_reads_holds_the_process_back() {
    World::epoll().run(async |world| {
        let mut command = script("head -c 4194304 /dev/zero");
        let started = world
            .event_loop
            .create_subprocess_exec_with(&mut command, 1000);
        let mut process = started.await.unwrap();
        let pipe = process.transport().pipe_transport(1).unwrap();
        while pipe.is_reading() {
            world.turns(1).await;
        }
        assert_eq!(process.status(), None);
        let stdout = process.stdout.as_mut().unwrap();
        let line = stdout.readline().await.unwrap_err();
        assert!(
            matches!(line, aioxide::ReadError::LimitOverrun { .. }),
            "{line}"
        );
        let mut count = 0;
        loop {
            let read = stdout.read(MUCH).await.unwrap();
            count += read.len();
            if read.is_empty() {
                break;
            }
        }
        // The line that was too long was dropped, as far as it had come.
        assert!(count < MUCH && count > MUCH / 2, "{count}");
        assert!(process.wait().await.success());
    });
}

#[test]
fn draining_waits_for_a_process_that_reads() {
    World::epoll().run(async |world| {
        let text = "read line; read line; exec cat >/dev/null";
        let mut process = start(&world, &mut script(text)).await;
        process.send_signal(aioxide::Signal(libc::SIGSTOP)).unwrap();
        let stdin = process.stdin.take().unwrap();
        stdin.write(b"\n\n");
        stdin.write(&pattern(MUCH));
        assert!(stdin.transport().write_buffer_size() > 0);
        let event_loop = &world.event_loop;
        let limited = event_loop.timeout(std::time::Duration::ZERO, stdin.drain());
        assert!(limited.await.is_err(), "the process does not read");
        process.send_signal(aioxide::Signal(libc::SIGCONT)).unwrap();
        stdin.drain().await.unwrap();
        assert_eq!(stdin.transport().write_buffer_size(), 0);
        drop(stdin);
        assert!(process.wait().await.success());
    });
}

#[test]
fn draining_fails_when_the_process_has_gone() {
    World::epoll().run(async |world| {
        let mut process = start(&world, &mut piped("cat")).await;
        let stdin = process.stdin.take().unwrap();
        stdin.write(&pattern(MUCH));
        process.kill().unwrap();
        let drained = stdin.drain().await.unwrap_err();
        assert_eq!(drained.kind(), io::ErrorKind::BrokenPipe);
        let closed = stdin.wait_closed().await.unwrap_err();
        assert_eq!(closed.kind(), io::ErrorKind::BrokenPipe);
        stdin.write(b"more");
        let again = stdin.drain().await.unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(process.wait().await.code(), None);
        assert_eq!(process.returncode(), Some(-libc::SIGKILL));
    });
}

#[test]
fn a_process_that_is_dropped_goes_on_and_is_reaped() {
    World::epoll().run(async |world| {
        // It ends when its input does, and is not held back by what nobody reads.
        let text = "head -c 1000000 /dev/zero; cat >/dev/null; head -c 1000000 /dev/zero >&2";
        let process = start(&world, &mut script(text)).await;
        let (id, transport) = (process.id(), process.transport().clone());
        drop(process);
        assert_eq!(transport.status(), None, "it was not killed");
        assert!(transport.wait().await.success());
        assert_reaped(id);
        // The pipes' ends may come after.
        while !transport.is_lost() {
            world.turns(1).await;
        }
        world.turns(2).await;
        assert_eq!(world.waiting(), 0);
    });
}

#[test]
fn a_reader_that_is_dropped_holds_nobody_back() {
    World::epoll().run(async |world| {
        let text = "head -c 4194304 /dev/zero; echo done >&2";
        let mut process = start(&world, &mut script(text)).await;
        drop(process.stdout.take());
        let output = process.communicate(b"").await.unwrap();
        assert_eq!(
            (&output.stdout[..], &output.stderr[..]),
            (&b""[..], &b"done\n"[..])
        );
    });
}

#[test]
fn a_loop_that_is_closed_ends_processes_with_streams() {
    let world = World::epoll();
    let process = world.run(async |world| {
        let process = start(&world, &mut piped("cat")).await;
        process.stdin.as_ref().unwrap().write(&pattern(MUCH));
        process
    });
    until_reaped(process.id());
    drop(process);
}

#[test]
fn a_command_line_is_run_by_the_shell() {
    World::epoll().run(async |world| {
        let event_loop = &world.event_loop;
        let mut process = event_loop
            .create_subprocess_shell("tr a-z A-Z | rev; echo $((6 * 7)) >&2")
            .await
            .unwrap();
        let output = process.communicate(b"abc\n").await.unwrap();
        assert_eq!(output.stdout, b"CBA\n");
        assert_eq!(output.stderr, b"42\n");
        let mut process = event_loop
            .create_subprocess_shell("no-such-program-anywhere")
            .await
            .unwrap();
        let output = process.communicate(b"").await.unwrap();
        assert_eq!(output.status.code(), Some(127));
        assert!(!output.stderr.is_empty());
    });
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    World::epoll().run(async |world| {
        let mut command = piped("/no/such/program");
        let started = world.event_loop.create_subprocess_exec(&mut command);
        let error = started.await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn fifty_communicate_at_once() {
    World::epoll().run(async |world| {
        let tasks: Vec<_> = (0..50)
            .map(|number| {
                world.event_loop.spawn(async move {
                    let mut command = script(&format!("cat; exit {number}"));
                    let mut process = aioxide::create_subprocess_exec(&mut command).await?;
                    let input = pattern(10_000 + number);
                    let output = process.communicate(&input).await?;
                    assert!(output.stdout == input);
                    Ok::<_, io::Error>((process.id(), output.status.code()))
                })
            })
            .collect();
        for (number, task) in tasks.into_iter().enumerate() {
            let (id, code) = task.await.unwrap().unwrap();
            assert_eq!(code, Some(i32::try_from(number).unwrap()));
            assert_reaped(id);
        }
    });
}

#[test]
fn the_functions_of_the_module_use_the_running_loop() {
    World::epoll().run(async |_world| {
        let mut process = aioxide::create_subprocess_shell("echo $PPID")
            .await
            .unwrap();
        let output = process.communicate(b"").await.unwrap();
        let parent: u32 = String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert_eq!(parent, std::process::id());
        let shown = format!("{process:?}");
        assert!(
            shown.starts_with("<Process <SubprocessTransport pid="),
            "{shown}"
        );
    });
    let nowhere = futures_util::FutureExt::now_or_never(aioxide::create_subprocess_shell("true"));
    let error = nowhere.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
}
