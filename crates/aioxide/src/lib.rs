//! Python's asyncio networking system, in Rust.
pub mod endpoints;
pub mod event_loop;
pub mod protocols;
pub mod reactor;
pub mod server;
pub mod sock;
pub mod sys;
pub mod transports;
