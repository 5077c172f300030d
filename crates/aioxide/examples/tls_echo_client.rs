//! The client of `tls_echo_server`: it trusts that server's certificate, and nobody else.
//!
//! ```text
//! cargo run --example tls_echo_client port [certificate.pem]
//! ```

use std::io;

use aioxide::streams::DEFAULT_LIMIT;
use aioxide::tls::rustls::pki_types::CertificateDer;
use aioxide::tls::rustls::pki_types::pem::PemObject;
use aioxide::{ClientTls, ConnectOptions, running};

async fn echo_client(port: u16, file: &str) -> io::Result<()> {
    let certificate = CertificateDer::from_pem_file(file).map_err(io::Error::other)?;
    let options = ConnectOptions {
        tls: Some(ClientTls::with_roots([certificate])?),
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
    let port = arguments.next().unwrap_or_default();
    let port = port.parse().map_err(io::Error::other)?;
    let file = arguments.next().unwrap_or("certificate.pem".into());
    aioxide::run(async move { echo_client(port, &file).await })?
}
