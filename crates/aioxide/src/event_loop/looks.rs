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
//! look found anything. From then on it reads the clock in every [`STRIDE`]th, and looks there unless the last
//! look will, at the next one, still be less than an eighth of all these iterations ago, at most [`MOST`], and less
//! than [`LONGEST`]. If a stride takes longer than that, it looks in every iteration until they are quick
//! again. The first use of the network by the loop, the first event, the first sleep and each new run begin
//! the count anew.
//!
//! A loop that serves connections uses the network in nearly every iteration. Where looks usually find
//! [`SEVERAL`] events, the iteration after such a look leaves its own out, if it has something to run: these are the
//! tasks that the events have woken. A look at that moment finds the first few of the next requests. They are queued
//! behind the tasks, and are from then on half a turn out of step with the others: there are two groups of clients,
//! twice as many looks and sleeps, and shorter batches. Usual is what it is after some [`PATIENCE`] looks.
//!
//! # What it costs
//!
//! A program whose loop has been busy with itself for that long, and that then writes to a socket behind the
//! loop's back, has the event later: by an eighth of the iterations that it was busy for, [`MOST`] at most. If just
//! these are the first slow ones after many that were quick, the clock is read after a stride of them, once.
//!
//! On a loop with a crowd of connections an event that comes while several others are handled is called
//! one iteration later, behind what that iteration has queued. It is never more than one: the next one looks.

use std::cell::Cell;
use std::time::Duration;

use crate::sys::clock::Time;

/// Iterations without a trace of the network before the first look is left out. Far above what a
/// program, or a test, gives way for to let an event come.
pub(super) const PATIENCE: u32 = 64;

/// From then on, one look at the clock in so many iterations: it is the price of a third of a small callback.
pub(super) const STRIDE: u32 = 8;

/// The most iterations from one look to the next: fewer than a program gives way for to let an event come. A look,
/// the price of two or three small callbacks, is little beside as many iterations.
pub(super) const MOST: u32 = 16;

/// How long a stride may take, so that it is left at that, and the longest from one look to the next. What
/// an event waits for a look then is little beside what it waits for the callbacks of one iteration on a busy
/// loop.
pub(super) const LONGEST: Duration = Duration::from_micros(50);

/// How many events have to be found together: one connection by itself never does.
pub(super) const SEVERAL: usize = 2;

/// What a loop remembers of its looks.
#[derive(Debug)]
pub(super) struct Looks {
    /// Whether the reactor allows it.
    may_leave_out: bool,
    /// Whether the last look found [`SEVERAL`] events, on a loop where that is usual, and nobody has asked since.
    after_several: Cell<bool>,
    /// What looks have found in this run: two more for each that found [`SEVERAL`] events, one less for each that
    /// found one. Up to twice [`PATIENCE`].
    crowd: Cell<u32>,
    /// Iterations since there was a trace of the network, up to [`MOST`] times [`SHARE`]. The others hold from
    /// [`PATIENCE`] on.
    quiet: Cell<u32>,
    /// From one look at the clock to the next, in iterations: [`STRIDE`], or 1 where they are slow.
    stride: Cell<u32>,
    /// How many iterations of the stride are still to come before that.
    left: Cell<u32>,
    /// When the clock was read last.
    read: Cell<Time>,
    /// Iterations since the last look, as of then.
    without: Cell<u32>,
    /// When that look was.
    looked: Cell<Time>,
}

/// The share of the quiet iterations that an event may wait for a look: one in so many.
const SHARE: u32 = 8;

impl Looks {
    pub(super) fn new(may_leave_out: bool) -> Looks {
        Looks {
            may_leave_out,
            after_several: Cell::new(false),
            crowd: Cell::new(0),
            quiet: Cell::new(0),
            stride: Cell::new(1),
            left: Cell::new(0),
            read: Cell::default(),
            without: Cell::new(0),
            looked: Cell::default(),
        }
    }

    /// There was a trace of the network.
    #[inline]
    pub(super) fn begin(&self) {
        self.quiet.set(0);
    }

    /// A run begins.
    pub(super) fn begin_run(&self) {
        self.begin();
        self.after_several.set(false);
        self.crowd.set(0);
    }

    /// There was a look, which found so many events.
    #[inline]
    pub(super) fn found(&self, events: usize) {
        let mut after_several = false;
        if events > 0 {
            self.begin();
            let crowd = self.crowd.get();
            if events < SEVERAL {
                self.crowd.set(crowd.saturating_sub(1));
            } else {
                self.crowd.set((crowd + 2).min(2 * PATIENCE));
                after_several = self.may_leave_out && crowd >= PATIENCE;
            }
        }
        self.after_several.set(after_several);
    }

    /// Whether an iteration that has something to run looks too. Asked once for each.
    #[inline]
    pub(super) fn is_due(&self, now: impl FnOnce() -> Time) -> bool {
        if self.after_several.replace(false) {
            return false;
        }
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
        // The first time it finds an old `read`, and takes the iterations for slow.
        let now = now();
        let took = self.read.replace(now).until(now);
        let before = self.stride.get();
        let quick = took <= LONGEST / STRIDE * before;
        let stride = if quick { STRIDE } else { 1 };
        self.stride.set(stride);
        self.left.set(stride - 1);
        let quiet = (quiet + before).min(MOST * SHARE);
        self.quiet.set(quiet);
        let without = self.without.get() + before;
        let due = before == 1
            || !quick
            || without + STRIDE > quiet / SHARE
            || self.looked.get().until(now) + took > LONGEST;
        if due {
            self.looked.set(now);
            self.without.set(0);
        } else {
            self.without.set(without);
        }
        due
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
        assert_eq!(looks(&state, &mut now, 4 * STRIDE, SHORT), 4);
        state.begin();
        assert_eq!(looks(&state, &mut now, PATIENCE, SHORT), PATIENCE);
    }

    #[test]
    fn then_fewer_but_never_less_than_one_in_an_eighth_of_them() {
        let (state, mut now) = (Looks::new(true), Time::ZERO);
        looks(&state, &mut now, PATIENCE, SHORT);
        let (mut last, mut longest) = (PATIENCE, 0);
        for iteration in PATIENCE..100 * MOST {
            if looks(&state, &mut now, 1, SHORT) == 1 {
                longest = longest.max(iteration - last);
                assert!(iteration - last <= (iteration / SHARE).clamp(STRIDE, MOST));
                last = iteration;
            }
        }
        assert_eq!(longest, MOST);
    }

    #[test]
    fn they_are_never_further_apart_than_the_longest() {
        let (state, mut now) = (Looks::new(true), Time::ZERO);
        looks(&state, &mut now, 10 * PATIENCE, SHORT);
        looks(&state, &mut now, MOST, LONGEST / STRIDE);
        let count = 100 * STRIDE;
        assert_eq!(
            looks(&state, &mut now, count, LONGEST / STRIDE),
            count / STRIDE
        );
    }

    #[test]
    fn every_iteration_looks_where_the_reactor_wants_it() {
        let (state, mut now) = (Looks::new(false), Time::ZERO);
        assert_eq!(looks(&state, &mut now, 1000, SHORT), 1000);
    }

    /// Looks that find several events each, until that is usual.
    fn crowded() -> Looks {
        let state = Looks::new(true);
        (0..PATIENCE).for_each(|_| state.found(SEVERAL));
        state
    }

    #[test]
    fn after_several_events_one_look_is_left_out_and_no_more() {
        let (state, mut now) = (crowded(), Time::ZERO);
        for _ in 0..3 {
            state.found(SEVERAL);
            assert_eq!(looks(&state, &mut now, 1, SHORT), 0);
            assert_eq!(looks(&state, &mut now, 10, SHORT), 10);
        }
    }

    #[test]
    fn a_look_that_finds_one_event_or_none_is_followed_by_a_look() {
        let (state, mut now) = (crowded(), Time::ZERO);
        for events in [0, 1] {
            state.found(SEVERAL);
            state.found(events);
            assert_eq!(looks(&state, &mut now, 1, SHORT), 1);
        }
    }

    #[test]
    fn several_events_have_to_be_usual_in_this_run() {
        let (state, mut now) = (Looks::new(true), Time::ZERO);
        for _ in 0..PATIENCE / 2 {
            state.found(SEVERAL);
            assert_eq!(looks(&state, &mut now, 1, SHORT), 1);
        }
        let state = crowded();
        (0..2 * PATIENCE).for_each(|_| state.found(1));
        state.found(SEVERAL);
        assert_eq!(looks(&state, &mut now, 1, SHORT), 1);
        let state = crowded();
        state.begin_run();
        state.found(SEVERAL);
        assert_eq!(looks(&state, &mut now, 1, SHORT), 1);
    }

    #[test]
    fn a_crowd_is_looked_for_where_the_reactor_wants_it() {
        let (state, mut now) = (Looks::new(false), Time::ZERO);
        for _ in 0..3 * PATIENCE {
            state.found(SEVERAL);
            assert_eq!(looks(&state, &mut now, 1, SHORT), 1);
        }
    }

    #[test]
    fn slow_iterations_look() {
        let (state, mut now) = (Looks::new(true), Time::ZERO);
        looks(&state, &mut now, PATIENCE, SHORT);
        assert_eq!(looks(&state, &mut now, 100, LONGEST), 100);
        assert_eq!(looks(&state, &mut now, 100, LONGEST / STRIDE * 2), 100);
        // Quick, then slow: one stride is left out, and no more.
        looks(&state, &mut now, 1000, SHORT);
        assert!(looks(&state, &mut now, STRIDE, LONGEST) <= STRIDE);
        assert_eq!(looks(&state, &mut now, 100, LONGEST), 100);
    }
}
