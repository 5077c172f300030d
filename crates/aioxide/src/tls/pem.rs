//! Certificates and keys in PEM: text in sections, each between a line `BEGIN` and a line `END`.

use std::io;

use memchr::memmem;
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// All certificates, as they stand. What else is in the text is passed over.
///
/// # Errors
/// `InvalidInput`: `none`, when there is no certificate; what is wrong with the text.
pub(super) fn certificates(pem: &[u8], none: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(missing(pem, none)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unreadable("certificates", &error)),
    }
}

/// The first private key.
///
/// # Errors
/// `InvalidInput`: when there is none, or it is encrypted; what is wrong with the text.
pub(super) fn private_key(pem: &[u8]) -> io::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        // In the line that begins it, or, in the old form, in one below.
        if memmem::find(pem, b"ENCRYPTED").is_some() {
            return invalid(
                "the private key is encrypted: it has to be decrypted before".to_owned(),
            );
        }
        match error {
            Error::NoItemsFound => missing(pem, "there is no private key"),
            error => unreadable("private key", &error),
        }
    })
}

fn missing(pem: &[u8], none: &str) -> io::Error {
    invalid(match memmem::find(pem, b"-----BEGIN") {
        Some(_) => none.to_owned(),
        None => format!("{none}: what was given is no PEM"),
    })
}

fn unreadable(what: &str, error: &Error) -> io::Error {
    let why = match error {
        Error::MissingSectionEnd { .. } => "a section has no END".to_owned(),
        Error::IllegalSectionStart { line } => {
            let line = String::from_utf8_lossy(line);
            format!("a section does not begin well, but with {line:?}")
        }
        Error::Base64Decode(_) => "a section is damaged, it is no Base64".to_owned(),
        other => other.to_string(),
    };
    invalid(format!("the PEM text of the {what} cannot be read: {why}"))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
