//! How time passes, and what a wait finds.
//!
//! The clock stands still while there is something to do, and jumps when there is not: a test of an
//! hour takes no time, and how fast the machine is has no part in what it shows.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use super::descriptors::{File, State};
use super::faults::Call;
use super::network::Network;
use crate::reactor::{Event, Op, Side};
use crate::sys::clock::Time;

/// Waits in a row for which the clock may stand still. A loop that always has something to do (a
/// task that yields for ever, a writer that is always ready) must still come to its timers, and
/// ordinary tests should see the times that they computed: they need a few hundred waits.
const WAITS_STANDING_STILL: u32 = 1_000;

/// What each further wait takes: about an iteration of a real loop that is busy.
const BUSY_WAIT: Duration = Duration::from_micros(10);

impl Network {
    /// What happens now. Appends the events of one wait and is true when the wait is over: when
    /// there are events, or when it must not sleep (`at_once`).
    pub(super) fn look(&mut self, at_once: bool, events: &mut Vec<Event>) -> bool {
        self.settle();
        let (mut found, idle): (Vec<_>, Vec<_>) = self
            .waiting
            .iter()
            .partition(|(fd, op, _)| self.is_worth_attempting(*fd, *op));
        if found.is_empty() && !at_once {
            return false;
        }
        self.random.shuffle(&mut found);
        if self.config.partial_waits && !found.is_empty() {
            found.truncate(1 + self.random.below(found.len() as u64) as usize);
        }
        // Spurious events come only with a wait that ends anyway: alone they would keep the clock
        // from ever moving.
        for idle in idle {
            if idle.1 != Op::PeerGone && self.by_chance(self.faults.spurious) {
                found.push(idle);
            }
        }
        self.random.shuffle(&mut found);
        events.extend(found.into_iter().map(|(_, _, token)| Event(token)));
        self.standing_still = self.standing_still.saturating_add(1);
        if self.standing_still > WAITS_STANDING_STILL {
            self.now = self.now + BUSY_WAIT;
        }
        true
    }

    /// The next time at which something happens by itself or the caller's deadline is reached.
    pub(super) fn next_time(&self, deadline: Option<Time>) -> Option<Time> {
        let arrivals = self
            .connections
            .iter()
            .filter_map(|(_, it)| it.next_arrival(self.now));
        arrivals
            .chain(self.next_answer())
            .chain(self.post.next_arrival(self.now))
            .chain(deadline)
            .min()
    }

    /// Whether something happens that does in one of `one_in` cases; 0 is never.
    pub(super) fn by_chance(&mut self, one_in: u64) -> bool {
        one_in > 0 && self.random.below(one_in) == 0
    }

    /// Moves the clock; never back.
    pub(super) fn advance(&mut self, time: Time) {
        self.now = self.now.max(time);
        self.standing_still = 0;
    }

    /// Why a wait is not going to end.
    pub(super) fn asleep_for_ever(&self) -> io::Error {
        let text = format!(
            "the simulated loop would sleep for ever: there is no deadline, nothing is on its \
             way, no thread has used the waker, and of what waits nothing is ready: {}",
            self.waiting
        );
        io::Error::new(io::ErrorKind::Deadlock, text)
    }

    /// Delivers everything whose time has come.
    fn settle(&mut self) {
        for (_, connection) in &mut self.connections {
            connection.settle(self.now);
        }
        self.settle_connects();
        self.settle_post();
    }

    fn is_worth_attempting(&self, fd: RawFd, op: Op) -> bool {
        let calls: &[Call] = match op.side() {
            Side::Read => &[Call::Receive, Call::Accept],
            Side::Write => &[Call::Send],
        };
        self.is_ready(fd, op.side()) || self.faults.is_planned_on(fd, calls)
    }

    /// Whether an attempt on this side would not block. Linux's rules: a socket that is neither
    /// connected nor listening has hung up, and a failed one is ready for its error.
    fn is_ready(&self, fd: RawFd, side: Side) -> bool {
        let socket = match self.descriptors.file(fd) {
            Err(_) => return false,
            Ok(File::Datagram(mailbox)) => return self.is_mailbox_ready(mailbox, side),
            Ok(File::Pipe { pipe, end }) => return self.pipes[*pipe].is_ready(*end, side),
            Ok(File::Stream(socket)) => socket,
        };
        match (&socket.state, side) {
            (State::Idle | State::Failed(_), _) => true,
            (State::Connecting(_), _) | (State::Listening { .. }, Side::Write) => false,
            (State::Listening { queue, .. }, Side::Read) => !queue.is_empty(),
            (State::Connected { connection, role }, Side::Read) => {
                self.connections[*connection].end(*role).is_readable()
            }
            (State::Connected { connection, role }, Side::Write) => {
                self.connections[*connection].is_writable(*role)
            }
        }
    }
}
