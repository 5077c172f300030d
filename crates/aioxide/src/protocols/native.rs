//! Rust protocols, as the engine calls them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;

use super::{
    BaseProtocol, BufferedProtocol, DatagramProtocol, Failure, Input, MessageProtocol, Protocol,
    Received, StreamProtocol,
};
use crate::event_loop::EventLoop;
use crate::event_loop::host::Report;
use crate::event_loop::native::{Native, guard, same_error};
use crate::sys::address::SocketAddress;
use crate::sys::buffer::Buffer;
use crate::transports::{DatagramTransport, Transport};

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
        Rc::new(Adapter::<_, Transport>::of(Plain(self)))
    }
}

impl<P: BufferedProtocol> AnyProtocol for Buffered<P> {
    fn into_stream_protocol(self) -> Rc<dyn StreamProtocol<Native>> {
        Rc::new(Adapter::<_, Transport>::of(self))
    }
}

/// The engine's view of a protocol for datagrams.
pub(crate) fn into_message_protocol(
    protocol: impl DatagramProtocol,
) -> Rc<dyn MessageProtocol<Native>> {
    Rc::new(Adapter::<_, DatagramTransport>::of(Datagrams(protocol)))
}

/// A [`Protocol`]; a type of its own, so that the kinds share one adapter.
struct Plain<P>(P);

/// A [`DatagramProtocol`]; likewise.
struct Datagrams<P>(P);

/// What protocols of all kinds have.
pub(crate) trait BaseCallbacks: 'static {
    fn connection_lost(&mut self, error: Option<io::Error>);
    fn pause_writing(&mut self);
    fn resume_writing(&mut self);

    /// For protocols that are told of such errors.
    fn error_received(&mut self, error: io::Error) {
        drop(error);
    }
}

/// What both kinds of byte-stream protocols have.
trait StreamCallbacks: BaseCallbacks {
    fn connection_made(&mut self, transport: Transport);
    fn receive(&mut self, input: &Input<'_, Native>) -> Received<io::Error>;
    fn eof_received(&mut self) -> bool;
}

/// Forwards what all kinds have under the same name.
macro_rules! forward_base {
    () => {
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

/// Forwards what both kinds of byte-stream protocols have under the same name.
macro_rules! forward_stream {
    () => {
        fn connection_made(&mut self, transport: Transport) {
            self.0.connection_made(transport);
        }

        fn eof_received(&mut self) -> bool {
            self.0.eof_received()
        }
    };
}

impl<P: Protocol> BaseCallbacks for Plain<P> {
    forward_base!();
}

impl<P: BufferedProtocol> BaseCallbacks for Buffered<P> {
    forward_base!();
}

impl<P: DatagramProtocol> BaseCallbacks for Datagrams<P> {
    forward_base!();

    fn error_received(&mut self, error: io::Error) {
        self.0.error_received(error);
    }
}

impl<P: Protocol> StreamCallbacks for Plain<P> {
    forward_stream!();

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

impl<P: BufferedProtocol> StreamCallbacks for Buffered<P> {
    forward_stream!();

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

/// Lends a protocol to one callback at a time. The engine may want to tell it something from inside
/// a call that it makes itself: that waits until the callback has returned.
pub(crate) struct Adapter<C, T> {
    callbacks: RefCell<C>,
    transport: RefCell<Option<T>>,
    /// What came while a callback ran, oldest first.
    due: RefCell<VecDeque<Due>>,
}

/// Something that a protocol is to be told as soon as it can be.
enum Due {
    Pause,
    Error(io::Error),
}

/// A handle to a transport, as far as an adapter needs one.
pub(crate) trait TransportHandle: Clone + fmt::Debug + 'static {
    fn loop_of(&self) -> EventLoop;
}

impl TransportHandle for Transport {
    fn loop_of(&self) -> EventLoop {
        self.event_loop().clone()
    }
}

impl TransportHandle for DatagramTransport {
    fn loop_of(&self) -> EventLoop {
        self.event_loop().clone()
    }
}

impl<C: BaseCallbacks, T: TransportHandle> Adapter<C, T> {
    pub(crate) fn of(callbacks: C) -> Adapter<C, T> {
        Adapter {
            callbacks: RefCell::new(callbacks),
            transport: RefCell::default(),
            due: RefCell::default(),
        }
    }

    /// Lends the protocol to `call`, then delivers what came meanwhile. `None` when it is lent
    /// already.
    pub(crate) fn lend<R>(&self, call: impl FnOnce(&mut C) -> R) -> Option<R> {
        let result = call(&mut *self.callbacks.try_borrow_mut().ok()?);
        loop {
            let Some(due) = self.due.borrow_mut().pop_front() else {
                return Some(result);
            };
            let mut callbacks = self.callbacks.try_borrow_mut().ok()?;
            let (told, what) = match due {
                Due::Pause => (
                    guard(|| callbacks.pause_writing()),
                    Failure::FlowControl("pause_writing"),
                ),
                Due::Error(error) => (
                    guard(|| callbacks.error_received(error)),
                    Failure::Callback("error_received"),
                ),
            };
            drop(callbacks);
            if let Err(error) = told {
                self.report(what, &error);
            }
        }
    }

    /// [`lend`](Adapter::lend) to a callback that may panic.
    pub(crate) fn call<R>(&self, call: impl FnOnce(&mut C) -> R) -> Option<io::Result<R>> {
        self.lend(|callbacks| guard(|| call(callbacks)))
    }

    pub(crate) fn made(&self, transport: &T) {
        self.transport.replace(Some(transport.clone()));
    }

    fn due(&self, due: Due) {
        self.due.borrow_mut().push_back(due);
    }
}

/// Whether an error comes from the network or the peer: the system's errors have a number, those of TLS a
/// kind. A panic has neither.
fn is_the_networks(error: &io::Error) -> bool {
    error.raw_os_error().is_some() || error.kind() != io::ErrorKind::Other
}

impl<C: BaseCallbacks, T: TransportHandle> BaseProtocol<Native> for Adapter<C, T> {
    fn connection_lost(&self, error: Option<io::Error>) -> io::Result<()> {
        let lost = self.call(|callbacks| callbacks.connection_lost(error));
        let transport = self.transport.take();
        drop(transport);
        lost.unwrap_or(Ok(()))
    }

    fn pause_writing(&self) -> io::Result<()> {
        let Ok(mut callbacks) = self.callbacks.try_borrow_mut() else {
            self.due(Due::Pause);
            return Ok(());
        };
        guard(|| callbacks.pause_writing())
    }

    fn resume_writing(&self) -> io::Result<()> {
        self.call(BaseCallbacks::resume_writing).unwrap_or(Ok(()))
    }

    fn report(&self, what: Failure, error: &io::Error) {
        let message = match what {
            // A broken connection is no failure of the program: connection_lost tells it.
            Failure::Fatal(message) if is_the_networks(error) => {
                log::debug!("{message}: {error}");
                return;
            }
            Failure::Fatal(message) | Failure::Unusual(message) => message.to_owned(),
            Failure::Callback(callback) | Failure::FlowControl(callback) => {
                format!("{callback}() panicked")
            }
        };
        let transport = self.transport.borrow().clone();
        let Some(event_loop) = transport
            .as_ref()
            .map(TransportHandle::loop_of)
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

impl<C: StreamCallbacks> StreamProtocol<Native> for Adapter<C, Transport> {
    fn connection_made(&self, transport: Transport) -> io::Result<()> {
        self.made(&transport);
        self.call(|callbacks| callbacks.connection_made(transport))
            .unwrap_or(Ok(()))
    }

    fn receive(&self, input: &Input<'_, Native>) -> Received<io::Error> {
        self.lend(|callbacks| callbacks.receive(input))
            .unwrap_or(Received::Nothing)
    }

    fn eof_received(&self) -> io::Result<bool> {
        self.call(StreamCallbacks::eof_received)
            .unwrap_or(Ok(false))
    }
}

impl<P: DatagramProtocol> MessageProtocol<Native> for Adapter<Datagrams<P>, DatagramTransport> {
    fn connection_made(&self, transport: DatagramTransport) -> io::Result<()> {
        self.made(&transport);
        self.call(|protocol| protocol.0.connection_made(transport))
            .unwrap_or(Ok(()))
    }

    fn datagram_received(&self, data: &[u8], peer: Option<&SocketAddress>) -> io::Result<()> {
        self.call(|protocol| protocol.0.datagram_received(data, peer))
            .unwrap_or(Ok(()))
    }

    fn error_received(&self, error: io::Error) -> io::Result<()> {
        let Ok(mut callbacks) = self.callbacks.try_borrow_mut() else {
            self.due(Due::Error(error));
            return Ok(());
        };
        guard(|| callbacks.error_received(error))
    }
}
