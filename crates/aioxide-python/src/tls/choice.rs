//! Which session the connections of this process get.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

use super::openssl::{self, Library};

/// Whether the program wants the portable session.
static WANTS_PORTABLE: AtomicBool = AtomicBool::new(false);

/// OpenSSL, where the fast session can be used.
///
/// # Errors
/// Why not.
pub fn fast(py: Python<'_>) -> Result<&'static Library, &'static str> {
    if WANTS_PORTABLE.load(Ordering::Relaxed) {
        return Err("AIOXIDE_TLS_SESSION says so");
    }
    openssl::library(py)
}

/// Lets new connections have the portable session, or no longer.
#[pyfunction]
pub fn _use_portable_tls(wanted: bool) {
    WANTS_PORTABLE.store(wanted, Ordering::Relaxed);
}

/// Why new connections get the portable session; `None` when they get the fast one.
#[pyfunction]
pub fn _why_portable_tls(py: Python<'_>) -> Option<&'static str> {
    fast(py).err()
}
