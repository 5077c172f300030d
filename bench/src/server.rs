//! The parts of the servers' contract that do not depend on the runtime under test.

use std::error::Error;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{Flags, pin_to_core};

/// Bytes a server is ready to receive at once: what asyncio's own transports ask for, so all
/// contenders do the same.
pub const RECEIVE_BUFFER: usize = 256 * 1024;

/// Connections that may wait to be accepted: above the largest row's 128, so that no connect is
/// retried.
const BACKLOG: i32 = 1024;

/// Reads the server's command line, pins the process, and opens the non-blocking listening socket.
pub fn listen() -> Result<TcpListener, Box<dyn Error>> {
    listen_as_told(Flags::from_command_line()?)
}

/// [`listen`], and the configuration of a server that shows the certificate of the file `--certificate`: PEM,
/// with its key.
pub fn listen_with_certificate() -> Result<(TcpListener, Arc<ServerConfig>), Box<dyn Error>> {
    let mut flags = Flags::from_command_line()?;
    let file: PathBuf = flags.required("certificate")?;
    let chain = CertificateDer::pem_file_iter(&file)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&file)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok((listen_as_told(flags)?, Arc::new(config)))
}

/// [`listen`], with the flags that are left when the server has taken its own.
pub fn listen_as_told(mut flags: Flags) -> Result<TcpListener, Box<dyn Error>> {
    let core = flags.optional("core")?;
    flags.finish()?;
    if let Some(core) = core {
        pin_to_core(core)?;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // The standard library has listened already, with its own backlog; listening again only changes
    // the backlog.
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Tells the runner that connections are welcome now.
pub fn announce(listener: &TcpListener) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", listener.local_addr()?.port())?;
    stdout.flush()
}
