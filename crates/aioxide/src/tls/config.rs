//! How a Rust program wants TLS: asyncio's `ssl`, `server_hostname` and timeouts in one value for each
//! side.

use std::io;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::TlsTimeouts;
use super::refusal::failure;
use super::rustls_session::{Rustls, noting_names};

/// TLS for a connection that the program makes: whom it trusts, and whom it expects.
///
/// Make it once and clone it: clones share the configuration, and with it the sessions that can be
/// resumed.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    timeouts: TlsTimeouts,
}

/// TLS for connections that the program is given: who it is, and what it speaks.
///
/// Make it once and clone it, as a [`ClientTls`].
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    timeouts: TlsTimeouts,
}

/// Which of the two a connection becomes: see [`start_tls`](crate::EventLoop::start_tls).
#[derive(Clone, Debug)]
pub enum TlsSide {
    /// It says hello first.
    Client(ClientTls),
    /// It waits to be greeted.
    Server(ServerTls),
}

impl ClientTls {
    /// With a configuration of [`rustls`](crate::tls::rustls).
    #[must_use]
    pub fn new(config: impl Into<Arc<ClientConfig>>) -> ClientTls {
        ClientTls {
            config: config.into(),
            server_name: None,
            timeouts: TlsTimeouts::default(),
        }
    }

    /// Trusts whom this machine trusts. Its roots are read from files: do it once.
    ///
    /// # Errors
    /// `NotFound` when it trusts nobody, with the reasons.
    pub fn with_platform_roots() -> io::Result<ClientTls> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Some are older than today's rules: the others do.
        roots.add_parsable_certificates(found.certs);
        if !roots.is_empty() {
            return ClientTls::trusting(roots);
        }
        let mut message = "no root certificates were found on this machine".to_owned();
        for error in found.errors {
            message = format!("{message}; {error}");
        }
        Err(io::Error::new(io::ErrorKind::NotFound, message))
    }

    /// Trusts these authorities, and nobody else.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn with_roots(
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> io::Result<ClientTls> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root).map_err(failure)?;
        }
        ClientTls::trusting(store)
    }

    fn trusting(roots: RootCertStore) -> io::Result<ClientTls> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(failure)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(ClientTls::new(config))
    }

    /// Expects a certificate for this name, or address, in the place of the host that is connected to.
    ///
    /// # Errors
    /// When it is none that a certificate could have.
    pub fn with_server_name(mut self, name: &str) -> io::Result<ClientTls> {
        self.server_name = Some(server_name(name)?);
        Ok(self)
    }

    /// Offers these application protocols, the dearest first.
    #[must_use]
    pub fn with_alpn_protocols(mut self, protocols: &[&str]) -> ClientTls {
        Arc::make_mut(&mut self.config).alpn_protocols = alpn(protocols);
        self
    }

    /// Takes no longer than this.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: TlsTimeouts) -> ClientTls {
        self.timeouts = timeouts;
        self
    }

    /// rustls's part.
    #[must_use]
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    pub(crate) fn timeouts(&self) -> TlsTimeouts {
        self.timeouts
    }

    /// A session with `host`, unless another name was given.
    pub(crate) fn session(&self, host: Option<&str>) -> io::Result<Rustls> {
        let name = match (&self.server_name, host) {
            (Some(name), _) => name.clone(),
            (None, Some(host)) => server_name(host)?,
            (None, None) => {
                let message = "TLS needs the name of the server: ClientTls::with_server_name()";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        };
        Rustls::client(&self.config, name)
    }
}

impl ServerTls {
    /// With a configuration of [`rustls`](crate::tls::rustls). Early data is refused, whatever it says.
    #[must_use]
    pub fn new(config: impl Into<Arc<ServerConfig>>) -> ServerTls {
        ServerTls {
            config: noting_names(config.into()),
            timeouts: TlsTimeouts::default(),
        }
    }

    /// Shows a certificate, followed by those of its issuers up to one that clients know, and asks for none.
    ///
    /// # Errors
    /// When the key is not the certificate's, or of no kind that is known.
    pub fn with_certificate(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> io::Result<ServerTls> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(failure)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(failure)?;
        Ok(ServerTls::new(config))
    }

    /// [`with_certificate`](ServerTls::with_certificate), from PEM: both may stand in the same text.
    ///
    /// # Errors
    /// When there is no certificate or no key; as that.
    pub fn with_pem(chain: &[u8], key: &[u8]) -> io::Result<ServerTls> {
        let unreadable = |error| {
            let message = format!("the certificate and its key cannot be read: {error}");
            io::Error::new(io::ErrorKind::InvalidInput, message)
        };
        let certificates = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(unreadable)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(unreadable)?;
        ServerTls::with_certificate(certificates, key)
    }

    /// Speaks these application protocols, the dearest first.
    #[must_use]
    pub fn with_alpn_protocols(mut self, protocols: &[&str]) -> ServerTls {
        Arc::make_mut(&mut self.config).alpn_protocols = alpn(protocols);
        self
    }

    /// Takes no longer than this.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: TlsTimeouts) -> ServerTls {
        self.timeouts = timeouts;
        self
    }

    /// rustls's part.
    #[must_use]
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    pub(crate) fn timeouts(&self) -> TlsTimeouts {
        self.timeouts
    }

    pub(crate) fn session(&self) -> io::Result<Rustls> {
        Rustls::server(&self.config)
    }
}

impl TlsSide {
    pub(super) fn timeouts(&self) -> TlsTimeouts {
        match self {
            TlsSide::Client(client) => client.timeouts,
            TlsSide::Server(server) => server.timeouts,
        }
    }

    pub(super) fn session(&self) -> io::Result<Rustls> {
        match self {
            TlsSide::Client(client) => client.session(None),
            TlsSide::Server(server) => server.session(),
        }
    }
}

impl From<ClientConfig> for ClientTls {
    fn from(config: ClientConfig) -> Self {
        ClientTls::new(config)
    }
}

impl From<ServerConfig> for ServerTls {
    fn from(config: ServerConfig) -> Self {
        ServerTls::new(config)
    }
}

impl From<ClientTls> for TlsSide {
    fn from(client: ClientTls) -> Self {
        TlsSide::Client(client)
    }
}

impl From<ServerTls> for TlsSide {
    fn from(server: ServerTls) -> Self {
        TlsSide::Server(server)
    }
}

fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(|_| {
        let message = format!(
            "{host:?} is neither a name nor an address that a certificate could be for: \
             ClientTls::with_server_name() gives another"
        );
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })
}

fn alpn(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect()
}
