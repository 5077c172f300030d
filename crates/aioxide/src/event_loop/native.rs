//! The Rust host: callbacks are closures, errors are `io::Error`s, and a panic is an error like any
//! other. It is caught where a callback is called and goes to the exception handler, as an
//! exception does in Python; the loop goes on.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::EventLoop;
use super::host::{Host, Report, Slow};

/// The host of Rust programs.
#[derive(Default)]
pub struct Native {
    exception_handler: RefCell<Option<Rc<ExceptionHandler>>>,
}

/// What a program may set to be told of failures that nobody awaits.
pub type ExceptionHandler = dyn Fn(&EventLoop, &Report<io::Error>);

/// A callback that is called at most once: emptied by the call, or by its cancelling.
pub type OnceCallback = Cell<Option<Box<dyn FnOnce()>>>;

/// A callback of a Rust program.
#[derive(Clone)]
pub enum Callback {
    /// `call_soon`, `call_later`: called once, unless cancelled.
    Once(Rc<OnceCallback>),
    /// `add_reader`, `add_writer`: called again and again.
    Repeated(Rc<RefCell<dyn FnMut()>>),
}

thread_local! {
    /// The loop that runs on this thread.
    static RUNNING: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
}

impl EventLoop {
    /// The loop that runs on this thread: asyncio's `get_running_loop`.
    #[must_use]
    pub fn running() -> Option<EventLoop> {
        RUNNING.with_borrow(Clone::clone)
    }

    /// Sets who is told of failures that nobody awaits; `None` is the default, which logs them.
    ///
    /// `None` has to be told which type of handler it is none of:
    ///
    /// ```
    /// use aioxide::event_loop::EventLoop;
    /// use aioxide::event_loop::host::Report;
    ///
    /// let event_loop: EventLoop = EventLoop::new()?;
    /// event_loop.set_exception_handler(None::<fn(&EventLoop, &Report<std::io::Error>)>);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_exception_handler(
        &self,
        handler: Option<impl Fn(&EventLoop, &Report<io::Error>) + 'static>,
    ) {
        let handler = handler.map(|handler| Rc::new(handler) as Rc<ExceptionHandler>);
        let before = self.core.host.exception_handler.replace(handler);
        drop(before);
    }
}

impl Host for Native {
    type Callback = Callback;
    type Payload = Vec<u8>;
    /// What waits here is a task, through its waker.
    type Operation = Infallible;
    type Error = io::Error;

    fn run(&self, callback: &Callback) -> io::Result<()> {
        let ran = match callback {
            Callback::Once(once) => match once.take() {
                Some(call) => guard(call),
                None => Ok(()),
            },
            // Busy when a reader runs the loop that calls it: the inner call is passed over.
            Callback::Repeated(call) => match call.try_borrow_mut() {
                Ok(mut call) => guard(&mut *call),
                Err(_) => Ok(()),
            },
        };
        if let (Err(error), Some(event_loop)) = (ran, EventLoop::running()) {
            event_loop.report(Report {
                message: "Panic in a callback".into(),
                error: Some(error),
                subject: None,
            });
        }
        Ok(())
    }

    fn attempt(&self, operation: &Infallible) -> io::Result<()> {
        match *operation {}
    }

    fn escapes(&self, _error: &io::Error) -> bool {
        false
    }

    fn same_error(&self, error: &io::Error) -> io::Error {
        same_error(error)
    }

    fn around_sleep(&self, sleep: &mut dyn FnMut()) {
        sleep();
    }

    fn interrupted(&self) -> io::Result<()> {
        Ok(())
    }

    fn running(&self, event_loop: &EventLoop, running: bool) {
        RUNNING.set(running.then(|| event_loop.clone()));
    }

    /// A transport and its protocol refer to each other until the connection is lost, which now
    /// it never will be.
    fn closed(&self, event_loop: &EventLoop) {
        event_loop.abandon_users();
    }

    fn report(&self, event_loop: &EventLoop, report: Report<io::Error>) {
        let handler = self.exception_handler.borrow().clone();
        let Some(handler) = handler else {
            return log_report(&report);
        };
        if let Err(error) = guard(|| handler(event_loop, &report)) {
            log_report(&report);
            log::error!("the exception handler panicked: {error}");
        }
    }

    fn slow(&self, what: Slow<'_, Native>, took: Duration) {
        let what = match what {
            Slow::Callback(_) => "callback",
            Slow::Step(step) => step,
        };
        log::warn!("executing a {what} took {:.3} seconds", took.as_secs_f64());
    }
}

/// The default exception handler.
fn log_report(report: &Report<io::Error>) {
    let Report {
        message,
        error,
        subject,
    } = report;
    let subject = subject
        .as_deref()
        .map(|subject| format!(" ({subject})"))
        .unwrap_or_default();
    match error {
        Some(error) => log::error!("{message}{subject}: {error}"),
        None => log::error!("{message}{subject}"),
    }
}

/// Calls code of the program; a panic comes back as an error.
///
/// Unwind safety: what the engine lends to a callback is behind `Cell`s and `RefCell`s whose
/// borrows end with the unwinding, and each of its own states is set before the call.
pub(crate) fn guard<R>(call: impl FnOnce() -> R) -> io::Result<R> {
    panic::catch_unwind(AssertUnwindSafe(call))
        .map_err(|panic| io::Error::other(format!("panicked: {}", panic_message(&*panic))))
}

/// The same error again: `io::Error` has no clones, and a connection's failure is told more than
/// once.
pub(crate) fn same_error(error: &io::Error) -> io::Error {
    if let Some(code) = error.raw_os_error() {
        return io::Error::from_raw_os_error(code);
    }
    let inside = error.get_ref().and_then(|inside| inside.downcast_ref());
    match inside {
        Some(Shared(inside)) => io::Error::new(error.kind(), Shared(Arc::clone(inside))),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// An error whose copies ([`same_error`]) have its source too.
#[cfg(feature = "rustls")]
pub(crate) fn shared_error(
    kind: io::ErrorKind,
    error: impl Error + Send + Sync + 'static,
) -> io::Error {
    io::Error::new(kind, Shared(Arc::new(error)))
}

struct Shared(Arc<dyn Error + Send + Sync>);

impl Error for Shared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The text of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(message) = panic.downcast_ref::<&str>() {
        (*message).to_owned()
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message.clone()
    } else {
        "a value that is not a message".to_owned()
    }
}
