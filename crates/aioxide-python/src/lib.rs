//! The Python face of aioxide: conversion and nothing else.
//!
//! What asyncio decides is decided by the engine; what is here turns Python's objects into the
//! engine's and back. One file for each Python class (`handles`; `event_loop` with `sock`,
//! `sendfile` and `endpoints`; `transport`, `datagram`, `tls`, `process`, `server`), one for each kind of
//! conversion (`imports`, `convert`, `errors`, `receive`, `socket`, `futures`, `operation`,
//! `awaiting`, `context`), what makes it
//! sound (`gil`, `exit`), what lets classes in Python stand over compiled ones (`seed`, `methods`), asyncio's streams
//! without their Python code (`streams`), and the two seams: `host` (how Python callbacks are run) and
//! `protocol` (how a Python protocol is called).

mod attributes;
mod awaiting;
mod call;
mod context;
mod convert;
mod datagram;
mod endpoints;
mod errors;
mod event_loop;
mod exit;
mod futures;
mod gil;
mod handles;
mod host;
mod imports;
mod iterating;
mod methods;
mod operation;
mod peers;
mod process;
mod protocol;
mod quick;
mod receive;
mod recycled;
mod seed;
mod sendfile;
mod server;
mod sock;
mod socket;
mod streams;
mod tls;
mod transport;
mod turn;
mod usual_calls;

use pyo3::prelude::*;

/// The compiled part of the package `aioxide`.
#[pymodule(gil_used = true)]
mod _aioxide {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::attributes::{_attributes, _watch_attributes};
    #[pymodule_export]
    use crate::datagram::DatagramTransport;
    #[pymodule_export]
    use crate::event_loop::Loop;
    #[pymodule_export]
    use crate::handles::{Handle, TimerHandle};
    #[pymodule_export]
    use crate::methods::_own_methods;
    #[pymodule_export]
    use crate::process::SubprocessTransport;
    use crate::recycled::Recycle;
    #[pymodule_export]
    use crate::server::PyServer;
    #[pymodule_export]
    use crate::socket::OpenSocket;
    #[pymodule_export]
    use crate::streams::{_makes_readers, _reader_buffer, _set_reader_buffer, _use_streams};
    #[pymodule_export]
    use crate::tls::TlsOptions;
    #[pymodule_export]
    use crate::tls::choice::{_use_portable_tls, _why_portable_tls};
    #[pymodule_export]
    use crate::transport::{
        PyTransport, ReadPipeTransport, SocketTransport, TlsTransport, WritePipeTransport,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::gil::check_interpreter(module.py())?;
        crate::context::learn(module.py())?;
        Handle::recycle(module.py());
        TimerHandle::recycle(module.py());
        crate::operation::Operation::recycle(module.py());
        crate::quick::install(&module.py().get_type::<Loop>())?;
        crate::quick::install_cancel(module.py())?;
        crate::usual_calls::install(module.py())?;
        Ok(())
    }

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// Whether the compiler knew, from counts, what a loop does often (`make profiled-wheel`).
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __profiled__: bool = cfg!(profiled);
}
