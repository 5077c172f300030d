//! What the programs of the benchmark share.
//!
//! `load` is the client; the `*-server` programs are contenders. All of them are started by
//! `bench/run.py`, and all servers keep the same small contract, so that the runner knows one kind
//! of server, be it Rust or Python:
//!
//! 1. it pins itself to the core given by `--core`, if one is given;
//! 2. it listens on 127.0.0.1, on a port that the kernel chooses, and prints the port as its first line
//!    (a server of the rows over Unix sockets listens on the path given by `--path`, and prints that);
//! 3. it sends back what it receives, on every connection, until the client's end of file, and then closes;
//! 4. it ends when its standard input does, so a runner that dies leaves no server behind.
//!
//! A server of a TLS row is also given `--certificate FILE`, with what the program `certificate` has printed.
//!
//! A server uses one thread only. A second one, even asleep, would make every system call take a
//! counted reference to its descriptor, which shows at the floor.

#[cfg(any(feature = "aioxide-server", feature = "aioxide-tls-server"))]
pub mod aioxide_echo;
mod cpu;
mod flags;
pub mod raw_epoll;
mod server;

pub use cpu::{ProcessClock, pin_to_core};
pub use flags::{FlagError, Flags};
pub use server::{
    Listener, RECEIVE_BUFFER, announce, bind_datagrams, listen, listen_as_told,
    listen_with_certificate,
};
