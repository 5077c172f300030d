//! An HTTPS client: `http_get_streams`, over TLS.
//!
//! ```text
//! cargo run --example https_get [host [port [roots.pem]]]
//! ```
//!
//! It trusts whom the machine trusts, or the certificates in the file.

use std::io;
use std::process::exit;

use aioxide::streams::DEFAULT_LIMIT;
use aioxide::{ClientTls, ConnectOptions, running};

fn trusting(file: Option<String>) -> io::Result<ClientTls> {
    let Some(file) = file else {
        return ClientTls::with_platform_roots();
    };
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{file}: {error}"));
    ClientTls::with_roots_pem(&std::fs::read(&file).map_err(named)?).map_err(named)
}

async fn get(host: String, port: u16, tls: ClientTls) -> io::Result<()> {
    let options = ConnectOptions {
        tls: Some(tls.with_alpn_protocols(&["http/1.1"])),
        ..ConnectOptions::default()
    };
    let (mut reader, writer) = running()?
        .open_connection_with(&host, port, &options, DEFAULT_LIMIT)
        .await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    writer.write(request.as_bytes());
    writer.drain().await?;
    let mut lines = reader.lines();
    while let Some(line) = lines.next().await? {
        print!("{}", String::from_utf8_lossy(&line));
    }
    writer.close();
    writer.wait_closed().await
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or_else(|| "localhost".into());
    let Ok(port) = arguments.next().map_or(Ok(443), |port| port.parse()) else {
        eprintln!("usage: https_get [host [port [roots.pem]]]");
        exit(2);
    };
    aioxide::run(get(host, port, trusting(arguments.next())?))?
}
