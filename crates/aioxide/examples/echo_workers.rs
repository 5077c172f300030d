//! Workers: an echo server with one loop on each core. The kernel spreads the connections over them.
//! Ctrl-C or SIGTERM ends all of them; their clients may finish.
//!
//! ```text
//! cargo run --example echo_workers [port] [workers]
//! ```

use std::io;
use std::net::Ipv4Addr;
use std::num::NonZeroUsize;

use aioxide::streams::DEFAULT_LIMIT;
use aioxide::{
    BindOptions, ReservedPort, ServerOptions, Signal, StreamReader, StreamWriter, Worker, Workers,
    running,
};

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    loop {
        let data = reader.read(64 * 1024).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write(&data);
        writer.drain().await?;
    }
}

async fn serve(worker: Worker, port: u16) -> io::Result<()> {
    let index = worker.index();
    let options = ServerOptions {
        bind: BindOptions {
            reuse_port: true,
            ..BindOptions::default()
        },
        ..ServerOptions::default()
    };
    let client = async move |reader, writer: StreamWriter| {
        println!("Worker {index} has a client");
        echo(reader, writer).await
    };
    let server = running()?
        .start_server_with(client, Some("127.0.0.1"), port, &options, DEFAULT_LIMIT)
        .await?;
    // Any worker would do: one of them is told, and tells the others.
    if index == 0 {
        for signal in [Signal::INT, Signal::TERM] {
            let worker = worker.clone();
            running()?.add_signal_handler(signal, move || worker.shutdown())?;
        }
    }
    println!("Worker {index} serves on {}", server.local_addresses()[0]);
    worker.stopped().await;
    server.close();
    server.wait_closed().await;
    println!("Worker {index} has ended");
    Ok(())
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().map_or(Ok(0), |port| port.parse());
    let count: Option<NonZeroUsize> = arguments.next().and_then(|count| count.parse().ok());

    // When the kernel chooses the port, all workers have to know it.
    let port = ReservedPort::new((Ipv4Addr::LOCALHOST, port.map_err(io::Error::other)?))?;
    let workers = Workers {
        count,
        ..Workers::default()
    };
    workers.run(async move |worker| serve(worker, port.number()).await)?;
    Ok(())
}
