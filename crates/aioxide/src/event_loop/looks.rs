//! Which iterations look at the network.
//!
//! # Facts
//!
//! An iteration that has something to run needs no sleep, but it looks whether events have come: on
//! epoll a system call, which takes longer than a small callback. CPython's loop looks in every
//! iteration, and programs see it: whoever writes to a socket by himself and then gives way
//! finds the reader called when he goes on.
//!
//! # What was chosen
//!
//! A loop that does nothing but run callbacks looks in some iterations and leaves the look out of the
//! others. It begins with that after [`PATIENCE`] iterations in a row in which nobody used the network and no
//! look found anything. From then on it looks in every [`STRIDE`]th, and as soon as [`LONGEST`] has
//! passed since the last look. The first use of the network by the loop, the first event, the first
//! sleep and each new run begin the count anew. A loop that serves connections uses the network in nearly
//! every iteration, and looks in every one.
//!
//! # What it costs
//!
//! A program whose loop has been busy with itself for that long, and that then writes to a socket behind the
//! loop's back, has the event up to [`STRIDE`] iterations later. The clock is read for each look
//! that is left out.

use std::cell::Cell;
use std::time::Duration;

use crate::sys::clock::Time;

/// Iterations without a trace of the network before the first look is left out. Far above what a
/// program, or a test, gives way for to let an event come.
pub(super) const PATIENCE: u32 = 64;

/// From then on, one look in so many iterations. More would gain little: a look is the price of two or
/// three small callbacks.
pub(super) const STRIDE: u32 = 8;

/// How long an event may wait for a look, if callbacks are slow. Little beside what it waits for them
/// on any loop: all callbacks of an iteration run before the next look.
pub(super) const LONGEST: Duration = Duration::from_micros(50);

/// What a loop remembers of its looks.
#[derive(Debug)]
pub(super) struct Looks {
    /// Whether the reactor allows it.
    may_leave_out: bool,
    /// Iterations since there was a trace of the network.
    quiet: Cell<u32>,
    /// When the last look was. Set by those that come when looks are left out.
    last: Cell<Time>,
}

impl Looks {
    pub(super) fn new(may_leave_out: bool) -> Looks {
        Looks {
            may_leave_out,
            quiet: Cell::new(0),
            last: Cell::default(),
        }
    }

    /// There was a trace of the network.
    #[inline]
    pub(super) fn begin(&self) {
        self.quiet.set(0);
    }

    /// Whether an iteration that has something to run looks too. Asked once for each.
    #[inline]
    pub(super) fn is_due(&self, now: impl FnOnce() -> Time) -> bool {
        let quiet = self.quiet.get();
        if quiet < PATIENCE {
            self.quiet.set(quiet + u32::from(self.may_leave_out));
            return true;
        }
        let now = now();
        let left_out = quiet - PATIENCE;
        if left_out > 0 && left_out < STRIDE && self.last.get().until(now) < LONGEST {
            self.quiet.set(quiet + 1);
            return false;
        }
        self.last.set(now);
        self.quiet.set(PATIENCE + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the next `count` iterations look, each of which takes `each`.
    fn looks(looks: &Looks, now: &mut Time, count: u32, each: Duration) -> u32 {
        (0..count).fold(0, |found, _| {
            *now = *now + each;
            found + u32::from(looks.is_due(|| *now))
        })
    }

    const SHORT: Duration = Duration::from_nanos(100);

    #[test]
    fn every_iteration_looks_until_it_was_quiet_for_long() {
        let (state, mut now) = (Looks::new(true), Time::ZERO);
        assert_eq!(looks(&state, &mut now, PATIENCE, SHORT), PATIENCE);
        state.begin();
        assert_eq!(looks(&state, &mut now, PATIENCE, SHORT), PATIENCE);
    }

    #[test]
    fn then_one_in_a_stride_looks() {
        let (state, mut now) = (Looks::new(true), Time::ZERO);
        looks(&state, &mut now, PATIENCE, SHORT);
        assert_eq!(looks(&state, &mut now, 100 * STRIDE, SHORT), 100);
        state.begin();
        assert_eq!(looks(&state, &mut now, PATIENCE, SHORT), PATIENCE);
    }

    #[test]
    fn every_iteration_looks_where_the_reactor_wants_it() {
        let (state, mut now) = (Looks::new(false), Time::ZERO);
        assert_eq!(looks(&state, &mut now, 1000, SHORT), 1000);
    }

    #[test]
    fn slow_callbacks_are_followed_by_a_look() {
        let (state, mut now) = (Looks::new(true), Time::ZERO);
        looks(&state, &mut now, PATIENCE, SHORT);
        assert_eq!(looks(&state, &mut now, 100, LONGEST), 100);
        assert_eq!(looks(&state, &mut now, 100, LONGEST / 2), 50);
    }
}
