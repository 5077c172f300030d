//! The loop itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod callbacks;
mod life;
mod readers;
mod threads;
mod timers;
