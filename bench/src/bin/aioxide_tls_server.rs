//! The echo server over TLS on aioxide: the same [`Protocol`] as `aioxide-server`.

use std::error::Error;
use std::io::{self, Read};

use aioxide::{EventLoop, Protocol, ServerOptions, ServerTls, Transport};
use aioxide_bench::{announce, listen_with_certificate};

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

fn main() -> Result<(), Box<dyn Error>> {
    let (listener, config) = listen_with_certificate()?;
    let event_loop = EventLoop::new()?;
    let ended = event_loop.clone();
    event_loop.add_reader(&io::stdin(), move || {
        let _ = io::stdin().read(&mut [0]);
        ended.stop();
    })?;
    announce(&listener)?;
    let options = ServerOptions {
        backlog: BACKLOG,
        tls: Some(ServerTls::new(config)),
        ..ServerOptions::default()
    };
    let _server = event_loop.create_server_on(Echo::default, listener, &options)?;
    event_loop.run_forever()?;
    Ok(())
}
