//! Layer 3 over pipes: each line of standard input goes to standard output in capitals. Both have
//! to be pipes, sockets or terminals: nobody can wait for a regular file.
//!
//! ```text
//! echo hello | cargo run --example pipes | cat
//! ```

use std::io;
use std::os::fd::AsFd;

use aioxide::{EventLoop, StreamReader, StreamReaderProtocol, StreamWriter};

/// A reader of one end of a pipe.
async fn reader_of(event_loop: &EventLoop, pipe: impl AsFd) -> io::Result<StreamReader> {
    let reader = StreamReader::default();
    let protocol = StreamReaderProtocol::new(&reader);
    // The transport closes what it is given: a duplicate.
    let pipe = pipe.as_fd().try_clone_to_owned()?;
    event_loop.connect_read_pipe(|| protocol, pipe).await?;
    Ok(reader)
}

/// A writer to one end of a pipe.
async fn writer_of(event_loop: &EventLoop, pipe: impl AsFd) -> io::Result<StreamWriter> {
    let protocol = StreamReaderProtocol::new(&StreamReader::default());
    let pipe = pipe.as_fd().try_clone_to_owned()?;
    let factory = || protocol.clone();
    let transport = event_loop.connect_write_pipe(factory, pipe).await?;
    Ok(StreamWriter::new(transport, &protocol))
}

async fn shout() -> io::Result<()> {
    let event_loop = aioxide::running()?;
    let mut reader = reader_of(&event_loop, io::stdin()).await?;
    let writer = writer_of(&event_loop, io::stdout()).await?;
    let mut lines = reader.lines();
    while let Some(line) = lines.next().await? {
        writer.write(&line.to_ascii_uppercase());
        writer.drain().await?;
    }
    writer.close();
    writer.wait_closed().await
}

fn main() -> io::Result<()> {
    aioxide::run(shout())?
}
