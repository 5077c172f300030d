//! Child processes with streams: asyncio's `subprocess` module.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::process::{Command, ExitStatus, Output};
use std::rc::Rc;
use std::task::Poll;

use super::flow::WriterFlow;
use super::inlet::Inlet;
use super::{DEFAULT_LIMIT, StreamReader, StreamWriter};
use crate::event_loop::EventLoop;
use crate::process::native::shell;
use crate::process::{SubprocessProtocol, SubprocessTransport, return_code};
use crate::sys::signals::Signal;

/// A child process, and streams for those of its standard streams that are pipes.
///
/// Take a stream out of its field to use it in another task.
///
/// ```
/// use std::process::{Command, Stdio};
/// use aioxide::create_subprocess_exec;
///
/// # async fn program() -> std::io::Result<()> {
/// let mut command = Command::new("sort");
/// command.stdin(Stdio::piped()).stdout(Stdio::piped());
/// let mut process = create_subprocess_exec(&mut command).await?;
/// let output = process.communicate(b"b\na\n").await?;
/// assert_eq!(output.stdout, b"a\nb\n");
/// assert!(output.status.success());
/// # Ok(())
/// # }
/// # fn main() -> std::io::Result<()> { aioxide::run(program())? }
/// ```
///
/// # Flow control
///
/// What the process writes and nobody reads is buffered up to twice the reader's limit; then the
/// process is held back by its pipe. So [`wait`](Process::wait) alone can wait for ever, for a
/// process that waits for its reader: read, or use [`communicate`](Process::communicate).
/// What is written to the process is held back by [`StreamWriter::drain`].
///
/// # Dropping it
///
/// Nothing is killed, as in asyncio: the process goes on, and the loop takes its status when it
/// ends. But its input ends after what was written, because dropping a [`StreamWriter`] closes it,
/// and what it writes is thrown away, because a dropped [`StreamReader`] does that. Closing the
/// loop kills it (see [`process`](crate::process)).
pub struct Process {
    /// Its standard input, if that is a pipe. Dropping it sends the end.
    pub stdin: Option<StreamWriter>,
    /// Its standard output, if that is a pipe.
    pub stdout: Option<StreamReader>,
    /// Its standard error, if that is a pipe.
    pub stderr: Option<StreamReader>,
    transport: SubprocessTransport,
}

impl EventLoop {
    /// Starts a process. The standard streams that `command` says are
    /// [`piped`](std::process::Stdio::piped) become streams. Dropping the future before it is done
    /// kills the process.
    ///
    /// # Errors
    /// As [`subprocess_exec`](EventLoop::subprocess_exec).
    pub async fn create_subprocess_exec(&self, command: &mut Command) -> io::Result<Process> {
        self.create_subprocess_exec_with(command, DEFAULT_LIMIT)
            .await
    }

    /// [`create_subprocess_exec`](EventLoop::create_subprocess_exec) with the readers' limit in
    /// bytes.
    ///
    /// # Errors
    /// As [`subprocess_exec`](EventLoop::subprocess_exec).
    pub async fn create_subprocess_exec_with(
        &self,
        command: &mut Command,
        limit: usize,
    ) -> io::Result<Process> {
        let (stdout, stderr) = (StreamReader::new(limit), StreamReader::new(limit));
        let flow = Rc::<WriterFlow>::default();
        let protocol = SubprocessStreamProtocol {
            outputs: [Rc::clone(stdout.inlet()), Rc::clone(stderr.inlet())],
            flow: Rc::clone(&flow),
        };
        let transport = self.subprocess_exec(|| protocol, command).await?;
        let has = |number| transport.pipe_transport(number).is_some();
        let stdin = transport.pipe_transport(0);
        Ok(Process {
            stdin: stdin.map(|pipe| StreamWriter::of_pipe(pipe, &flow)),
            stdout: has(1).then_some(stdout),
            stderr: has(2).then_some(stderr),
            transport,
        })
    }

    /// Runs a command line with `/bin/sh`. All three standard streams are pipes: for others, give
    /// [`create_subprocess_exec`](EventLoop::create_subprocess_exec) a `Command` of the shell.
    ///
    /// What is put into a command line must be quoted for the shell: do not build one of what
    /// others say.
    ///
    /// # Errors
    /// As [`subprocess_exec`](EventLoop::subprocess_exec). A command that is not found is none: the
    /// shell says so, and ends with 127.
    pub async fn create_subprocess_shell(&self, command_line: &str) -> io::Result<Process> {
        self.create_subprocess_exec(&mut shell(command_line)).await
    }
}

impl Process {
    /// The process's number: asyncio's `pid`.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.transport.id()
    }

    /// How it has ended; `None` while it runs.
    #[must_use]
    pub fn status(&self) -> Option<ExitStatus> {
        self.transport.status()
    }

    /// How it has ended, as asyncio says it: its exit code, or the negative number of the signal
    /// that has ended it. `None` while it runs.
    #[must_use]
    pub fn returncode(&self) -> Option<i32> {
        self.status().map(return_code)
    }

    /// Waits for its end; several may. Its pipes may still have something, and its input stays
    /// open.
    pub async fn wait(&self) -> ExitStatus {
        self.transport.wait().await
    }

    /// Writes `input` to the process and ends its input, reads everything that it writes until the
    /// end, and waits for its end. All of that at the same time, so that neither waits for the
    /// other. A standard stream that is no pipe, or was taken out of its field, gives nothing.
    ///
    /// That the process does not read its input is no error. Dropping the future loses nothing of
    /// what was not read: call it again, with no input, for the rest. (The input is taken at once.)
    ///
    /// # Errors
    /// How reading a pipe has failed. `InvalidInput` when there is input, but no pipe for it.
    pub async fn communicate(&mut self, input: &[u8]) -> io::Result<Output> {
        match self.stdin.take() {
            // Its drop ends the input.
            Some(stdin) => stdin.write(input),
            None if input.is_empty() => {}
            None => {
                let message = "there is input for the process, but no pipe to its standard input";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        }
        let (stdout, stderr) = both(
            read_all(self.stdout.as_mut()),
            read_all(self.stderr.as_mut()),
        )
        .await;
        Ok(Output {
            stdout: stdout?,
            stderr: stderr?,
            status: self.wait().await,
        })
    }

    /// Sends it a signal. Nothing happens when it has ended.
    ///
    /// # Errors
    /// `EINVAL` for a number that is no signal, `EPERM` when it runs as somebody else.
    pub fn send_signal(&self, signal: Signal) -> io::Result<()> {
        self.transport.send_signal(signal)
    }

    /// Asks it to end: `SIGTERM`.
    ///
    /// # Errors
    /// `EPERM` when it runs as somebody else.
    pub fn terminate(&self) -> io::Result<()> {
        self.transport.terminate()
    }

    /// Ends it: `SIGKILL`.
    ///
    /// # Errors
    /// `EPERM` when it runs as somebody else.
    pub fn kill(&self) -> io::Result<()> {
        self.transport.kill()
    }

    /// What lies below: the transports of its pipes, and `close`, which kills it.
    #[must_use]
    pub fn transport(&self) -> &SubprocessTransport {
        &self.transport
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Process {:?}>", self.transport)
    }
}

async fn read_all(reader: Option<&mut StreamReader>) -> io::Result<Vec<u8>> {
    match reader {
        Some(reader) => reader.read_to_end().await,
        None => Ok(Vec::new()),
    }
}

/// The results of two futures that run at the same time.
async fn both<A: Future, B: Future>(first: A, second: B) -> (A::Output, B::Output) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut one, mut other) = (None, None);
    poll_fn(|cx| {
        if one.is_none()
            && let Poll::Ready(result) = first.as_mut().poll(cx)
        {
            one = Some(result);
        }
        if other.is_none()
            && let Poll::Ready(result) = second.as_mut().poll(cx)
        {
            other = Some(result);
        }
        match (one.take(), other.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            waiting => {
                (one, other) = waiting;
                Poll::Pending
            }
        }
    })
    .await
}

/// asyncio's protocol of that name: what the process writes goes to its readers, and whether there
/// is room in its input to the writer.
struct SubprocessStreamProtocol {
    /// Standard output's, and standard error's.
    outputs: [Rc<Inlet>; 2],
    flow: Rc<WriterFlow>,
}

impl SubprocessStreamProtocol {
    fn output(&self, pipe: usize) -> Option<&Inlet> {
        self.outputs.get(pipe.checked_sub(1)?).map(|inlet| &**inlet)
    }
}

impl SubprocessProtocol for SubprocessStreamProtocol {
    fn connection_made(&mut self, transport: SubprocessTransport) {
        for (inlet, number) in self.outputs.iter().zip(1..) {
            inlet.set_transport(transport.pipe_transport(number));
        }
    }

    fn pipe_data_received(&mut self, pipe: usize, data: &[u8]) {
        if let Some(inlet) = self.output(pipe) {
            inlet.feed_data(data);
        }
    }

    fn pipe_connection_lost(&mut self, pipe: usize, error: Option<io::Error>) {
        match (self.output(pipe), error) {
            (None, error) => return self.flow.set_lost(error),
            (Some(inlet), Some(error)) => inlet.set_exception(error),
            (Some(inlet), None) => inlet.feed_eof(),
        }
        if let Some(inlet) = self.output(pipe) {
            inlet.set_transport(None);
        }
    }

    fn pause_writing(&mut self) {
        self.flow.set_paused(true);
    }

    fn resume_writing(&mut self) {
        self.flow.set_paused(false);
    }
}
