//! Why there is no TLS connection, in plain words.

use std::error::Error;
use std::fmt;
use std::io;

use rustls::{AlertDescription, Error as Reason, PeerIncompatible};

use super::certificate::refused;
use crate::event_loop::native::shared_error;

/// A failure of TLS. Its `source` is rustls's error.
struct TlsError {
    message: String,
    reason: Reason,
}

/// What a failed operation says.
pub(super) fn failure(reason: Reason) -> io::Error {
    let kind = match &reason {
        Reason::General(_) | Reason::Other(_) => io::ErrorKind::Other,
        Reason::FailedToGetRandomBytes | Reason::FailedToGetCurrentTime => io::ErrorKind::Other,
        _ => io::ErrorKind::InvalidData,
    };
    let message = told(&reason);
    shared_error(kind, TlsError { message, reason })
}

/// What is said of a program's own certificates and keys, with which there can be no connection: `message`.
pub(super) fn unusable(message: impl Into<String>, reason: Reason) -> io::Error {
    let message = message.into();
    shared_error(io::ErrorKind::InvalidInput, TlsError { message, reason })
}

impl Error for TlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.reason)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// `main` shows an error in this way: the words stand in it too.
impl fmt::Debug for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsError")
            .field(&self.message)
            .field(&self.reason)
            .finish()
    }
}

fn told(reason: &Reason) -> String {
    match reason {
        Reason::InvalidCertificate(error) => {
            format!("the peer's certificate was refused: {}", refused(error))
        }
        Reason::NoCertificatesPresented => {
            "the peer was asked for a certificate, and has shown none".to_owned()
        }
        Reason::AlertReceived(alert) => {
            let why = given_up(*alert);
            format!("the peer has given up the TLS connection: {why}")
        }
        Reason::InvalidMessage(why) => {
            let why = words(&format!("{why:?}"));
            format!("what was received is no TLS, or damaged: {why}")
        }
        Reason::DecryptError => {
            "what was received cannot be decrypted: it was changed on its way".to_owned()
        }
        Reason::NoApplicationProtocol => {
            "the peer speaks none of the application protocols (ALPN)".to_owned()
        }
        Reason::PeerIncompatible(why) => {
            let why = incompatible(why);
            format!("the peer's TLS and ours have too little in common: {why}")
        }
        Reason::PeerMisbehaved(why) => {
            let why = words(&format!("{why:?}"));
            format!("the peer has broken TLS's rules: {why}")
        }
        other => format!("TLS has failed: {other}"),
    }
}

/// Why the peer has given up.
fn given_up(alert: AlertDescription) -> String {
    let why = match alert {
        AlertDescription::UnknownCA => "it does not trust the issuer of the certificate",
        AlertDescription::CertificateRequired => "it wants a certificate",
        AlertDescription::CertificateExpired => "the certificate has expired",
        AlertDescription::CertificateRevoked => "the certificate was revoked",
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "it does not accept the certificate"
        }
        AlertDescription::UnsupportedCertificate => "the certificate is not for this purpose",
        AlertDescription::ProtocolVersion => "it does not speak any of the versions of TLS",
        AlertDescription::NoApplicationProtocol => {
            "it speaks none of the application protocols that ALPN offers"
        }
        AlertDescription::UnrecognisedName => "it does not know the server's name",
        AlertDescription::AccessDenied => "it denies the access",
        other => return words(&format!("{other:?}")),
    };
    format!("{why} ({alert:?})")
}

/// What is missing between the two.
fn incompatible(why: &PeerIncompatible) -> String {
    let told = match why {
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired => {
            "it does not speak any of the versions of TLS"
        }
        PeerIncompatible::NoKxGroupsInCommon => "no way to exchange keys in common",
        other => return words(&format!("{other:?}")),
    };
    told.to_owned()
}

/// `HandshakeFailure` as `handshake failure`.
pub(super) fn words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 8);
    let mut before = ' ';
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
        before = letter;
    }
    words
}

#[cfg(test)]
mod tests {
    use rustls::{CertificateError, InvalidMessage};

    use super::*;

    #[test]
    fn reasons_are_told_in_words() {
        for (reason, expected) in [
            (
                Reason::InvalidCertificate(CertificateError::UnknownIssuer),
                "the peer's certificate was refused: nobody who is trusted has issued it",
            ),
            (
                Reason::AlertReceived(AlertDescription::CertificateRequired),
                "the peer has given up the TLS connection: it wants a certificate (CertificateRequired)",
            ),
            (
                Reason::AlertReceived(AlertDescription::NoApplicationProtocol),
                "the peer has given up the TLS connection: it speaks none of the application protocols that \
                 ALPN offers (NoApplicationProtocol)",
            ),
            (
                Reason::AlertReceived(AlertDescription::HandshakeFailure),
                "the peer has given up the TLS connection: handshake failure",
            ),
            (
                Reason::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
                "the peer's TLS and ours have too little in common: no cipher suites in common",
            ),
            (
                Reason::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled),
                "the peer's TLS and ours have too little in common: it does not speak any of the versions of \
                 TLS",
            ),
            (
                Reason::InvalidMessage(InvalidMessage::InvalidContentType),
                "what was received is no TLS, or damaged: invalid content type",
            ),
        ] {
            let error = failure(reason.clone());
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(error.to_string(), expected);
            let source = error.source().and_then(|source| source.downcast_ref());
            assert_eq!(source, Some(&reason));
        }
    }

    #[test]
    fn what_main_shows_has_the_words_and_the_reason() {
        let error = failure(Reason::InvalidCertificate(CertificateError::UnknownIssuer));
        assert_eq!(
            format!("{error:?}"),
            "Custom { kind: InvalidData, error: TlsError(\"the peer's certificate was refused: nobody who is \
             trusted has issued it\", InvalidCertificate(UnknownIssuer)) }"
        );
    }

    #[test]
    fn names_are_taken_apart_behind_digits_too() {
        assert_eq!(words("Tls12NotOffered"), "tls12 not offered");
        assert_eq!(words("UnknownCA"), "unknown ca");
    }
}
