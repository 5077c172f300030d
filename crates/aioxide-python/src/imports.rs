//! Everything that is imported from Python, once.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// Names one attribute of a module; imported when it is first used.
macro_rules! import {
    ($($(#[$doc:meta])* $name:ident = $module:literal . $attribute:literal : $kind:ty;)*) => {
        $(
            $(#[$doc])*
            pub fn $name(py: Python<'_>) -> PyResult<&Bound<'_, $kind>> {
                static CELL: PyOnceLock<Py<$kind>> = PyOnceLock::new();
                CELL.import(py, $module, $attribute)
            }
        )*
    };
}

import! {
    asyncio_handle = "asyncio"."Handle": PyType;
    /// Since Python 3.14.
    thread_safe_handle = "asyncio.events"."_ThreadSafeHandle": PyType;
    lock = "threading"."Lock": PyAny;
    asyncio_timer_handle = "asyncio"."TimerHandle": PyType;
    asyncio_task = "asyncio"."Task": PyType;
    /// The module: a program may put another class of tasks in it.
    asyncio_tasks = "asyncio"."tasks": PyAny;
    asyncio_future = "asyncio"."Future": PyType;
    /// The loop of this package.
    event_loop = "aioxide._loop"."Loop": PyType;
    asyncio_buffered_protocol = "asyncio"."BufferedProtocol": PyType;
    /// The classes of transports; each is over one of the compiled classes.
    socket_transport = "aioxide._transports"."SocketTransport": PyType;
    datagram_transport = "aioxide._transports"."DatagramTransport": PyType;
    read_pipe_transport = "aioxide._transports"."ReadPipeTransport": PyType;
    write_pipe_transport = "aioxide._transports"."WritePipeTransport": PyType;
    subprocess_transport = "aioxide._transports"."SubprocessTransport": PyType;
    sendfile_not_available = "asyncio.exceptions"."SendfileNotAvailableError": PyAny;
    /// How `loop.sendfile` treats a transport.
    sendfile_mode = "asyncio.constants"."_SendfileMode": PyAny;
    transport_socket = "asyncio.trsock"."TransportSocket": PyType;
    socket = "socket"."socket": PyType;
    gaierror = "socket"."gaierror": PyAny;
    getaddrinfo = "socket"."getaddrinfo": PyAny;
    address_family = "socket"."AddressFamily": PyType;
    extract_stack = "asyncio.format_helpers"."extract_stack": PyAny;
    current_frame = "sys"."_getframe": PyAny;
    tls_transport = "aioxide._transports"."SSLTransport": PyType;
    memory_bio = "ssl"."MemoryBIO": PyAny;
    ssl_error = "ssl"."SSLError": PyAny;
    ssl_object = "ssl"."SSLObject": PyAny;
    ssl_want_read = "ssl"."SSLWantReadError": PyAny;
    ssl_zero_return = "ssl"."SSLZeroReturnError": PyAny;
    logger = "asyncio.log"."logger": PyAny;
}
