//! Python's asyncio networking system, in Rust: an event loop, transports and protocols with flow
//! control, and streams.
//!
//! # What it is
//!
//! asyncio has three ways to move bytes, one above the other, and programs choose the one that
//! suits them. They are here under their names, with their rules:
//!
//! ```text
//!  3  streams      open_connection, start_server: a StreamReader and a StreamWriter
//!  2  transports   create_connection, create_server: a Transport moves the bytes,
//!     protocols    a Protocol is called back when they come
//!  1  sockets      sock_recv, sock_sendall, sock_connect, sock_accept
//! ──────────────────────────────────────────────────────────────────────────────
//!     event loop   callbacks, timers, futures and tasks: one queue, one place where it is run
//!     reactor      operations in, readiness out: epoll, or a simulated network
//! ```
//!
//! A loop and everything on it belong to one thread: futures need not be `Send`, callbacks may
//! share state through `Rc<RefCell<_>>`. Other threads have [`Remote`], wakers and
//! [`EventLoop::run_in_executor`].
//!
//! # What it is not
//!
//! It is no Python: nothing here knows of an interpreter. (The Python package of the same name
//! is a second front door to this engine; see [`event_loop::host`].) It is no work-stealing
//! runtime: one loop, one thread. And it is for Linux.
//!
//! # An example
//!
//! A server that answers each line in capitals, and a client that sends it one:
//!
//! ```
//! use aioxide::{StreamReader, StreamWriter, open_connection, start_server};
//!
//! async fn shout(mut reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
//!     let mut lines = reader.lines();
//!     while let Some(line) = lines.next().await? {
//!         writer.write(&line.to_ascii_uppercase());
//!         writer.drain().await?;
//!     }
//!     Ok(()) // Dropping the writer closes the connection.
//! }
//!
//! async fn program() -> std::io::Result<Vec<u8>> {
//!     let server = start_server(shout, Some("127.0.0.1"), 0).await?;
//!     let port = server.local_addresses()[0].port().unwrap_or_default();
//!
//!     let (mut reader, writer) = open_connection("127.0.0.1", port).await?;
//!     writer.write(b"hello\n");
//!     let answer = reader.readline().await?;
//!
//!     writer.close();
//!     writer.wait_closed().await?;
//!     server.close();
//!     server.wait_closed().await;
//!     Ok(answer)
//! }
//!
//! # fn main() -> std::io::Result<()> {
//! let answer = aioxide::run(program())??;
//! assert_eq!(answer, b"HELLO\n");
//! # Ok(())
//! # }
//! ```
//!
//! # Errors and panics
//!
//! Fallible calls give [`std::io::Error`], or a small enum where a caller has to tell cases apart
//! ([`ReadError`], [`FutureError`], [`TaskError`]). A callback, a protocol or a task that panics
//! does what an exception does in asyncio: the exception handler is told
//! ([`EventLoop::set_exception_handler`]; the default one logs), its own connection or task ends,
//! and the loop goes on.
//!
//! # The modules, in layer order
//!
//! Each uses only those above it in this table. (Protocols and transports name each other: a
//! protocol is given its transport.)
//!
//! | module | asyncio's | what |
//! |---|---|---|
//! | [`sys`] | `socket`, `select` | system calls as safe functions; the only `unsafe` |
//! | [`reactor`] | `selectors` | what a network is, as a contract; epoll; a simulated network |
//! | [`event_loop`] | `base_events`, `futures`, `tasks` | the iteration, timers, futures, tasks |
//! | [`signals`] | `add_signal_handler` | signals as callbacks |
//! | [`sock`] | `loop.sock_*` | operations on the program's own sockets; names |
//! | [`protocols`] | `protocols` | what bytes mean |
//! | [`transports`] | `transports`, `selector_events` | how bytes are moved |
//! | [`tls`] | `sslproto` | a layer between a transport and a protocol |
//! | [`server`] | `Server` | listening sockets and their clients |
//! | [`endpoints`] | `create_connection`, ... | from addresses to transports |
//! | [`process`] | `base_subprocess` | child processes and their pipes |
//! | [`streams`] | `streams` | readers and writers |
//! | [`workers`] | - | one loop per core |
//!
//! The modules are public for hosts: other languages that embed the engine
//! ([`EventLoop::with_host`]), tests that bring their own [`reactor::Reactor`]. A Rust program
//! finds all it needs in the list below. The public interface is:

pub mod endpoints;
pub mod event_loop;
pub mod process;
pub mod protocols;
pub mod reactor;
mod running;
pub mod server;
pub mod signals;
pub mod sock;
pub mod streams;
pub mod sys;
pub mod tls;
pub mod transports;
pub mod workers;

pub use endpoints::{
    AddressError, AddressErrors, BindOptions, ConnectOptions, DatagramOptions, ServerOptions,
    UnixConnectOptions, UnixServerOptions,
};
pub use event_loop::EventLoop;
pub use event_loop::future::{CallbackId, Future, FutureError};
pub use event_loop::handles::{Handle, Remote, TimerHandle};
pub use event_loop::host::Report;
pub use event_loop::run::run;
pub use event_loop::sleep::{Sleep, TimedOut};
pub use event_loop::task::{Task, TaskError};
pub use process::{SubprocessProtocol, SubprocessTransport};
pub use protocols::{AnyProtocol, Buffered, BufferedProtocol, DatagramProtocol, Protocol};
pub use reactor::Socket;
pub use running::{
    create_subprocess_exec, create_subprocess_shell, open_connection, open_unix_connection,
    running, sleep, spawn, start_server, start_unix_server, timeout,
};
pub use server::Server;
pub use streams::{
    Lines, Process, ReadError, Stream, StreamReader, StreamReaderProtocol, StreamWriter,
};
pub use sys::address::{Family, SocketAddress};
pub use sys::clock::Time;
pub use sys::signals::Signal;
pub use tls::TlsTimeouts;
#[cfg(feature = "rustls")]
pub use tls::{ClientTls, ServerTls, TlsInfo, TlsSide};
pub use transports::flow_control::WaterMarks;
pub use transports::{DatagramTransport, Transport};
pub use workers::{ReservedPort, Worker, WorkerError, Workers};
