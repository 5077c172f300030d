//! `SubprocessTransport`: the Python object of a child process.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;

use aioxide::process::{SubprocessTransport as Engine, return_code};
use aioxide::reactor::Socket;
use aioxide::sys::signals::Signal;
use aioxide::sys::socket::set_nonblocking;
use aioxide::transports::AnyTransport;
use pyo3::exceptions::{PyPermissionError, PyProcessLookupError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

use crate::errors::from_io;
use crate::event_loop::Loop;
use crate::gil::{OnGil, from_drop};
use crate::host::PyHost;
use crate::imports;
use crate::protocol::PyProtocol;
use crate::seed::Seed;
use crate::socket::from_python_file;
use crate::transport::{PyTransport, warn_unclosed};

/// A child process. Its object's own class is one in Python (`_transports.py`).
#[pyclass(frozen, subclass, weakref, module = "aioxide")]
pub struct SubprocessTransport {
    state: OnGil<State>,
}

struct State {
    transport: Engine<PyHost>,
    protocol: Rc<PyProtocol>,
    /// The `subprocess.Popen` that has started it.
    popen: Py<PyAny>,
    /// The transports of its pipes. They live as long as this one, paused or lost.
    pipes: [Option<Py<PyTransport>>; 3],
}

#[pymethods]
impl Loop {
    /// The transport of a process that `popen` has just started, and a future that is done when
    /// `connection_made` was called. If it is `watched`, its `_exited()` will be called.
    fn _start_subprocess<'py>(
        slf: &Bound<'py, Self>,
        protocol: Bound<'py, PyAny>,
        popen: &Bound<'py, PyAny>,
        watched: bool,
    ) -> PyResult<(Bound<'py, SubprocessTransport>, Bound<'py, PyAny>)> {
        let py = slf.py();
        let engine = slf.get().engine(py);
        let protocol = PyProtocol::for_process(engine, protocol)?;
        let id = popen.getattr(intern!(py, "pid"))?.extract()?;
        let mut pipes = [const { None }; 3];
        let mut files = [const { None }; 3];
        for (number, name) in ["stdin", "stdout", "stderr"].into_iter().enumerate() {
            let file = popen.getattr(name)?;
            if !file.is_none() {
                let socket: Socket = from_python_file(&file)?;
                set_nonblocking(socket.fd()).map_err(from_io)?;
                pipes[number] = Some(socket);
                files[number] = Some(file);
            }
        }
        let (transport, made) = if watched {
            let (transport, made) = engine
                .start_watched_subprocess(id, pipes, protocol.clone())
                .map_err(from_io)?;
            (transport, Loop::done_when(slf, made)?)
        } else {
            let (transport, made) = engine
                .start_subprocess(id, pipes, protocol.clone())
                .map_err(from_io)?;
            (transport, Loop::done_when(slf, made)?)
        };
        let mut faces = [const { None }; 3];
        for (number, file) in files.iter().enumerate() {
            if let (Some(file), Some(pipe)) = (file, transport.pipe_transport(number)) {
                let pipe = AnyTransport::Stream(pipe);
                if let Some(protocol) = PyProtocol::of(&pipe) {
                    let face = protocol.face(py, pipe)?;
                    face.get().set_file(py, file)?;
                    faces[number] = Some(face.unbind());
                }
            }
        }
        let state = State {
            transport,
            protocol: Rc::clone(&protocol),
            popen: popen.clone().unbind(),
            pipes: faces,
        };
        let face = Seed::grow(imports::subprocess_transport(py)?, state)?;
        let face = face.cast_into::<SubprocessTransport>()?;
        protocol.set_face(face.as_any())?;
        Ok((face, made))
    }
}

impl SubprocessTransport {
    fn transport<'py>(&'py self, py: Python<'py>) -> &'py Engine<PyHost> {
        &self.state.get(py).transport
    }

    fn pipe<'py>(&self, py: Python<'py>, number: usize) -> Option<Bound<'py, PyTransport>> {
        let pipe = self.state.get(py).pipes.get(number)?.as_ref()?;
        Some(pipe.bind(py).clone())
    }

    /// Sends a signal, unless the process has ended, as far as anybody knows: its number may be
    /// another's then.
    fn signal(&self, py: Python<'_>, signal: i32) -> PyResult<()> {
        let transport = self.transport(py);
        if transport.is_lost() {
            return Err(PyProcessLookupError::new_err(()));
        }
        let return_code = self.popen(py).getattr(intern!(py, "returncode"))?;
        if !return_code.is_none() {
            return Ok(());
        }
        transport.send_signal(Signal(signal)).map_err(from_io)
    }

    fn popen<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.state.get(py).popen.bind(py).clone()
    }
}

/// What `subprocess` knows of how the process of the transport `face` has ended: the program may
/// have asked the `Popen` object.
pub fn known_status(face: &Bound<'_, PyAny>) -> PyResult<Option<ExitStatus>> {
    let popen = face.cast::<SubprocessTransport>()?.get().popen(face.py());
    let return_code: Option<i32> = popen.getattr(intern!(face.py(), "returncode"))?.extract()?;
    Ok(return_code.map(status_of))
}

/// Kills the process of the transport `face`, by the object that the program knows.
pub fn kill(face: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = face.py();
    let popen = face.cast::<SubprocessTransport>()?.get().popen(py);
    if !popen.call_method0(intern!(py, "poll"))?.is_none() {
        // It has ended, and the object knows how: `known_status`.
        return Ok(());
    }
    match popen.call_method0(intern!(py, "kill")) {
        // It has ended, or runs as somebody else: then it is not ours to kill.
        Err(error)
            if error.is_instance_of::<PyProcessLookupError>(py)
                || error.is_instance_of::<PyPermissionError>(py) =>
        {
            Ok(())
        }
        killed => killed.map(drop),
    }
}

/// A return code as the kernel says it (wait(2)): a signal, or else a code in the second byte.
fn status_of(return_code: i32) -> ExitStatus {
    ExitStatus::from_raw(if return_code < 0 {
        -return_code
    } else {
        return_code << 8
    })
}

/// Tells `subprocess` and the log how the process of the transport `face` has ended.
pub fn note_exit(face: &Bound<'_, PyAny>, return_code: i32) -> PyResult<()> {
    let py = face.py();
    let transport = face.cast::<SubprocessTransport>()?.get();
    let popen = transport.popen(py);
    // It would warn that the process still runs, and try to reap it.
    if popen.getattr(intern!(py, "returncode"))?.is_none() {
        popen.setattr(intern!(py, "returncode"), return_code)?;
    }
    if transport.transport(py).event_loop().debug() {
        let args = ("%r exited with return code %r", face, return_code);
        imports::logger(py)?.call_method1(intern!(py, "info"), args)?;
    }
    Ok(())
}

#[pymethods]
impl SubprocessTransport {
    #[new]
    fn new(seed: &Bound<'_, Seed>) -> PyResult<SubprocessTransport> {
        let state = OnGil::new(seed.get().take(seed.py())?);
        Ok(SubprocessTransport { state })
    }

    /// The process's number.
    fn get_pid(&self, py: Python<'_>) -> u32 {
        self.transport(py).id()
    }

    /// How it has ended, `None` while it runs; negative for a signal.
    fn get_returncode(&self, py: Python<'_>) -> Option<i32> {
        self.transport(py).status().map(return_code)
    }

    /// The transport of its standard input (0), output (1) or error (2), if that is a pipe.
    fn get_pipe_transport<'py>(
        &self,
        py: Python<'py>,
        fd: &Bound<'py, PyAny>,
    ) -> Option<Bound<'py, PyTransport>> {
        self.pipe(py, fd.extract().ok()?)
    }

    /// Sends it a signal; nothing happens when it has ended.
    fn send_signal(&self, py: Python<'_>, signal: i32) -> PyResult<()> {
        self.signal(py, signal)
    }

    /// Asks it to end: `SIGTERM`.
    fn terminate(&self, py: Python<'_>) -> PyResult<()> {
        self.signal(py, libc::SIGTERM)
    }

    /// Ends it: `SIGKILL`.
    fn kill(&self, py: Python<'_>) -> PyResult<()> {
        self.signal(py, libc::SIGKILL)
    }

    /// Closes its pipes, and kills it if it runs.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let transport = slf.get().transport(py);
        if transport.is_closing() {
            return Ok(());
        }
        transport.close();
        if transport.event_loop().debug() && transport.status().is_none() {
            let args = ("Close running child process: kill %r", slf);
            imports::logger(py)?.call_method1(intern!(py, "warning"), args)?;
        }
        Ok(())
    }

    /// Whether `close()` was called.
    fn is_closing(&self, py: Python<'_>) -> bool {
        self.transport(py).is_closing()
    }

    /// Gives what comes from now on to another protocol.
    fn set_protocol(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        self.state.get(protocol.py()).protocol.set(protocol)
    }

    /// The protocol, until the connection is lost.
    fn get_protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state.get(py).protocol.get(py)
    }

    /// What is known of the process, by name.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        &self,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
        py: Python<'py>,
    ) -> Option<Bound<'py, PyAny>> {
        match name {
            "subprocess" => Some(self.popen(py)),
            _ => default,
        }
    }

    /// What a child watcher of the program's calls: the process has ended, and was reaped.
    fn _exited(&self, py: Python<'_>, return_code: i32) {
        self.transport(py).exited(status_of(return_code));
    }

    /// A future of the return code; it is done if the process has ended.
    fn _wait<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let (Some(code), Some(event_loop)) = (self.get_returncode(py), self._loop(py)) {
            let future = event_loop.call_method0(intern!(py, "create_future"))?;
            future.call_method1(intern!(py, "set_result"), (code,))?;
            return Ok(future);
        }
        let transport = self.transport(py).clone();
        let closed = crate::errors::loop_is_closed;
        let event_loop = transport
            .event_loop()
            .host()
            .object(py)
            .ok_or_else(closed)?;
        Loop::future(&event_loop, async move {
            let code = return_code(transport.wait().await);
            Python::attach(|py| Ok(code.into_pyobject(py)?.into_any().unbind()))
        })
    }

    /// As that of other transports; for the exception handler.
    fn _call_connection_lost(&self, exc: Bound<'_, PyAny>) -> PyResult<()> {
        let py = exc.py();
        match self.state.get(py).protocol.get(py) {
            Some(protocol) => protocol
                .call_method1(intern!(py, "connection_lost"), (exc,))
                .map(drop),
            None => Ok(()),
        }
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Loop>> {
        self.transport(py).event_loop().host().object(py)
    }

    /// The `subprocess.Popen`; other libraries look for it under this name.
    #[getter]
    fn _proc<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.popen(py)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let state = self.state.get(py);
        let mut parts = vec!["SubprocessTransport".to_owned()];
        if state.transport.is_closing() {
            parts.push("closed".to_owned());
        }
        parts.push(format!("pid={}", state.transport.id()));
        match state.transport.status() {
            Some(status) => parts.push(format!("returncode={}", return_code(status))),
            None => parts.push("running".to_owned()),
        }
        for (number, name) in ["stdin", "stdout", "stderr"].into_iter().enumerate() {
            if let Some(pipe) = self.pipe(py, number)
                && let Ok(pipe) = pipe.repr()
            {
                parts.push(format!("{name}={pipe}"));
            }
        }
        format!("<{}>", parts.join(" "))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let state = self.state.visit();
        visit.call(&state.popen)?;
        for pipe in state.pipes.iter().flatten() {
            visit.call(pipe)?;
        }
        state.protocol.traverse(&visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        self.state.get(py).protocol.clear();
    }
}

impl Drop for SubprocessTransport {
    fn drop(&mut self) {
        let transport = &self.state.get_mut().transport;
        if transport.is_closing() {
            return;
        }
        from_drop(|py| {
            warn_unclosed(py, &self.__repr__(py));
            self.transport(py).close();
        });
    }
}
