//! Running one future from beginning to end: `run_until_complete`, and `run` with all around it.

use std::future::Future;
use std::io;

use super::EventLoop;

/// Makes a loop, runs `future` on it as a task, and closes the loop: asyncio's `run`. What other
/// tasks there are by then are dropped; what they had written is sent as far as the kernel takes it.
///
/// # Errors
/// When a loop runs on this thread already, or none can be made; when the future panics.
pub fn run<F>(future: F) -> io::Result<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    EventLoop::new()?.run(future)
}

impl EventLoop {
    /// Runs `future` on this loop as a task, and closes the loop: see [`run`](run()).
    ///
    /// # Errors
    /// When a loop runs on this thread already, or this one is closed; when the future panics.
    pub fn run<F>(&self, future: F) -> io::Result<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let result = self.run_until_complete(future);
        if !self.is_running() && !self.is_closed() {
            self.cancel_tasks();
            // What the tasks' drops have queued: `connection_lost`, above all.
            let ended = self.run_until_complete(self.turn());
            self.close()?;
            ended?;
        }
        result
    }

    /// Runs the loop until `future` is done, as a task.
    ///
    /// # Errors
    /// When a loop runs on this thread already, or this one is closed; when the loop was stopped
    /// before the future was done, which then goes on in the next run; when the future panics.
    pub fn run_until_complete<F>(&self, future: F) -> io::Result<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        if EventLoop::running().is_some() {
            return Err(io::Error::other(
                "a loop cannot be run while another runs on the same thread",
            ));
        }
        let stop = StopOnDrop(self.clone());
        let task = self.spawn(async move {
            let _stop = stop;
            future.await
        });
        if let Err(error) = self.run_forever() {
            task.cancel();
            return Err(error);
        }
        match task.take_result() {
            Some(result) => Ok(result?),
            None => Err(io::Error::other(
                "the event loop was stopped before the future was done",
            )),
        }
    }
}

/// Stops the loop when the future that owns this ends: done, panicked, or cancelled.
struct StopOnDrop(EventLoop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if self.0.is_running() {
            self.0.stop();
        }
    }
}
