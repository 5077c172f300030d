//! The echo server on aioxide.

use std::error::Error;

use aioxide::ServerOptions;
use aioxide_bench::aioxide_echo::serve;
use aioxide_bench::listen;

fn main() -> Result<(), Box<dyn Error>> {
    serve(listen()?, ServerOptions::default())
}
