//! Certificates, made on the spot, and what is configured with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aioxide::tls::rustls::crypto::ring;
use aioxide::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use aioxide::tls::rustls::version::{TLS12, TLS13};
use aioxide::tls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use aioxide::{ClientTls, ConnectOptions, ServerOptions, ServerTls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Whom one trusts, or not.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: CertificateDer<'static>,
    pub pem: String,
}

/// A certificate and its key.
pub struct Paper {
    pub chain: Vec<CertificateDer<'static>>,
    pub pem: String,
    key: Vec<u8>,
}

static AUTHORITIES: AtomicUsize = AtomicUsize::new(0);

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        // Who has the same name is taken for the same one, at first.
        let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
        let name = format!("authority {number}");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// For these names and addresses.
    pub fn issue(&self, names: &[&str]) -> Paper {
        self.issue_between(names, 2000, 4000)
    }

    pub fn issue_between(&self, names: &[&str], from: i32, to: i32) -> Paper {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Paper {
            chain: vec![certificate.der().clone()],
            pem: format!("{}{}", key.serialize_pem(), certificate.pem()),
            key: key.serialize_der(),
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    /// A client that trusts nobody else.
    pub fn client(&self) -> ClientTls {
        ClientTls::with_roots([self.certificate.clone()]).unwrap()
    }

    /// A client of one version, with a certificate to show.
    pub fn client_of(
        &self,
        version: &'static SupportedProtocolVersion,
        paper: Option<&Paper>,
    ) -> ClientTls {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        match paper {
            None => ClientTls::new(config),
            Some(paper) => paper.shown_by(ClientTls::new(config)),
        }
    }

    /// A server that lets in whom this authority knows.
    pub fn server_for_members(&self, paper: &Paper) -> ServerTls {
        let server = paper.server();
        server
            .with_client_roots([self.certificate.clone()])
            .unwrap()
    }

    /// The authority's own certificate, for what it is not meant for.
    pub fn paper(&self) -> Paper {
        let key = self.issuer.key();
        Paper {
            chain: vec![self.certificate.clone()],
            pem: format!("{}{}", key.serialize_pem(), self.pem),
            key: key.serialize_der(),
        }
    }
}

impl Paper {
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    /// A client that shows it.
    pub fn shown_by(&self, client: ClientTls) -> ClientTls {
        client
            .with_certificate(self.chain.clone(), self.key())
            .unwrap()
    }

    /// A server that shows it.
    pub fn server(&self) -> ServerTls {
        ServerTls::with_certificate(self.chain.clone(), self.key()).unwrap()
    }
}

/// An authority, and a server that it knows as `localhost` and 127.0.0.1.
pub fn papers() -> (Authority, ServerTls) {
    let authority = Authority::new();
    let server = authority.issue(&["localhost", "127.0.0.1"]).server();
    (authority, server)
}

pub fn over(tls: &ClientTls) -> ConnectOptions {
    ConnectOptions {
        tls: Some(tls.clone()),
        ..ConnectOptions::default()
    }
}

pub fn serving(tls: &ServerTls) -> ServerOptions {
    ServerOptions {
        tls: Some(tls.clone()),
        ..ServerOptions::default()
    }
}
