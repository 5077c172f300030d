//! The process's own descriptors: a loop gives all of them back. (One test, because others on the
//! same process would open some meanwhile.)

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::poll_fn;
use std::io;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::Poll;
use std::time::{Duration, Instant};

use aioxide::{
    DatagramOptions, DatagramProtocol, EventLoop, Protocol, Signal, StreamReader, StreamWriter,
    Workers, create_subprocess_exec, create_subprocess_shell, open_connection, running,
    start_server,
};

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    while let Some(line) = reader.lines().next().await? {
        writer.write(&line);
        writer.drain().await?;
    }
    Ok(())
}

struct Silent;

impl Protocol for Silent {}

impl DatagramProtocol for Silent {}

/// The numbers of this process's children, zombies too.
fn children() -> String {
    // Those that a thread has just been told to reap are about to go.
    let begun = Instant::now();
    loop {
        let mut all = String::new();
        for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            all += &std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        }
        if all.is_empty() || begun.elapsed() > Duration::from_secs(20) {
            return all;
        }
        std::thread::yield_now();
    }
}

/// Leaves everything as it is at its end: a server, clients, an endpoint, a pipe, tasks, bytes that
/// nobody has read.
async fn careless(round: usize) -> io::Result<()> {
    let server = start_server(echo, Some("127.0.0.1"), 0).await?;
    let port = server.local_addresses()[0].port().unwrap();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let (mut reader, writer) = open_connection("127.0.0.1", port).await?;
        writer.write(b"line\nrest");
        assert_eq!(reader.readline().await?, b"line\n");
        clients.push((reader, writer));
    }
    let event_loop = running()?;
    let options = DatagramOptions::default();
    let here = Some(("127.0.0.1", 0));
    let endpoint = event_loop
        .create_datagram_endpoint(|| Silent, here, None, &options)
        .await?;
    let own = endpoint.local_address().unwrap();
    endpoint.send_to(b"to itself", &own)?;
    let (reader, writer) = io::pipe()?;
    let reading = event_loop.connect_read_pipe(|| Silent, reader).await?;
    let writing = event_loop.connect_write_pipe(|| Silent, writer).await?;
    reading.pause_reading();
    writing.write(&vec![0; 1 << 20]);
    aioxide::spawn(async move {
        std::future::pending::<()>().await;
        drop((clients, endpoint, reading, writing));
    })?;
    if round.is_multiple_of(2) {
        server.close();
    }
    Ok(())
}

/// Leaves processes as they are: one that waits for its input, one that was ended, output that
/// nobody has read, a program that is not there, and one that is dropped while it starts.
async fn careless_with_processes(round: usize) -> io::Result<u32> {
    let mut missing = Command::new("/no/such/program");
    missing.stdin(Stdio::piped()).stdout(Stdio::piped());
    let missing = create_subprocess_exec(&mut missing).await;
    assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    let killed = create_subprocess_shell("cat").await?;
    killed.kill()?;
    if round.is_multiple_of(2) {
        killed.wait().await;
    }
    let mut talked = create_subprocess_shell("head -c 1000000 /dev/zero; cat >&2").await?;
    if round.is_multiple_of(3) {
        let output = talked.communicate(b"input").await?;
        assert_eq!(
            (output.stdout.len(), &output.stderr[..]),
            (1_000_000, &b"input"[..])
        );
    }
    let mut command = Command::new("cat");
    {
        let mut dropped = pin!(create_subprocess_exec(command.stdin(Stdio::piped())));
        poll_fn(|cx| {
            assert!(dropped.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }
    let left = create_subprocess_exec(&mut command).await?;
    let id = left.id();
    aioxide::spawn(async move {
        std::future::pending::<()>().await;
        drop(left);
    })?;
    Ok(id)
}

#[test]
fn a_loop_gives_all_its_descriptors_back() {
    let before = open_descriptors();
    for round in 0..50 {
        aioxide::run(careless(round)).unwrap().unwrap();
    }
    assert_eq!(open_descriptors(), before);
    for _ in 0..50 {
        // Not even closed: nothing has used it.
        drop(EventLoop::new().unwrap());
    }
    assert_eq!(open_descriptors(), before);
    for close in [true, false] {
        let event_loop = EventLoop::new().unwrap();
        event_loop.add_signal_handler(Signal::WINCH, || {}).unwrap();
        event_loop.add_signal_handler(Signal::USR1, || {}).unwrap();
        event_loop.remove_signal_handler(Signal::USR1);
        if close {
            event_loop.close().unwrap();
        }
    }
    assert_eq!(open_descriptors(), before);
    let workers = Workers {
        count: NonZeroUsize::new(4),
        ..Workers::default()
    };
    let failed = workers.run(async |worker| match worker.index() {
        3 => Err(io::Error::other("failed")),
        index => careless(index).await,
    });
    assert_eq!(failed.unwrap_err().to_string(), "worker 3: failed");
    assert_eq!(open_descriptors(), before);
    let panicked = aioxide::run(async {
        let _kept = start_server(echo, Some("127.0.0.1"), 0).await.unwrap();
        panic!("in the middle")
    });
    let error: io::Error = panicked.map(|(): ()| ()).unwrap_err();
    assert!(error.to_string().contains("in the middle"));
    assert_eq!(open_descriptors(), before);
    for round in 0..12 {
        let left = aioxide::run(careless_with_processes(round)).unwrap();
        assert_eq!(open_descriptors(), before);
        let left = left.unwrap();
        // It was killed with its loop, and somebody takes its status.
        while aioxide::sys::process::wait_until_ended(left).is_ok() {
            std::thread::yield_now();
        }
    }
    assert_eq!(children(), "", "no child is left, dead or alive");
}
