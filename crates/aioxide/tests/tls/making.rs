//! What a program gives for its TLS, and what it is told of its mistakes.

use std::error::Error;
use std::io;

use aioxide::tls::rustls;
use aioxide::tls::rustls::pki_types::CertificateDer;
use aioxide::{ClientTls, ServerTls};

use crate::paper::Authority;

/// It is the program's mistake, and no peer is blamed for it.
fn mistake<T: std::fmt::Debug>(made: io::Result<T>) -> String {
    let error = made.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let told = error.to_string();
    assert!(!told.contains("peer"), "{told}");
    assert!(
        format!("{error:?}").contains(&format!("{told:?}")),
        "{error:?}"
    );
    told
}

/// The sections of a PEM text, whose labels contain this word.
fn section(pem: &str, word: &str) -> String {
    let mut kept = String::new();
    let mut keeps = false;
    for line in pem.lines() {
        if line.starts_with("-----BEGIN") {
            keeps = line.contains(word);
        }
        if keeps {
            kept = format!("{kept}{line}\n");
        }
    }
    kept
}

/// What each way to give a certificate and its key says of them.
fn both(chain: &[u8], key: &[u8]) -> [io::Result<()>; 2] {
    let client = Authority::new().client();
    [
        ServerTls::with_pem(chain, key).map(drop),
        client.with_pem(chain, key).map(drop),
    ]
}

#[test]
fn a_certificate_and_its_key_are_read_from_pem() {
    let authority = Authority::new();
    let paper = authority.issue(&["localhost"]);
    let pem = paper.pem.as_str();
    let (certificate, key) = (section(pem, "CERTIFICATE"), section(pem, "KEY"));
    assert!(!certificate.contains("KEY") && !key.contains("CERTIFICATE"));
    for (chain, key) in [(pem, pem), (&certificate, &key), (pem, &key)] {
        for made in both(chain.as_bytes(), key.as_bytes()) {
            made.unwrap();
        }
    }
}

#[test]
fn what_is_missing_in_a_pem_text_is_named() {
    let authority = Authority::new();
    let paper = authority.issue(&["localhost"]);
    let pem = paper.pem.as_str();
    let (certificate, key) = (section(pem, "CERTIFICATE"), section(pem, "KEY"));
    let other = authority.issue(&["localhost"]).pem;
    let unended = certificate.replace("-----END CERTIFICATE-----", "");
    let damaged = certificate.replacen('M', "?", 3);
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let garbage = "no PEM at all".to_owned();
    let is_no_pem = ": what was given is no PEM";
    for (chain, key, expected) in [
        (&key, &key, "there is no certificate in the chain".to_owned()),
        (
            &garbage,
            &key,
            format!("there is no certificate in the chain{is_no_pem}"),
        ),
        (&certificate, &certificate, "there is no private key".to_owned()),
        (
            &certificate,
            &String::new(),
            format!("there is no private key{is_no_pem}"),
        ),
        (
            &certificate,
            &other,
            "the key is not that of the certificate".to_owned(),
        ),
        (
            &format!("{certificate}{}", authority.pem),
            &other,
            "the key is not that of the certificate, which is the first of the chain".to_owned(),
        ),
        (
            &unended,
            &key,
            "the PEM text of the certificates cannot be read: a section has no END".to_owned(),
        ),
        (
            &damaged,
            &key,
            "the PEM text of the certificates cannot be read: a section is damaged, it is no Base64"
                .to_owned(),
        ),
        (
            &certificate,
            &encrypted,
            "the private key is encrypted: it has to be decrypted before".to_owned(),
        ),
    ] {
        for made in both(chain.as_bytes(), key.as_bytes()) {
            assert_eq!(mistake(made), expected);
        }
    }
    let foreign = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for made in both(certificate.as_bytes(), foreign.as_bytes()) {
        let told = mistake(made);
        assert!(
            told.starts_with("the private key cannot be used: "),
            "{told}"
        );
    }
}

#[test]
fn a_chain_that_is_none_is_refused() {
    let authority = Authority::new();
    let paper = authority.issue(&["localhost"]);
    let unreadable = vec![CertificateDer::from(vec![1, 2, 3])];
    for (chain, expected) in [
        (vec![], "there is no certificate in the chain"),
        (unreadable, "the certificate cannot be read"),
    ] {
        let server = ServerTls::with_certificate(chain.clone(), paper.key());
        assert_eq!(mistake(server), expected);
        let client = authority.client().with_certificate(chain, paper.key());
        assert_eq!(mistake(client), expected);
    }
}

#[test]
fn the_reason_is_inside() {
    let (one, other) = (Authority::new().paper(), Authority::new().paper());
    let error = ServerTls::with_certificate(one.chain, other.key()).unwrap_err();
    let source = error.source().unwrap().downcast_ref::<rustls::Error>();
    let mismatch = rustls::Error::from(rustls::InconsistentKeys::KeyMismatch);
    assert_eq!(source, Some(&mismatch));
}

#[test]
fn roots_are_read_from_pem() {
    let (one, two) = (Authority::new(), Authority::new());
    let both = format!("{}{}", one.pem, two.pem);
    assert!(ClientTls::with_roots_pem(both.as_bytes()).is_ok());
}

#[test]
fn roots_that_are_none_are_refused() {
    let authority = Authority::new();
    let server = || authority.issue(&["localhost"]).server();
    let unreadable = || CertificateDer::from(vec![1, 2, 3]);
    for told in [
        mistake(ClientTls::with_roots([])),
        mistake(server().with_client_roots([])),
    ] {
        assert_eq!(told, "there are no root certificates");
    }
    for told in [
        mistake(ClientTls::with_roots_pem(b"")),
        mistake(server().with_client_roots_pem(b"")),
    ] {
        assert_eq!(
            told,
            "there are no root certificates: what was given is no PEM"
        );
    }
    for told in [
        mistake(ClientTls::with_roots([unreadable()])),
        mistake(server().with_client_roots([authority.certificate.clone(), unreadable()])),
    ] {
        assert_eq!(told, "a root certificate cannot be read");
    }
}

#[test]
fn a_name_is_refused_without_the_advice_to_give_one() {
    let client = || Authority::new().client();
    assert_eq!(
        mistake(client().with_server_name("not a name!")),
        "\"not a name!\" is neither a name nor an address that a certificate could be for"
    );
    for name in ["localhost", "127.0.0.1", "::1", "example.org"] {
        assert!(client().with_server_name(name).is_ok(), "{name}");
    }
}
