//! What was negotiated.

use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, CommonState, HandshakeKind, ProtocolVersion};

/// What the two ends of a TLS connection have agreed upon: [`Transport::tls`](crate::Transport::tls).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The version of TLS.
    pub version: Option<ProtocolVersion>,
    /// How the bytes are encrypted.
    pub cipher_suite: Option<CipherSuite>,
    /// The application protocol (ALPN), where both ends have named one.
    pub alpn_protocol: Option<Vec<u8>>,
    /// The certificates that the peer has shown, its own first; none if it was not asked.
    pub peer_certificates: Vec<CertificateDer<'static>>,
    /// On a server: the name by which the client has called it (SNI).
    pub server_name: Option<String>,
    /// Whether an earlier connection was resumed.
    pub resumed: bool,
}

impl TlsInfo {
    pub(super) fn new(state: &CommonState, server_name: Option<String>) -> TlsInfo {
        TlsInfo {
            version: state.protocol_version(),
            cipher_suite: state.negotiated_cipher_suite().map(|suite| suite.suite()),
            alpn_protocol: state.alpn_protocol().map(<[u8]>::to_vec),
            peer_certificates: state
                .peer_certificates()
                .map(<[CertificateDer<'static>]>::to_vec)
                .unwrap_or_default(),
            server_name,
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}
