//! The echo server over TLS on aioxide.

use std::error::Error;

use aioxide::{ServerOptions, ServerTls};
use aioxide_bench::aioxide_echo::serve;
use aioxide_bench::listen_with_certificate;

fn main() -> Result<(), Box<dyn Error>> {
    let (listener, config) = listen_with_certificate()?;
    let options = ServerOptions {
        tls: Some(ServerTls::new(config)),
        ..ServerOptions::default()
    };
    serve(listener, options)
}
