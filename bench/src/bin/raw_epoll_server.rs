//! The floor of the rows without TLS: what is received is sent.

use std::error::Error;
use std::io;
use std::os::fd::OwnedFd;

use aioxide_bench::raw_epoll::{Echo, serve};
use aioxide_bench::{Flags, Listener, RECEIVE_BUFFER};
use rustix::net::{RecvFlags, recv};

fn main() -> Result<(), Box<dyn Error>> {
    let buffer = vec![0; RECEIVE_BUFFER];
    let listener = Listener::as_told(Flags::from_command_line()?)?;
    serve(listener, Plain { buffer })
}

struct Plain {
    buffer: Vec<u8>,
}

impl Echo for Plain {
    type Session = ();

    fn accept(&mut self, _stream: &OwnedFd) -> io::Result<()> {
        Ok(())
    }

    fn reply(&mut self, _session: &mut (), stream: &OwnedFd) -> io::Result<Option<&[u8]>> {
        match recv(stream, &mut *self.buffer, RecvFlags::empty()) {
            Ok((0, _)) => Ok(None),
            Ok((received, _)) => Ok(Some(&self.buffer[..received])),
            Err(rustix::io::Errno::AGAIN) => Ok(Some(&[])),
            Err(error) => Err(error.into()),
        }
    }
}
