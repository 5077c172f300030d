//! The echo server on aioxide: a [`Protocol`] that writes back what it is given.

use std::error::Error;
use std::io::{self, Read};
use std::net::TcpListener;

use aioxide::{EventLoop, Protocol, ServerOptions, Transport};

use crate::announce;

/// Connections that wait to be accepted, as for every contender.
const BACKLOG: i32 = 1024;

#[derive(Default)]
struct Echo {
    transport: Option<Transport>,
}

impl Protocol for Echo {
    fn connection_made(&mut self, transport: Transport) {
        self.transport = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        if let Some(transport) = &self.transport {
            transport.write(data);
        }
    }
}

/// Serves until standard input ends. The backlog is the benchmark's, whatever `options` say.
///
/// # Errors
/// Why it cannot go on.
pub fn serve(listener: TcpListener, options: ServerOptions) -> Result<(), Box<dyn Error>> {
    let event_loop = EventLoop::new()?;
    let ended = event_loop.clone();
    event_loop.add_reader(&io::stdin(), move || {
        let _ = io::stdin().read(&mut [0]);
        ended.stop();
    })?;
    announce(&listener)?;
    let options = ServerOptions {
        backlog: BACKLOG,
        ..options
    };
    let _server = event_loop.create_server_on(Echo::default, listener, &options)?;
    event_loop.run_forever()?;
    Ok(())
}
