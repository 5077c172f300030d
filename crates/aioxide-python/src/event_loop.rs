//! The loop: callbacks, timers, readers, and the way to the engine.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use aioxide::event_loop::EventLoop;
use aioxide::reactor::Side;
use aioxide::reactor::epoll::EpollReactor;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyTuple};

use crate::call::Call;
use crate::convert;
use crate::errors::{from_io, loop_is_closed};
use crate::exit::hang_at_exit;
use crate::gil::{OnGil, Own, from_drop};
use crate::handles::{Handle, TimerHandle};
use crate::host::{PyEventLoop, PyHost};
use crate::protocol::PyProtocol;
use crate::quick::new_future;
use crate::recycled;
use crate::server::Callbacks;

/// The base of `aioxide.Loop`: what of it the engine does. The class in Python adds what asyncio
/// does in Python: coroutines around operations, checks of arguments, tasks, the executor.
#[pyclass(
    frozen,
    subclass,
    weakref,
    module = "aioxide._aioxide",
    name = "BaseLoop"
)]
pub struct Loop {
    engine: OnGil<PyEventLoop>,
    /// The objects that readers and writers were added with, other than numbers: a program may
    /// take them back by the object after it was closed, when its number is not known any more.
    files: OnGil<RefCell<HashMap<RawFd, Py<PyAny>>>>,
}

impl Loop {
    #[inline]
    pub fn engine<'py>(&'py self, py: Python<'py>) -> &'py PyEventLoop {
        self.engine.get(py)
    }

    pub fn check_closed(&self, py: Python<'_>) -> PyResult<()> {
        if self.engine(py).is_closed() {
            Err(loop_is_closed())
        } else {
            Ok(())
        }
    }

    /// Debug mode's checks of what is queued, done by the Python side of the class.
    fn check_callback(
        slf: &Bound<'_, Loop>,
        callback: &Bound<'_, PyAny>,
        method: &str,
        from_this_thread: bool,
    ) -> PyResult<()> {
        let py = slf.py();
        slf.get().check_closed(py)?;
        if slf.get().engine(py).debug() {
            hang_at_exit();
            if from_this_thread {
                slf.call_method0(intern!(py, "_check_thread"))?;
            }
            slf.call_method1(intern!(py, "_check_callback"), (callback, method))?;
        }
        Ok(())
    }

    /// Makes a handle, and queues it.
    #[inline(always)]
    pub fn queue<'py>(
        slf: &Bound<'py, Loop>,
        handle: impl FnOnce() -> Handle,
    ) -> PyResult<Bound<'py, Handle>> {
        let engine = slf.get().engine(slf.py());
        let handle = recycled::quick(slf.py(), handle)?;
        if !engine.is_running() {
            recycled::show(&handle);
        }
        engine.queue(Own::new(handle.clone()));
        Ok(handle)
    }

    fn add_poll(
        slf: &Bound<'_, Loop>,
        file: &Bound<'_, PyAny>,
        side: Side,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.check_closed(py)?;
        let fd = this.free_descriptor(py, file)?;
        let handle = Handle::new(slf, Call::new(callback, args), None)?;
        let handle = Own::new(recycled::new(py, handle)?);
        this.engine(py)
            .add_poll(fd, side, handle)
            .map_err(from_io)?;
        if !file.is_instance_of::<PyInt>() {
            let files = this.files.get(py);
            let before = files.borrow_mut().insert(fd, file.clone().unbind());
            drop(before);
        }
        Ok(())
    }

    fn remove_poll(&self, py: Python<'_>, file: &Bound<'_, PyAny>, side: Side) -> PyResult<bool> {
        if self.engine(py).is_closed() {
            return Ok(false);
        }
        let fd = match (self.free_descriptor(py, file), self.closed_file(py, file)) {
            (Ok(fd), _) | (Err(_), Some(fd)) => fd,
            (Err(error), None) => return Err(error),
        };
        let removed = self.engine(py).remove_poll(fd, side);
        if !self.engine(py).has_poll(fd) {
            let file = self.files.get(py).borrow_mut().remove(&fd);
            drop(file);
        }
        Ok(removed)
    }

    /// The descriptor that `file` had when a reader or writer was added with it.
    fn closed_file(&self, py: Python<'_>, file: &Bound<'_, PyAny>) -> Option<RawFd> {
        let files = self.files.get(py).borrow();
        let (fd, _) = files.iter().find(|(_, added)| added.is(file))?;
        Some(*fd)
    }

    /// The descriptor of `file`, which no transport uses.
    fn free_descriptor(&self, py: Python<'_>, file: &Bound<'_, PyAny>) -> PyResult<RawFd> {
        let fd = convert::descriptor(file)?;
        self.check_free(py, fd, file)?;
        Ok(fd)
    }

    /// Refuses a descriptor that a transport uses; `file` is what the program calls it.
    pub fn check_free(&self, py: Python<'_>, fd: RawFd, file: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(transport) = self.engine(py).transport_using(fd) else {
            return Ok(());
        };
        let transport = crate::transport::describe(py, &transport)?;
        let file = file.repr()?;
        let message = format!("File descriptor {file} is used by transport {transport}");
        Err(PyRuntimeError::new_err(message))
    }
}

#[pymethods]
impl Loop {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Loop> {
        hang_at_exit();
        let reactor = EpollReactor::new().map_err(from_io)?;
        let engine = EventLoop::with_host(PyHost::new(), Rc::new(reactor));
        Ok(Loop {
            engine: OnGil::new(engine),
            files: OnGil::new(RefCell::default()),
        })
    }

    /// Raises if the loop was closed.
    #[pyo3(name = "_check_closed")]
    fn py_check_closed(&self, py: Python<'_>) -> PyResult<()> {
        self.check_closed(py)
    }

    /// Ties the engine to its object; called once, by `__init__`.
    fn _bind(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().engine(slf.py()).host().belongs_to(slf)
    }

    /// Runs until `stop()`.
    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        hang_at_exit();
        slf.get()
            .engine(slf.py())
            .run_forever()
            .map_err(|error| error.0)
    }

    /// Stops the loop at the end of this iteration.
    fn stop(&self, py: Python<'_>) {
        self.engine(py).stop();
    }

    /// Drops what is queued and closes what the engine holds.
    fn _close(&self, py: Python<'_>) -> PyResult<()> {
        self.engine(py)
            .close()
            .map_err(|_| PyRuntimeError::new_err("Cannot close a running event loop"))?;
        // A closed loop keeps no socket of the program's.
        let files = self.files.get(py).take();
        drop(files);
        Ok(())
    }

    /// Whether the loop runs now.
    fn is_running(&self, py: Python<'_>) -> bool {
        self.engine(py).is_running()
    }

    /// Whether it was closed.
    fn is_closed(&self, py: Python<'_>) -> bool {
        self.engine(py).is_closed()
    }

    /// Seconds on the loop's clock: `time.monotonic()`.
    pub fn time(&self, py: Python<'_>) -> f64 {
        self.engine(py).now().as_secs_f64()
    }

    /// Says whether the loop's object has a `time()` of its own: timers go by that then, or by that of its
    /// class.
    fn _use_own_clock(slf: &Bound<'_, Self>, own: bool) {
        let host = slf.get().engine(slf.py()).host();
        host.use_own_clock(own || !host.class_has_our_clock(slf));
    }

    /// Queues a callback.
    #[pyo3(signature = (callback, *args, context = None))]
    fn call_soon<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Handle>> {
        Loop::check_callback(slf, &callback, "call_soon", true)?;
        let handle = Handle::new(slf, Call::new(callback, args), context)?;
        Loop::queue(slf, || handle)
    }

    /// Queues a callback from any thread.
    #[pyo3(signature = (callback, *args, context = None))]
    fn call_soon_threadsafe<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Handle>> {
        hang_at_exit();
        Loop::check_callback(slf, &callback, "call_soon_threadsafe", false)?;
        let handle = Handle::threadsafe(slf, Call::new(callback, args), context)?;
        let handle = Loop::queue(slf, || handle)?;
        slf.get().engine(slf.py()).wake();
        Ok(handle)
    }

    /// Queues a callback for `delay` seconds from now.
    #[pyo3(signature = (delay, callback, *args, context = None))]
    fn call_later<'py>(
        slf: &Bound<'py, Self>,
        delay: &Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, TimerHandle>> {
        if delay.is_none() {
            return Err(PyTypeError::new_err("delay must not be None"));
        }
        let when = time_after(slf, delay)?;
        Loop::check_callback(slf, &callback, "call_at", true)?;
        queue_timer(
            slf,
            when,
            Handle::new(slf, Call::new(callback, args), context)?,
        )
    }

    /// Queues a callback for the time `when` on the loop's clock.
    #[pyo3(signature = (when, callback, *args, context = None))]
    fn call_at<'py>(
        slf: &Bound<'py, Self>,
        when: &Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, TimerHandle>> {
        if when.is_none() {
            return Err(PyTypeError::new_err("when cannot be None"));
        }
        Loop::check_callback(slf, &callback, "call_at", true)?;
        let when = When::new(when)?;
        queue_timer(
            slf,
            when,
            Handle::new(slf, Call::new(callback, args), context)?,
        )
    }

    /// A handle that stands in no queue.
    #[pyo3(signature = (callback, *args))]
    fn _make_handle<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, Handle>> {
        recycled::new(slf.py(), Handle::new(slf, Call::new(callback, args), None)?)
    }

    /// Queues a handle. It may stand in the queue several times, and is called as often.
    fn _queue(&self, handle: Bound<'_, Handle>) {
        self.engine(handle.py()).queue(Own::new(handle));
    }

    /// Makes a task. The usual call is in `quick.rs`; this is every other.
    #[pyo3(
        signature = (coro, **kwargs),
        text_signature = "($self, coro, *, name=None, context=None, **kwargs)"
    )]
    fn create_task<'py>(
        slf: &Bound<'py, Self>,
        coro: &Bound<'py, PyAny>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.call_method(intern!(slf.py(), "_create_task"), (coro,), kwargs)
    }

    /// Says whether the program has given the loop a factory for tasks.
    fn _use_task_factory(&self, py: Python<'_>, uses: bool) {
        self.engine(py).host().use_task_factory(uses);
    }

    /// A future of this loop.
    fn create_future<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        new_future(slf)
    }

    /// Calls `callback` whenever `fd` can be read.
    #[pyo3(signature = (fd, callback, *args))]
    fn add_reader<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        Loop::add_poll(slf, fd, Side::Read, callback, args)
    }

    /// Takes a reader back; whether there was one.
    fn remove_reader(&self, py: Python<'_>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.remove_poll(py, fd, Side::Read)
    }

    /// Calls `callback` whenever `fd` can be written.
    #[pyo3(signature = (fd, callback, *args))]
    fn add_writer<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        Loop::add_poll(slf, fd, Side::Write, callback, args)
    }

    /// Takes a writer back; whether there was one.
    fn remove_writer(&self, py: Python<'_>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.remove_poll(py, fd, Side::Write)
    }

    /// Whether the loop is in debug mode.
    fn get_debug(&self, py: Python<'_>) -> bool {
        self.engine(py).debug()
    }

    /// Turns debug mode on or off.
    fn _set_debug(&self, py: Python<'_>, enabled: bool) {
        self.engine(py).set_debug(enabled);
    }

    /// Seconds that a callback may take before debug mode calls it slow.
    #[getter]
    fn slow_callback_duration(&self, py: Python<'_>) -> f64 {
        self.engine(py).slow_callback_duration().as_secs_f64()
    }

    #[setter]
    fn set_slow_callback_duration(&self, py: Python<'_>, seconds: f64) {
        let duration = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        self.engine(py).set_slow_callback_duration(duration);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        let mut note = |visited: Result<(), PyTraverseError>| {
            if result.is_ok() {
                result = visited;
            }
        };
        let engine = self.engine.visit();
        // Nothing of a running loop is garbage, and some of it is not shown: see `recycled.rs`.
        if engine.is_running() {
            return Ok(());
        }
        engine.visit_callbacks(|handle| note(visit.call(&**handle)));
        engine.visit_operations(|operation| note(visit.call(operation)));
        engine.visit_users(&mut |owned| {
            if let Some(protocol) = owned.downcast_ref::<PyProtocol>() {
                note(protocol.visit_held_face(&visit));
            } else if let Some(callbacks) = owned.downcast_ref::<Callbacks>() {
                note(callbacks.traverse(&visit));
            }
        });
        engine
            .host()
            .visit_waiting(|future| note(visit.call(future)));
        let known = &engine.host().known_sockets;
        known.visit(|socket| note(visit.call(socket)));
        if let Ok(files) = self.files.visit().try_borrow() {
            files.values().for_each(|file| note(visit.call(file)));
        }
        result
    }

    fn __clear__(&self, py: Python<'_>) {
        // A loop that runs is not garbage.
        let _ = self.engine(py).close();
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Transports and servers refer to the engine: only closing breaks those circles.
        let engine = self.engine.get_mut();
        from_drop(|_py| {
            let _ = engine.close();
        });
    }
}

/// `loop.time() + delay`.
pub fn time_after<'py>(
    event_loop: &Bound<'py, Loop>,
    delay: &Bound<'py, PyAny>,
) -> PyResult<When<'py>> {
    let py = event_loop.py();
    let engine = event_loop.get().engine(py);
    let number = delay.is_exact_instance_of::<PyFloat>() || delay.is_exact_instance_of::<PyInt>();
    if number
        && engine.host().has_our_clock(event_loop)
        && let Ok(seconds) = delay.extract::<f64>()
    {
        return Ok(When {
            seconds: engine.now().as_secs_f64() + seconds,
            given: None,
        });
    }
    // Through the object, as asyncio does: a subclass may have its own clock.
    When::new(&event_loop.call_method0(intern!(py, "time"))?.add(delay)?)
}

/// A deadline, in seconds.
pub struct When<'py> {
    seconds: f64,
    /// The object that the program gave, where it is more than a number.
    given: Option<Bound<'py, PyAny>>,
}

impl<'py> When<'py> {
    #[inline]
    pub fn new(given: &Bound<'py, PyAny>) -> PyResult<When<'py>> {
        if let Ok(seconds) = given.cast_exact::<PyFloat>() {
            let seconds = seconds.value();
            return Ok(When {
                seconds,
                given: None,
            });
        }
        Ok(When {
            seconds: given.extract()?,
            given: Some(given.clone()),
        })
    }
}

/// Queues the handle of a timer.
#[inline]
pub fn queue_timer<'py>(
    event_loop: &Bound<'py, Loop>,
    when: When<'py>,
    handle: Handle,
) -> PyResult<Bound<'py, TimerHandle>> {
    let py = event_loop.py();
    let deadline = convert::time(when.seconds)?;
    let timer = TimerHandle::new(when.given.map(Bound::unbind), when.seconds);
    let engine = event_loop.get().engine(py);
    let handle = recycled::unseen(py, PyClassInitializer::from(handle).add_subclass(timer))?;
    if engine.is_running() {
        engine.host().timers_unseen();
    } else {
        recycled::show(&handle);
    }
    let callback = Own::new(handle.as_super().clone());
    handle
        .get()
        .set_timer(py, engine.queue_at(deadline, callback));
    Ok(handle)
}
