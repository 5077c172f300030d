//! Which address is tried when: RFC 8305, as far as it is about connecting. Pure.
//!
//! # Facts
//!
//! A name may have addresses of both families, and the way to one family may be broken: its
//! packets are lost without a word, and a connect gives up after two minutes.
//!
//! # What follows
//!
//! Addresses take turns by family ([`interleave`]), and an attempt that has not succeeded within
//! a delay gets company by the next one ([`Attempts`]). Whichever connects first wins.
//!
//! ```text
//! first   ├────────────────────────────────── …          never answered
//! second  ├ delay ┤├─────────────┤                       fails: the next begins at once
//! third           ·              ├───────▶ connected     the first is given up
//! ```
//!
//! The rules are asyncio's (`staggered_race`, `_interleave_addrinfos`): only the attempt that was
//! begun last can call the next one early. An older one that fails has had its company already.

use std::time::Duration;

use super::Endpoint;
use crate::sys::clock::Time;

/// RFC 8305, section 4: lets the families take turns, each in its own order, in the order in which
/// they first appear. `first` addresses of the first family come before the second one's first.
#[must_use]
pub fn interleave(endpoints: Vec<Endpoint>, first: usize) -> Vec<Endpoint> {
    let mut families: Vec<Vec<Endpoint>> = Vec::new();
    for endpoint in endpoints {
        let family = families
            .iter_mut()
            .find(|family| family[0].family == endpoint.family);
        match family {
            Some(family) => family.push(endpoint),
            None => families.push(vec![endpoint]),
        }
    }
    let Some(preferred) = families.first_mut() else {
        return Vec::new();
    };
    let ahead = first.saturating_sub(1).min(preferred.len());
    let mut turns: Vec<Endpoint> = preferred.drain(..ahead).collect();
    let mut families: Vec<_> = families.into_iter().map(Vec::into_iter).collect();
    loop {
        let before = turns.len();
        turns.extend(families.iter_mut().filter_map(Iterator::next));
        if turns.len() == before {
            return turns;
        }
    }
}

/// Says when each of some attempts is to begin. They begin in order, and each once.
#[derive(Debug)]
pub(super) struct Attempts {
    count: usize,
    /// `None`: each attempt begins when the one before it has failed.
    delay: Option<Duration>,
    begun: usize,
    /// When the next one begins, whatever the others do.
    next: Option<Time>,
}

impl Attempts {
    /// `count` attempts, of which the first may begin at once.
    pub(super) fn new(count: usize, delay: Option<Duration>) -> Attempts {
        Attempts {
            count,
            delay,
            begun: 0,
            next: Some(Time::ZERO),
        }
    }

    /// The attempt to begin now, if its time has come; to be asked again until there is none.
    pub(super) fn begin(&mut self, now: Time) -> Option<usize> {
        self.next_at().filter(|next| *next <= now)?;
        let attempt = self.begun;
        self.begun += 1;
        self.next = self.delay.map(|delay| now + delay);
        Some(attempt)
    }

    /// When the next attempt is to begin; `None` when there is none, or it waits for a failure.
    pub(super) fn next_at(&self) -> Option<Time> {
        self.next.filter(|_| self.begun < self.count)
    }

    /// An attempt has failed.
    pub(super) fn failed(&mut self, attempt: usize) {
        if attempt + 1 == self.begun {
            self.next = Some(Time::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::address::Family;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    const DELAY: Duration = Duration::from_millis(250);

    fn at(milliseconds: u64) -> Time {
        Time::ZERO + Duration::from_millis(milliseconds)
    }

    #[test]
    fn without_a_delay_each_waits_for_the_one_before_it() {
        let mut attempts = Attempts::new(3, None);
        for attempt in 0..3 {
            assert_eq!(attempts.begin(at(0)), Some(attempt));
            assert_eq!(
                (attempts.begin(Time::MAX), attempts.next_at()),
                (None, None)
            );
            attempts.failed(attempt);
        }
        assert_eq!(
            (attempts.begin(Time::MAX), attempts.next_at()),
            (None, None)
        );
    }

    #[test]
    fn a_delay_begins_the_next_beside_the_others() {
        let mut attempts = Attempts::new(2, Some(DELAY));
        assert_eq!(attempts.begin(at(100)), Some(0));
        assert_eq!(attempts.next_at(), Some(at(350)));
        assert_eq!(attempts.begin(at(349)), None);
        assert_eq!(attempts.begin(at(350)), Some(1));
        assert_eq!(
            (attempts.begin(Time::MAX), attempts.next_at()),
            (None, None)
        );
    }

    #[test]
    fn a_delay_counts_from_the_beginning_of_the_attempt_before() {
        let mut attempts = Attempts::new(3, Some(DELAY));
        assert_eq!(attempts.begin(at(0)), Some(0));
        attempts.failed(0);
        assert_eq!(attempts.begin(at(10)), Some(1));
        assert_eq!(attempts.next_at(), Some(at(260)));
    }

    #[test]
    fn an_older_attempt_that_fails_changes_nothing() {
        let mut attempts = Attempts::new(3, Some(DELAY));
        assert_eq!(attempts.begin(at(0)), Some(0));
        assert_eq!(attempts.begin(at(250)), Some(1));
        attempts.failed(0);
        assert_eq!(
            (attempts.begin(at(300)), attempts.next_at()),
            (None, Some(at(500)))
        );
        attempts.failed(1);
        assert_eq!(attempts.begin(at(300)), Some(2));
    }

    #[test]
    fn no_delay_at_all_begins_them_together() {
        let mut attempts = Attempts::new(3, Some(Duration::ZERO));
        let begun: Vec<_> = std::iter::from_fn(|| attempts.begin(at(7))).collect();
        assert_eq!(begun, [0, 1, 2]);
    }

    #[test]
    fn a_delay_may_be_longer_than_time() {
        let mut attempts = Attempts::new(2, Some(Duration::MAX));
        assert_eq!(attempts.begin(at(1)), Some(0));
        assert_eq!(attempts.next_at(), Some(Time::MAX));
    }

    proptest! {
        /// Time passes and attempts fail, in any order: they begin in order and each once, never
        /// before their reason, and never after it.
        #[test]
        fn each_begins_for_a_reason_and_in_order(
            count in 0_usize..8,
            delay in prop::option::of(0_u64..20),
            happens in prop::collection::vec((0_u64..10, prop::option::of(0_usize..8)), 0..60),
        ) {
            let mut attempts = Attempts::new(count, delay.map(Duration::from_millis));
            let mut begun: Vec<u64> = Vec::new();
            let mut failed = [false; 8];
            let mut now = 0;
            for (passes, fails) in happens {
                while let Some(attempt) = attempts.begin(at(now)) {
                    prop_assert_eq!(attempt, begun.len());
                    let last_failed = attempt == 0 || failed[attempt - 1];
                    let over = begun.last().zip(delay).is_some_and(|(last, delay)| now >= last + delay);
                    prop_assert!(last_failed || over);
                    begun.push(now);
                }
                if let Some(last) = begun.len().checked_sub(1) && begun.len() < count {
                    prop_assert!(!failed[last]);
                    let due = delay.map(|delay| at(begun[last] + delay));
                    prop_assert_eq!(attempts.next_at(), due);
                    prop_assert!(due.is_none_or(|due| due > at(now)));
                }
                if let Some(attempt) = fails.filter(|attempt| *attempt < begun.len())
                    && !failed[attempt]
                {
                    failed[attempt] = true;
                    attempts.failed(attempt);
                }
                now += passes;
            }
        }

        /// Nothing is lost, each family keeps its order, and as long as there are several they
        /// take turns.
        #[test]
        fn families_take_turns(six in prop::collection::vec(any::<bool>(), 0..12), first in 0_usize..5) {
            let given: Vec<_> = six.iter().zip(1..).map(|(six, port)| endpoint(*six, port)).collect();
            let turns = interleave(given.clone(), first);
            for family in [Family::INET, Family::INET6] {
                let of = |all: &[Endpoint]| -> Vec<_> {
                    all.iter().filter(|it| it.family == family).cloned().collect()
                };
                prop_assert_eq!(of(&turns), of(&given));
            }
            prop_assert_eq!(turns.len(), given.len());
            let count = |family| given.iter().filter(|it| it.family == family).count();
            if let Some(preferred) = given.first().map(|it| it.family) {
                let ahead = first.max(1).min(count(preferred));
                prop_assert!(turns[..ahead].iter().all(|it| it.family == preferred));
                let others = given.len() - count(preferred);
                let turning = 2 * others.min(count(preferred) - ahead);
                for pair in turns[ahead..ahead + turning].windows(2) {
                    prop_assert_ne!(pair[0].family, pair[1].family);
                }
            }
        }
    }

    fn endpoint(six: bool, port: u16) -> Endpoint {
        let address = if six {
            SocketAddr::from((Ipv6Addr::LOCALHOST, port))
        } else {
            SocketAddr::from((Ipv4Addr::LOCALHOST, port))
        };
        Endpoint {
            family: if six { Family::INET6 } else { Family::INET },
            kind: libc::SOCK_STREAM,
            protocol: libc::IPPROTO_TCP,
            address: address.into(),
        }
    }

    #[test]
    fn more_of_the_first_family_may_come_first() {
        let given = [(true, 1), (true, 2), (true, 3), (false, 4), (false, 5)];
        let order = |first| -> Vec<u16> {
            let given = given.map(|(six, port)| endpoint(six, port)).into();
            let turns = interleave(given, first);
            turns.iter().filter_map(|it| it.address.port()).collect()
        };
        assert_eq!(order(0), [1, 4, 2, 5, 3]);
        assert_eq!(order(1), [1, 4, 2, 5, 3]);
        assert_eq!(order(2), [1, 2, 4, 3, 5]);
        assert_eq!(order(9), [1, 2, 3, 4, 5]);
    }
}
