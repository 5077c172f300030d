//! System calls as safe functions.
//!
//! Everything here is stateless or owns exactly one kernel object. Nothing here knows of an event
//! loop. `unsafe` stands in this module alone, and rustix does most of the work.
//!
//! | file | what |
//! |---|---|
//! | [`clock`] | the monotonic clock |
//! | [`address`] | socket addresses of every family |
//! | [`buffer`] | memory that a receive writes to |
//! | [`socket`] | opening, naming, connecting and moving bytes |
//! | [`socket_file`] | the files of Unix sockets |
//! | [`datagrams`] | many datagrams in one call |
//! | [`mod@file`] | pipes, terminals, files to send |
//! | [`process`] | when a child process ends |
//! | [`epoll`] | the readiness queue |
//! | [`eventfd`] | waking a sleeping loop from another thread |
//! | [`names`] | getaddrinfo and getnameinfo (they block) |
//! | [`signals`] | a pipe that tells of signals |
//! | [`cores`] | which cores a thread may run on |

pub mod address;
pub mod buffer;
pub mod clock;
pub mod cores;
pub mod datagrams;
pub mod epoll;
pub mod eventfd;
pub mod file;
pub mod names;
pub mod process;
pub mod signals;
pub mod socket;
pub mod socket_file;

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

/// Lends a descriptor number to one system call.
///
/// # Errors
/// `EBADF` for a negative number: the one value that must not become a [`BorrowedFd`].
pub(crate) fn borrow<'fd>(fd: RawFd) -> io::Result<BorrowedFd<'fd>> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the number is not -1. It may name a descriptor that is closed, or has been closed
    // and opened anew, when a caller of add_reader or sock_recv passes a stale one: the kernel
    // then answers EBADF or works on the other object, as it does for the same call from C.
    // No memory safety rests on a descriptor: rustix passes the number on and keeps nothing.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}
