//! What programs and peers do wrong. The loop goes on, and nothing is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod exhaustion;
mod leftovers;
mod panics;
mod peers;
