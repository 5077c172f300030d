//! What lies above a transport: its protocol, its life as the protocol sees it, and what the
//! protocol is told of flow control.

use std::cell::Cell;
use std::rc::Rc;

use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::protocols::{BaseProtocol, Failure};
use crate::transports::flow_control::{FlowControl, Signal, WaterMarks};
use crate::transports::lifecycle::{LifeCycle, Phase};

/// The upper side of a transport, whatever lies below it: a descriptor, or another transport.
pub struct Upper<H: Host, P: ?Sized> {
    pub(crate) event_loop: EventLoop<H>,
    /// `None` when the connection is lost.
    protocol: Cell<Option<Rc<P>>>,
    life: Cell<LifeCycle>,
    /// With `paused` a [`FlowControl`], in less memory.
    marks: Cell<WaterMarks>,
    paused: Cell<bool>,
    /// Writes since the connection was lost.
    lost_writes: Cell<u32>,
    /// How many sources and queued steps of the loop refer to this transport.
    holds: Cell<u32>,
}

impl<H: Host, P: ?Sized> Upper<H, P> {
    pub(crate) fn new(
        event_loop: &EventLoop<H>,
        protocol: Rc<P>,
        life: LifeCycle,
        flow: FlowControl,
    ) -> Upper<H, P> {
        Upper {
            event_loop: event_loop.clone(),
            protocol: Cell::new(Some(protocol)),
            life: Cell::new(life),
            marks: Cell::new(flow.marks()),
            paused: Cell::new(flow.is_paused()),
            lost_writes: Cell::default(),
            holds: Cell::default(),
        }
    }

    pub(crate) fn life(&self) -> LifeCycle {
        self.life.get()
    }

    pub(crate) fn update_life<R>(&self, change: impl FnOnce(&mut LifeCycle) -> R) -> R {
        let mut life = self.life.get();
        let result = change(&mut life);
        self.life.set(life);
        result
    }

    pub(crate) fn flow(&self) -> FlowControl {
        FlowControl::of(self.marks.get(), self.paused.get())
    }

    fn set_flow(&self, flow: FlowControl) {
        self.marks.set(flow.marks());
        self.paused.set(flow.is_paused());
    }

    /// The protocol was told to pause writing by another transport, whose place this one takes.
    pub(crate) fn adopt_pause(&self) {
        let mut flow = self.flow();
        flow.pause();
        self.set_flow(flow);
    }

    pub(crate) fn protocol(&self) -> Option<Rc<P>> {
        let protocol = self.protocol.take();
        let found = protocol.clone();
        self.protocol.set(protocol);
        found
    }

    /// Counts a write that goes nowhere; how many there were.
    pub(crate) fn count_lost_write(&self) -> u32 {
        let times = self.lost_writes.get().saturating_add(1);
        self.lost_writes.set(times);
        times
    }
}

impl<H: Host, P: BaseProtocol<H> + ?Sized> Upper<H, P> {
    pub(crate) fn set_protocol(&self, protocol: Rc<P>) {
        if self.life().phase() == Phase::Lost {
            return;
        }
        if self.holds.get() > 0 {
            protocol.held(true);
        }
        let before = self.protocol.replace(Some(protocol));
        if self.holds.get() > 0
            && let Some(before) = &before
        {
            before.held(false);
        }
    }

    /// Lets go of the protocol: the connection is lost.
    pub(crate) fn forget_protocol(&self) {
        let protocol = self.protocol.take();
        if let Some(protocol) = protocol
            && self.holds.get() > 0
        {
            protocol.held(false);
        }
    }

    /// The loop refers to the transport once more.
    pub(crate) fn hold(&self) {
        let holds = self.holds.get();
        self.holds.set(holds + 1);
        if holds == 0
            && let Some(protocol) = self.protocol()
        {
            protocol.held(true);
        }
    }

    /// The loop refers to the transport once less.
    pub(crate) fn release(&self) {
        let holds = self.holds.get().saturating_sub(1);
        self.holds.set(holds);
        if holds == 0
            && let Some(protocol) = self.protocol()
        {
            protocol.held(false);
        }
    }

    pub(crate) fn tell_failure(&self, protocol: &P, what: Failure, error: H::Error) {
        if self.event_loop.host().escapes(&error) {
            self.event_loop.interrupt(error);
        } else {
            protocol.report(what, &error);
        }
    }

    /// Tells the protocol to pause or resume, where `change` says so.
    pub(crate) fn tell_flow(&self, change: impl FnOnce(&mut FlowControl) -> Option<Signal>) {
        let mut flow = self.flow();
        let signal = change(&mut flow);
        self.set_flow(flow);
        let (Some(signal), Some(protocol)) = (signal, self.protocol()) else {
            return;
        };
        let (told, callback) = match signal {
            Signal::Pause => (protocol.pause_writing(), "pause_writing"),
            Signal::Resume => (protocol.resume_writing(), "resume_writing"),
        };
        if let Err(error) = told {
            self.tell_failure(&*protocol, Failure::FlowControl(callback), error);
        }
    }
}
