//! Who keeps a transport alive: the loop does, as long as it refers to it.

use std::rc::Rc;

use super::Shape;
use crate::event_loop::Flush;
use crate::event_loop::sources::Ready;
use crate::reactor::Side;

/// A reference that the loop has to a transport: from a source or a queued step. While there is
/// one, the host's object for the transport must live.
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

impl<S: Shape> Ready for Held<S> {
    fn ready(self: Rc<Self>, side: Side) {
        match side {
            Side::Read => self.0.readable(),
            Side::Write => self.0.writable(),
        }
    }

    fn name(&self) -> &'static str {
        "transport"
    }
}

impl<S: Shape> Flush for Held<S> {
    fn flush(&self) {
        self.0.flush_output();
    }
}
