//! A protocol for processes that writes down what happens to it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use aioxide::process::return_code;
use aioxide::sys;
use aioxide::{SubprocessProtocol, SubprocessTransport};

use crate::common::World;

/// What has happened to a process. Clones share it.
#[derive(Clone, Default)]
pub struct Diary(Rc<Inner>);

#[derive(Default)]
struct Inner {
    events: RefCell<Vec<&'static str>>,
    waiters: RefCell<Vec<Waker>>,
    received: RefCell<[Vec<u8>; 3]>,
    errors: RefCell<Vec<(usize, String)>>,
    status: Cell<Option<ExitStatus>>,
    transport: RefCell<Option<SubprocessTransport>>,
}

const RECEIVED: [&str; 3] = ["?", "out", "err"];
const LOST: [&str; 3] = ["lost in", "lost out", "lost err"];

impl Diary {
    /// `made`, `out` and `err` (several in a row count as one), `lost in`, `lost out`, `lost err`,
    /// `exited`, `lost`, `pause`, `resume`.
    pub fn events(&self) -> Vec<&'static str> {
        self.0.events.borrow().clone()
    }

    pub fn has(&self, event: &str) -> bool {
        self.0.events.borrow().contains(&event)
    }

    pub async fn until(&self, event: &str) {
        self.when(|| self.has(event)).await;
    }

    /// Waits until the pipe has given so many bytes.
    pub async fn received(&self, pipe: usize, count: usize) {
        self.when(|| self.0.received.borrow()[pipe].len() >= count)
            .await;
    }

    async fn when(&self, done: impl Fn() -> bool) {
        poll_fn(|cx| {
            if done() {
                return Poll::Ready(());
            }
            self.0.waiters.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// What a pipe has given.
    pub fn data(&self, pipe: usize) -> Vec<u8> {
        self.0.received.borrow()[pipe].clone()
    }

    /// The text of a pipe, without white space around it.
    pub fn text(&self, pipe: usize) -> String {
        String::from_utf8(self.data(pipe))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// The pipes that were lost with an error, and the errors.
    pub fn errors(&self) -> Vec<(usize, String)> {
        self.0.errors.borrow().clone()
    }

    /// How `process_exited` says that it has ended.
    pub fn code(&self) -> Option<i32> {
        self.0.status.get().map(return_code)
    }

    pub fn transport(&self) -> SubprocessTransport {
        self.0.transport.borrow().clone().expect("it was made")
    }

    fn add(&self, event: &'static str) {
        let mut events = self.0.events.borrow_mut();
        if events.last() != Some(&event) {
            events.push(event);
        }
        drop(events);
        self.0.waiters.take().into_iter().for_each(Waker::wake);
    }
}

/// What an [`Observer`] does at an event.
pub type Act = Rc<dyn Fn(&'static str, &SubprocessTransport)>;

/// Writes to a [`Diary`].
#[derive(Clone, Default)]
pub struct Observer {
    pub diary: Diary,
    /// Panics at this event.
    pub panic_at: Option<&'static str>,
    pub act: Option<Act>,
}

impl Observer {
    pub fn new(diary: &Diary) -> Observer {
        Observer {
            diary: diary.clone(),
            ..Observer::default()
        }
    }

    fn event(&self, event: &'static str) {
        self.diary.add(event);
        if let Some(act) = &self.act {
            act(event, &self.diary.transport());
        }
        if self.panic_at == Some(event) {
            panic!("at {event}");
        }
    }
}

impl SubprocessProtocol for Observer {
    fn connection_made(&mut self, transport: SubprocessTransport) {
        self.diary.0.transport.replace(Some(transport));
        self.event("made");
    }

    fn pipe_data_received(&mut self, pipe: usize, data: &[u8]) {
        assert!(!data.is_empty());
        self.diary.0.received.borrow_mut()[pipe].extend_from_slice(data);
        self.event(RECEIVED[pipe]);
    }

    fn pipe_connection_lost(&mut self, pipe: usize, error: Option<io::Error>) {
        if let Some(error) = error {
            let mut errors = self.diary.0.errors.borrow_mut();
            errors.push((pipe, error.kind().to_string()));
        }
        self.event(LOST[pipe]);
    }

    fn process_exited(&mut self, status: ExitStatus) {
        self.diary.0.status.set(Some(status));
        self.event("exited");
    }

    fn connection_lost(&mut self, error: Option<io::Error>) {
        assert!(error.is_none());
        self.event("lost");
    }

    fn pause_writing(&mut self) {
        self.event("pause");
    }

    fn resume_writing(&mut self) {
        self.event("resume");
    }
}

/// A program with all three pipes.
pub fn piped(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A script for the shell, with all three pipes.
pub fn script(text: &str) -> Command {
    let mut command = piped("/bin/sh");
    command.args(["-c", text]);
    command
}

/// Starts `command`; what happens to it is in the diary.
pub async fn start(world: &World, command: &mut Command) -> (SubprocessTransport, Diary) {
    let diary = Diary::default();
    let transport = start_with(world, command, Observer::new(&diary)).await;
    (transport, diary)
}

pub async fn start_with(
    world: &World,
    command: &mut Command,
    observer: Observer,
) -> SubprocessTransport {
    let event_loop = &world.event_loop;
    let started = event_loop.subprocess_exec(|| observer, command).await;
    started.unwrap()
}

/// Ends the standard input of a process.
pub fn end_input(transport: &SubprocessTransport) {
    transport.pipe_transport(0).unwrap().close();
}

/// Nobody has left `id` as a zombie: there is no such child any more.
pub fn assert_reaped(id: u32) {
    let error = sys::process::reap(id).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECHILD), "a zombie: {id}");
}

/// Waits, without a loop, until somebody else has reaped `id`.
pub fn until_reaped(id: u32) {
    let begun = Instant::now();
    while sys::process::wait_until_ended(id).is_ok() {
        // It has ended; its status is about to be taken.
        assert!(begun.elapsed() < Duration::from_secs(20), "a zombie: {id}");
        std::thread::yield_now();
    }
}
