//! Child processes: real ones, on the kernel's network. (The simulated one has none.)

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod diary;
mod life;
mod order;
mod pipes;
mod streams;
