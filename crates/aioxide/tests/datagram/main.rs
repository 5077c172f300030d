//! The transport of datagrams.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod errors;
mod life;
mod receiving;
mod sending;
