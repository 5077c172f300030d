//! Layer 1: `sock_recv` and its like.
//!
//! Each method tries at once and gives the result, or else a future of it; the coroutine around it
//! is in Python. Connecting and accepting are tried there too, by the socket's own methods: they
//! know the addresses of every family. The engine only waits for them.

use std::io::{self, IoSlice};
use std::os::fd::RawFd;

use aioxide::reactor::Op;
use aioxide::sys::address::Family;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::convert::{View, address_for};
use crate::errors::from_io;
use crate::event_loop::Loop;
use crate::host::PyEventLoop;
use crate::receive::{self, Failed};

/// A socket of the program's, or a file, for the length of an operation.
pub struct Target {
    socket: Py<PyAny>,
    fd: RawFd,
    /// Whether it is a byte stream: what is left over of a receive stays in the socket.
    is_stream: bool,
}

impl Target {
    pub fn of(socket: &Bound<'_, PyAny>) -> PyResult<Target> {
        let py = socket.py();
        let kind = socket
            .getattr(intern!(py, "type"))
            .and_then(|kind| kind.extract::<i32>());
        Ok(Target {
            fd: fileno(socket)?,
            is_stream: kind.is_ok_and(|kind| kind == libc::SOCK_STREAM),
            socket: socket.clone().unbind(),
        })
    }

    /// The number that the descriptor had in the beginning.
    pub fn number(&self) -> RawFd {
        self.fd
    }

    /// The descriptor, as long as it is this socket's: the program may close the socket while an
    /// operation waits, and the number becomes another's.
    pub fn fd(&self, py: Python<'_>) -> io::Result<RawFd> {
        match fileno(self.socket.bind(py)) {
            Ok(fd) if fd == self.fd => Ok(fd),
            _ => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }
}

fn fileno(socket: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    socket
        .call_method0(intern!(socket.py(), "fileno"))?
        .extract()
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Receives up to `count` bytes. A message is received whole or cut to `count`, as the kernel
/// does it: its size is not asked for first, because another may come in between.
fn recv<'py>(
    py: Python<'py>,
    engine: &PyEventLoop,
    target: &Target,
    count: usize,
) -> Result<Bound<'py, PyBytes>, Failed> {
    let reactor = engine.reactor();
    let fd = target.fd(py).map_err(Failed::Socket)?;
    if count < receive::DIRECTLY {
        receive::exactly(py, count, |buffer| reactor.receive(fd, buffer))
    } else if target.is_stream {
        receive::directly(py, reactor.receivable(fd), count, |buffer| {
            reactor.receive(fd, buffer)
        })
    } else {
        engine.with_receive_buffer(count, |buffer| match reactor.receive(fd, buffer) {
            Ok(_) => Ok(PyBytes::new(py, buffer.bytes())),
            Err(error) => Err(Failed::Socket(error)),
        })
    }
}

/// An attempt's result for the engine: what is not of the socket is kept apart.
fn split<T>(result: Result<T, Failed>) -> io::Result<PyResult<T>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Failed::Memory(error)) => Ok(Err(error)),
        Err(Failed::Socket(error)) => Err(error),
    }
}

#[pymethods]
impl Loop {
    /// Up to `count` bytes, or a future of them.
    fn _sock_recv<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        count: isize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let count = usize::try_from(count)
            .map_err(|_| PyValueError::new_err("negative buffersize in recv"))?;
        let engine = slf.get().engine(py);
        let target = Target::of(sock)?;
        match recv(py, engine, &target, count) {
            Err(Failed::Socket(error)) if would_block(&error) => {}
            received => return Ok(received?.into_any()),
        }
        slf.get().check_number_free(py, target.fd)?;
        let engine = engine.clone();
        Loop::future(slf, async move {
            let received = engine
                .attempt(target.fd, Op::Receive, || {
                    Python::attach(|py| split(recv(py, &engine, &target, count).map(Bound::unbind)))
                })
                .await;
            Ok(received.map_err(from_io)??.into_any())
        })
    }

    /// How many bytes were received into `buf`, or a future of it.
    fn _sock_recv_into<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        buf: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let engine = slf.get().engine(py);
        let target = Target::of(sock)?;
        let view = View::writable(buf)?;
        match engine.reactor().receive(target.fd, &mut view.memory(py)) {
            Ok(count) => return Ok(count.into_pyobject(py)?.into_any()),
            Err(error) if would_block(&error) => {}
            Err(error) => return Err(from_io(error)),
        }
        slf.get().check_number_free(py, target.fd)?;
        let engine = engine.clone();
        Loop::future(slf, async move {
            let receive = || {
                Python::attach(|py| {
                    let fd = target.fd(py)?;
                    engine.reactor().receive(fd, &mut view.memory(py))
                })
            };
            let count = engine
                .attempt(target.fd, Op::Receive, receive)
                .await
                .map_err(from_io)?;
            Python::attach(|py| Ok(count.into_pyobject(py)?.into_any().unbind()))
        })
    }

    /// `None` when all of `data` was sent, or a future of it.
    fn _sock_sendall<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        data: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let engine = slf.get().engine(py).clone();
        let target = Target::of(sock)?;
        let fd = target.fd;
        let view = View::of(data)?;
        // An empty send is made too: it finds a connection that is broken.
        let send = move |engine: &PyEventLoop, sent: usize| {
            Python::attach(|py| {
                let left = view.bytes(py).get(sent..).unwrap_or_default();
                let count = engine
                    .reactor()
                    .send(target.fd(py)?, &[IoSlice::new(left)])?;
                Ok((count, left.len() - count))
            })
        };
        let mut sent = match send(&engine, 0) {
            Ok((_, 0)) => return Ok(py.None().into_bound(py)),
            Ok((count, _)) => count,
            Err(error) if would_block(&error) => 0,
            Err(error) => return Err(from_io(error)),
        };
        slf.get().check_number_free(py, fd)?;
        Loop::future(slf, async move {
            loop {
                let attempt = engine.attempt(fd, Op::Send, || send(&engine, sent));
                let (count, left) = attempt.await.map_err(from_io)?;
                sent += count;
                if left == 0 {
                    return Ok(Python::attach(|py| py.None()));
                }
            }
        })
    }

    /// A future of a connect to a Unix socket whose listener had no room.
    fn _sock_connect_unix<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        path: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let target = Target::of(sock)?;
        let address = address_for(Family::UNIX, path, "connect")?;
        slf.get().check_number_free(py, target.fd)?;
        let engine = slf.get().engine(py).clone();
        Loop::future(slf, async move {
            let connect =
                || Python::attach(|py| engine.reactor().connect(target.fd(py)?, &address));
            engine
                .attempt_at_intervals(connect)
                .await
                .map_err(from_io)?;
            Ok(Python::attach(|py| py.None()))
        })
    }

    /// A future that is done when `sock` can be read, or written.
    fn _sock_ready<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        for_writing: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let fd = fileno(sock)?;
        slf.get().check_number_free(py, fd)?;
        let engine = slf.get().engine(py).clone();
        let op = if for_writing {
            Op::PollWrite
        } else {
            Op::PollRead
        };
        Loop::future(slf, async move {
            engine.wait_until_ready(fd, op).await.map_err(from_io)?;
            Ok(Python::attach(|py| py.None()))
        })
    }
}

impl Loop {
    /// Refuses a descriptor that a transport uses, by its number.
    pub fn check_number_free(&self, py: Python<'_>, fd: RawFd) -> PyResult<()> {
        self.check_free(py, fd, &fd.into_pyobject(py)?.into_any())
    }
}
