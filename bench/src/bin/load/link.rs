//! What a connection sends and receives through: a socket, or TLS over it.

use std::io::{self, Read, Write};
use std::sync::Arc;

use aioxide_bench::RECEIVE_BUFFER;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    SupportedProtocolVersion,
};

use crate::socket::Socket;

/// The suites of TLS 1.3 and 1.2 that the client offers: what servers choose when they may. One of each
/// version, so that all servers encrypt alike.
const SUITES: [CipherSuite; 2] = [
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
];

/// Bytes that are decrypted in one go: a record's.
const PLAINTEXT: usize = 16 * 1024;

/// Receives for all connections: what arrives is compared at once and not kept.
pub struct Memory {
    input: Vec<u8>,
    plaintext: Vec<u8>,
}

/// A non-blocking way to a server and back.
pub struct Link {
    socket: Socket,
    tls: Option<Box<ClientConnection>>,
}

impl Link {
    /// Over a connected, non-blocking socket. TLS shakes hands by itself, before the first request.
    pub fn new(socket: Socket, tls: Option<&Arc<ClientConfig>>) -> io::Result<Link> {
        let tls = match tls {
            None => None,
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let mut tls =
                    ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                tls.set_buffer_limit(None);
                Some(Box::new(tls))
            }
        };
        Ok(Link { socket, tls })
    }

    /// Sends some of `bytes`; how much. TLS takes all of them, and may hold some back.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return Ok(some(self.socket.write(bytes))?.unwrap_or(0));
        };
        let count = tls.writer().write(bytes)?;
        self.flush()?;
        Ok(count)
    }

    /// Sends what TLS holds back, as far as the socket takes it.
    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() && some(tls.write_tls(&mut self.socket))?.is_some() {}
        }
        Ok(())
    }

    /// Whether something is held back until the socket has room.
    pub fn is_sending(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Receives once, and gives the bytes to `take`, in pieces; `take` gets none at the end. False when
    /// nothing has come.
    pub fn receive<E: From<io::Error>>(
        &mut self,
        memory: &mut Memory,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let Memory { input, plaintext } = memory;
        let Some(count) = some(self.socket.read(input))? else {
            return Ok(false);
        };
        let mut received = &input[..count];
        let tls = match &mut self.tls {
            Some(tls) if count > 0 => tls,
            _ => return take(received).map(|()| true),
        };
        while !received.is_empty() {
            tls.read_tls(&mut received)?;
            tls.process_new_packets().map_err(io::Error::other)?;
            while let Some(count) = some(tls.reader().read(plaintext))? {
                take(&plaintext[..count])?;
                if count == 0 {
                    return Ok(true);
                }
            }
        }
        self.flush()?;
        Ok(true)
    }

    /// Sends our end.
    pub fn shut_down(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            self.flush()?;
        }
        self.socket.end()
    }

    /// The socket.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }
}

impl Memory {
    pub fn new() -> Memory {
        Memory {
            input: vec![0; RECEIVE_BUFFER],
            plaintext: vec![0; PLAINTEXT],
        }
    }
}

/// A count of bytes, or nothing when the socket would block.
fn some(count: io::Result<usize>) -> io::Result<Option<usize>> {
    match count {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The client's side of TLS: `version` is `1.2` or `1.3`. Every handshake is a whole one, and whatever
/// certificate the server shows is taken.
pub fn client_config(version: &str) -> Result<Arc<ClientConfig>, Box<dyn std::error::Error>> {
    let version: &'static SupportedProtocolVersion = match version {
        "1.2" => &rustls::version::TLS12,
        "1.3" => &rustls::version::TLS13,
        other => return Err(format!("--tls must be 1.2 or 1.3, not {other}").into()),
    };
    let mut provider = ring::default_provider();
    provider
        .cipher_suites
        .retain(|suite| SUITES.contains(&suite.suite()));
    let provider = Arc::new(provider);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Takes every certificate: who the server is, is not what is measured. Its signatures are checked, so
/// that no server can save itself the work.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
