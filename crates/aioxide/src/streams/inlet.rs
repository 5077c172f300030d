//! Where a protocol leaves what was received, and a reader finds it.
//!
//! ```text
//!  data_received ─▶ fed ─▶ (the reader's next poll) ─▶ its buffer ─▶ the program
//!     paused:  fed + held > 2 × limit          resumed:  fed + held <= limit, or a reader waits
//! ```

use std::cell::{Cell, RefCell};
use std::io;
use std::task::Waker;

use super::buffer::ReadBuffer;
use crate::event_loop::native::same_error;
use crate::transports::Transport;

/// The way from a connection to its reader.
#[derive(Default)]
pub(super) struct Inlet {
    /// What the reader has not looked at.
    fed: RefCell<Vec<u8>>,
    /// Bytes in the reader's own buffer. Zero while a read waits: it has asked for more, however
    /// much there is.
    held: Cell<usize>,
    limit: Cell<usize>,
    eof: Cell<bool>,
    exception: RefCell<Option<io::Error>>,
    waiter: Cell<Option<Waker>>,
    /// `None` before the connection is made and after it is lost.
    transport: RefCell<Option<Transport>>,
    /// Whether it was this reader that paused the transport.
    paused: Cell<bool>,
    /// Set when the reader is dropped: nobody will read what comes.
    abandoned: Cell<bool>,
}

impl Inlet {
    pub(super) fn new(limit: usize) -> Inlet {
        Inlet {
            limit: Cell::new(limit),
            ..Inlet::default()
        }
    }

    // ---- the protocol's side ----

    /// Bytes have come. After the end, or when nobody will read them, they are dropped.
    pub(super) fn feed_data(&self, bytes: &[u8]) {
        if self.eof.get() || self.abandoned.get() {
            return;
        }
        let length = {
            let mut fed = self.fed.borrow_mut();
            fed.extend_from_slice(bytes);
            fed.len()
        };
        if length + self.held.get() > self.limit.get().saturating_mul(2)
            && !self.paused.get()
            && let Some(transport) = self.transport()
        {
            self.paused.set(true);
            transport.pause_reading();
        }
        self.wake();
    }

    pub(super) fn feed_eof(&self) {
        self.eof.set(true);
        self.wake();
    }

    pub(super) fn set_exception(&self, error: io::Error) {
        self.exception.replace(Some(error));
        self.wake();
    }

    /// The connection is made, or lost (`None`).
    pub(super) fn set_transport(&self, transport: Option<Transport>) {
        let before = self.transport.replace(transport);
        drop(before);
    }

    // ---- the reader's side ----

    /// Moves what has come to `buffer`.
    pub(super) fn pull(&self, buffer: &mut ReadBuffer) {
        let mut fed = self.fed.borrow_mut();
        if !fed.is_empty() {
            buffer.feed(&mut fed);
        }
        if self.eof.get() {
            buffer.feed_eof();
        }
    }

    /// A read is over, and the reader has `held` bytes left.
    pub(super) fn read(&self, held: usize) {
        self.held.set(held);
        if self.paused.get() && held + self.fed.borrow().len() <= self.limit.get() {
            self.resume();
        }
    }

    /// A read waits for more. A paused transport is resumed, or it would wait for ever.
    pub(super) fn wait(&self, waker: &Waker) {
        self.held.set(0);
        self.waiter.set(Some(waker.clone()));
        self.resume();
    }

    /// The reader is gone. What the peer sends is thrown away, so that its end is still seen.
    pub(super) fn abandon(&self) {
        self.abandoned.set(true);
        drop(self.fed.take());
        self.resume();
    }

    pub(super) fn exception(&self) -> Option<io::Error> {
        self.exception.borrow().as_ref().map(same_error)
    }

    pub(super) fn transport(&self) -> Option<Transport> {
        self.transport.borrow().clone()
    }

    /// Whether the peer's end has come.
    #[cfg(feature = "rustls")]
    pub(super) fn has_ended(&self) -> bool {
        self.eof.get()
    }

    /// Whether the end has come, and there is nothing that the reader has not looked at.
    pub(super) fn at_eof(&self) -> bool {
        self.eof.get() && self.fed.borrow().is_empty()
    }

    fn resume(&self) {
        if self.paused.replace(false)
            && let Some(transport) = self.transport()
        {
            transport.resume_reading();
        }
    }

    fn wake(&self) {
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }
}
