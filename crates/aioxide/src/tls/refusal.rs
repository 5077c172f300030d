//! Why there is no TLS connection, in plain words.

use std::error::Error;
use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error as Reason};

use crate::event_loop::native::shared_error;

/// A failure of TLS. Its `source` is rustls's error.
#[derive(Debug)]
struct TlsError(Reason);

/// What a failed operation says.
pub(super) fn failure(reason: Reason) -> io::Error {
    let kind = match &reason {
        Reason::General(_) | Reason::Other(_) => io::ErrorKind::Other,
        Reason::FailedToGetRandomBytes | Reason::FailedToGetCurrentTime => io::ErrorKind::Other,
        _ => io::ErrorKind::InvalidData,
    };
    shared_error(kind, TlsError(reason))
}

impl Error for TlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::InvalidCertificate(error) => {
                f.write_str("the peer's certificate was refused: ")?;
                refused(error, f)
            }
            Reason::NoCertificatesPresented => {
                f.write_str("the peer was asked for a certificate, and has shown none")
            }
            Reason::AlertReceived(alert) => {
                f.write_str("the peer has given up the TLS connection: ")?;
                given_up(*alert, f)
            }
            Reason::InvalidMessage(_) => {
                write!(f, "what was received is no TLS: {}", self.0)
            }
            Reason::DecryptError => {
                f.write_str("what was received cannot be decrypted: it was changed on its way")
            }
            Reason::NoApplicationProtocol => {
                f.write_str("the peer speaks none of the application protocols (ALPN)")
            }
            Reason::PeerIncompatible(why) => {
                write!(f, "the peer's TLS and ours have too little in common: ")?;
                words(&format!("{why:?}"), f)
            }
            Reason::PeerMisbehaved(why) => {
                write!(f, "the peer has broken TLS's rules: ")?;
                words(&format!("{why:?}"), f)
            }
            other => write!(f, "TLS has failed: {other}"),
        }
    }
}

/// Why a certificate was refused.
fn refused(error: &CertificateError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(match error {
        CertificateError::UnknownIssuer => "nobody who is trusted has issued it",
        CertificateError::Expired => "it has expired",
        CertificateError::NotValidYet => "it is not valid yet",
        CertificateError::Revoked => "it was revoked",
        CertificateError::UnknownRevocationStatus => "nobody knows whether it was revoked",
        CertificateError::BadEncoding => "it cannot be read",
        CertificateError::BadSignature => "a signature is wrong",
        CertificateError::NotValidForName => "it is not for the server's name",
        CertificateError::InvalidPurpose => "it is not for this purpose",
        CertificateError::ApplicationVerificationFailure => "the program has refused it",
        CertificateError::UnhandledCriticalExtension => {
            "it has an extension that must be understood, and is not"
        }
        CertificateError::Other(other) => return write!(f, "{other}"),
        // With its own words: what was expected, and what is there.
        other => return write!(f, "{other}"),
    })
}

/// Why the peer has given up.
fn given_up(alert: AlertDescription, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(match alert {
        AlertDescription::UnknownCA => "it does not trust the issuer of the certificate",
        AlertDescription::CertificateRequired => "it wants a certificate",
        AlertDescription::CertificateExpired => "the certificate has expired",
        AlertDescription::CertificateRevoked => "the certificate was revoked",
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "it does not accept the certificate"
        }
        AlertDescription::ProtocolVersion => "it does not speak any of the versions of TLS",
        AlertDescription::NoApplicationProtocol => {
            "it speaks none of the application protocols (ALPN)"
        }
        AlertDescription::UnrecognisedName => "it does not know the server's name",
        AlertDescription::AccessDenied => "it denies the access",
        other => return words(&format!("{other:?}"), f),
    })?;
    write!(f, " ({alert:?})")
}

/// `HandshakeFailure` as `handshake failure`.
fn words(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 && name[..index].ends_with(char::is_lowercase) {
            f.write_str(" ")?;
        }
        write!(f, "{}", letter.to_ascii_lowercase())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
                Reason::AlertReceived(AlertDescription::HandshakeFailure),
                "the peer has given up the TLS connection: handshake failure",
            ),
            (
                Reason::PeerIncompatible(rustls::PeerIncompatible::NoCipherSuitesInCommon),
                "the peer's TLS and ours have too little in common: no cipher suites in common",
            ),
        ] {
            let error = failure(reason.clone());
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(error.to_string(), expected);
            let source = error.source().and_then(|source| source.downcast_ref());
            assert_eq!(source, Some(&reason));
        }
    }
}
