//! Flow control of the sending side: when a protocol is told to pause and to resume. Pure; the only
//! copy of these rules.
//!
//! ```text
//!            size > high                 size <= low
//! flowing ─────────────────▶ paused ─────────────────▶ flowing
//!          pause_writing()            resume_writing()
//! ```

use std::io;

/// The default high-water mark, in bytes: asyncio's 64 KiB.
pub const HIGH_WATER: usize = 64 * 1024;

/// A low-water mark that is not given is this fraction of the high one: asyncio's rule.
const LOW_FRACTION: usize = 4;

/// The water marks of a transport's write buffer, in bytes. Invariant: `low <= high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaterMarks {
    low: usize,
    high: usize,
}

impl Default for WaterMarks {
    fn default() -> Self {
        WaterMarks {
            low: HIGH_WATER / LOW_FRACTION,
            high: HIGH_WATER,
        }
    }
}

impl WaterMarks {
    /// Marks from what a program gives, asyncio's way: `high` alone makes `low` a quarter of it,
    /// `low` alone makes `high` four times it, neither gives 16 and 64 KiB.
    ///
    /// `None` unless `low <= high`.
    #[must_use]
    pub fn new(high: Option<usize>, low: Option<usize>) -> Option<WaterMarks> {
        let high = match (high, low) {
            (Some(high), _) => high,
            (None, Some(low)) => low.saturating_mul(LOW_FRACTION),
            (None, None) => HIGH_WATER,
        };
        let low = low.unwrap_or(high / LOW_FRACTION);
        (low <= high).then_some(WaterMarks { low, high })
    }

    /// [`new`](WaterMarks::new), with an error that says what is wrong.
    ///
    /// # Errors
    /// `InvalidInput` when the low mark is above the high one.
    pub fn checked(high: Option<usize>, low: Option<usize>) -> io::Result<WaterMarks> {
        WaterMarks::new(high, low).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the low-water mark {low:?} is above the high-water mark {high:?}"),
            )
        })
    }

    /// At or below this the protocol may write again.
    #[must_use]
    pub fn low(self) -> usize {
        self.low
    }

    /// Above this the protocol has to pause.
    #[must_use]
    pub fn high(self) -> usize {
        self.high
    }
}

/// What the protocol has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `pause_writing()`.
    Pause,
    /// `resume_writing()`.
    Resume,
}

/// The state of one transport's flow control.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowControl {
    marks: WaterMarks,
    paused: bool,
}

impl FlowControl {
    /// The state with these marks, which the protocol was told to pause for or not.
    #[must_use]
    pub fn of(marks: WaterMarks, paused: bool) -> FlowControl {
        FlowControl { marks, paused }
    }

    /// Changes the marks. [`buffered`](FlowControl::buffered) then says what follows from it.
    pub fn set_marks(&mut self, marks: WaterMarks) {
        self.marks = marks;
    }

    /// The buffer has grown to `size` bytes, or stands there under new marks.
    #[must_use]
    pub fn buffered(&mut self, size: usize) -> Option<Signal> {
        let pause = size > self.marks.high && !self.paused;
        self.paused |= pause;
        pause.then_some(Signal::Pause)
    }

    /// The buffer has shrunk to `size` bytes.
    #[must_use]
    pub fn drained(&mut self, size: usize) -> Option<Signal> {
        let resume = size <= self.marks.low && self.paused;
        self.paused &= !resume;
        resume.then_some(Signal::Resume)
    }

    /// The protocol was told to pause by somebody else, and is to be told to resume.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Whether the protocol was told to pause, and not yet to resume.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The marks.
    #[must_use]
    pub fn marks(&self) -> WaterMarks {
        self.marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(high: Option<usize>, low: Option<usize>) -> Option<(usize, usize)> {
        WaterMarks::new(high, low).map(|marks| (marks.low(), marks.high()))
    }

    #[test]
    fn marks_that_are_not_given_follow_asyncio() {
        assert_eq!(marks(None, None), Some((16 * 1024, 64 * 1024)));
        assert_eq!(marks(Some(1000), None), Some((250, 1000)));
        assert_eq!(marks(None, Some(1000)), Some((1000, 4000)));
        assert_eq!(marks(Some(0), None), Some((0, 0)));
        assert_eq!(marks(Some(10), Some(11)), None);
    }

    #[test]
    fn a_high_mark_of_zero_pauses_whenever_something_is_buffered() {
        let mut flow = FlowControl::default();
        flow.set_marks(WaterMarks { low: 0, high: 0 });
        assert_eq!(flow.buffered(0), None);
        assert_eq!(flow.buffered(1), Some(Signal::Pause));
        assert_eq!(flow.drained(0), Some(Signal::Resume));
    }

    proptest::proptest! {
        #[test]
        fn signals_alternate(sizes in proptest::collection::vec(0_usize..200_000, 1..200)) {
            let mut flow = FlowControl::default();
            let mut last = Some(Signal::Resume);
            for size in sizes {
                for signal in [flow.buffered(size), flow.drained(size)].into_iter().flatten() {
                    proptest::prop_assert_ne!(Some(signal), last);
                    last = Some(signal);
                }
            }
        }
    }
}
