//! The Python host: how callbacks written in Python are run.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use aioxide::event_loop::EventLoop;
use aioxide::event_loop::host::{Host, Report, Slow};
use aioxide::sys::clock::Time;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyWeakrefReference};
use pyo3::{ffi, intern};
use slab::Slab;

use crate::convert::{self, KeptBytes};
use crate::errors::Exception;
use crate::event_loop::Loop;
use crate::gil::Own;
use crate::handles::Handle;
use crate::methods;
use crate::operation::Operation;
use crate::receive::{BytesRing, SpareBytes};
use crate::recycled;
use crate::sock::KnownSockets;
use crate::streams::version;
use crate::tls::TlsBuffers;

/// The engine, run by Python.
pub type PyEventLoop = EventLoop<PyHost>;

/// What the engine needs to know of Python.
pub struct PyHost {
    /// The Python object of the loop. Weak: it owns the engine.
    object: PyOnceLock<Py<PyWeakrefReference>>,
    /// What protocols are given small receives in.
    pub spare_bytes: SpareBytes,
    /// What streams' readers are given small receives in.
    pub bytes_ring: BytesRing,
    /// Which TLS connections keep their buffers.
    pub tls_buffers: Rc<TlsBuffers>,
    /// The sockets on which operations of the program's have waited.
    pub known_sockets: KnownSockets,
    /// The futures of operations that are under way: here, where the garbage collector sees them,
    /// and not in the operations.
    waiting: RefCell<Slab<Py<PyAny>>>,
    /// Whether the program has put a `time()` of its own in the place of the loop's.
    own_clock: Cell<bool>,
    /// The number of the loop's class when its `time()` was last found to be ours; 0 is none.
    class_with_our_clock: Cell<u32>,
    /// Whether a timer may wait that the garbage collector does not see.
    timers_unseen: Cell<bool>,
    /// Whether the program has given a factory for tasks.
    task_factory: Cell<bool>,
    /// The dictionary of keywords that futures and tasks are made with: one for all. It has the loop in it, and that
    /// is a circle which the garbage collector does not see. So it is kept while the loop runs, and is no garbage.
    kwargs: RefCell<Option<Py<PyDict>>>,
}

impl PyHost {
    pub fn new() -> PyHost {
        PyHost {
            object: PyOnceLock::new(),
            spare_bytes: SpareBytes::default(),
            bytes_ring: BytesRing::default(),
            tls_buffers: Rc::default(),
            known_sockets: KnownSockets::default(),
            waiting: RefCell::default(),
            own_clock: Cell::new(false),
            class_with_our_clock: Cell::new(0),
            timers_unseen: Cell::new(false),
            task_factory: Cell::new(false),
            kwargs: RefCell::default(),
        }
    }

    /// The token of the interpreter, for what the engine calls: whoever has a reference to the host holds the GIL.
    #[inline]
    pub fn python(&self) -> Python<'_> {
        // SAFETY: the host belongs to the engine, which stays on threads that are attached: it is reached through an
        // `OnGil`, which asks for a token, and lets go of the GIL in its sleep alone (`around_sleep`), which calls
        // nothing that would come here.
        unsafe { Python::assume_attached() }
    }

    /// Says which object the engine belongs to.
    pub fn belongs_to(&self, event_loop: &Bound<'_, Loop>) -> PyResult<()> {
        let weak = PyWeakrefReference::new(event_loop.as_any())?.unbind();
        // Said twice, the first one holds: it is the same object.
        let _ = self.object.set(event_loop.py(), weak);
        Ok(())
    }

    /// The loop's object, unless it is being freed.
    pub fn object<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Loop>> {
        let object = self.object.get(py)?.bind(py).upgrade()?;
        object.cast_into().ok()
    }

    /// Says whether the loop's object has a `time()` that is not the engine's.
    pub fn use_own_clock(&self, own: bool) {
        self.own_clock.set(own);
    }

    /// Whether the `time()` of the loop's object is the engine's, as far as its class says.
    pub fn class_has_our_clock(&self, event_loop: &Bound<'_, Loop>) -> bool {
        let class = event_loop.get_type();
        let known = self.class_with_our_clock.get();
        if known != 0 && known == version(&class) {
            return true;
        }
        let name = intern!(event_loop.py(), "time");
        let compiled = event_loop.py().get_type::<Loop>().getattr(name);
        let (Ok(found), Ok(compiled)) = (class.getattr(name), compiled) else {
            return false;
        };
        let ours = methods::are_same(&found, &compiled);
        let class = if ours { version(&class) } else { 0 };
        self.class_with_our_clock.set(class);
        ours
    }

    /// Whether the `time()` of the loop's object is the engine's.
    pub fn has_our_clock(&self, event_loop: &Bound<'_, Loop>) -> bool {
        !self.own_clock.get() && self.class_has_our_clock(event_loop)
    }

    /// Says whether the program has given a factory for tasks.
    pub fn use_task_factory(&self, uses: bool) {
        self.task_factory.set(uses);
    }

    /// Whether it has.
    #[inline]
    pub fn uses_task_factory(&self) -> bool {
        self.task_factory.get()
    }

    /// Makes a call with the loop as its only keyword.
    #[inline]
    pub fn with_loop<'py>(
        &self,
        event_loop: &Bound<'py, Loop>,
        call: impl FnOnce(&Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = event_loop.py();
        let kwargs = match self.kwargs.take() {
            Some(kwargs) => kwargs.into_bound(py),
            None => {
                let kwargs = PyDict::new(py);
                kwargs.set_item(intern!(py, "loop"), event_loop)?;
                kwargs
            }
        };
        let made = call(&kwargs);
        // SAFETY: the object is live.
        let ours_alone = unsafe { ffi::Py_REFCNT(kwargs.as_ptr()) } == 1 && kwargs.len() == 1;
        if ours_alone && event_loop.get().engine(py).is_running() {
            let before = self.kwargs.replace(Some(kwargs.unbind()));
            drop(before);
        }
        made
    }

    /// A timer waits that the garbage collector does not see.
    #[inline]
    pub fn timers_unseen(&self) {
        self.timers_unseen.set(true);
    }

    /// Keeps the future of an operation; the key is for [`waiting`](PyHost::waiting).
    pub fn keep_waiting(&self, future: Py<PyAny>) -> usize {
        self.waiting.borrow_mut().insert(future)
    }

    /// The future of an operation that is under way.
    pub fn waiting<'py>(&self, py: Python<'py>, key: usize) -> Option<Bound<'py, PyAny>> {
        let waiting = self.waiting.borrow();
        Some(waiting.get(key)?.bind(py).clone())
    }

    /// The operation is over, or was dropped.
    pub fn stop_waiting(&self, key: usize) {
        let future = self.waiting.borrow_mut().try_remove(key);
        drop(future);
    }

    /// For the garbage collector.
    pub fn visit_waiting(&self, visit: impl FnMut(&Py<PyAny>)) {
        if let Ok(waiting) = self.waiting.try_borrow() {
            waiting.iter().map(|(_, future)| future).for_each(visit);
        }
    }

    /// Calls the loop's exception handler.
    pub fn call_exception_handler(&self, context: &Bound<'_, PyDict>) {
        let py = context.py();
        let Some(event_loop) = self.object(py) else {
            return;
        };
        let called = event_loop.call_method1(intern!(py, "call_exception_handler"), (context,));
        if let Err(error) = called {
            // KeyboardInterrupt and SystemExit: the handler's own errors are reported by it.
            event_loop.get().engine(py).interrupt(Exception(error));
        }
    }
}

impl Host for PyHost {
    type Callback = Own<Handle>;
    type Payload = KeptBytes;
    type Operation = Py<Operation>;
    type Error = Exception;

    fn run(&self, callback: &Own<Handle>) -> Result<(), Exception> {
        let callback = callback.bind(self.python());
        let ran = Handle::run(callback);
        recycled::show_if_shared(callback);
        ran
    }

    fn run_last(&self, callback: Own<Handle>) -> Result<(), Exception> {
        Handle::run_last(self.python(), callback)
    }

    fn attempt(&self, operation: &Py<Operation>) -> Result<(), Exception> {
        Python::attach(|py| Operation::run(operation.bind(py)))
    }

    fn escapes(&self, error: &Exception) -> bool {
        Python::attach(|py| error.escapes(py))
    }

    fn same_error(&self, error: &Exception) -> Exception {
        Python::attach(|py| Exception(error.0.clone_ref(py)))
    }

    fn around_sleep(&self, sleep: &mut dyn FnMut()) {
        let _released = Released::begin();
        sleep();
    }

    fn interrupted(&self) -> Result<(), Exception> {
        Python::attach(|py| py.check_signals()).map_err(Exception)
    }

    fn time(&self) -> Result<Option<Time>, Exception> {
        if !self.own_clock.get() {
            return Ok(None);
        }
        Python::attach(|py| {
            let Some(event_loop) = self.object(py) else {
                return Ok(None);
            };
            let seconds = event_loop.call_method0(intern!(py, "time"))?.extract()?;
            convert::time(seconds).map(Some)
        })
        .map_err(Exception)
    }

    // asyncio's idea of the running loop is set by the Python side of the class.
    // Here the handles that wait are shown to the garbage collector when the loop stops.
    fn running(&self, event_loop: &PyEventLoop, running: bool) {
        if running {
            return;
        }
        Python::attach(|py| {
            let kwargs = self.kwargs.take();
            drop(kwargs);
            let show = |handle: &Own<Handle>| recycled::show(handle.bind(py));
            event_loop.visit_queue(show);
            if self.timers_unseen.replace(false) {
                event_loop.visit_timers(show);
            }
        });
    }

    fn report(&self, _event_loop: &PyEventLoop, report: Report<Exception>) {
        Python::attach(|py| {
            let context = PyDict::new(py);
            let message = match &report.subject {
                Some(subject) => format!("{} ({subject})", report.message),
                None => report.message.to_string(),
            };
            let mut filled = context.set_item("message", message);
            if let Some(error) = &report.error {
                filled = filled.and(context.set_item("exception", error.value(py)));
            }
            match filled {
                Ok(()) => self.call_exception_handler(&context),
                Err(error) => error.write_unraisable(py, None),
            }
        });
    }

    fn slow(&self, what: Slow<'_, PyHost>, took: Duration) {
        Python::attach(|py| {
            let Some(event_loop) = self.object(py) else {
                return;
            };
            let name = intern!(py, "_log_slow");
            let logged = match what {
                Slow::Callback(handle) => {
                    event_loop.call_method1(name, (&**handle, took.as_secs_f64()))
                }
                Slow::Step(step) => event_loop.call_method1(name, (step, took.as_secs_f64())),
            };
            if let Err(error) = logged {
                error.write_unraisable(py, Some(event_loop.as_any()));
            }
        });
    }
}

/// The GIL is released, until dropped.
struct Released(*mut ffi::PyThreadState);

impl Released {
    fn begin() -> Released {
        // SAFETY: the engine runs on a thread that is attached, and waits in one place alone, with
        // no borrow held and no Python object in its hands; the thread state is kept for `drop`.
        Released(unsafe { ffi::PyEval_SaveThread() })
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        // SAFETY: the state is the one that `begin` has saved, on this thread.
        unsafe { ffi::PyEval_RestoreThread(self.0) }
    }
}
