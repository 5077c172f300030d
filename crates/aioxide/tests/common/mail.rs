//! A protocol of datagrams that writes down what happens to it.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use aioxide::{DatagramProtocol, DatagramTransport, SocketAddress};

use super::Log;

/// What has happened to an endpoint, and its transport. Clones share it.
#[derive(Clone, Default)]
pub struct Mail {
    log: Log,
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    letters: RefCell<Vec<(Vec<u8>, Option<SocketAddress>)>>,
    errors: RefCell<Vec<io::Error>>,
    lost: RefCell<Option<io::Error>>,
    transport: RefCell<Option<DatagramTransport>>,
}

impl Mail {
    /// `made`, `letter`, `error`, `pause`, `resume`, `lost`, each as often as it happened.
    pub fn events(&self) -> Vec<&'static str> {
        self.log.events()
    }

    pub fn has(&self, event: &str) -> bool {
        self.log.has(event)
    }

    pub fn count(&self, event: &str) -> usize {
        self.log.count(event)
    }

    pub async fn until(&self, event: &str) {
        self.log.until(event).await;
    }

    /// Waits for so many datagrams.
    pub async fn received(&self, count: usize) {
        self.log.when(|log| log.count("letter") >= count).await;
    }

    /// The datagrams, without their senders.
    pub fn texts(&self) -> Vec<Vec<u8>> {
        let letters = self.inner.letters.borrow();
        letters.iter().map(|(bytes, _)| bytes.clone()).collect()
    }

    /// Who has sent the last.
    pub fn sender(&self) -> Option<SocketAddress> {
        self.inner.letters.borrow().last()?.1.clone()
    }

    /// What `error_received` was told.
    pub fn errors(&self) -> Vec<i32> {
        let errors = self.inner.errors.borrow();
        errors
            .iter()
            .map(|error| error.raw_os_error().unwrap_or(0))
            .collect()
    }

    /// The error that `lost` came with.
    pub fn lost_with(&self) -> Option<String> {
        self.inner.lost.borrow().as_ref().map(ToString::to_string)
    }

    /// The transport, once `made` has happened.
    pub fn transport(&self) -> DatagramTransport {
        let transport = self.inner.transport.borrow().clone();
        transport.expect("connection_made was called")
    }
}

/// What a [`Correspondent`] does at each event.
pub type Act = Rc<dyn Fn(&Mail, &'static str)>;

/// Writes to a [`Mail`], and does what it is told at each event.
#[derive(Clone, Default)]
pub struct Correspondent {
    pub mail: Mail,
    /// Sends everything back.
    pub echo: bool,
    /// Panics at this event.
    pub panic_at: Option<&'static str>,
    /// Called at each event, after it was written down.
    pub act: Option<Act>,
}

impl Correspondent {
    pub fn new(mail: &Mail) -> Correspondent {
        Correspondent {
            mail: mail.clone(),
            ..Correspondent::default()
        }
    }

    pub fn echo(mail: &Mail) -> Correspondent {
        Correspondent {
            echo: true,
            ..Correspondent::new(mail)
        }
    }

    pub fn acting(mail: &Mail, act: impl Fn(&Mail, &'static str) + 'static) -> Correspondent {
        Correspondent {
            act: Some(Rc::new(act)),
            ..Correspondent::new(mail)
        }
    }

    fn event(&self, event: &'static str) {
        self.mail.log.push(event);
        if let Some(act) = &self.act {
            act(&self.mail, event);
        }
        if self.panic_at == Some(event) {
            panic!("at {event}");
        }
    }
}

impl DatagramProtocol for Correspondent {
    fn connection_made(&mut self, transport: DatagramTransport) {
        self.mail.inner.transport.replace(Some(transport));
        self.event("made");
    }

    fn datagram_received(&mut self, data: &[u8], peer: Option<&SocketAddress>) {
        let letter = (data.to_vec(), peer.cloned());
        self.mail.inner.letters.borrow_mut().push(letter);
        if self.echo {
            self.mail.transport().send_to(data, peer).unwrap();
        }
        self.event("letter");
    }

    fn error_received(&mut self, error: io::Error) {
        self.mail.inner.errors.borrow_mut().push(error);
        self.event("error");
    }

    fn connection_lost(&mut self, error: Option<io::Error>) {
        self.mail.inner.lost.replace(error);
        self.event("lost");
    }

    fn pause_writing(&mut self) {
        self.event("pause");
    }

    fn resume_writing(&mut self) {
        self.event("resume");
    }
}
