//! Layer 1: `sock_recv` and its like.
//!
//! Each method tries at once and gives the result, or else what waits for it; the coroutine around it
//! is in Python. Connecting and accepting are tried there too, by the socket's own methods: they
//! know the addresses of every family. The engine only waits for them.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::RawFd;

use aioxide::reactor::Op;
use aioxide::sys::address::Family;
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyWeakrefReference};

use crate::convert::{View, address_for};
use crate::errors::from_io;
use crate::event_loop::Loop;
use crate::host::PyEventLoop;
use crate::imports;
use crate::operation::Operation;
use crate::receive::{self, Failed};

/// A socket of the program's, or a file, for the length of an operation.
pub struct Target {
    socket: Py<PyAny>,
    fd: RawFd,
}

impl Target {
    pub fn of(socket: &Bound<'_, PyAny>) -> PyResult<Target> {
        Ok(Target {
            fd: fileno(socket)?,
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

/// The sockets on which operations have waited, by descriptor.
///
/// # Facts
///
/// While nobody waits for a descriptor, the engine keeps what it has told the kernel of it
/// (`Reactor::submit_once`). Meanwhile the program may close the socket, and open another that gets
/// the same number. It does so through other objects: an object of the class `socket.socket` itself
/// has one file from its birth to its close.
///
/// # The choice
///
/// A descriptor is known when the same object, of that class, asks for it again. The reference is
/// weak: a socket that the program forgets is closed as ever.
///
/// # What it costs
///
/// A weak reference for each socket. A program that puts another file under the number of a live
/// socket object, with `os.dup2`, and waits on it through that object, may wait in vain.
#[derive(Default)]
pub struct KnownSockets(RefCell<Vec<Option<Known>>>);

struct Known {
    socket: Py<PyWeakrefReference>,
    /// Whether it is a byte stream: what is left over of a receive stays in the socket.
    is_stream: bool,
    /// Whether the last receive has brought much; see [`receive::DIRECTLY`].
    receives_much: Cell<bool>,
}

impl KnownSockets {
    /// What `ask` says of `target`, if it is known.
    fn with<R>(&self, target: &Target, py: Python<'_>, ask: impl FnOnce(&Known) -> R) -> Option<R> {
        let sockets = self.0.borrow();
        let known = sockets.get(usize::try_from(target.fd).ok()?)?.as_ref()?;
        let socket = known.socket.bind(py).upgrade()?;
        socket.is(&target.socket).then(|| ask(known))
    }

    /// Whether `target` was known; it is from now on, if it can be.
    fn meet(&self, target: &Target, py: Python<'_>) -> bool {
        if self.with(target, py, |_| ()).is_some() {
            return true;
        }
        let socket = target.socket.bind(py);
        let known = if is_plain_socket(socket) {
            let kind = socket
                .getattr(intern!(py, "type"))
                .and_then(|kind| kind.extract::<i32>());
            let weak = PyWeakrefReference::new(socket);
            weak.ok().map(|weak| Known {
                socket: weak.unbind(),
                is_stream: kind.is_ok_and(|kind| kind == libc::SOCK_STREAM),
                receives_much: Cell::new(false),
            })
        } else {
            None
        };
        let Ok(index) = usize::try_from(target.fd) else {
            return false;
        };
        let before = {
            let mut sockets = self.0.borrow_mut();
            if index >= sockets.len() {
                sockets.resize_with(index + 1, || None);
            }
            mem::replace(&mut sockets[index], known)
        };
        drop(before);
        false
    }

    /// For the garbage collector.
    pub fn visit(&self, visit: impl FnMut(&Py<PyWeakrefReference>)) {
        if let Ok(sockets) = self.0.try_borrow() {
            let known = sockets.iter().flatten();
            known.map(|known| &known.socket).for_each(visit);
        }
    }
}

/// Whether it is of the class `socket.socket` itself.
fn is_plain_socket(socket: &Bound<'_, PyAny>) -> bool {
    imports::socket(socket.py()).is_ok_and(|class| socket.get_type().is(class))
}

/// Receives up to `count` bytes. A message is received whole or cut to `count`, as the kernel
/// does it: its size is not asked for first, because another may come in between.
fn recv(
    py: Python<'_>,
    engine: &PyEventLoop,
    target: &Target,
    count: usize,
) -> Result<Py<PyAny>, Failed> {
    let fd = target.fd;
    let reactor = engine.reactor();
    let known = &engine.host().known_sockets;
    let expects_much = known.with(target, py, |known| {
        known.is_stream && known.receives_much.get()
    });
    if expects_much == Some(true) {
        let waiting = reactor.receivable(fd).unwrap_or_default().min(count);
        if waiting >= receive::DIRECTLY {
            let received = receive::exactly(py, waiting, |buffer| reactor.receive(fd, buffer))?;
            return Ok(received.into_any().unbind());
        }
    }
    let received = engine.with_receive_buffer(count, |buffer| {
        reactor.receive(fd, buffer).map_err(Failed::Socket)?;
        Ok::<_, Failed>(PyBytes::new(py, buffer.bytes()))
    })?;
    let much = received.as_bytes().len() >= receive::DIRECTLY;
    if expects_much.is_some_and(|expected| expected != much) {
        known.with(target, py, |known| known.receives_much.set(much));
    }
    Ok(received.into_any().unbind())
}

/// What an operation attempts, again and again until it does not block.
pub struct Attempt {
    target: Target,
    what: What,
}

enum What {
    /// Up to so many bytes.
    Receive(usize),
    ReceiveInto(View),
    /// All of it; so much is sent.
    SendAll(View, usize),
}

/// How an attempt has ended.
pub enum Attempted {
    Done(PyResult<Py<PyAny>>),
    /// `known` is what `Reactor::submit_once` is to be told.
    WouldBlock {
        known: bool,
    },
}

impl Attempt {
    pub fn fd(&self) -> RawFd {
        self.target.fd
    }

    /// For the garbage collector.
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.target.socket)?;
        match &self.what {
            What::Receive(_) => Ok(()),
            What::ReceiveInto(view) | What::SendAll(view, _) => visit.call(view.object()),
        }
    }

    pub fn op(&self) -> Op {
        match self.what {
            What::Receive(_) | What::ReceiveInto(_) => Op::Receive,
            What::SendAll(..) => Op::Send,
        }
    }

    /// Makes the attempt again, unless the program has closed the socket meanwhile.
    pub fn make_again(&mut self, py: Python<'_>, engine: &PyEventLoop) -> Attempted {
        match self.target.fd(py) {
            Ok(_) => self.make(py, engine),
            Err(error) => Attempted::Done(Err(from_io(error))),
        }
    }

    /// Makes the attempt, with the number that the socket has just said.
    pub fn make(&mut self, py: Python<'_>, engine: &PyEventLoop) -> Attempted {
        let target = &self.target;
        let done = match &mut self.what {
            What::Receive(count) => recv(py, engine, target, *count),
            What::ReceiveInto(view) => engine
                .reactor()
                .receive(target.fd, &mut view.memory(py))
                .map_err(Failed::Socket)
                .and_then(|count| {
                    Ok(count
                        .into_pyobject(py)
                        .map_err(PyErr::from)?
                        .into_any()
                        .unbind())
                }),
            What::SendAll(view, sent) => {
                let left = view.bytes(py).get(*sent..).unwrap_or_default();
                match engine.reactor().send(target.fd, &[IoSlice::new(left)]) {
                    Ok(count) if *sent + count < view.len() => {
                        *sent += count;
                        // The kernel has not said that it has no room for the rest.
                        engine.host().known_sockets.meet(target, py);
                        return Attempted::WouldBlock { known: false };
                    }
                    Ok(_) => Ok(py.None()),
                    Err(error) => Err(Failed::Socket(error)),
                }
            }
        };
        match done {
            Err(Failed::Socket(error)) if would_block(&error) => Attempted::WouldBlock {
                known: engine.host().known_sockets.meet(target, py),
            },
            done => Attempted::Done(done.map_err(PyErr::from)),
        }
    }
}

#[pymethods]
impl Loop {
    /// Up to `count` bytes, or an awaitable of them.
    fn _sock_recv<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        count: isize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let target = Loop::target(slf, sock)?;
        let count = usize::try_from(count)
            .map_err(|_| PyValueError::new_err("negative buffersize in recv"))?;
        let what = What::Receive(count);
        Operation::begin(slf, Attempt { target, what })
    }

    /// How many bytes were received into `buf`, or an awaitable of it.
    fn _sock_recv_into<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        buf: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let target = Loop::target(slf, sock)?;
        let what = What::ReceiveInto(View::writable(buf)?);
        Operation::begin(slf, Attempt { target, what })
    }

    /// `None` when all of `data` was sent, or an awaitable of it.
    fn _sock_sendall<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        data: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let target = Loop::target(slf, sock)?;
        // An empty send is made too: it finds a connection that is broken.
        let what = What::SendAll(View::of(data)?, 0);
        Operation::begin(slf, Attempt { target, what })
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
    /// The socket of an operation. What is no plain socket may be one that asyncio refuses; in debug
    /// mode any may.
    fn target(slf: &Bound<'_, Loop>, sock: &Bound<'_, PyAny>) -> PyResult<Target> {
        let py = slf.py();
        if slf.get().engine(py).debug() || !is_plain_socket(sock) {
            slf.call_method1(intern!(py, "_check_socket"), (sock,))?;
        }
        Target::of(sock)
    }

    /// Refuses a descriptor that a transport uses, by its number.
    pub fn check_number_free(&self, py: Python<'_>, fd: RawFd) -> PyResult<()> {
        self.check_free(py, fd, &fd.into_pyobject(py)?.into_any())
    }
}
