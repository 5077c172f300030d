//! Layer 3: streams. A reader and a writer in the place of callbacks, for connections and for the
//! standard streams of child processes.
//!
//! ```text
//!              ┌─ data_received ─▶ inlet ─▶ buffer ─▶ StreamReader ─┐
//! Transport ─▶ StreamReaderProtocol                                 ├─ Stream: futures-io
//!     ▲        └─ pause_writing ─▶ flow ────────────▶ StreamWriter ─┘
//!     └──────────────── write ──────────────────────────────┘
//! ```
//!
//! | file | what |
//! |---|---|
//! | [`buffer`] | what was received and not read; pure |
//! | [`reader`], [`writer`] | the two halves |
//! | [`stream`] | both in one |
//! | `inlet`, `flow` | what the protocol and the halves share |
//! | `tls` | `start_tls` |
//! | [`protocol`] | asyncio's `StreamReaderProtocol` |
//! | [`process`] | asyncio's `subprocess`: a child process and its streams |
//! | [`error`] | how a read fails |

pub mod buffer;
pub mod error;
mod flow;
mod inlet;
pub mod process;
pub mod protocol;
pub mod reader;
pub mod stream;
#[cfg(feature = "rustls")]
mod tls;
pub mod writer;

use std::future::Future;
use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::endpoints::{ConnectOptions, ServerOptions, UnixConnectOptions, UnixServerOptions};
use crate::event_loop::EventLoop;
use crate::event_loop::host::Report;
use crate::event_loop::task::catch_panics;
use crate::server::Server;

pub use error::ReadError;
pub use process::Process;
pub use protocol::StreamReaderProtocol;
pub use reader::{Lines, StreamReader};
pub use stream::Stream;
pub use writer::StreamWriter;

/// The limit of a reader when the program does not say, in bytes: asyncio's 64 KiB. The longest
/// line, and half of what is buffered before the peer is held back.
pub const DEFAULT_LIMIT: usize = 64 * 1024;

impl EventLoop {
    /// Connects, and gives both halves of the stream.
    ///
    /// # Errors
    /// As [`create_connection`](EventLoop::create_connection).
    pub async fn open_connection(
        &self,
        host: &str,
        port: u16,
    ) -> io::Result<(StreamReader, StreamWriter)> {
        self.open_connection_with(host, port, &ConnectOptions::default(), DEFAULT_LIMIT)
            .await
    }

    /// [`open_connection`](EventLoop::open_connection) with options, and the reader's limit in
    /// bytes.
    ///
    /// # Errors
    /// As [`create_connection`](EventLoop::create_connection).
    pub async fn open_connection_with(
        &self,
        host: &str,
        port: u16,
        options: &ConnectOptions,
        limit: usize,
    ) -> io::Result<(StreamReader, StreamWriter)> {
        let reader = StreamReader::new(limit);
        let protocol = StreamReaderProtocol::new(&reader);
        let factory = || protocol.clone();
        let transport = self.create_connection(factory, host, port, options).await?;
        let writer = StreamWriter::new(transport, &protocol);
        Ok((reader, writer))
    }

    /// Listens, and runs `client` as a task for each client. Its error, or its panic, goes to the
    /// exception handler; either way its connection is closed when it has dropped the writer.
    ///
    /// # Errors
    /// As [`create_server`](EventLoop::create_server).
    pub async fn start_server(
        &self,
        client: impl AsyncFn(StreamReader, StreamWriter) -> io::Result<()> + 'static,
        host: Option<&str>,
        port: u16,
    ) -> io::Result<Server> {
        self.start_server_with(client, host, port, &ServerOptions::default(), DEFAULT_LIMIT)
            .await
    }

    /// [`start_server`](EventLoop::start_server) with options, and the readers' limit in bytes.
    ///
    /// # Errors
    /// As [`create_server`](EventLoop::create_server).
    pub async fn start_server_with(
        &self,
        client: impl AsyncFn(StreamReader, StreamWriter) -> io::Result<()> + 'static,
        host: Option<&str>,
        port: u16,
        options: &ServerOptions,
        limit: usize,
    ) -> io::Result<Server> {
        self.create_server(self.clients(client, limit), host, port, options)
            .await
    }

    /// [`open_connection`](EventLoop::open_connection) to a Unix socket.
    ///
    /// # Errors
    /// As [`create_unix_connection`](EventLoop::create_unix_connection).
    pub async fn open_unix_connection(
        &self,
        path: impl AsRef<Path>,
    ) -> io::Result<(StreamReader, StreamWriter)> {
        let options = UnixConnectOptions::default();
        self.open_unix_connection_with(path, &options, DEFAULT_LIMIT)
            .await
    }

    /// [`open_unix_connection`](EventLoop::open_unix_connection) with options, and the reader's limit in
    /// bytes.
    ///
    /// # Errors
    /// As [`create_unix_connection`](EventLoop::create_unix_connection).
    pub async fn open_unix_connection_with(
        &self,
        path: impl AsRef<Path>,
        options: &UnixConnectOptions,
        limit: usize,
    ) -> io::Result<(StreamReader, StreamWriter)> {
        let reader = StreamReader::new(limit);
        let protocol = StreamReaderProtocol::new(&reader);
        let factory = || protocol.clone();
        let transport = self
            .create_unix_connection_with(factory, path, options)
            .await?;
        let writer = StreamWriter::new(transport, &protocol);
        Ok((reader, writer))
    }

    /// [`start_server`](EventLoop::start_server) on a Unix socket.
    ///
    /// # Errors
    /// As [`create_unix_server`](EventLoop::create_unix_server).
    pub async fn start_unix_server(
        &self,
        client: impl AsyncFn(StreamReader, StreamWriter) -> io::Result<()> + 'static,
        path: impl AsRef<Path>,
    ) -> io::Result<Server> {
        self.start_unix_server_with(client, path, &UnixServerOptions::default(), DEFAULT_LIMIT)
            .await
    }

    /// [`start_unix_server`](EventLoop::start_unix_server) with options, and the readers' limit in
    /// bytes.
    ///
    /// # Errors
    /// As [`create_unix_server`](EventLoop::create_unix_server).
    pub async fn start_unix_server_with(
        &self,
        client: impl AsyncFn(StreamReader, StreamWriter) -> io::Result<()> + 'static,
        path: impl AsRef<Path>,
        options: &UnixServerOptions,
        limit: usize,
    ) -> io::Result<Server> {
        self.create_unix_server(self.clients(client, limit), path, options)
            .await
    }

    /// A protocol factory that runs `client` for each connection.
    fn clients(
        &self,
        client: impl AsyncFn(StreamReader, StreamWriter) -> io::Result<()> + 'static,
        limit: usize,
    ) -> impl Fn() -> StreamReaderProtocol + 'static {
        let client = Rc::new(client);
        let event_loop = self.clone();
        move || {
            let (client, event_loop) = (Rc::clone(&client), event_loop.clone());
            StreamReaderProtocol::with_callback(limit, move |reader, writer| {
                let transport = writer.transport().clone();
                let task = async move { client(reader, writer).await };
                event_loop.clone().spawn(async move {
                    if let Err(error) = run_client(task).await {
                        event_loop.report(Report {
                            message: "Unhandled exception in client_connected_cb".into(),
                            error: Some(error),
                            subject: Some(format!("{transport:?}")),
                        });
                        transport.close();
                    }
                });
            })
        }
    }
}

/// A client's task; its panic is an error like any other.
async fn run_client(client: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    catch_panics(client).await?
}
