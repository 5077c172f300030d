//! Which connections keep their session's buffers for records between two requests.
//!
//! # Facts
//!
//! A session that frees them when they are empty costs an idle connection little; but each request then
//! allocates and frees two large blocks. OpenSSL's are of 17 KiB for each direction: 0.1 µs (3.6) or 0.2 µs
//! (3.0), of 1.2 and 1.8 µs for all that it does with a record of 1 KiB each way.
//!
//! # The choice
//!
//! A connection that works again before [`KEEPERS`] others have worked is busy, and keeps its buffers,
//! until as many others have become busy after it. All other connections have none between two requests. So
//! many connections that work in turns do as they did, and do not take the buffers away from each other.
//!
//! # What it costs
//!
//! At most [`KEEPERS`] times the buffers of one session for each loop: with OpenSSL, 1.1 MiB.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// The most connections of a loop that keep their buffers. With as many, what they keep still fits a
/// core's second-level cache.
pub const KEEPERS: usize = 32;

/// The connections of a loop that keep something.
pub struct Keepers<K> {
    /// How often any connection has worked.
    turns: Cell<u64>,
    /// In the order in which they became busy.
    kept: RefCell<VecDeque<Rc<K>>>,
}

impl<K> Default for Keepers<K> {
    fn default() -> Self {
        Keepers {
            turns: Cell::new(0),
            kept: RefCell::default(),
        }
    }
}

impl<K> Keepers<K> {
    /// A connection has worked; whether it is busy. `last` is the turn in which it did so before, and
    /// becomes this one.
    pub fn is_busy(&self, last: &Cell<Option<u64>>) -> bool {
        let turn = self.turns.get().wrapping_add(1);
        self.turns.set(turn);
        let before = last.replace(Some(turn));
        before.is_some_and(|before| turn.wrapping_sub(before) <= KEEPERS as u64)
    }

    /// Adds a connection that has become busy; who has to stop keeping for it.
    pub fn add(&self, keeper: Rc<K>) -> Option<Rc<K>> {
        let mut kept = self.kept.borrow_mut();
        kept.push_back(keeper);
        if kept.len() > KEEPERS {
            kept.pop_front()
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets so many connections work in turns; whether each was busy in its last turn.
    fn busy(connections: usize, rounds: usize) -> Vec<bool> {
        let keepers = Keepers::<()>::default();
        let connections: Vec<_> = (0..connections).map(|_| Cell::new(None)).collect();
        let mut busy = Vec::new();
        for _ in 0..rounds {
            busy = connections
                .iter()
                .map(|last| keepers.is_busy(last))
                .collect();
        }
        busy
    }

    #[test]
    fn a_connection_is_busy_when_it_comes_back_soon() {
        assert_eq!(busy(1, 1), [false]);
        assert_eq!(busy(1, 2), [true]);
        assert!(busy(KEEPERS, 2).into_iter().all(|busy| busy));
    }

    #[test]
    fn too_many_that_work_in_turns_are_not_busy() {
        assert!(!busy(KEEPERS + 1, 5).contains(&true));
    }

    #[test]
    fn the_first_makes_room_for_one_too_many() {
        let keepers = Keepers::default();
        let added: Vec<_> = (0..=KEEPERS + 1)
            .map(|name| keepers.add(Rc::new(name)))
            .collect();
        assert!(added[..KEEPERS].iter().all(Option::is_none));
        let displaced: Vec<_> = added[KEEPERS..]
            .iter()
            .map(|name| name.as_deref())
            .collect();
        assert_eq!(displaced, [Some(&0), Some(&1)]);
    }
}
