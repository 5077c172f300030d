//! The end of the interpreter, seen from a thread that it does not wait for.
//!
//! # Facts
//!
//! When the interpreter ends, daemon threads still run. Each of them goes on until it next asks for
//! the GIL: after our sleep, but as well in the middle of any Python code that we call, which hands
//! the GIL over every few milliseconds. Since Python 3.14 such a thread hangs there. Before, it ends
//! by `pthread_exit`, which in glibc unwinds the thread's stack, and that cannot pass the frames of
//! Rust that have called Python: the process aborts.
//!
//! # What follows
//!
//! The unwinding must not come as far as our frames. The C library calls a thread's cleanup handlers
//! on the way, and one that does not return makes the thread hang, just as Python 3.14 does. A handler
//! is called when the unwinding leaves the frame that has pushed it, which is later than the frames
//! that this one has called. glibc tells that by the address of the handler's record: one that lies
//! outside the stack counts as left at the first step. So a handler whose record is on the heap is
//! called before any frame is unwound. (musl unwinds nothing, and calls all handlers at once.)
//!
//! # What was chosen
//!
//! A thread that makes a loop, runs one or sends callbacks to one gets such a handler, once and until
//! it ends; so does one that debug mode checks. Other ways were to tell all loops with `atexit`, which does not reach a callback that runs
//! for longer than one is willing to wait, and to guard each call of Python by itself, as pyo3 does
//! where it takes the GIL.
//!
//! # What it costs
//!
//! An allocation for each of these threads, a look whether it was made for each run and each
//! `call_soon_threadsafe`, and nothing for each callback. Old binaries call `_pthread_cleanup_push`
//! where today's use a macro, and both C libraries keep it for them; the place of a record is not in
//! its contract, and `tests/test_exit.py` says whether it holds.

/// From now on this thread hangs when the interpreter, at its end, wants it to end.
#[cfg(not(Py_3_14))]
#[inline]
pub fn hang_at_exit() {
    // It fails in a thread whose variables are being freed: it is past what the handler is for.
    let _ = handler::OF_THIS_THREAD.try_with(|_| ());
}

/// Python sees to it.
#[cfg(Py_3_14)]
#[inline]
pub fn hang_at_exit() {}

#[cfg(not(Py_3_14))]
mod handler {
    use std::cell::UnsafeCell;
    use std::ffi::{c_int, c_void};
    use std::ptr::{self, NonNull};
    use std::thread;

    /// The C library's `struct _pthread_cleanup_buffer`, which it fills: four words in glibc, three in
    /// musl.
    type Record = UnsafeCell<[*mut c_void; 4]>;

    unsafe extern "C" {
        fn _pthread_cleanup_push(
            record: *mut Record,
            routine: extern "C" fn(*mut c_void),
            argument: *mut c_void,
        );
        fn _pthread_cleanup_pop(record: *mut Record, execute: c_int);

        /// Whether the interpreter ends. Public under this name since Python 3.13.
        #[cfg_attr(not(Py_3_13), link_name = "_Py_IsFinalizing")]
        fn Py_IsFinalizing() -> c_int;
    }

    thread_local! {
        /// Freed with the thread, after all handlers have been called.
        pub static OF_THIS_THREAD: Handler = Handler::push();
    }

    pub struct Handler(NonNull<Record>);

    impl Handler {
        fn push() -> Handler {
            let record = Box::new(UnsafeCell::new([ptr::null_mut(); 4]));
            let record = NonNull::from(Box::leak(record));
            // SAFETY: the memory is large enough, nobody else uses it, and it lives until it is popped.
            unsafe { _pthread_cleanup_push(record.as_ptr(), hang, ptr::null_mut()) };
            Handler(record)
        }
    }

    impl Drop for Handler {
        fn drop(&mut self) {
            // SAFETY: a thread's variables are freed on the thread itself, so the record is in this
            // thread's list or, if somebody has popped an older one, in none; it and what was pushed
            // later are taken out without being called. The memory is the box that `push` has leaked.
            unsafe {
                _pthread_cleanup_pop(self.0.as_ptr(), 0);
                drop(Box::from_raw(self.0.as_ptr()));
            }
        }
    }

    /// The handler. A thread of the program that ends by itself is none of its business. One that the
    /// interpreter ends holds no lock here, the GIL included: it was ended because it may not have it.
    extern "C" fn hang(_argument: *mut c_void) {
        // SAFETY: the call reads one pointer, and needs no thread state.
        if unsafe { Py_IsFinalizing() } == 0 {
            return;
        }
        loop {
            thread::park();
        }
    }
}
