//! Signals: an echo server that Ctrl-C or SIGTERM ends gently: it lets nobody in any more, and its
//! clients may finish. The second signal ends it at once.
//!
//! ```text
//! cargo run --example signals [port]
//! ```

use std::io;

use aioxide::{Signal, StreamReader, StreamWriter, running, start_server};

const ENDING: [Signal; 2] = [Signal::INT, Signal::TERM];

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

async fn serve(port: u16) -> io::Result<()> {
    let event_loop = running()?;
    let told = event_loop.create_future();
    for signal in ENDING {
        let (event_loop, told) = (event_loop.clone(), told.clone());
        running()?.add_signal_handler(signal, move || {
            println!("Received {signal}");
            // From now on these do what they do by default: end the program.
            for ending in ENDING {
                event_loop.remove_signal_handler(ending);
            }
            let _ = told.set_result(());
        })?;
    }
    let server = start_server(echo, Some("127.0.0.1"), port).await?;
    println!("Serving on {}", server.local_addresses()[0]);
    let _ = told.await;
    server.close();
    println!("No new clients, but {} to finish", server.client_count());
    server.wait_closed().await;
    println!("The last client has gone");
    Ok(())
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse());
    aioxide::run(serve(port.map_err(io::Error::other)?))?
}
