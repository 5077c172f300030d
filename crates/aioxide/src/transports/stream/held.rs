//! Who keeps a transport alive: the loop does, as long as it refers to it.

use std::rc::Rc;

use super::Stream;
use crate::event_loop::Flush;
use crate::event_loop::host::Host;
use crate::event_loop::sources::Ready;
use crate::reactor::Side;

/// A reference that the loop has to a transport: from a source or a queued step. While there is
/// one, the host's object for the transport must live.
pub(super) struct Held<H: Host>(pub(super) Rc<Stream<H>>);

impl<H: Host> Held<H> {
    /// `None` while the transport is being dropped.
    pub(super) fn new(stream: &Stream<H>) -> Option<Held<H>> {
        let stream = stream.this.upgrade()?;
        let holds = stream.holds.get();
        stream.holds.set(holds + 1);
        if holds == 0
            && let Some(protocol) = stream.current_protocol()
        {
            protocol.held(true);
        }
        Some(Held(stream))
    }
}

impl<H: Host> Drop for Held<H> {
    fn drop(&mut self) {
        let holds = self.0.holds.get().saturating_sub(1);
        self.0.holds.set(holds);
        if holds == 0
            && let Some(protocol) = self.0.current_protocol()
        {
            protocol.held(false);
        }
    }
}

impl<H: Host> Ready for Held<H> {
    fn ready(self: Rc<Self>, side: Side) {
        match side {
            Side::Read => self.0.receive(),
            Side::Write => self.0.room_to_send(),
        }
    }

    fn name(&self) -> &'static str {
        "transport"
    }
}

impl<H: Host> Flush for Held<H> {
    fn flush(&self) {
        self.0.flush_output();
    }
}
