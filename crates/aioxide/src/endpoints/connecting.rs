//! Connecting to the first of several addresses that answers.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::happy_eyeballs::{Attempts, interleave};
use super::{AddressError, AddressErrors, Endpoint, Stage};
use crate::event_loop::EventLoop;
use crate::event_loop::host::Host;
use crate::event_loop::sleep::Sleep;
use crate::reactor::Socket;
use crate::sys::address::SocketAddress;
use crate::sys::clock::Time;

/// In which order addresses are tried, and how many at a time: RFC 8305. By default one after the
/// other, as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HappyEyeballs {
    /// How long an attempt is alone: then the next one begins beside it. Without a delay it begins
    /// when the one before it has failed.
    pub delay: Option<Duration>,
    /// How many addresses of the first family come before the families take turns; 0 leaves the
    /// order as it is. `None` is 1 with a delay, and 0 without.
    pub interleave: Option<usize>,
}

impl<H: Host> EventLoop<H> {
    /// Connects to one of the endpoints, to whichever answers first. With `local` addresses, a
    /// socket is bound to the first that it can be bound to.
    ///
    /// Dropping the future closes every socket that it has opened.
    ///
    /// # Errors
    /// Why each endpoint did not do, in the order in which they were tried.
    pub async fn connect_any(
        &self,
        remote: Vec<Endpoint>,
        local: Option<&[Endpoint]>,
        how: HappyEyeballs,
    ) -> Result<(Socket, SocketAddress), AddressErrors> {
        let first = how.interleave.unwrap_or(how.delay.is_some().into());
        let remote = match first {
            0 => remote,
            first => interleave(remote, first),
        };
        let mut race = Race {
            event_loop: self,
            remote: &remote,
            local,
            attempts: Attempts::new(remote.len(), how.delay),
            running: Vec::new(),
            failed: BTreeMap::new(),
            alarm: None,
        };
        poll_fn(|cx| race.poll(cx)).await
    }

    async fn connect_one(
        &self,
        endpoint: &Endpoint,
        local: Option<&[Endpoint]>,
    ) -> Result<Socket, Vec<AddressError>> {
        let failed = |stage, error| AddressError {
            stage,
            address: endpoint.address.clone(),
            error,
        };
        let socket = self
            .reactor()
            .open(endpoint.family, endpoint.kind, endpoint.protocol)
            .map_err(|error| vec![failed(Stage::Open, error)])?;
        let mut errors = Vec::new();
        if let Some(local) = local
            && !self.bind_one_of(&socket, endpoint, local, &mut errors)
        {
            return Err(errors);
        }
        let (stage, connected) = match self.reactor().connect(socket.fd(), &endpoint.address) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let end = self.go_on_connecting(socket.fd(), &endpoint.address);
                (Stage::Connect, end.await)
            }
            at_once => (Stage::Begin, at_once),
        };
        match connected {
            Ok(()) => Ok(socket),
            Err(error) => {
                errors.push(failed(stage, error));
                Err(errors)
            }
        }
    }

    /// Binds to the first local address of the endpoint's family that does. Adds why others did not;
    /// false when none did.
    fn bind_one_of(
        &self,
        socket: &Socket,
        endpoint: &Endpoint,
        local: &[Endpoint],
        errors: &mut Vec<AddressError>,
    ) -> bool {
        for candidate in local.iter().filter(|local| local.family == endpoint.family) {
            match self.reactor().bind(socket.fd(), &candidate.address) {
                Ok(()) => return true,
                Err(error) => errors.push(AddressError {
                    stage: Stage::Bind,
                    address: candidate.address.clone(),
                    error,
                }),
            }
        }
        if errors.is_empty() {
            errors.push(AddressError {
                stage: Stage::NoLocalAddress,
                address: endpoint.address.clone(),
                error: io::ErrorKind::AddrNotAvailable.into(),
            });
        }
        false
    }
}

type Attempt<'a> = Pin<Box<dyn Future<Output = Result<Socket, Vec<AddressError>>> + 'a>>;

/// Attempts to connect that run side by side. Each owns its socket until it has won: whatever ends
/// the race closes the others.
struct Race<'a, H: Host> {
    event_loop: &'a EventLoop<H>,
    remote: &'a [Endpoint],
    local: Option<&'a [Endpoint]>,
    attempts: Attempts,
    /// The attempts that are under way, by the number of their endpoint.
    running: Vec<(usize, Attempt<'a>)>,
    /// What went wrong in those that have failed.
    failed: BTreeMap<usize, Vec<AddressError>>,
    /// Wakes the race when the next attempt is to begin.
    alarm: Option<Sleep<H>>,
}

impl<H: Host> Race<'_, H> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Socket, SocketAddress), AddressErrors>> {
        loop {
            if let Some(number) = self.attempts.begin(self.event_loop.time()) {
                let attempt = self
                    .event_loop
                    .connect_one(&self.remote[number], self.local);
                self.running.push((number, Box::pin(attempt)));
            }
            if let Some((number, socket)) = self.poll_attempts(cx) {
                return Poll::Ready(Ok((socket, self.remote[number].address.clone())));
            }
            let due = match self.attempts.next_at() {
                None if self.running.is_empty() => return Poll::Ready(Err(self.errors())),
                next => self.set_alarm(next, cx),
            };
            if !due {
                return Poll::Pending;
            }
        }
    }

    /// The attempt that has won, if one has.
    fn poll_attempts(&mut self, cx: &mut Context<'_>) -> Option<(usize, Socket)> {
        let mut under_way = Vec::new();
        for (number, mut attempt) in std::mem::take(&mut self.running) {
            match attempt.as_mut().poll(cx) {
                Poll::Ready(Ok(socket)) => return Some((number, socket)),
                Poll::Ready(Err(errors)) => {
                    self.attempts.failed(number);
                    self.failed.insert(number, errors);
                }
                Poll::Pending => under_way.push((number, attempt)),
            }
        }
        self.running = under_way;
        None
    }

    /// Wakes the race at `next`; true when it is past.
    fn set_alarm(&mut self, next: Option<Time>, cx: &mut Context<'_>) -> bool {
        self.alarm = next.map(|next| self.event_loop.sleep_until(next));
        let alarm = self.alarm.as_mut();
        alarm.is_some_and(|alarm| Pin::new(alarm).poll(cx).is_ready())
    }

    fn errors(&mut self) -> AddressErrors {
        let failed = std::mem::take(&mut self.failed);
        AddressErrors(failed.into_values().flatten().collect())
    }
}
