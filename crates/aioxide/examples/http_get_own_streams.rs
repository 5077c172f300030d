//! An HTTP client, second way: a protocol, and a reader and a writer of its own on top. What layer 3
//! does, in its smallest form: a buffer, a future to wait on, nothing else.
//!
//! ```text
//! python3 -m http.server 8000 &
//! cargo run --example http_get_own_streams localhost 8000
//! ```

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use aioxide::{ConnectOptions, EventLoop, Future, Protocol, Transport};

/// What the protocol has received and the program has not read.
#[derive(Default)]
struct Buffer {
    bytes: RefCell<Vec<u8>>,
    ended: Cell<bool>,
    /// Set while the program waits for more.
    waiter: RefCell<Option<Future<()>>>,
}

impl Buffer {
    fn wake(&self) {
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.set_result(());
        }
    }
}

struct Client(Rc<Buffer>);

impl Protocol for Client {
    fn data_received(&mut self, data: &[u8]) {
        self.0.bytes.borrow_mut().extend_from_slice(data);
        self.0.wake();
    }

    fn connection_lost(&mut self, _error: Option<io::Error>) {
        self.0.ended.set(true);
        self.0.wake();
    }
}

struct Reader {
    event_loop: EventLoop,
    buffer: Rc<Buffer>,
}

impl Reader {
    /// What has come, as soon as there is something; nothing at the end.
    async fn read(&self) -> io::Result<Vec<u8>> {
        while self.buffer.bytes.borrow().is_empty() && !self.buffer.ended.get() {
            let waiter = self.event_loop.create_future();
            self.buffer.waiter.replace(Some(waiter.clone()));
            let waited: Result<(), _> = waiter.await;
            waited.map_err(|error| io::Error::other(error.to_string()))?;
        }
        Ok(self.buffer.bytes.take())
    }
}

struct Writer(Transport);

impl Writer {
    fn write(&self, text: &str) {
        self.0.write(text.as_bytes());
    }

    fn close(self) {
        self.0.close();
    }
}

async fn open(host: &str, port: u16) -> io::Result<(Reader, Writer)> {
    let event_loop = aioxide::running()?;
    let buffer = Rc::<Buffer>::default();
    let feed = Rc::clone(&buffer);
    let options = ConnectOptions::default();
    let transport = event_loop
        .create_connection(|| Client(feed), host, port, &options)
        .await?;
    let reader = Reader { event_loop, buffer };
    Ok((reader, Writer(transport)))
}

async fn get(host: String, port: u16) -> io::Result<()> {
    let (reader, writer) = open(&host, port).await?;
    writer.write(&format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    ));
    loop {
        let bytes = reader.read().await?;
        if bytes.is_empty() {
            break;
        }
        print!("{}", String::from_utf8_lossy(&bytes));
    }
    writer.close();
    Ok(())
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or_else(|| "localhost".into());
    let port = arguments.next().map_or(Ok(8000), |port| port.parse());
    aioxide::run(get(host, port.map_err(io::Error::other)?))?
}
