//! An HTTP client, first way: a protocol that prints what it receives.
//!
//! ```text
//! python3 -m http.server 8000 &
//! cargo run --example http_get_protocol localhost 8000
//! ```

use std::io::{self, Write};

use aioxide::{ConnectOptions, EventLoop, Protocol, Transport};

struct Client {
    host: String,
    event_loop: EventLoop,
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: Transport) {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.host
        );
        transport.write(request.as_bytes());
    }

    fn data_received(&mut self, data: &[u8]) {
        let _ = io::stdout().write_all(data);
    }

    fn connection_lost(&mut self, _error: Option<io::Error>) {
        self.event_loop.stop();
    }
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or_else(|| "localhost".into());
    let port = arguments.next().map_or(Ok(8000), |port| port.parse());
    let port: u16 = port.map_err(io::Error::other)?;

    let event_loop = EventLoop::new()?;
    let client = Client {
        host: host.clone(),
        event_loop: event_loop.clone(),
    };
    let connecting = event_loop.clone();
    let connected = event_loop.run_until_complete(async move {
        let options = ConnectOptions::default();
        connecting
            .create_connection(|| client, &host, port, &options)
            .await
            .map(drop)
    })?;
    connected?;
    // Until `connection_lost` stops it.
    event_loop.run_forever()?;
    event_loop.close()
}
