//! asyncio's functions that need no loop as an argument: they use the one that runs on this thread.

use std::future::Future;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::event_loop::EventLoop;
use crate::event_loop::task::Task;
use crate::server::Server;
use crate::streams::{Process, StreamReader, StreamWriter};

/// The loop that runs on this thread: asyncio's `get_running_loop`.
///
/// # Errors
/// `NotConnected` when none does.
pub fn running() -> io::Result<EventLoop> {
    EventLoop::running().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotConnected,
            "no event loop runs on this thread",
        )
    })
}

/// [`EventLoop::spawn`] on the running loop.
///
/// # Errors
/// As [`running`].
pub fn spawn<F: Future + 'static>(future: F) -> io::Result<Task<F::Output>> {
    Ok(running()?.spawn(future))
}

/// [`EventLoop::sleep`] on the running loop.
///
/// # Errors
/// As [`running`].
pub async fn sleep(duration: Duration) -> io::Result<()> {
    running()?.sleep(duration).await;
    Ok(())
}

/// [`EventLoop::timeout`] on the running loop.
///
/// # Errors
/// `TimedOut` when the future takes longer; as [`running`].
pub async fn timeout<F: Future>(duration: Duration, future: F) -> io::Result<F::Output> {
    Ok(running()?.timeout(duration, future).await?)
}

/// [`EventLoop::open_connection`] on the running loop.
///
/// # Errors
/// As that, and as [`running`].
pub async fn open_connection(host: &str, port: u16) -> io::Result<(StreamReader, StreamWriter)> {
    running()?.open_connection(host, port).await
}

/// [`EventLoop::start_server`] on the running loop.
///
/// # Errors
/// As that, and as [`running`].
pub async fn start_server(
    client: impl AsyncFn(StreamReader, StreamWriter) -> io::Result<()> + 'static,
    host: Option<&str>,
    port: u16,
) -> io::Result<Server> {
    running()?.start_server(client, host, port).await
}

/// [`EventLoop::open_unix_connection`] on the running loop.
///
/// # Errors
/// As that, and as [`running`].
pub async fn open_unix_connection(
    path: impl AsRef<Path>,
) -> io::Result<(StreamReader, StreamWriter)> {
    running()?.open_unix_connection(path).await
}

/// [`EventLoop::start_unix_server`] on the running loop.
///
/// # Errors
/// As that, and as [`running`].
pub async fn start_unix_server(
    client: impl AsyncFn(StreamReader, StreamWriter) -> io::Result<()> + 'static,
    path: impl AsRef<Path>,
) -> io::Result<Server> {
    running()?.start_unix_server(client, path).await
}

/// [`EventLoop::create_subprocess_exec`] on the running loop.
///
/// # Errors
/// As that, and as [`running`].
pub async fn create_subprocess_exec(command: &mut Command) -> io::Result<Process> {
    running()?.create_subprocess_exec(command).await
}

/// [`EventLoop::create_subprocess_shell`] on the running loop.
///
/// # Errors
/// As that, and as [`running`].
pub async fn create_subprocess_shell(command_line: &str) -> io::Result<Process> {
    running()?.create_subprocess_shell(command_line).await
}
