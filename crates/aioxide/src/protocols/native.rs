//! Rust protocols, as the engine calls them.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use super::{BufferedProtocol, Failure, Input, Protocol, Received, StreamProtocol};
use crate::event_loop::EventLoop;
use crate::event_loop::host::Report;
use crate::event_loop::native::{Native, guard, same_error};
use crate::sys::buffer::Buffer;
use crate::transports::Transport;

/// A [`BufferedProtocol`], where a [`Protocol`] could stand too.
#[derive(Debug)]
pub struct Buffered<P>(pub P);

/// What a protocol factory may make: a [`Protocol`], or a [`Buffered`] one.
pub trait AnyProtocol: 'static {
    /// The engine's view of it.
    fn into_stream_protocol(self) -> Rc<dyn StreamProtocol<Native>>;
}

impl<P: Protocol> AnyProtocol for P {
    fn into_stream_protocol(self) -> Rc<dyn StreamProtocol<Native>> {
        Adapter::of(Plain(self))
    }
}

impl<P: BufferedProtocol> AnyProtocol for Buffered<P> {
    fn into_stream_protocol(self) -> Rc<dyn StreamProtocol<Native>> {
        Adapter::of(self)
    }
}

/// A [`Protocol`]; a type of its own, so that the two kinds share one adapter.
struct Plain<P>(P);

/// What both kinds of protocols have.
trait Callbacks: 'static {
    fn connection_made(&mut self, transport: Transport);
    fn receive(&mut self, input: &Input<'_, Native>) -> Received<io::Error>;
    fn eof_received(&mut self) -> bool;
    fn connection_lost(&mut self, error: Option<io::Error>);
    fn pause_writing(&mut self);
    fn resume_writing(&mut self);
}

/// Forwards what both kinds have under the same name.
macro_rules! forward_callbacks {
    () => {
        fn connection_made(&mut self, transport: Transport) {
            self.0.connection_made(transport);
        }

        fn eof_received(&mut self) -> bool {
            self.0.eof_received()
        }

        fn connection_lost(&mut self, error: Option<io::Error>) {
            self.0.connection_lost(error);
        }

        fn pause_writing(&mut self) {
            self.0.pause_writing();
        }

        fn resume_writing(&mut self) {
            self.0.resume_writing();
        }
    };
}

impl<P: Protocol> Callbacks for Plain<P> {
    forward_callbacks!();

    fn receive(&mut self, input: &Input<'_, Native>) -> Received<io::Error> {
        input.with_receive_buffer(|buffer| {
            if let Err(end) = Received::<io::Error>::count(input.receive(buffer)) {
                return end;
            }
            match guard(|| self.0.data_received(buffer.bytes())) {
                Ok(()) => Received::Data,
                Err(error) => Received::Raised("data_received() panicked", error),
            }
        })
    }
}

impl<P: BufferedProtocol> Callbacks for Buffered<P> {
    forward_callbacks!();

    fn receive(&mut self, input: &Input<'_, Native>) -> Received<io::Error> {
        let memory = match guard(|| self.0.get_buffer(0)) {
            Ok([]) => {
                let error = io::Error::other("get_buffer() returned an empty buffer");
                return Received::Raised("get_buffer() failed", error);
            }
            Ok(memory) => memory,
            Err(error) => return Received::Raised("get_buffer() panicked", error),
        };
        let count = match Received::count(input.receive(&mut Buffer::from(memory))) {
            Ok(count) => count,
            Err(end) => return end,
        };
        match guard(|| self.0.buffer_updated(count)) {
            Ok(()) => Received::Data,
            Err(error) => Received::Raised("buffer_updated() panicked", error),
        }
    }
}

/// Lends a protocol to one callback at a time. The engine may want to pause it from inside a write
/// that it makes itself: that waits until the callback has returned.
struct Adapter<C> {
    callbacks: RefCell<C>,
    transport: RefCell<Option<Transport>>,
    /// Whether `pause_writing` came while a callback ran.
    pause_is_due: Cell<bool>,
}

impl<C: Callbacks> Adapter<C> {
    fn of(callbacks: C) -> Rc<dyn StreamProtocol<Native>> {
        Rc::new(Adapter {
            callbacks: RefCell::new(callbacks),
            transport: RefCell::default(),
            pause_is_due: Cell::default(),
        })
    }

    /// Lends the protocol to `call`, then delivers what came meanwhile.
    fn lend<R>(&self, call: impl FnOnce(&mut C) -> R) -> Option<R> {
        let result = call(&mut *self.callbacks.try_borrow_mut().ok()?);
        while self.pause_is_due.take() {
            if let Err(error) = self.pause_writing() {
                self.report(Failure::FlowControl("pause_writing"), &error);
            }
        }
        Some(result)
    }
}

impl<C: Callbacks> StreamProtocol<Native> for Adapter<C> {
    fn connection_made(&self, transport: Transport) -> io::Result<()> {
        self.transport.replace(Some(transport.clone()));
        self.lend(|callbacks| guard(|| callbacks.connection_made(transport)))
            .unwrap_or(Ok(()))
    }

    fn receive(&self, input: &Input<'_, Native>) -> Received<io::Error> {
        self.lend(|callbacks| callbacks.receive(input))
            .unwrap_or(Received::Nothing)
    }

    fn eof_received(&self) -> io::Result<bool> {
        self.lend(|callbacks| guard(|| callbacks.eof_received()))
            .unwrap_or(Ok(false))
    }

    fn connection_lost(&self, error: Option<io::Error>) -> io::Result<()> {
        let lost = self.lend(|callbacks| guard(|| callbacks.connection_lost(error)));
        let transport = self.transport.take();
        drop(transport);
        lost.unwrap_or(Ok(()))
    }

    fn pause_writing(&self) -> io::Result<()> {
        let Ok(mut callbacks) = self.callbacks.try_borrow_mut() else {
            self.pause_is_due.set(true);
            return Ok(());
        };
        guard(|| callbacks.pause_writing())
    }

    fn resume_writing(&self) -> io::Result<()> {
        self.lend(|callbacks| guard(|| callbacks.resume_writing()))
            .unwrap_or(Ok(()))
    }

    fn report(&self, what: Failure, error: &io::Error) {
        let message = match what {
            // A broken connection is no failure of the program: connection_lost tells it.
            Failure::Fatal(message) if error.raw_os_error().is_some() => {
                log::debug!("{message}: {error}");
                return;
            }
            Failure::Fatal(message) => message.to_owned(),
            Failure::Callback(callback) | Failure::FlowControl(callback) => {
                format!("{callback}() panicked")
            }
        };
        let transport = self.transport.borrow().clone();
        let Some(event_loop) = transport
            .as_ref()
            .map(|transport| transport.event_loop().clone())
            .or_else(EventLoop::running)
        else {
            return log::error!("{message}: {error}");
        };
        event_loop.report(Report {
            message: message.into(),
            error: Some(same_error(error)),
            subject: transport.map(|transport| format!("{transport:?}")),
        });
    }

    // A Rust program's handles count as references like the loop's own.
    fn held(&self, _held: bool) {}
}
