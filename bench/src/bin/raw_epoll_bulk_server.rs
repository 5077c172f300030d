//! The floor of the rows of bulk: one connection, one system call for each event, of as many bytes as it may be of.
//!
//! What it does is its `--mode`: `receive` takes all there is and, at the end, says how much it was; `send` takes
//! a block of `--size` bytes and sends it over and over; `sendfile` fills a file with the block and sends that.

use std::error::Error;
use std::io::{self, IoSlice, Write};
use std::os::fd::OwnedFd;

use aioxide_bench::raw_epoll::{LISTENER, Poller, some};
use aioxide_bench::{Flags, Listener, RECEIVE_BUFFER};
use rustix::event::epoll::EventFlags;
use rustix::fs::{MemfdFlags, memfd_create, sendfile};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};

/// Bytes of the file, which is a whole number of blocks.
const FILE: usize = 16 << 20;

/// Blocks of one send: what the other servers write before they look at the network. A send of one block costs half
/// as much again for each byte: on the loopback interface 64 KiB are two packets, and each send wakes the client.
const BLOCKS: usize = 16;

/// Event data of the connection.
const CONNECTION: u64 = 0;

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
    let poller = Poller::new()?;
    poller.add(&listener, LISTENER, EventFlags::IN)?;
    listener.announce()?;
    let mut connection = None;
    let mut memory = vec![0; RECEIVE_BUFFER];
    poller.run(|data, flags| {
        if data == LISTENER {
            let stream = listener.accept()?;
            poller.add(&stream, CONNECTION, EventFlags::IN)?;
            connection = Some(Connection {
                stream,
                received: 0,
                block: Vec::with_capacity(size),
                file: None,
                position: 0,
            });
        } else if let Some(open) = &mut connection {
            if flags.contains(EventFlags::OUT) {
                open.send()?;
            }
            if flags.contains(EventFlags::IN) && open.receive(&mut memory, size, &mode, &poller)? {
                connection = None;
            }
        }
        Ok(())
    })
}

impl Connection {
    /// True at the client's end of file.
    fn receive(
        &mut self,
        memory: &mut [u8],
        size: usize,
        mode: &str,
        poller: &Poller,
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
            let interest = EventFlags::IN | EventFlags::OUT;
            poller.modify(&self.stream, CONNECTION, interest)?;
        }
        Ok(received == 0)
    }

    /// Sends as much as the socket takes of what is left of the block and some blocks more, or of the file.
    fn send(&mut self) -> io::Result<()> {
        let (sent, whole) = match &self.file {
            Some(file) => {
                let mut offset = self.position as u64;
                let left = FILE - self.position;
                let sent = sendfile(&self.stream, file, Some(&mut offset), left);
                (sent, FILE)
            }
            None => {
                let mut slices = [IoSlice::new(&self.block); BLOCKS];
                slices[0] = IoSlice::new(&self.block[self.position..]);
                let mut nothing = SendAncillaryBuffer::default();
                let sent = sendmsg(&self.stream, &slices, &mut nothing, SendFlags::NOSIGNAL);
                (sent, self.block.len())
            }
        };
        self.position = (self.position + some(sent)?) % whole;
        Ok(())
    }
}
