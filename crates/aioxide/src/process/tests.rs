//! How the end of a process is learned where a pidfd is not to be had, or lies. What it is like
//! with one is shown by `tests/process/`.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::protocols::{AnyProtocol, Protocol};

/// A test that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Notes what it is told.
#[derive(Default)]
struct Notes(RefCell<Vec<String>>);

impl Notes {
    fn add(&self, note: impl Into<String>) -> io::Result<()> {
        self.0.borrow_mut().push(note.into());
        Ok(())
    }
}

impl BaseProtocol<Native> for Notes {
    fn connection_lost(&self, error: Option<io::Error>) -> io::Result<()> {
        self.add(format!("lost {error:?}"))
    }

    fn pause_writing(&self) -> io::Result<()> {
        self.add("pause")
    }

    fn resume_writing(&self) -> io::Result<()> {
        self.add("resume")
    }

    fn report(&self, what: Failure, error: &io::Error) {
        panic!("{what:?}: {error}");
    }

    fn held(&self, _held: bool) {}
}

struct Nothing;

impl Protocol for Nothing {}

impl ProcessProtocol<Native> for Notes {
    fn connection_made(&self, _transport: SubprocessTransport) -> io::Result<()> {
        self.add("made")
    }

    fn pipe(&self, _number: usize) -> Rc<dyn StreamProtocol<Native>> {
        Nothing.into_stream_protocol()
    }

    fn pipe_connection_lost(&self, number: usize, error: Option<io::Error>) -> io::Result<()> {
        self.add(format!("lost {number} {error:?}"))
    }

    fn process_exited(&self, status: ExitStatus) -> io::Result<()> {
        self.add(format!("exited {}", return_code(status)))
    }

    fn status_unknown(&self, _id: u32) {
        self.0.borrow_mut().push("unknown".into());
    }

    fn abandoned(&self, _id: u32) {
        self.0.borrow_mut().push("abandoned".into());
    }
}

/// A shell that reads a line and ends with 7.
fn child() -> Child {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "read line; exit 7"]);
    command.stdin(Stdio::piped()).spawn().unwrap()
}

fn let_it_end(child: &mut Child) {
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
}

type Open = fn(u32) -> io::Result<OwnedFd>;

/// Starts to wait with what `open` gives, does `then`, and waits for the end: what was noted.
fn notes(open: Open, then: impl FnOnce(&mut Child) + 'static) -> Vec<String> {
    let event_loop = EventLoop::new().unwrap();
    let notes = Rc::new(Notes::default());
    let told = Rc::clone(&notes);
    let test = event_loop.clone();
    event_loop
        .run(async move {
            let mut child = child();
            let no_pipes = [None, None, None];
            let (process, made) = test
                .start_subprocess_with(child.id(), no_pipes, told, Some(open))
                .unwrap();
            made.await;
            // The wait has begun by now.
            test.turn().await;
            then(&mut child);
            test.timeout(PATIENCE, process.wait()).await.unwrap();
            test.turn().await;
            assert!(process.is_lost());
            let reaped = sys::process::reap(child.id()).unwrap_err();
            assert_eq!(reaped.raw_os_error(), Some(libc::ECHILD), "a zombie");
        })
        .unwrap();
    notes.0.take()
}

fn without(_id: u32) -> io::Result<OwnedFd> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

#[test]
fn without_a_pidfd_a_thread_waits() {
    assert_eq!(
        notes(without, let_it_end),
        ["made", "exited 7", "lost None"]
    );
    let killed = notes(without, |child| child.kill().unwrap());
    assert_eq!(killed, ["made", "exited -9", "lost None"]);
}

#[test]
fn a_status_that_was_taken_is_noticed_by_the_thread() {
    let notes = notes(without, |child| {
        let_it_end(child);
        assert_eq!(child.wait().unwrap().code(), Some(7));
    });
    // The thread may still have seen it; the status has gone either way.
    assert_eq!(notes, ["made", "unknown", "exited 255", "lost None"]);
}

#[test]
fn a_process_that_has_gone_has_no_pidfd_and_no_status() {
    fn taken(id: u32) -> io::Result<OwnedFd> {
        sys::process::kill(id, libc::SIGKILL)?;
        sys::process::wait_until_ended(id)?;
        assert!(sys::process::reap(id)?.is_some());
        sys::process::open(id)
    }
    let notes = notes(taken, |_| ());
    assert_eq!(notes, ["made", "unknown", "exited 255", "lost None"]);
}

#[test]
fn a_pidfd_that_cannot_be_waited_for_is_looked_at() {
    // epoll refuses a regular file, as it does anything when its queue is full.
    fn unwatchable(_id: u32) -> io::Result<OwnedFd> {
        Ok(std::fs::File::open("/proc/self/exe")?.into())
    }
    assert_eq!(
        notes(unwatchable, let_it_end),
        ["made", "exited 7", "lost None"]
    );
}

#[test]
fn a_process_that_lives_is_waited_for_again() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    fn ready_at_first(id: u32) -> io::Result<OwnedFd> {
        if CALLS.fetch_add(1, Ordering::Relaxed) > 2 {
            return sys::process::open(id);
        }
        // At its end, and so readable, while the child lives.
        let (reader, _) = io::pipe()?;
        Ok(reader.into())
    }
    assert_eq!(
        notes(ready_at_first, let_it_end),
        ["made", "exited 7", "lost None"]
    );
    assert_eq!(CALLS.load(Ordering::Relaxed), 4);
}

#[test]
fn a_wait_that_was_cancelled_with_all_tasks_begins_anew() {
    for open in [sys::process::open, without] {
        let event_loop = EventLoop::new().unwrap();
        let told = Rc::new(Notes::default());
        let mut child = child();
        let (process, made) = event_loop
            .start_subprocess_with(child.id(), [None, None, None], told.clone(), Some(open))
            .unwrap();
        event_loop.run_until_complete(made).unwrap();
        event_loop.cancel_tasks();
        let_it_end(&mut child);
        let (timer, process) = (event_loop.clone(), process.clone());
        let status = async move { timer.timeout(PATIENCE, process.wait()).await.unwrap() };
        let status = event_loop.run_until_complete(status).unwrap();
        assert_eq!(status.code(), Some(7));
        event_loop.close().unwrap();
        assert!(!told.0.borrow().contains(&"abandoned".to_owned()));
    }
}

#[test]
fn a_process_whose_loop_is_closed_is_abandoned_once() {
    for (turns, open) in [(0, without as Open), (1, without), (1, sys::process::open)] {
        let event_loop = EventLoop::new().unwrap();
        let told = Rc::new(Notes::default());
        let mut child = child();
        let (process, made) = event_loop
            .start_subprocess_with(child.id(), [None, None, None], told.clone(), Some(open))
            .unwrap();
        if turns > 0 {
            event_loop.run_until_complete(made).unwrap();
        }
        event_loop.close().unwrap();
        assert_eq!(process.status().map(return_code), Some(UNKNOWN_EXIT_CODE));
        drop((process, event_loop));
        let expected = if turns > 0 {
            vec!["made", "abandoned"]
        } else {
            vec!["abandoned"]
        };
        assert_eq!(*told.0.borrow(), expected);
        assert_eq!(Rc::strong_count(&told), 1, "nothing refers to it any more");
        let_it_end(&mut child);
        assert_eq!(child.wait().unwrap().code(), Some(7), "it is the host's");
    }
}

#[test]
fn a_pipe_that_is_none_ends_the_process_and_tells_nothing() {
    let event_loop = EventLoop::new().unwrap();
    let told = Rc::new(Notes::default());
    let mut child = child();
    let id = child.id();
    let file = || OwnedFd::from(std::fs::File::open("/proc/self/exe").unwrap());
    let (reader, _writer) = io::pipe().unwrap();
    let pipes = [
        None,
        Some(OwnedFd::from(reader).into()),
        Some(file().into()),
    ];
    let refused = event_loop.start_subprocess(id, pipes, told.clone());
    let error = refused.map(drop).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let test = event_loop.clone();
    event_loop
        .run(async move {
            let reaped = async {
                while sys::process::kill(id, 0).is_ok() {
                    test.sleep(Duration::from_millis(1)).await;
                }
            };
            test.timeout(PATIENCE, reaped).await.unwrap();
            test.turn().await;
        })
        .unwrap();
    assert!(child.wait().is_err(), "its status was taken");
    assert_eq!(*told.0.borrow(), [""; 0]);
    assert_eq!(Rc::strong_count(&told), 1);
}
