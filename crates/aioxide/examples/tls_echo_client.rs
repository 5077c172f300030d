//! The client of `tls_echo_server`: it trusts that server's certificate, and nobody else.
//!
//! ```text
//! cargo run --example tls_echo_client port [certificate.pem]
//! ```

use std::io;
use std::process::exit;

use aioxide::streams::DEFAULT_LIMIT;
use aioxide::{ClientTls, ConnectOptions, running};

/// A client that trusts the certificates in the file.
fn trusting(file: &str) -> io::Result<ClientTls> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{file}: {error}"));
    ClientTls::with_roots_pem(&std::fs::read(file).map_err(named)?).map_err(named)
}

async fn echo_client(port: u16, tls: ClientTls) -> io::Result<()> {
    let options = ConnectOptions {
        tls: Some(tls),
        ..ConnectOptions::default()
    };
    let (mut reader, writer) = running()?
        .open_connection_with("localhost", port, &options, DEFAULT_LIMIT)
        .await?;
    if let Some(tls) = writer.tls() {
        println!("{:?}, {:?}", tls.version, tls.cipher_suite);
    }
    writer.write(b"Hello, in secret!\n");
    let line = reader.readline().await?;
    print!("Received: {}", String::from_utf8_lossy(&line));
    writer.close();
    writer.wait_closed().await
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(Ok(port)) = arguments.next().map(|port| port.parse()) else {
        eprintln!("usage: tls_echo_client port [certificate.pem]");
        exit(2);
    };
    let file = arguments.next().unwrap_or("certificate.pem".into());
    aioxide::run(echo_client(port, trusting(&file)?))?
}
