//! The load generator: N connections, each of which sends a request, waits for all of its echo, and
//! sends the next.
//!
//! It warms the server up, then measures over a window of time: requests completed, their
//! latencies, and the CPU time that the server process used, read at the moments the window opens
//! and closes. Every byte that comes back is compared with the byte sent. After the window it lets
//! the outstanding requests finish, sends an end of file on each connection, and checks that
//! nothing but the server's end of file follows. One line of JSON on standard output says what was
//! measured; a server that sends wrong bytes, closes early or stalls is an error.
//!
//! Usage: `load --port PORT --server-pid PID --size BYTES [--connections 16] [--seconds 1]
//! [--warm-up 0.25] [--core N] [--path PATH] [--tls 1.3] [--handshakes true] [--datagrams true]
//! [--http true] [--bulk receive]`
//!
//! `--path` in the place of `--port` connects to a Unix socket. `--tls` speaks TLS of that version (1.2 or
//! 1.3), and takes any certificate. With `--handshakes true` every request has a connection of its own:
//! connect, shake hands (if it is TLS), one exchange, close; it is counted when the server has closed too.
//! With `--datagrams true` each request is a datagram. With `--http true` each is one of HTTP/1.1, on connections
//! that are kept, and `--size` that of the response's body, which is a greeting. With `--bulk receive`, or `send`,
//! there is one connection on which the server does just that, with blocks of `--size` bytes, and what is counted
//! is KiB.

mod bulk;
mod client;
mod clocks;
mod connection;
mod datagrams;
mod failure;
mod histogram;
mod http;
mod link;
mod payload;
mod phases;
mod report;
mod socket;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use aioxide_bench::{Flags, pin_to_core};
use client::{Client, Plan};
use link::client_config;
use phases::Timing;
use socket::Address;

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), Box<dyn Error>> {
    let mut flags = Flags::from_command_line()?;
    let address = match flags.optional("path")? {
        Some(path) => Address::Path(path),
        None => Address::Port(flags.required("port")?),
    };
    let timing = Timing {
        server_pid: flags.required("server-pid")?,
        warm_up: Duration::try_from_secs_f64(flags.optional("warm-up")?.unwrap_or(0.25))?,
        window: Duration::try_from_secs_f64(flags.optional("seconds")?.unwrap_or(1.0))?,
    };
    let size = flags.required("size")?;
    let connections = flags.optional("connections")?.unwrap_or(16);
    let tls = flags.optional::<String>("tls")?;
    let reconnect = flags.optional("handshakes")?.unwrap_or(false);
    let datagrams = flags.optional("datagrams")?.unwrap_or(false);
    let http = flags.optional("http")?.unwrap_or(false);
    let bulk = flags.optional("bulk")?;
    let core = flags.optional("core")?;
    flags.finish()?;
    if size == 0 || connections == 0 {
        return Err("--size and --connections must be at least 1".into());
    }
    if let Some(core) = core {
        pin_to_core(core)?;
    }
    let report = match (address, bulk) {
        (address, Some(direction)) => bulk::run(&address, size, direction, timing)?,
        (Address::Port(port), None) if datagrams => {
            datagrams::run(port, size, connections, timing)?
        }
        (_, None) if datagrams => return Err("--datagrams needs a --port".into()),
        (address, None) => Client::connect(Plan {
            address,
            timing,
            size,
            connections,
            tls: tls.map(|version| client_config(&version)).transpose()?,
            http,
            reconnect,
        })?
        .run()?,
    };
    println!("{report}");
    Ok(())
}
