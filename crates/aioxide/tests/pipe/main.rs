//! The transport over one end of a pipe.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod ends;
mod reading;
mod writing;
