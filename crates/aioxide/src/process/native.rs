//! Child processes with Rust's manners: over `std::process::Command`.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus};
use std::rc::Rc;

use super::{ProcessProtocol, SubprocessTransport};
use crate::event_loop::EventLoop;
use crate::event_loop::native::{Native, guard};
use crate::protocols::native::{Adapter, BaseCallbacks, TransportHandle};
use crate::protocols::{BaseProtocol, Failure, Input, Received, StreamProtocol};
use crate::reactor::Socket;
use crate::sys::socket::set_nonblocking;
use crate::transports::Transport;

/// A protocol for a child process.
///
/// Every method has a default that does what asyncio's does. A method that panics is reported to
/// the exception handler.
pub trait SubprocessProtocol: 'static {
    /// The process was started. Keep `transport` to write to it and to end it.
    fn connection_made(&mut self, transport: SubprocessTransport) {
        drop(transport);
    }

    /// The process has written to a pipe: 1 is its standard output, 2 its standard error.
    fn pipe_data_received(&mut self, pipe: usize, data: &[u8]) {
        let _ = (pipe, data);
    }

    /// A pipe is closed: 0 is the process's standard input.
    fn pipe_connection_lost(&mut self, pipe: usize, error: Option<io::Error>) {
        let _ = (pipe, error);
    }

    /// The process has ended; its pipes may still have something.
    fn process_exited(&mut self, status: ExitStatus) {
        let _ = status;
    }

    /// The process has ended and its pipes are closed.
    fn connection_lost(&mut self, error: Option<io::Error>) {
        drop(error);
    }

    /// The buffer of the process's standard input is above its high-water mark: stop writing.
    fn pause_writing(&mut self) {}

    /// It is at or below its low-water mark: write again.
    fn resume_writing(&mut self) {}
}

impl EventLoop {
    /// Starts a process, and makes a protocol for it. The standard streams that `command` says are
    /// [`piped`](std::process::Stdio::piped) become transports.
    /// Completes when `connection_made` was called.
    ///
    /// # Errors
    /// When it cannot be started: `NotFound`, `PermissionDenied`, `EMFILE`.
    ///
    /// ```
    /// use std::process::{Command, ExitStatus, Stdio};
    /// use aioxide::{EventLoop, SubprocessProtocol};
    ///
    /// struct Print;
    ///
    /// impl SubprocessProtocol for Print {
    ///     fn pipe_data_received(&mut self, _pipe: usize, data: &[u8]) {
    ///         print!("{}", String::from_utf8_lossy(data));
    ///     }
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let event_loop = EventLoop::new()?;
    /// let process = event_loop.clone();
    /// let status = event_loop.run(async move {
    ///     let mut command = Command::new("echo");
    ///     command.arg("hello").stdout(Stdio::piped());
    ///     let transport = process.subprocess_exec(|| Print, &mut command).await?;
    ///     Ok::<ExitStatus, std::io::Error>(transport.wait().await)
    /// })??;
    /// assert!(status.success());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn subprocess_exec<P: SubprocessProtocol>(
        &self,
        factory: impl FnOnce() -> P,
        command: &mut Command,
    ) -> io::Result<SubprocessTransport> {
        let mut child = command.spawn()?;
        let pipes = [
            child.stdin.take().map(OwnedFd::from),
            child.stdout.take().map(OwnedFd::from),
            child.stderr.take().map(OwnedFd::from),
        ];
        let started = pipes_of(pipes).and_then(|pipes| {
            let protocol = guard(factory)?;
            let adapter = Rc::new(ProcessAdapter(Rc::new(Adapter::of(Process(protocol)))));
            self.start_subprocess(child.id(), pipes, adapter)
        });
        match started {
            Ok((transport, made)) => {
                let unfinished = CloseOnDrop(Some(transport.clone()));
                made.await;
                unfinished.finish();
                Ok(transport)
            }
            Err(error) => {
                // Nobody else knows of it.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Runs a command line with `/bin/sh`; see [`subprocess_exec`](EventLoop::subprocess_exec).
    /// All three standard streams are pipes.
    ///
    /// # Errors
    /// As that.
    pub async fn subprocess_shell<P: SubprocessProtocol>(
        &self,
        factory: impl FnOnce() -> P,
        command_line: &str,
    ) -> io::Result<SubprocessTransport> {
        use std::process::Stdio;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", command_line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.subprocess_exec(factory, &mut command).await
    }
}

fn pipes_of(pipes: [Option<OwnedFd>; 3]) -> io::Result<[Option<Socket>; 3]> {
    use std::os::fd::AsRawFd;
    for pipe in pipes.iter().flatten() {
        set_nonblocking(pipe.as_raw_fd())?;
    }
    Ok(pipes.map(|pipe| pipe.map(Socket::from)))
}

/// Closes a process whose creator has lost interest.
struct CloseOnDrop(Option<SubprocessTransport>);

impl CloseOnDrop {
    fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(transport) = &self.0 {
            transport.close();
        }
    }
}

/// A Rust protocol of a process.
struct Process<P>(P);

impl<P: SubprocessProtocol> BaseCallbacks for Process<P> {
    fn connection_lost(&mut self, error: Option<io::Error>) {
        self.0.connection_lost(error);
    }

    fn pause_writing(&mut self) {
        self.0.pause_writing();
    }

    fn resume_writing(&mut self) {
        self.0.resume_writing();
    }
}

impl TransportHandle for SubprocessTransport {
    fn loop_of(&self) -> EventLoop {
        self.event_loop().clone()
    }
}

type Lent<P> = Rc<Adapter<Process<P>, SubprocessTransport>>;

struct ProcessAdapter<P: SubprocessProtocol>(Lent<P>);

/// What receives from one pipe.
struct PipeAdapter<P: SubprocessProtocol> {
    process: Lent<P>,
    number: usize,
}

impl<P: SubprocessProtocol> BaseProtocol<Native> for ProcessAdapter<P> {
    fn connection_lost(&self, error: Option<io::Error>) -> io::Result<()> {
        self.0.connection_lost(error)
    }

    fn pause_writing(&self) -> io::Result<()> {
        self.0.pause_writing()
    }

    fn resume_writing(&self) -> io::Result<()> {
        self.0.resume_writing()
    }

    fn report(&self, what: Failure, error: &io::Error) {
        self.0.report(what, error);
    }

    fn held(&self, _held: bool) {}
}

impl<P: SubprocessProtocol> ProcessProtocol<Native> for ProcessAdapter<P> {
    fn connection_made(&self, transport: SubprocessTransport) -> io::Result<()> {
        self.0.made(&transport);
        self.0
            .call(|process| process.0.connection_made(transport))
            .unwrap_or(Ok(()))
    }

    fn pipe(&self, number: usize) -> Rc<dyn StreamProtocol<Native>> {
        Rc::new(PipeAdapter {
            process: Rc::clone(&self.0),
            number,
        })
    }

    fn pipe_connection_lost(&self, number: usize, error: Option<io::Error>) -> io::Result<()> {
        self.0
            .call(|process| process.0.pipe_connection_lost(number, error))
            .unwrap_or(Ok(()))
    }

    fn process_exited(&self, status: ExitStatus) -> io::Result<()> {
        self.0
            .call(|process| process.0.process_exited(status))
            .unwrap_or(Ok(()))
    }
}

impl<P: SubprocessProtocol> BaseProtocol<Native> for PipeAdapter<P> {
    // The process is told of the end and of flow control.
    fn connection_lost(&self, _error: Option<io::Error>) -> io::Result<()> {
        Ok(())
    }

    fn pause_writing(&self) -> io::Result<()> {
        Ok(())
    }

    fn resume_writing(&self) -> io::Result<()> {
        Ok(())
    }

    fn report(&self, what: Failure, error: &io::Error) {
        self.process.report(what, error);
    }

    fn held(&self, _held: bool) {}
}

impl<P: SubprocessProtocol> StreamProtocol<Native> for PipeAdapter<P> {
    fn connection_made(&self, _transport: Transport) -> io::Result<()> {
        Ok(())
    }

    fn receive(&self, input: &Input<'_, Native>) -> Received<io::Error> {
        let received = input.with_receive_buffer(|buffer| {
            if let Err(end) = Received::<io::Error>::count(input.receive(buffer)) {
                return Some(end);
            }
            let number = self.number;
            let told = self
                .process
                .call(|process| process.0.pipe_data_received(number, buffer.bytes()))?;
            Some(match told {
                Ok(()) => Received::Data,
                Err(error) => Received::Raised("pipe_data_received() panicked", error),
            })
        });
        received.unwrap_or(Received::Nothing)
    }

    fn eof_received(&self) -> io::Result<bool> {
        Ok(false)
    }
}
