//! Running Python code in a `contextvars.Context`.
//!
//! # Facts
//!
//! Every callback has a copy of the context in which it was scheduled. A copy is an object of the garbage
//! collector's: with a thousand callbacks in the queue, the collector goes through a thousand copies. Most programs
//! set nothing in most of their contexts, one empty context is like another, and a callback is not given the very
//! object that it runs in.
//!
//! # What was chosen
//!
//! A callback that is scheduled in an empty context keeps none ([`Captured`]). It is lent an empty one while it runs,
//! and what it leaves something in, or what somebody has got hold of meanwhile, becomes its own. So do transports
//! (`protocol.rs`). Whether the current context is empty is read where the interpreter keeps it: its thread's
//! state has a pointer to it, and it has one to a map which, when empty, is the same for all. There is no call for
//! that, so where these pointers stand is measured ([`learn`]), and if that is not as thought, each
//! callback has its copy.
//!
//! # What it costs
//!
//! The code knows where the interpreter keeps its contexts. One empty context is kept for the process.

use std::cell::Cell;
use std::ptr;

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::call::Call;
use crate::errors::{Raised, apart};
use crate::gil::{OnGil, Own};

/// Where the interpreter keeps contexts.
struct Places {
    /// The current context in a thread's state, in words; 0 as long as that is not known.
    current: OnGil<Cell<usize>>,
    /// The map that empty contexts have. It lives as long as an empty context does, and [`learn`] keeps one.
    empty: OnGil<Cell<*const ()>>,
}

static PLACES: Places = Places {
    current: OnGil::new(Cell::new(0)),
    empty: OnGil::new(Cell::new(ptr::null())),
};

/// An empty context that nobody is in, for the next who needs one. It refers to nothing, so the garbage collector
/// need not see who refers to it.
static SPARE: OnGil<Cell<Option<Py<PyAny>>>> = OnGil::new(Cell::new(None));

/// Words of a thread's state among which the current context is looked for. The smallest, CPython 3.10's, has 35.
const STATE_WORDS: usize = 34;

/// Where a context has its map, in words: behind the head and the context that was entered before.
const MAP_AT: usize = 3;

/// Measures where the interpreter keeps contexts. Called once, with the module's beginning.
///
/// # Errors
/// What the interpreter has no memory for.
pub fn learn(py: Python<'_>) -> PyResult<()> {
    let (first, second) = (empty(py)?, empty(py)?);
    // SAFETY: the thread is attached, and its state has these words. Other threads may write to some of them.
    let state_words = || unsafe {
        let state = ffi::PyThreadState_Get().cast::<[usize; STATE_WORDS]>();
        state.read_volatile()
    };
    // SAFETY: the calls are given live objects of the classes that they want, and give new references, or null with
    // an exception. The thread's state is live and has these words; a context has a word for its map, or else its
    // class says that it is smaller.
    unsafe {
        let size = (*ffi::Py_TYPE(first.as_ptr())).tp_basicsize;
        if usize::try_from(size).unwrap_or(0) < (MAP_AT + 1) * size_of::<usize>() {
            return Ok(());
        }
        let map = map(&first);
        if map.is_null() || map != self::map(&second) {
            return Ok(());
        }
        let variable = ffi::PyContextVar_New(c"aioxide".as_ptr(), ptr::null_mut());
        let variable = Bound::from_owned_ptr_or_err(py, variable)?;
        let words = |inside: &Py<PyAny>| -> PyResult<[usize; STATE_WORDS]> {
            run(py, inside, || Ok(state_words()))
        };
        let in_first = words(&first)?;
        let in_second = run(py, &second, || {
            let token = ffi::PyContextVar_Set(variable.as_ptr(), variable.as_ptr());
            Bound::from_owned_ptr_or_err(py, token)?;
            Ok(state_words())
        })?;
        let outside = state_words();
        let (first_at, second_at) = (first.as_ptr().addr(), second.as_ptr().addr());
        let mut found = (1..STATE_WORDS).filter(|&at| in_first[at] == first_at);
        if let (Some(at), None) = (found.next(), found.next())
            && in_second[at] == second_at
            && ![first_at, second_at].contains(&outside[at])
            && self::map(&second) != map
        {
            PLACES.current.get(py).set(at);
            PLACES.empty.get(py).set(map);
        }
    }
    // It keeps the empty map.
    let _ = first.into_ptr();
    Ok(())
}

/// A context's map.
///
/// # Safety
/// It is a context.
#[inline]
unsafe fn map(context: &Py<PyAny>) -> *const () {
    // SAFETY: the caller's word, and `learn` has looked at the size.
    unsafe { context.as_ptr().cast::<*const ()>().add(MAP_AT).read() }
}

/// Whether the current context is known to be empty.
#[inline]
fn current_is_empty(py: Python<'_>) -> bool {
    let at = PLACES.current.get(py).get();
    if at == 0 {
        return false;
    }
    // SAFETY: the thread is attached, so its state is live; where that has the current context, if there is one, and
    // where a context has its map, has been measured.
    unsafe {
        let state = ffi::PyThreadState_Get().cast::<*const *const ()>();
        let current = state.add(at).read();
        current.is_null() || current.add(MAP_AT).read() == PLACES.empty.get(py).get()
    }
}

/// Whether a context is empty, and nobody but its owner has it.
#[inline]
fn may_be_lent(py: Python<'_>, context: &Py<PyAny>) -> bool {
    // SAFETY: the object is live.
    if unsafe { ffi::Py_REFCNT(context.as_ptr()) } != 1 {
        return false;
    }
    if PLACES.current.get(py).get() != 0 {
        // SAFETY: it is a context.
        return unsafe { map(context) } == PLACES.empty.get(py).get();
    }
    matches!(context.bind(py).len(), Ok(0))
}

/// A copy of the current context.
pub fn copy_current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the call gives a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }
}

/// A new context, in which nothing is set.
fn empty(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: as above.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New()) }.map(Bound::unbind)
}

/// A context in which nothing is set, for one callback.
#[inline]
pub fn lend(py: Python<'_>) -> PyResult<Py<PyAny>> {
    match SPARE.get(py).take() {
        Some(context) => Ok(context),
        None => empty(py),
    }
}

/// Keeps a context that nobody is in for the next, if it is empty and nobody else's; or else gives it back.
#[inline]
pub fn unless_empty(py: Python<'_>, context: Py<PyAny>) -> Option<Py<PyAny>> {
    if !may_be_lent(py, &context) {
        return Some(context);
    }
    let before = SPARE.get(py).replace(Some(context));
    drop(before);
    None
}

/// The context of a callback.
pub struct Captured {
    /// None for an empty one that nobody has asked for. Changes from and to that alone; not while it is entered.
    context: Cell<Option<Own<PyAny>>>,
}

impl Captured {
    /// The very context that was given, or a copy of the current one.
    #[inline(always)]
    pub fn new(py: Python<'_>, given: Option<Bound<'_, PyAny>>) -> PyResult<Captured> {
        match given {
            Some(context) => Ok(Captured::given(context)),
            None => Captured::current(py),
        }
    }

    /// A copy of the current context.
    #[inline]
    pub fn current(py: Python<'_>) -> PyResult<Captured> {
        if current_is_empty(py) {
            return Ok(Captured {
                context: Cell::new(None),
            });
        }
        copy_current(py).map(Captured::given)
    }

    /// The very context that was given.
    #[inline]
    pub fn given(context: Bound<'_, PyAny>) -> Captured {
        Captured {
            context: Cell::new(Some(Own::new(context))),
        }
    }

    #[inline]
    fn peek(&self) -> *mut ffi::PyObject {
        // SAFETY: this type stays on its thread, or in an `OnGil`, and the borrow ends here.
        unsafe { &*self.context.as_ptr() }
            .as_ref()
            .map_or(ptr::null_mut(), |context| context.as_ptr())
    }

    /// The context, for somebody who keeps it.
    pub fn object<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if self.peek().is_null() {
            self.context.set(Some(Own::new(empty(py)?.into_bound(py))));
        }
        // SAFETY: it is live, and the result is another reference to it.
        unsafe { Bound::from_borrowed_ptr_or_err(py, self.peek()) }
    }

    /// Makes a call in it.
    ///
    /// # Errors
    /// As [`inside`]; what the call raises.
    #[inline]
    pub fn call(&self, py: Python<'_>, call: &Call) -> Result<(), Raised> {
        let context = self.peek();
        if !context.is_null() {
            return inside(py, context, || call.call(py))?;
        }
        let context = Raised::of(py, lend(py))?.into_bound(py);
        let entered = context.as_ptr();
        // Whoever asks meanwhile is given this one.
        self.context.set(Some(Own::new(context)));
        let called = inside(py, entered, || call.call(py));
        apart(py, || self.take_back(py));
        called?
    }

    /// Keeps what was lent only if something is in it, or somebody has it.
    #[inline]
    fn take_back(&self, py: Python<'_>) {
        if let Some(context) = self.context.take()
            && let Some(context) = unless_empty(py, context.into_py())
        {
            self.context.set(Some(Own::new(context.into_bound(py))));
        }
    }

    /// For the garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: as in `peek`; the collector changes nothing.
        match unsafe { &*self.context.as_ptr() } {
            Some(context) => visit.call(&**context),
            None => Ok(()),
        }
    }
}

/// Runs `call` in `context`.
///
/// # Errors
/// `RuntimeError` when the context is entered already, as `Context.run` says; what `call` gives.
#[inline]
pub fn run<R>(
    py: Python<'_>,
    context: &Py<PyAny>,
    call: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    inside(py, context.as_ptr(), call).map_err(|raised| raised.fetch(py))?
}

/// The same for any result, which may be that an exception is set in the interpreter. The caller keeps the context.
///
/// # Errors
/// When the context could not be entered or left.
#[inline(always)]
pub fn inside<R>(
    py: Python<'_>,
    context: *mut ffi::PyObject,
    call: impl FnOnce() -> R,
) -> Result<R, Raised> {
    // SAFETY: the pointer is to a live object, and the call checks that it is a context.
    if unsafe { ffi::PyContext_Enter(context) } < 0 {
        return Err(Raised::is_set(py));
    }
    let result = call();
    // SAFETY: as above. An exception may be set: `Context.run` leaves its context in the same way.
    if unsafe { ffi::PyContext_Exit(context) } < 0 {
        return Err(Raised::is_set(py));
    }
    Ok(result)
}
