//! How a Rust program wants TLS: asyncio's `ssl`, `server_hostname` and timeouts in one value for each
//! side.

use std::io;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, Error as Reason, RootCertStore, ServerConfig};

use super::certificate::refused;
use super::refusal::{failure, unusable};
use super::rustls_session::{Rustls, noting_names};
use super::{TlsTimeouts, pem};

/// What is said of an empty chain.
const NO_CERTIFICATE: &str = "there is no certificate in the chain";

/// What is said of roots of which there are none. Every connection would fail.
const NO_ROOTS: &str = "there are no root certificates";

/// TLS for a connection that the program makes: whom it trusts, and whom it expects.
///
/// Make it once and clone it: clones share the configuration, and with it the sessions that can be
/// resumed.
///
/// A peer that ends its stream without TLS's `close_notify` may have been cut off by somebody else. It is told as
/// `UnexpectedEof`: [`connection_lost`](crate::Protocol::connection_lost) has it after all data and
/// `eof_received`; a stream's reads fail with it from then on, whatever they have not asked for yet, so that
/// `read_to_end` gives the error and nothing else. A program that reads what comes as it comes, up to where its
/// own protocol says that it ends, may be content with that.
///
/// ```no_run
/// use aioxide::streams::DEFAULT_LIMIT;
/// use aioxide::{ClientTls, ConnectOptions, running};
///
/// # async fn program() -> std::io::Result<()> {
/// let options = ConnectOptions {
///     tls: Some(ClientTls::with_platform_roots()?.with_alpn_protocols(&["http/1.1"])),
///     ..ConnectOptions::default()
/// };
/// let (reader, writer) = running()?
///     .open_connection_with("example.org", 443, &options, DEFAULT_LIMIT)
///     .await?;
/// println!("{:?}", writer.tls());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    timeouts: TlsTimeouts,
}

/// TLS for connections that the program is given: who it is, and what it speaks.
///
/// Make it once and clone it, as a [`ClientTls`].
///
/// ```
/// use std::io;
///
/// use aioxide::streams::DEFAULT_LIMIT;
/// use aioxide::tls::rustls::pki_types::PrivateKeyDer;
/// use aioxide::{ClientTls, ConnectOptions, EventLoop, ServerOptions, ServerTls};
/// use aioxide::{StreamReader, StreamWriter};
///
/// async fn greet(_: StreamReader, writer: StreamWriter) -> io::Result<()> {
///     writer.write(b"Hello, in secret!\n");
///     Ok(()) // Dropping the writer closes the connection.
/// }
///
/// async fn program(event_loop: EventLoop) -> io::Result<Vec<u8>> {
///     // A certificate of its own, in the place of one that an authority has issued.
///     let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
///         .map_err(io::Error::other)?;
///     let certificate = made.cert.der().clone();
///     let key = PrivateKeyDer::from(made.signing_key);
///
///     let options = ServerOptions {
///         tls: Some(ServerTls::with_certificate(vec![certificate.clone()], key)?),
///         ..ServerOptions::default()
///     };
///     let server = event_loop
///         .start_server_with(greet, Some("127.0.0.1"), 0, &options, DEFAULT_LIMIT)
///         .await?;
///     let port = server.local_addresses()[0].port().unwrap_or_default();
///
///     let options = ConnectOptions {
///         tls: Some(ClientTls::with_roots([certificate])?),
///         ..ConnectOptions::default()
///     };
///     let (mut reader, writer) = event_loop
///         .open_connection_with("localhost", port, &options, DEFAULT_LIMIT)
///         .await?;
///     let line = reader.readline().await?;
///
///     drop(writer);
///     server.close();
///     server.wait_closed().await;
///     Ok(line)
/// }
///
/// # fn main() -> io::Result<()> {
/// let event_loop = EventLoop::new()?;
/// let line = event_loop.run(program(event_loop.clone()))??;
/// assert_eq!(line, b"Hello, in secret!\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    /// Whether the configuration is the program's own. rustls does not show whom such a one lets in.
    own: bool,
    timeouts: TlsTimeouts,
}

/// Which of the two a connection becomes: see [`start_tls`](crate::EventLoop::start_tls).
#[derive(Clone, Debug)]
pub enum TlsSide {
    /// It says hello first. It has to be told the server's name ([`ClientTls::with_server_name`]): a connection
    /// that stands does not know by which name it was made.
    Client(ClientTls),
    /// It waits to be greeted.
    Server(ServerTls),
}

impl ClientTls {
    /// With a configuration of one's own, of [`aioxide::tls::rustls`](crate::tls::rustls): it is the version
    /// of rustls that fits.
    ///
    /// Name the provider of cryptography, as here. `ClientConfig::builder()` finds it only where one alone is
    /// compiled in: in a program that depends on rustls by itself, with its default features, there are two
    /// (ring is ours, aws-lc-rs is rustls's default), and it panics.
    ///
    /// ```
    /// use std::io;
    /// use std::sync::Arc;
    ///
    /// use aioxide::ClientTls;
    /// use aioxide::tls::rustls::crypto::ring;
    /// use aioxide::tls::rustls::version::TLS13;
    /// use aioxide::tls::rustls::{ClientConfig, RootCertStore};
    ///
    /// /// TLS 1.3, and nothing older.
    /// fn newest(roots: RootCertStore) -> io::Result<ClientTls> {
    ///     let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
    ///         .with_protocol_versions(&[&TLS13])
    ///         .map_err(io::Error::other)?
    ///         .with_root_certificates(roots)
    ///         .with_no_client_auth();
    ///     Ok(ClientTls::new(config))
    /// }
    /// # assert!(newest(RootCertStore::empty()).is_ok());
    /// ```
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
    /// A server's self-signed certificate serves as its own root only when it is no authority's (`CA:FALSE`, or
    /// nothing said of it): the certificate of an authority (`CA:TRUE`, as `openssl req -x509` makes it) is
    /// trusted to issue others, and refused where a server shows it as its own.
    ///
    /// # Errors
    /// `InvalidInput` when there are none, or one of them cannot be read.
    pub fn with_roots(
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> io::Result<ClientTls> {
        ClientTls::trusting(trusted(roots)?)
    }

    /// [`with_roots`](ClientTls::with_roots), from PEM: all certificates in the text.
    ///
    /// # Errors
    /// When the text cannot be read; as that.
    pub fn with_roots_pem(roots: &[u8]) -> io::Result<ClientTls> {
        ClientTls::with_roots(pem::certificates(roots, NO_ROOTS)?)
    }

    fn trusting(roots: RootCertStore) -> io::Result<ClientTls> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(failure)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(ClientTls::new(config))
    }

    /// Shows this certificate to a server that asks for one ([`ServerTls::with_client_roots`]), followed by those
    /// of its issuers up to one that the server knows.
    ///
    /// In TLS 1.3 a client's handshake is over before the server has looked at its certificate. A server that
    /// refuses it is heard afterwards: the first read fails, or `connection_lost` has the error.
    ///
    /// # Errors
    /// As [`ServerTls::with_certificate`].
    pub fn with_certificate(
        mut self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> io::Result<ClientTls> {
        let shown = shown(chain, key, self.config.crypto_provider())?;
        // rustls resumes no session that was begun with another one.
        Arc::make_mut(&mut self.config).client_auth_cert_resolver = shown;
        Ok(self)
    }

    /// [`with_certificate`](ClientTls::with_certificate), from PEM: both may stand in the same text.
    ///
    /// # Errors
    /// As [`ServerTls::with_pem`].
    pub fn with_pem(self, chain: &[u8], key: &[u8]) -> io::Result<ClientTls> {
        let (chain, key) = read(chain, key)?;
        self.with_certificate(chain, key)
    }

    /// Expects a certificate for this name, or address, in the place of the host that is connected to.
    ///
    /// # Errors
    /// `InvalidInput` when it is none that a certificate could have.
    pub fn with_server_name(mut self, name: &str) -> io::Result<ClientTls> {
        let name = server_name(name).map_err(|message| invalid(&message))?;
        self.server_name = Some(name);
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
            (None, Some(host)) => server_name(host).map_err(|message| {
                invalid(&format!(
                    "{message}: ClientTls::with_server_name() gives another"
                ))
            })?,
            (None, None) => {
                let message = "TLS needs the name of the server: ClientTls::with_server_name()";
                return Err(invalid(message));
            }
        };
        Rustls::client(&self.config, name)
    }
}

impl ServerTls {
    /// With a configuration of one's own, of [`aioxide::tls::rustls`](crate::tls::rustls). Early data is refused,
    /// whatever it says. Name the provider of cryptography, as here: see [`ClientTls::new`].
    ///
    /// ```
    /// use std::io;
    /// use std::sync::Arc;
    ///
    /// use aioxide::ServerTls;
    /// use aioxide::tls::rustls::ServerConfig;
    /// use aioxide::tls::rustls::crypto::ring;
    /// use aioxide::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    ///
    /// /// Without tickets: nobody resumes.
    /// fn forgetful(
    ///     chain: Vec<CertificateDer<'static>>,
    ///     key: PrivateKeyDer<'static>,
    /// ) -> io::Result<ServerTls> {
    ///     let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
    ///         .with_safe_default_protocol_versions()
    ///         .map_err(io::Error::other)?
    ///         .with_no_client_auth()
    ///         .with_single_cert(chain, key)
    ///         .map_err(io::Error::other)?;
    ///     config.send_tls13_tickets = 0;
    ///     Ok(ServerTls::new(config))
    /// }
    /// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    /// # let chain = vec![made.cert.der().clone()];
    /// # assert!(forgetful(chain, PrivateKeyDer::from(made.signing_key)).is_ok());
    /// ```
    #[must_use]
    pub fn new(config: impl Into<Arc<ServerConfig>>) -> ServerTls {
        ServerTls {
            config: noting_names(config.into()),
            own: true,
            timeouts: TlsTimeouts::default(),
        }
    }

    /// Shows a certificate, followed by those of its issuers up to one that clients know, and asks for none.
    ///
    /// # Errors
    /// `InvalidInput` when there is no certificate, it cannot be read, or the key is not its key, or of no kind
    /// that is known.
    pub fn with_certificate(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> io::Result<ServerTls> {
        let provider = Arc::new(ring::default_provider());
        let shown = shown(chain, key, &provider)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failure)?
            .with_no_client_auth()
            .with_cert_resolver(shown);
        Ok(ServerTls {
            own: false,
            ..ServerTls::new(config)
        })
    }

    /// [`with_certificate`](ServerTls::with_certificate), from PEM: both may stand in the same text.
    ///
    /// # Errors
    /// `InvalidInput` when there is no certificate or no key, or the text cannot be read; as that.
    pub fn with_pem(chain: &[u8], key: &[u8]) -> io::Result<ServerTls> {
        let (chain, key) = read(chain, key)?;
        ServerTls::with_certificate(chain, key)
    }

    /// Lets in only clients that show a certificate ([`ClientTls::with_certificate`]) which one of these
    /// authorities has issued. Its names are not looked at: what a client may do is the program's to say, by
    /// [`TlsInfo::peer_certificates`](crate::TlsInfo::peer_certificates).
    ///
    /// Sessions that were begun before cannot be resumed: their clients have shown nothing.
    ///
    /// ```
    /// use std::io;
    ///
    /// use aioxide::streams::DEFAULT_LIMIT;
    /// use aioxide::{ClientTls, ConnectOptions, ServerOptions, ServerTls};
    /// use aioxide::{StreamReader, StreamWriter, running};
    ///
    /// /// A certificate and its key, self-signed, each its own root.
    /// fn made_for(name: &str) -> io::Result<(String, String)> {
    ///     let made = rcgen::generate_simple_self_signed([name.to_owned()]).map_err(io::Error::other)?;
    ///     Ok((made.cert.pem(), made.signing_key.serialize_pem()))
    /// }
    ///
    /// async fn greet(_: StreamReader, writer: StreamWriter) -> io::Result<()> {
    ///     let shown = writer.tls().map_or(0, |tls| tls.peer_certificates.len());
    ///     writer.write(format!("Hello, member with {shown} certificate!\n").as_bytes());
    ///     Ok(())
    /// }
    ///
    /// async fn program() -> io::Result<Vec<u8>> {
    ///     let (server, server_key) = made_for("localhost")?;
    ///     let (member, member_key) = made_for("member")?;
    ///
    ///     let tls = ServerTls::with_pem(server.as_bytes(), server_key.as_bytes())?
    ///         .with_client_roots_pem(member.as_bytes())?;
    ///     let options = ServerOptions { tls: Some(tls), ..ServerOptions::default() };
    ///     let server_at = running()?
    ///         .start_server_with(greet, Some("127.0.0.1"), 0, &options, DEFAULT_LIMIT)
    ///         .await?;
    ///     let port = server_at.local_addresses()[0].port().unwrap_or_default();
    ///
    ///     let tls = ClientTls::with_roots_pem(server.as_bytes())?
    ///         .with_pem(member.as_bytes(), member_key.as_bytes())?;
    ///     let options = ConnectOptions { tls: Some(tls), ..ConnectOptions::default() };
    ///     let (mut reader, _writer) = running()?
    ///         .open_connection_with("localhost", port, &options, DEFAULT_LIMIT)
    ///         .await?;
    ///     reader.readline().await.map_err(io::Error::from)
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// let line = aioxide::run(program())??;
    /// assert_eq!(line, b"Hello, member with 1 certificate!\n");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when there are no roots, or one of them cannot be read. Also after [`ServerTls::new`]: a
    /// configuration of one's own says by itself whom it lets in (`with_client_cert_verifier`).
    pub fn with_client_roots(
        self,
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> io::Result<ServerTls> {
        if self.own {
            let message = "a rustls configuration of the program's own says by itself whom it lets in: \
                           with_client_cert_verifier()";
            return Err(invalid(message));
        }
        let provider = Arc::clone(self.config.crypto_provider());
        let roots = Arc::new(trusted(roots)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        // A new one, since rustls does not let the verifier be changed; and its memory of sessions must
        // not be the former one's. All else that can have been set is taken over.
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failure)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&self.config.cert_resolver));
        config
            .alpn_protocols
            .clone_from(&self.config.alpn_protocols);
        Ok(ServerTls {
            config: Arc::new(config),
            ..self
        })
    }

    /// [`with_client_roots`](ServerTls::with_client_roots), from PEM: all certificates in the text.
    ///
    /// # Errors
    /// When the text cannot be read; as that.
    pub fn with_client_roots_pem(self, roots: &[u8]) -> io::Result<ServerTls> {
        self.with_client_roots(pem::certificates(roots, NO_ROOTS)?)
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

/// Whom to trust.
fn trusted(roots: impl IntoIterator<Item = CertificateDer<'static>>) -> io::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(|reason| {
            let message = "a root certificate cannot be read";
            match &reason {
                Reason::InvalidCertificate(CertificateError::BadEncoding) => {
                    unusable(message, reason)
                }
                Reason::InvalidCertificate(why) => {
                    unusable(format!("{message}: {}", refused(why)), reason)
                }
                other => unusable(format!("{message}: {other}"), reason),
            }
        })?;
    }
    match store.is_empty() {
        true => Err(invalid(NO_ROOTS)),
        false => Ok(store),
    }
}

/// A certificate and its key, for rustls to show.
fn shown(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> io::Result<Arc<SingleCertAndKey>> {
    if chain.is_empty() {
        return Err(unusable(NO_CERTIFICATE, Reason::NoCertificatesPresented));
    }
    let is_alone = chain.len() == 1;
    match CertifiedKey::from_der(chain, key, provider) {
        Ok(certified) => Ok(Arc::new(SingleCertAndKey::from(certified))),
        Err(reason) => Err(unusable(
            match &reason {
                Reason::InconsistentKeys(_) if is_alone => {
                    "the key is not that of the certificate".to_owned()
                }
                Reason::InconsistentKeys(_) => {
                    "the key is not that of the certificate, which is the first of the chain"
                        .to_owned()
                }
                Reason::InvalidCertificate(CertificateError::BadEncoding) => {
                    "the certificate cannot be read".to_owned()
                }
                Reason::InvalidCertificate(why) => {
                    format!("the certificate cannot be used: {}", refused(why))
                }
                Reason::General(why) => format!("the private key cannot be used: {why}"),
                other => format!("the certificate and its key cannot be used: {other}"),
            },
            reason,
        )),
    }
}

/// Both from PEM.
fn read(
    chain: &[u8],
    key: &[u8],
) -> io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    Ok((
        pem::certificates(chain, NO_CERTIFICATE)?,
        pem::private_key(key)?,
    ))
}

/// What to expect a certificate for; what is wrong with it.
fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned()).map_err(|_| {
        format!("{host:?} is neither a name nor an address that a certificate could be for")
    })
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn alpn(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect()
}
