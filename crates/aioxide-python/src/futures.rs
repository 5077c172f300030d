//! Engine operations as `asyncio` futures.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use aioxide::event_loop::task::Task;
use pyo3::intern;
use pyo3::prelude::*;

use crate::event_loop::Loop;
use crate::gil::OnGil;
use crate::host::{PyEventLoop, PyHost};

impl Loop {
    /// Runs an operation of the engine; the returned `asyncio.Future` gets its result. Cancelling
    /// the future drops the operation.
    pub fn future<'py, F>(slf: &Bound<'py, Loop>, operation: F) -> PyResult<Bound<'py, PyAny>>
    where
        F: Future<Output = PyResult<Py<PyAny>>> + 'static,
    {
        let py = slf.py();
        slf.get().check_closed(py)?;
        let future = slf.call_method0(intern!(py, "create_future"))?;
        let waiting = Waiting::new(slf.get().engine(py), future.clone().unbind());
        let task = slf.get().engine(py).spawn(async move {
            let mut operation = pin!(operation);
            // An operation moves when it is polled, and only then: what it has won for a future
            // that was cancelled meanwhile (a connection, say) would be lost.
            let result = poll_fn(|cx| {
                if Python::attach(|py| waiting.is_done(py)) {
                    return Poll::Ready(None);
                }
                operation.as_mut().poll(cx).map(Some)
            })
            .await;
            if let Some(result) = result {
                Python::attach(|py| waiting.settle(py, result));
            }
        });
        let cancel = Canceller {
            task: OnGil::new(task),
        };
        future.call_method1(intern!(py, "add_done_callback"), (Py::new(py, cancel)?,))?;
        Ok(future)
    }
}

impl Loop {
    /// A future of `None`, and what makes it done, or failed.
    pub fn settled_later<'py>(
        slf: &Bound<'py, Loop>,
    ) -> PyResult<(Bound<'py, PyAny>, impl FnOnce(PyResult<()>) + use<>)> {
        let py = slf.py();
        slf.get().check_closed(py)?;
        let future = slf.call_method0(intern!(py, "create_future"))?;
        let waiting = Waiting::new(slf.get().engine(py), future.clone().unbind());
        let settle = move |result: PyResult<()>| {
            Python::attach(|py| {
                if !waiting.is_done(py) {
                    waiting.settle(py, result.map(|()| py.None()));
                }
            });
        };
        Ok((future, settle))
    }

    /// A future of `None` that is done when the operation is.
    pub fn done_when<'py>(
        slf: &Bound<'py, Loop>,
        operation: impl Future<Output = ()> + 'static,
    ) -> PyResult<Bound<'py, PyAny>> {
        Loop::future(slf, async move {
            operation.await;
            Ok(Python::attach(|py| py.None()))
        })
    }
}

/// The future of an operation that is under way, as the operation knows it.
struct Waiting {
    engine: PyEventLoop,
    key: usize,
}

impl Waiting {
    fn new(engine: &PyEventLoop, future: Py<PyAny>) -> Waiting {
        let key = engine.host().keep_waiting(future);
        Waiting {
            engine: engine.clone(),
            key,
        }
    }

    fn is_done(&self, py: Python<'_>) -> bool {
        let Some(future) = self.engine.host().waiting(py, self.key) else {
            return true;
        };
        let done = future.call_method0(intern!(py, "done"));
        done.and_then(|done| done.is_truthy()).unwrap_or(true)
    }

    /// Gives the future its result.
    fn settle(&self, py: Python<'_>, result: PyResult<Py<PyAny>>) {
        let Some(future) = self.engine.host().waiting(py, self.key) else {
            return;
        };
        let settled = match result {
            Ok(value) => future.call_method1(intern!(py, "set_result"), (value,)),
            Err(error) => {
                future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))
            }
        };
        if let Err(error) = settled {
            error.write_unraisable(py, Some(&future));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.engine.host().stop_waiting(self.key);
    }
}

/// The done callback that drops the operation of a cancelled future.
#[pyclass(frozen, module = "aioxide")]
struct Canceller {
    task: OnGil<Task<(), PyHost>>,
}

#[pymethods]
impl Canceller {
    fn __call__(&self, py: Python<'_>, _future: &Bound<'_, PyAny>) {
        self.task.get(py).cancel();
    }
}
