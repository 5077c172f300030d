//! Waking a simulated sleep from another thread.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::reactor::Waker;

/// A flag that can be slept on, in real time.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// Set by a wake, taken by the next wait: a wake that comes first is not lost.
    rung: Mutex<bool>,
    rings: Condvar,
}

impl Alarm {
    /// Takes a wake that has come.
    pub(super) fn take(&self) -> bool {
        std::mem::take(&mut *self.lock())
    }

    /// Sleeps until a wake, which is taken, or until `patience` is over.
    pub(super) fn sleep(&self, patience: Duration) -> bool {
        let waited = self
            .rings
            .wait_timeout_while(self.lock(), patience, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *rung)
    }

    /// A flag cannot be left half-written, so poison says nothing.
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waker for Alarm {
    fn wake(&self) {
        *self.lock() = true;
        self.rings.notify_all();
    }
}
