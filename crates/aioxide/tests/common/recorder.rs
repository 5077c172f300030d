//! A protocol that writes down what happens to it.

use std::cell::{Ref, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

use aioxide::{Protocol, Transport};

/// What has happened to a connection, and its transport. Clones share it.
#[derive(Clone, Default)]
pub struct Log(Rc<Inner>);

#[derive(Default)]
struct Inner {
    events: RefCell<Vec<&'static str>>,
    data: RefCell<Vec<u8>>,
    transport: RefCell<Option<Transport>>,
    error: RefCell<Option<io::Error>>,
    waiters: RefCell<Vec<Waker>>,
}

impl Log {
    /// Adds an event; several `data` in a row count as one.
    pub fn push(&self, event: &'static str) {
        let mut events = self.0.events.borrow_mut();
        if event != "data" || events.last() != Some(&"data") {
            events.push(event);
        }
        drop(events);
        self.0.waiters.take().into_iter().for_each(Waker::wake);
    }

    pub fn events(&self) -> Vec<&'static str> {
        self.0.events.borrow().clone()
    }

    pub fn has(&self, event: &str) -> bool {
        self.count(event) > 0
    }

    pub fn count(&self, event: &str) -> usize {
        let events = self.0.events.borrow();
        events.iter().filter(|other| **other == event).count()
    }

    /// Everything that was received.
    pub fn data(&self) -> Ref<'_, Vec<u8>> {
        self.0.data.borrow()
    }

    /// The transport, once `made` has happened.
    pub fn transport(&self) -> Transport {
        self.0
            .transport
            .borrow()
            .clone()
            .expect("connection_made was called")
    }

    /// The errno that `lost` came with.
    pub fn errno(&self) -> Option<i32> {
        self.0.error.borrow().as_ref()?.raw_os_error()
    }

    /// The text of the error that `lost` came with.
    pub fn error(&self) -> Option<String> {
        self.0.error.borrow().as_ref().map(ToString::to_string)
    }

    /// Waits for an event.
    pub async fn until(&self, event: &str) {
        self.when(|log| log.has(event)).await;
    }

    /// Waits for so many bytes.
    pub async fn received(&self, count: usize) {
        self.when(|log| log.data().len() >= count).await;
    }

    pub async fn when(&self, done: impl Fn(&Log) -> bool) {
        poll_fn(|cx| {
            if done(self) {
                return Poll::Ready(());
            }
            self.0.waiters.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// What a [`Recorder`] does first.
pub type Greet = Rc<dyn Fn(&Transport)>;

/// Writes to a [`Log`], and does what it is told at each event.
#[derive(Clone, Default)]
pub struct Recorder {
    pub log: Log,
    /// Sends everything back.
    pub echo: bool,
    /// What `eof_received` returns.
    pub keep_open: bool,
    /// Panics at this event.
    pub panic_at: Option<&'static str>,
    /// Called with the transport when the connection is made.
    pub greet: Option<Greet>,
}

impl Recorder {
    pub fn new(log: &Log) -> Recorder {
        Recorder {
            log: log.clone(),
            ..Recorder::default()
        }
    }

    pub fn echo(log: &Log) -> Recorder {
        Recorder {
            echo: true,
            ..Recorder::new(log)
        }
    }

    fn event(&self, event: &'static str) {
        self.log.push(event);
        if self.panic_at == Some(event) {
            panic!("at {event}");
        }
    }
}

impl Protocol for Recorder {
    fn connection_made(&mut self, transport: Transport) {
        self.log.0.transport.replace(Some(transport.clone()));
        if let Some(greet) = &self.greet {
            greet(&transport);
        }
        self.event("made");
    }

    fn data_received(&mut self, data: &[u8]) {
        assert!(!data.is_empty());
        self.log.0.data.borrow_mut().extend_from_slice(data);
        if self.echo {
            self.log.transport().write(data);
        }
        self.event("data");
    }

    fn eof_received(&mut self) -> bool {
        self.event("eof");
        self.keep_open
    }

    fn connection_lost(&mut self, error: Option<io::Error>) {
        self.log.0.error.replace(error);
        self.event("lost");
    }

    fn pause_writing(&mut self) {
        self.event("pause");
    }

    fn resume_writing(&mut self) {
        self.event("resume");
    }
}
