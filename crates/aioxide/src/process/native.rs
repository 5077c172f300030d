//! Child processes with Rust's manners: over `std::process::Command`.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::thread;

use super::{ProcessProtocol, SubprocessTransport};
use crate::endpoints::native::{Closable, CloseOnDrop};
use crate::event_loop::EventLoop;
use crate::event_loop::native::{Native, guard};
use crate::protocols::native::{Adapter, BaseCallbacks, TransportHandle};
use crate::protocols::{BaseProtocol, Failure, Input, Received, StreamProtocol};
use crate::reactor::Socket;
use crate::sys;
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
    /// Completes when `connection_made` was called; dropping the future before kills the process.
    ///
    /// The loop waits for the process, and kills it if it is closed first: see the
    /// [module](crate::process).
    ///
    /// # Errors
    /// When it cannot be started: `NotFound`, `PermissionDenied`, `EMFILE`; when the factory
    /// panics, or the loop is closed.
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
        if self.is_closed() {
            let message = "the event loop is closed: it waits for no process any more";
            return Err(io::Error::new(io::ErrorKind::NotConnected, message));
        }
        let mut child = command.spawn()?;
        let id = child.id();
        let pipes = [
            child.stdin.take().map(OwnedFd::from),
            child.stdout.take().map(OwnedFd::from),
            child.stderr.take().map(OwnedFd::from),
        ];
        let prepared = pipes_of(pipes).and_then(|pipes| Ok((pipes, guard(factory)?)));
        // Nobody else knows of the child yet.
        let (pipes, protocol) = prepared.inspect_err(|_| end(id))?;
        let adapter = Rc::new(ProcessAdapter(Rc::new(Adapter::of(Process(protocol)))));
        let (transport, made) = self.start_subprocess(id, pipes, adapter)?;
        Ok(CloseOnDrop::until(made, transport).await)
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
        self.subprocess_exec(factory, &mut shell(command_line))
            .await
    }
}

/// A command line for `/bin/sh`, with all three standard streams as pipes.
pub(crate) fn shell(command_line: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", command_line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Kills the child `id`, which nobody waits for, and takes its status: later, if it takes its time.
fn end(id: u32) {
    // Whose status was taken is no child of ours: its number may be another's by now.
    if !matches!(sys::process::reap(id), Ok(None)) {
        return;
    }
    if let Err(error) = sys::process::kill(id, libc::SIGKILL) {
        log::debug!("killing process {id} failed: {error}");
    }
    let started = thread::Builder::new()
        .name("aioxide-reaping".into())
        .spawn(move || {
            // Fails only when somebody else has taken its status.
            let _ = sys::process::wait_until_ended(id).and_then(|()| sys::process::reap(id));
        });
    if let Err(error) = started {
        log::warn!("nobody takes the status of process {id}: {error}");
    }
}

fn pipes_of(pipes: [Option<OwnedFd>; 3]) -> io::Result<[Option<Socket>; 3]> {
    use std::os::fd::AsRawFd;
    for pipe in pipes.iter().flatten() {
        set_nonblocking(pipe.as_raw_fd())?;
    }
    Ok(pipes.map(|pipe| pipe.map(Socket::from)))
}

impl Closable for SubprocessTransport {
    fn close(&self) {
        SubprocessTransport::close(self);
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

    fn abandoned(&self, id: u32) {
        end(id);
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
