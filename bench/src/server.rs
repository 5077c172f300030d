//! The parts of the servers' contract that do not depend on the runtime under test.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
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
pub fn listen_as_told(flags: Flags) -> Result<TcpListener, Box<dyn Error>> {
    pin_as_told(flags)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // The standard library has listened already, with its own backlog; listening again only changes
    // the backlog.
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Where a floor listens: on a port, or on the Unix socket that the flag `--path` names.
pub enum Listener {
    /// On a port that the kernel has chosen.
    Tcp(TcpListener),
    /// On a path.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Reads the command line, pins the process, and opens the socket.
    pub fn as_told(mut flags: Flags) -> Result<Self, Box<dyn Error>> {
        let Some(path) = flags.optional::<PathBuf>("path")? else {
            return Ok(Self::Tcp(listen_as_told(flags)?));
        };
        pin_as_told(flags)?;
        let listener = UnixListener::bind(&path)?;
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(Self::Unix(listener, path))
    }

    /// The next connection, non-blocking.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok(stream.into())
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(stream.into())
            }
        }
    }

    /// Tells the runner that connections are welcome now.
    pub fn announce(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => announce(listener),
            Self::Unix(_, path) => say(path.display()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

/// Reads the server's command line, pins the process, opens the non-blocking datagram socket and announces it.
pub fn bind_datagrams() -> Result<UdpSocket, Box<dyn Error>> {
    pin_as_told(Flags::from_command_line()?)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    say(socket.local_addr()?.port())?;
    Ok(socket)
}

/// Takes the flags that are left: the core.
fn pin_as_told(mut flags: Flags) -> Result<(), Box<dyn Error>> {
    let core = flags.optional("core")?;
    flags.finish()?;
    if let Some(core) = core {
        pin_to_core(core)?;
    }
    Ok(())
}

/// Tells the runner that connections are welcome now.
pub fn announce(listener: &TcpListener) -> io::Result<()> {
    say(listener.local_addr()?.port())
}

/// The line that the runner waits for.
fn say(address: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{address}")?;
    stdout.flush()
}
