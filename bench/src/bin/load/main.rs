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
//! With `--turns true` it takes turns: for each line of standard input, which gives the seconds of the warm-up and of
//! the window, it does that much, prints its line, and rests. At the input's end it closes the connections, with the
//! checks above, and prints how many the server has left open. So the clients of several servers, of which one works
//! at a time, can be asked in turn.
//!
//! Usage: `load --port PORT --server-pid PID --size BYTES [--connections 16] [--seconds 1]
//! [--warm-up 0.25] [--core N] [--path PATH] [--tls 1.3] [--handshakes true] [--datagrams true]
//! [--http true] [--bulk receive] [--turns true]`
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
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use aioxide_bench::{Flags, pin_to_core};
use bulk::Bulk;
use client::{Client, Plan};
use datagrams::Datagrams;
use link::client_config;
use phases::Timing;
use report::Load;
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
    let turns = flags.optional("turns")?.unwrap_or(false);
    let core = flags.optional("core")?;
    flags.finish()?;
    if size == 0 || connections == 0 {
        return Err("--size and --connections must be at least 1".into());
    }
    if let Some(core) = core {
        pin_to_core(core)?;
    }
    let mut load: Box<dyn Load> = match (address, bulk) {
        (address, Some(direction)) => Box::new(Bulk::connect(&address, size, direction)?),
        (Address::Port(port), None) if datagrams => {
            Box::new(Datagrams::connect(port, size, connections)?)
        }
        (_, None) if datagrams => return Err("--datagrams needs a --port".into()),
        (address, None) => Box::new(Client::connect(Plan {
            address,
            size,
            connections,
            tls: tls.map(|version| client_config(&version)).transpose()?,
            http,
            reconnect,
        })?),
    };
    if turns {
        return take_turns(load, timing);
    }
    let mut report = load.turn(timing)?;
    report.left_open = load.finish()?;
    println!("{report}");
    Ok(())
}

/// A turn for each line of standard input. `timing` says which process is measured.
fn take_turns(mut load: Box<dyn Load>, timing: Timing) -> Result<(), Box<dyn Error>> {
    for line in io::stdin().lines() {
        let line = line?;
        let (warm_up, window) = line.split_once(' ').ok_or("a turn has two lengths")?;
        let report = load.turn(Timing {
            warm_up: Duration::try_from_secs_f64(warm_up.parse()?)?,
            window: Duration::try_from_secs_f64(window.parse()?)?,
            ..timing
        })?;
        println!("{report}");
    }
    println!("{{\"left_open\": {}}}", load.finish()?);
    Ok(())
}
