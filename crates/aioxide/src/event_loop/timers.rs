//! Timers: a heap of deadlines over a slab of callbacks.
//!
//! Cancelling takes the callback out of the slab at once, so what it refers to is freed at once;
//! the deadline stays in the heap until it comes to the top. Programs cancel nearly every
//! timeout they set, long before it is due: when most of the heap is such leftovers it is rebuilt.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slab::Slab;

use crate::sys::clock::Time;

/// A heap smaller than this is never rebuilt. The number is CPython's
/// (`_MIN_SCHEDULED_TIMER_HANDLES`): below it a rebuild costs more than it saves.
const MIN_REBUILD: usize = 100;

/// Names a timer that may still be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerId {
    slot: usize,
    sequence: u64,
}

/// The timers of one loop.
pub struct Timers<C> {
    /// Earliest deadline first; equal deadlines in the order in which they were set.
    heap: BinaryHeap<Reverse<(Time, u64, usize)>>,
    /// Sequence number and callback of each timer that was not cancelled.
    pending: Slab<(u64, C)>,
    next_sequence: u64,
}

impl<C> Default for Timers<C> {
    fn default() -> Self {
        Timers {
            heap: BinaryHeap::new(),
            pending: Slab::new(),
            next_sequence: 0,
        }
    }
}

impl<C> Timers<C> {
    /// Sets a timer.
    pub fn insert(&mut self, deadline: Time, callback: C) -> TimerId {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let slot = self.pending.insert((sequence, callback));
        self.heap.push(Reverse((deadline, sequence, slot)));
        TimerId { slot, sequence }
    }

    /// Takes a timer back, unless it has fired.
    pub fn cancel(&mut self, id: TimerId) -> Option<C> {
        if self
            .pending
            .get(id.slot)
            .is_none_or(|(sequence, _)| *sequence != id.sequence)
        {
            return None;
        }
        let (_, callback) = self.pending.remove(id.slot);
        if self.heap.len() > MIN_REBUILD && self.pending.len() < self.heap.len() / 2 {
            let pending = &self.pending;
            self.heap
                .retain(|Reverse((_, sequence, slot))| is_pending(pending, *sequence, *slot));
        }
        Some(callback)
    }

    /// Takes the next timer whose deadline is not after `now`.
    pub fn pop_due(&mut self, now: Time) -> Option<C> {
        let deadline = self.next_deadline()?;
        if deadline > now {
            return None;
        }
        let Reverse((_, _, slot)) = self.heap.pop()?;
        Some(self.pending.remove(slot).1)
    }

    /// The earliest deadline.
    pub fn next_deadline(&mut self) -> Option<Time> {
        while let Some(Reverse((deadline, sequence, slot))) = self.heap.peek() {
            if is_pending(&self.pending, *sequence, *slot) {
                return Some(*deadline);
            }
            self.heap.pop();
        }
        None
    }

    /// The callbacks that are not due yet, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &C> {
        self.pending.iter().map(|(_, (_, callback))| callback)
    }

    /// Takes all of them back.
    pub fn drain(&mut self) -> Vec<C> {
        self.heap.clear();
        self.pending.drain().map(|(_, callback)| callback).collect()
    }
}

fn is_pending<C>(pending: &Slab<(u64, C)>, sequence: u64, slot: usize) -> bool {
    pending
        .get(slot)
        .is_some_and(|(found, _)| *found == sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanoseconds: u64) -> Time {
        Time::from_nanos(nanoseconds)
    }

    #[test]
    fn equal_deadlines_fire_in_order() {
        let mut timers = Timers::default();
        for name in 0..50 {
            timers.insert(at(10), name);
        }
        let fired: Vec<_> = std::iter::from_fn(|| timers.pop_due(at(10))).collect();
        assert_eq!(fired, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_fires_early() {
        let mut timers = Timers::default();
        timers.insert(at(10), ());
        assert_eq!(timers.pop_due(at(9)), None);
        assert_eq!(timers.next_deadline(), Some(at(10)));
        assert_eq!(timers.pop_due(at(10)), Some(()));
    }

    #[test]
    fn a_cancelled_timer_is_gone_and_its_slot_may_be_reused() {
        let mut timers = Timers::default();
        let first = timers.insert(at(1), "first");
        assert_eq!(timers.cancel(first), Some("first"));
        let second = timers.insert(at(2), "second");
        assert_eq!(timers.cancel(first), None);
        assert_eq!(timers.next_deadline(), Some(at(2)));
        assert_eq!(timers.cancel(second), Some("second"));
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn many_cancelled_timers_take_no_room() {
        let mut timers = Timers::default();
        for _ in 0..10_000 {
            let id = timers.insert(at(1), ());
            timers.cancel(id);
        }
        assert!(timers.heap.len() <= MIN_REBUILD + 1);
    }

    proptest::proptest! {
        #[test]
        fn timers_fire_sorted_and_only_those_not_cancelled(
            deadlines in proptest::collection::vec((0_u64..50, proptest::bool::ANY), 0..300),
        ) {
            let mut timers = Timers::default();
            let mut expected = Vec::new();
            for (index, (deadline, cancel)) in deadlines.into_iter().enumerate() {
                let id = timers.insert(at(deadline), index);
                if cancel {
                    timers.cancel(id);
                } else {
                    expected.push((deadline, index));
                }
            }
            expected.sort_unstable();
            let fired: Vec<_> = std::iter::from_fn(|| timers.pop_due(Time::MAX)).collect();
            let expected: Vec<_> = expected.into_iter().map(|(_, index)| index).collect();
            proptest::prop_assert_eq!(fired, expected);
        }
    }
}
