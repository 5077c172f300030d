//! TLS with Rust's manners: a connection that is waited for, and `start_tls`.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::config::{ServerTls, TlsSide};
use super::info::TlsInfo;
use super::rustls_session::Rustls;
use super::{Tls, TlsTimeouts};
use crate::event_loop::EventLoop;
use crate::event_loop::native::Native;
use crate::protocols::{AnyProtocol, StreamProtocol};
use crate::transports::Transport;

/// A connection that shakes hands. Dropping it closes the connection.
pub(crate) struct Establishing {
    tls: Rc<Tls<Native>>,
    outcome: Rc<Outcome>,
    /// Nobody has taken the connection yet.
    unclaimed: bool,
}

/// How a handshake has ended, and who waits for its end.
#[derive(Default)]
struct Outcome {
    result: Cell<Option<io::Result<()>>>,
    waiter: Cell<Option<Waker>>,
}

impl Establishing {
    /// A layer below `protocol`: put it on a transport, then wait.
    pub(crate) fn new(
        event_loop: &EventLoop,
        session: Rustls,
        protocol: Rc<dyn StreamProtocol<Native>>,
        timeouts: TlsTimeouts,
    ) -> Establishing {
        let outcome = Rc::<Outcome>::default();
        let settled = Rc::clone(&outcome);
        let settle = move |result| {
            settled.result.set(Some(result));
            if let Some(waiter) = settled.waiter.take() {
                waiter.wake();
            }
        };
        let session = Box::new(session);
        Establishing {
            tls: Tls::new(event_loop, session, protocol, timeouts, Box::new(settle)),
            outcome,
            unclaimed: true,
        }
    }

    /// The layer, as what the transport below calls.
    pub(crate) fn layer(&self) -> Rc<Tls<Native>> {
        Rc::clone(&self.tls)
    }

    /// Waits for the end of the handshake.
    pub(crate) async fn transport(mut self) -> io::Result<Transport> {
        let outcome = Rc::clone(&self.outcome);
        poll_fn(|cx| match outcome.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                outcome.waiter.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await?;
        self.unclaimed = false;
        Ok(self.tls.transport())
    }
}

impl Drop for Establishing {
    fn drop(&mut self) {
        if self.unclaimed {
            self.tls.transport().close();
        }
    }
}

/// A layer for a client of a server: nobody waits for its handshake.
pub(crate) fn secure(
    event_loop: &EventLoop,
    tls: &ServerTls,
    protocol: Rc<dyn StreamProtocol<Native>>,
) -> io::Result<Rc<dyn StreamProtocol<Native>>> {
    let session = Box::new(tls.session()?);
    let settle = |result: io::Result<()>| {
        if let Err(error) = result {
            log::debug!("a client's TLS handshake has failed: {error}");
        }
    };
    Ok(Tls::new(
        event_loop,
        session,
        protocol,
        tls.timeouts(),
        Box::new(settle),
    ))
}

impl EventLoop {
    /// Begins TLS on a connection that stands. `protocol` takes the place of the one that `transport` has:
    /// when the handshake is over, its `connection_made` is called with the transport to use from then on,
    /// which is also the result. The former protocol is called no more.
    ///
    /// Nothing may be received, or written, meanwhile: call it when the peer waits for it.
    ///
    /// # Errors
    /// `NotConnected` when the connection is closing. `InvalidInput` when a client's TLS has no server name
    /// ([`ClientTls::with_server_name`](crate::ClientTls::with_server_name)): nothing has been sent, the
    /// connection stands as it was. Why the handshake has failed: the connection is closed then.
    pub async fn start_tls<P: AnyProtocol>(
        &self,
        transport: &Transport,
        protocol: P,
        tls: impl Into<TlsSide>,
    ) -> io::Result<Transport> {
        let protocol = protocol.into_stream_protocol();
        let establishing = self.begin_tls(transport, protocol, &tls.into(), |tls| {
            tls.take_over(transport, &[]);
        })?;
        establishing.transport().await
    }

    pub(crate) fn begin_tls(
        &self,
        transport: &Transport,
        protocol: Rc<dyn StreamProtocol<Native>>,
        tls: &TlsSide,
        begin: impl FnOnce(&Tls<Native>),
    ) -> io::Result<Establishing> {
        if transport.is_closing() {
            let message = "TLS cannot begin: the connection is closing";
            return Err(io::Error::new(io::ErrorKind::NotConnected, message));
        }
        let establishing = Establishing::new(self, tls.session()?, protocol, tls.timeouts());
        begin(&establishing.tls);
        Ok(establishing)
    }
}

impl Transport {
    /// What the ends of the connection have agreed upon; `None` when it has no TLS.
    #[must_use]
    pub fn tls(&self) -> Option<TlsInfo> {
        let tls: &Tls<Native> = self.layer()?.downcast_ref()?;
        tls.with_session(|session| session.downcast_ref().map(Rustls::info))?
    }
}
