//! Who keeps a transport alive: the loop does, as long as it refers to it.

use std::rc::Rc;

use super::Shape;
use crate::event_loop::Flush;
use crate::event_loop::sources::Ready;
use crate::reactor::Side;

/// A reference that the loop has to a transport from a queued step. While there is one, or a source
/// (`Ready::watched`), or output that waits for the iteration's end (`Flush::collecting`), the host's object for the transport must live.
pub struct Held<S: Shape>(pub(crate) Rc<S>);

impl<S: Shape> Held<S> {
    /// `None` while the transport is being dropped.
    pub(crate) fn new(transport: &S) -> Option<Held<S>> {
        let transport = transport.shared()?;
        transport.base().hold();
        Some(Held(transport))
    }
}

impl<S: Shape> Drop for Held<S> {
    fn drop(&mut self) {
        self.0.base().release();
    }
}

impl<S: Shape> Ready for S {
    fn ready(&self, side: Side) {
        match side {
            Side::Read => self.readable(),
            Side::Write => self.writable(),
        }
    }

    fn watched(&self) {
        self.base().hold();
    }

    fn unwatched(&self) {
        self.base().release();
    }

    fn name(&self) -> &'static str {
        "transport"
    }
}

impl<S: Shape> Flush for S {
    fn flush(&self) {
        self.flush_output();
    }

    fn collecting(&self) {
        self.base().hold();
    }

    fn collected(&self) {
        self.base().release();
    }
}
