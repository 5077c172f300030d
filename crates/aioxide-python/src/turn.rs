//! Whose turn it is with a handle of `call_soon_threadsafe`.
//!
//! # Facts
//!
//! Since Python 3.14 asyncio's handle has a `threading.RLock`, which is held while the callback runs: who
//! cancels it in another thread knows, when `cancel()` returns, that the callback does not run any more.
//! Hardly any handle is ever cancelled while it runs, and to make a lock for each takes as long as the call.
//!
//! # What was chosen
//!
//! A handle knows which thread runs it. The GIL makes that enough, until somebody has to wait: he makes a
//! lock, leaves it with the handle, and waits for it; whoever has run the callback opens it.

use std::cell::{Cell, OnceCell, RefCell};

use pyo3::intern;
use pyo3::prelude::*;

use crate::gil::thread;
use crate::imports;

/// Which thread runs a callback, and who waits for the end of it.
#[derive(Default)]
pub struct Turn {
    /// The [number](thread) of the thread; 0 while it does not run.
    runs_on: Cell<usize>,
    /// Locks that their makers wait for. Emptied when `runs_on` becomes 0.
    waiting: OnceCell<Box<Waiting>>,
}

type Waiting = RefCell<Vec<Py<PyAny>>>;

impl Turn {
    /// Waits until no other thread has it.
    ///
    /// # Errors
    /// What a signal's handler has raised meanwhile.
    #[inline]
    pub fn wait(&self, py: Python<'_>) -> PyResult<()> {
        while self.runs_on.get() != 0 && self.runs_on.get() != thread(py) {
            self.wait_once(py)?;
        }
        Ok(())
    }

    #[cold]
    fn wait_once(&self, py: Python<'_>) -> PyResult<()> {
        let lock = imports::lock(py)?.call0()?;
        let acquire = lock.getattr(intern!(py, "acquire"))?;
        acquire.call0()?;
        // Making the lock may have let other threads run.
        if self.runs_on.get() == 0 {
            return Ok(());
        }
        let waiting = self.waiting.get_or_init(Box::default);
        waiting.borrow_mut().push(lock.unbind());
        acquire.call0().map(drop)
    }

    /// Takes it, for the time of `call`.
    ///
    /// # Errors
    /// As [`wait`](Turn::wait).
    #[inline]
    pub fn take<R>(&self, py: Python<'_>, call: impl FnOnce() -> R) -> PyResult<R> {
        self.wait(py)?;
        let before = self.runs_on.replace(thread(py));
        let result = call();
        self.runs_on.set(before);
        if before == 0
            && let Some(waiting) = self.waiting.get()
        {
            for lock in waiting.take() {
                lock.call_method0(py, intern!(py, "release"))?;
            }
        }
        Ok(result)
    }
}
