//! An echo over TLS, with a certificate that is made on the spot.
//!
//! ```text
//! cargo run --example tls_echo_server [port [certificate.pem]]
//! ```
//!
//! The certificate is written to the file, for clients to trust.

use std::io;
use std::process::exit;

use aioxide::streams::DEFAULT_LIMIT;
use aioxide::{ServerOptions, ServerTls, StreamReader, StreamWriter, running};

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    if let Some(tls) = writer.tls() {
        println!("A client has called {:?}", tls.server_name.as_deref());
    }
    let mut lines = reader.lines();
    while let Some(line) = lines.next().await? {
        writer.write(&line);
        writer.drain().await?;
    }
    println!("It has left");
    Ok(())
}

async fn serve(port: u16, file: &str) -> io::Result<()> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    std::fs::write(file, made.cert.pem())
        .map_err(|error| io::Error::new(error.kind(), format!("{file}: {error}")))?;
    let key = made.signing_key.serialize_pem();
    let options = ServerOptions {
        tls: Some(ServerTls::with_pem(
            made.cert.pem().as_bytes(),
            key.as_bytes(),
        )?),
        ..ServerOptions::default()
    };
    let server = running()?
        .start_server_with(echo, Some("127.0.0.1"), port, &options, DEFAULT_LIMIT)
        .await?;
    println!("Serving on {}", server.local_addresses()[0]);
    server.serve_forever().await
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Ok(port) = arguments.next().map_or(Ok(0), |port| port.parse()) else {
        eprintln!("usage: tls_echo_server [port [certificate.pem]]");
        exit(2);
    };
    let file = arguments.next().unwrap_or("certificate.pem".into());
    aioxide::run(async move { serve(port, &file).await })?
}
