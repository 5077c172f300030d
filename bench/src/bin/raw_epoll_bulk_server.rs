//! The floor of the rows of bulk: one connection, one system call for each event.
//!
//! What it does is its `--mode`: `receive` takes all there is and, at the end, says how much it was; `send` takes
//! a block of `--size` bytes and sends it over and over; `sendfile` fills a file with the block and sends that.

use std::error::Error;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use aioxide_bench::{Flags, Listener, RECEIVE_BUFFER};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fs::{MemfdFlags, memfd_create, sendfile};
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Bytes of the file, which is a whole number of blocks.
const FILE: usize = 16 << 20;

const LISTENER: u64 = 0;
const CONNECTION: u64 = 1;
const STDIN: u64 = 2;

struct Connection {
    stream: OwnedFd,
    /// Bytes received so far.
    received: usize,
    /// What is sent over and over; filled by what is received.
    block: Vec<u8>,
    /// The file of blocks, in the mode that has one.
    file: Option<OwnedFd>,
    /// Where in the block, or in the file, the next byte stands.
    position: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut flags = Flags::from_command_line()?;
    let mode: String = flags.required("mode")?;
    let size = match mode.as_str() {
        "receive" => flags.optional("size")?.map(|_: usize| 0),
        "send" | "sendfile" => Some(flags.required("size")?),
        other => return Err(format!("there is no mode {other}").into()),
    }
    .unwrap_or(0);
    let listener = Listener::as_told(flags)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    for (socket, data) in [
        (rustix::fd::AsFd::as_fd(&listener), LISTENER),
        (rustix::fd::AsFd::as_fd(&io::stdin()), STDIN),
    ] {
        epoll::add(&epoll, socket, EventData::new_u64(data), EventFlags::IN)?;
    }
    listener.announce()?;
    let mut connection = None;
    let mut memory = vec![0; RECEIVE_BUFFER];
    let mut events = [MaybeUninit::uninit(); 4];
    loop {
        let (ready, _) = epoll::wait(&epoll, &mut events, None)?;
        for event in ready {
            let flags = event.flags;
            match (event.data.u64(), &mut connection) {
                (STDIN, _) => return Ok(()),
                (LISTENER, _) => {
                    let stream = listener.accept()?;
                    let data = EventData::new_u64(CONNECTION);
                    epoll::add(&epoll, &stream, data, EventFlags::IN)?;
                    connection = Some(Connection {
                        stream,
                        received: 0,
                        block: Vec::with_capacity(size),
                        file: None,
                        position: 0,
                    });
                }
                (_, Some(open)) => {
                    if flags.contains(EventFlags::OUT) {
                        open.send()?;
                    }
                    let ended = flags.contains(EventFlags::IN)
                        && open.receive(&mut memory, size, &mode, &epoll)?;
                    if ended {
                        connection = None;
                    }
                }
                (_, None) => {}
            }
        }
    }
}

impl Connection {
    /// True at the client's end of file.
    fn receive(
        &mut self,
        memory: &mut [u8],
        size: usize,
        mode: &str,
        epoll: &OwnedFd,
    ) -> io::Result<bool> {
        let (received, _) = recv(&self.stream, &mut *memory, RecvFlags::empty())?;
        self.received += received;
        if mode == "receive" {
            if received == 0 {
                let count = self.received.to_string();
                send(&self.stream, count.as_bytes(), SendFlags::NOSIGNAL)?;
            }
            return Ok(received == 0);
        }
        self.block.extend_from_slice(&memory[..received]);
        if received > 0 && self.block.len() == size {
            if mode == "sendfile" {
                let file = memfd_create("bulk", MemfdFlags::CLOEXEC)?;
                let mut writer = std::fs::File::from(file.try_clone()?);
                for _ in 0..FILE / size {
                    writer.write_all(&self.block)?;
                }
                self.file = Some(file);
            }
            let data = EventData::new_u64(CONNECTION);
            epoll::modify(epoll, &self.stream, data, EventFlags::IN | EventFlags::OUT)?;
        }
        Ok(received == 0)
    }

    /// Sends as much as the socket takes of what is left of the block, or of the file.
    fn send(&mut self) -> io::Result<()> {
        let (sent, whole) = match &self.file {
            Some(file) => {
                let mut offset = self.position as u64;
                let left = FILE - self.position;
                let sent = sendfile(&self.stream, file, Some(&mut offset), left);
                (sent, FILE)
            }
            None => {
                let rest = &self.block[self.position..];
                let sent = send(&self.stream, rest, SendFlags::NOSIGNAL);
                (sent, self.block.len())
            }
        };
        match sent {
            Ok(sent) => self.position = (self.position + sent) % whole,
            Err(rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
