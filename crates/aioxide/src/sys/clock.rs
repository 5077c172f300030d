//! The monotonic clock.

use std::ops::{Add, Sub};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in time: nanoseconds on the clock of the reactor.
///
/// On the kernel's back-ends this is `CLOCK_MONOTONIC`, the clock of Python's `time.monotonic()`;
/// on the simulated one it is virtual and starts at zero. 2^64 ns are 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The clock's zero.
    pub const ZERO: Time = Time(0);
    /// Later than every deadline.
    pub const MAX: Time = Time(u64::MAX);

    /// The point `nanoseconds` after the clock's zero.
    #[must_use]
    pub const fn from_nanos(nanoseconds: u64) -> Time {
        Time(nanoseconds)
    }

    /// The first point that is not before `seconds`: rounded up, so that a deadline made of a
    /// float is never early. NaN and negative values give zero, values out of range the maximum.
    #[must_use]
    pub fn from_secs_f64_ceil(seconds: f64) -> Time {
        // A float-to-integer `as` saturates and maps NaN to zero.
        Time((seconds * 1e9).ceil() as u64)
    }

    /// Nanoseconds since the clock's zero.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds since the clock's zero, as CPython's `time.monotonic()` computes them.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        if self.0.is_multiple_of(1_000_000_000) {
            (self.0 / 1_000_000_000) as f64
        } else {
            self.0 as f64 / 1e9
        }
    }

    /// How long from `self` until `later`; zero when `later` is past.
    #[must_use]
    pub const fn until(self, later: Time) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, delay: Duration) -> Time {
        let nanoseconds = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanoseconds))
    }
}

impl Sub for Time {
    type Output = Duration;

    fn sub(self, earlier: Time) -> Duration {
        earlier.until(self)
    }
}

/// What `CLOCK_MONOTONIC` says now.
#[must_use]
pub fn now() -> Time {
    let now = clock_gettime(ClockId::Monotonic);
    Time(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_made_of_a_float_is_never_early() {
        assert_eq!(Time::from_secs_f64_ceil(1e-10), Time::from_nanos(1));
        assert_eq!(Time::from_secs_f64_ceil(-1.0), Time::ZERO);
        assert_eq!(Time::from_secs_f64_ceil(f64::NAN), Time::ZERO);
        assert_eq!(Time::from_secs_f64_ceil(f64::INFINITY), Time::MAX);
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time::MAX + Duration::from_secs(1), Time::MAX);
        assert_eq!(
            Time::ZERO.until(Time::from_nanos(5)),
            Duration::from_nanos(5)
        );
        assert_eq!(Time::from_nanos(5).until(Time::ZERO), Duration::ZERO);
    }
}
