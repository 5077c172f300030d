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
//! look found anything. From then on it looks in every [`STRIDE`]th, as long as the iterations of a
//! stride take no longer than [`LONGEST`] together; if they do, it looks in every one until they are quick
//! again. The first use of the network by the loop, the first event, the first sleep and each new run begin
//! the count anew. A loop that serves connections uses the network in nearly every iteration, and looks in
//! every one.
//!
//! The clock is read at looks alone: read in every iteration, it would cost a fifth of what is saved.
//!
//! # What it costs
//!
//! A program whose loop has been busy with itself for that long, and that then writes to a socket behind the
//! loop's back, has the event up to [`STRIDE`] iterations later. If just these are the first slow ones after
//! many that were quick, it is that many slow ones later, once.

use std::cell::Cell;
use std::time::Duration;

use crate::sys::clock::Time;

/// Iterations without a trace of the network before the first look is left out. Far above what a
/// program, or a test, gives way for to let an event come.
pub(super) const PATIENCE: u32 = 64;

/// From then on, one look in so many iterations. More would gain little: a look is the price of two or
/// three small callbacks.
pub(super) const STRIDE: u32 = 8;

/// How long the iterations of a stride may take, so that it is left at that. What an event waits for a
/// look then is little beside what it waits for the callbacks of one iteration on a busy loop.
pub(super) const LONGEST: Duration = Duration::from_micros(50);

/// What a loop remembers of its looks.
#[derive(Debug)]
pub(super) struct Looks {
    /// Whether the reactor allows it.
    may_leave_out: bool,
    /// Iterations since there was a trace of the network, up to [`PATIENCE`]. The others hold from then on.
    quiet: Cell<u32>,
    /// From the last look to the next, in iterations: [`STRIDE`], or 1 where they are slow.
    stride: Cell<u32>,
    /// How many iterations of the stride are still to come before that look.
    left: Cell<u32>,
    /// When the last look was.
    last: Cell<Time>,
}

impl Looks {
    pub(super) fn new(may_leave_out: bool) -> Looks {
        Looks {
            may_leave_out,
            quiet: Cell::new(0),
            stride: Cell::new(1),
            left: Cell::new(0),
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
            self.left.set(0);
            return true;
        }
        let left = self.left.get();
        if left > 0 {
            self.left.set(left - 1);
            return false;
        }
        // The first of these looks finds an old `last`, and takes the iterations for slow.
        let now = now();
        let took = self.last.replace(now).until(now);
        let quick = took <= LONGEST / STRIDE * self.stride.get();
        let stride = if quick { STRIDE } else { 1 };
        self.stride.set(stride);
        self.left.set(stride - 1);
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
        // Two looks more tell how long an iteration takes.
        looks(&state, &mut now, PATIENCE + 2, SHORT);
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
    fn slow_iterations_look() {
        let (state, mut now) = (Looks::new(true), Time::ZERO);
        looks(&state, &mut now, PATIENCE, SHORT);
        assert_eq!(looks(&state, &mut now, 100, LONGEST), 100);
        assert_eq!(looks(&state, &mut now, 100, LONGEST / STRIDE * 2), 100);
        // Quick, then slow: one stride is left out, and no more.
        looks(&state, &mut now, 1, SHORT);
        assert_eq!(looks(&state, &mut now, STRIDE, LONGEST), 1);
        assert_eq!(looks(&state, &mut now, 100, LONGEST), 100);
    }
}
