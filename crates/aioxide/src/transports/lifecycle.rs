//! The life of a stream transport. Pure: no socket and no clock; the only copy of these rules.
//!
//! ```text
//!          close(), output left                 output sent
//!  Open ────────────────────────▶ Draining ─────────────────────┐
//!   │                                │ abort(), error           │
//!   │ close(), no output left        ▼                          ▼
//!   └─────────────────────────────▶ Losing ──(the loop)──▶ Lost: connection_lost was called,
//!     abort(), error                                            the socket is closed
//! ```
//!
//! `connection_lost` is called once, by the loop, never inside `close()` or `abort()`.

/// Where a transport stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Data flows both ways, as far as each side wants it.
    #[default]
    Open,
    /// `close()` was called: what is buffered is being sent; nothing is received.
    Draining,
    /// `connection_lost` is queued: nothing is sent or received any more.
    Losing,
    /// `connection_lost` was called.
    Lost,
}

/// What follows from a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// Stop receiving; the rest of the output is sent first.
    StopReceiving,
    /// Stop receiving and sending, and queue `connection_lost`.
    Lose,
}

/// Which ways bytes can go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// A socket's.
    #[default]
    Both,
    /// The reading end of a pipe.
    ReadOnly,
    /// The writing end of a pipe. It has no half of its own to end: `write_eof()` is `close()`.
    WriteOnly,
}

impl Direction {
    /// Whether bytes can be received.
    #[must_use]
    pub fn reads(self) -> bool {
        self != Direction::WriteOnly
    }

    /// Whether bytes can be sent.
    #[must_use]
    pub fn writes(self) -> bool {
        self != Direction::ReadOnly
    }
}

/// The state of a transport's life and of its two directions.
#[derive(Clone, Copy, Debug, Default)]
pub struct LifeCycle {
    direction: Direction,
    phase: Phase,
    /// `pause_reading()` holds.
    reading_paused: bool,
    /// The peer's end was received: there is nothing more to receive.
    eof_received: bool,
    /// `write_eof()` was called: the end follows what is buffered.
    eof_written: bool,
}

impl LifeCycle {
    /// The life of a transport whose bytes go these ways.
    #[must_use]
    pub fn of(direction: Direction) -> LifeCycle {
        LifeCycle {
            direction,
            ..LifeCycle::default()
        }
    }

    /// `close()`.
    #[must_use]
    pub fn close(&mut self, output_left: bool) -> Next {
        match (self.phase, output_left) {
            (Phase::Open, true) => {
                self.phase = Phase::Draining;
                Next::StopReceiving
            }
            (Phase::Open, false) => {
                self.phase = Phase::Losing;
                Next::Lose
            }
            (Phase::Draining | Phase::Losing | Phase::Lost, _) => Next::Nothing,
        }
    }

    /// `abort()`, or an error.
    #[must_use]
    pub fn fail(&mut self) -> Next {
        match self.phase {
            Phase::Open | Phase::Draining => {
                self.phase = Phase::Losing;
                Next::Lose
            }
            Phase::Losing | Phase::Lost => Next::Nothing,
        }
    }

    /// The last of the output was sent.
    #[must_use]
    pub fn drained(&mut self) -> Next {
        match self.phase {
            Phase::Draining => {
                self.phase = Phase::Losing;
                Next::Lose
            }
            Phase::Open | Phase::Losing | Phase::Lost => Next::Nothing,
        }
    }

    /// `connection_lost` is being called.
    pub fn lost(&mut self) {
        self.phase = Phase::Lost;
    }

    /// `pause_reading()`; false when it changes nothing.
    pub fn pause_reading(&mut self) -> bool {
        let pauses = self.is_reading();
        self.reading_paused |= pauses;
        pauses
    }

    /// `resume_reading()`; false when it changes nothing.
    pub fn resume_reading(&mut self) -> bool {
        let resumes = self.phase == Phase::Open && self.reading_paused;
        self.reading_paused &= !resumes;
        resumes
    }

    /// The peer's end was received.
    pub fn eof_received(&mut self) {
        self.eof_received = true;
    }

    /// Whether the peer's end was received.
    #[must_use]
    pub fn is_eof_received(&self) -> bool {
        self.eof_received
    }

    /// `write_eof()`; false when it changes nothing.
    pub fn write_eof(&mut self) -> bool {
        let ends = self.phase == Phase::Open && !self.eof_written;
        self.eof_written |= ends;
        ends
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether `close()` or `abort()` was called, or the connection failed.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Which ways bytes can go.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether output is still being sent: while closing too, as long as there is some.
    #[must_use]
    pub fn sends(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Draining)
    }

    /// Whether what is written is still taken. A socket takes it as long as it sends; a pipe's end
    /// is final, as on CPython's loop.
    #[must_use]
    pub fn takes_output(&self) -> bool {
        match self.direction {
            Direction::Both => self.sends(),
            Direction::WriteOnly => self.phase == Phase::Open,
            Direction::ReadOnly => false,
        }
    }

    /// Whether the program wants what is received.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.phase == Phase::Open && !self.reading_paused && self.direction.reads()
    }

    /// Whether there is anything to receive, and it is wanted.
    #[must_use]
    pub fn receives(&self) -> bool {
        self.is_reading() && !self.eof_received
    }

    /// Whether `write_eof()` was called.
    #[must_use]
    pub fn is_eof_written(&self) -> bool {
        self.eof_written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Close(bool),
        Fail,
        Drained,
        Pause,
        Resume,
        WriteEof,
    }

    fn any_step() -> impl proptest::strategy::Strategy<Value = Step> {
        use proptest::prelude::*;
        prop_oneof![
            any::<bool>().prop_map(Step::Close),
            Just(Step::Fail),
            Just(Step::Drained),
            Just(Step::Pause),
            Just(Step::Resume),
            Just(Step::WriteEof),
        ]
    }

    #[test]
    fn close_waits_for_output() {
        let mut life = LifeCycle::default();
        assert_eq!(life.close(true), Next::StopReceiving);
        assert!(life.is_closing() && life.sends() && !life.is_reading());
        assert_eq!(life.close(true), Next::Nothing);
        assert_eq!(life.drained(), Next::Lose);
        assert!(!life.sends());
    }

    #[test]
    fn a_pipe_that_closes_takes_nothing_more_and_sends_what_it_has() {
        let mut life = LifeCycle::of(Direction::WriteOnly);
        assert!(life.takes_output() && !life.is_reading());
        assert_eq!(life.close(true), Next::StopReceiving);
        assert!(life.sends() && !life.takes_output());
    }

    #[test]
    fn abort_overtakes_close() {
        let mut life = LifeCycle::default();
        assert_eq!(life.close(true), Next::StopReceiving);
        assert_eq!(life.fail(), Next::Lose);
        assert_eq!(life.drained(), Next::Nothing);
    }

    #[test]
    fn an_end_received_is_not_received_again() {
        let mut life = LifeCycle::default();
        life.eof_received();
        assert!(life.pause_reading());
        assert!(life.resume_reading());
        assert!(life.is_reading() && !life.receives());
    }

    proptest::proptest! {
        #[test]
        fn connection_lost_is_queued_at_most_once(
            steps in proptest::collection::vec(any_step(), 0..50),
        ) {
            let mut life = LifeCycle::default();
            let mut losses = 0;
            for step in steps {
                let next = match step {
                    Step::Close(output_left) => life.close(output_left),
                    Step::Fail => life.fail(),
                    Step::Drained => life.drained(),
                    Step::Pause => { life.pause_reading(); Next::Nothing }
                    Step::Resume => { life.resume_reading(); Next::Nothing }
                    Step::WriteEof => { life.write_eof(); Next::Nothing }
                };
                losses += usize::from(next == Next::Lose);
                proptest::prop_assert!(!(life.is_closing() && life.is_reading()));
            }
            proptest::prop_assert!(losses <= 1);
            proptest::prop_assert_eq!(losses == 1, life.phase() == Phase::Losing);
        }
    }
}
