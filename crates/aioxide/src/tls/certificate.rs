//! Why a certificate is refused, in words.
//!
//! rustls has words for some of its reasons and gives the names of its variants for the others, among them
//! those that it passes on from webpki. These are what a program's user reads, so each that is likely has
//! a sentence here; the names of the others are taken apart.

use rustls::{CertificateError, ExtendedKeyPurpose};

use super::refusal::words;

/// Names of a certificate that are told; of more, how many there are.
const NAMES: usize = 8;

/// Seconds.
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// What is wrong with a certificate.
pub(super) fn refused(error: &CertificateError) -> String {
    let told = match error {
        CertificateError::UnknownIssuer => "nobody who is trusted has issued it",
        CertificateError::Expired => "it has expired",
        CertificateError::ExpiredContext { time, not_after } => {
            let ago = span(time.as_secs().saturating_sub(not_after.as_secs()));
            return format!("it has expired, {ago} ago by this machine's clock");
        }
        CertificateError::NotValidYet => "it is not valid yet",
        CertificateError::NotValidYetContext { time, not_before } => {
            let ahead = span(not_before.as_secs().saturating_sub(time.as_secs()));
            return format!("it is not valid yet, but in {ahead} by this machine's clock");
        }
        CertificateError::Revoked => "it was revoked",
        CertificateError::UnknownRevocationStatus => "nobody knows whether it was revoked",
        CertificateError::ExpiredRevocationList => "the list of what was revoked has expired",
        CertificateError::ExpiredRevocationListContext { time, next_update } => {
            let ago = span(time.as_secs().saturating_sub(next_update.as_secs()));
            return format!("the list of what was revoked has expired, {ago} ago");
        }
        CertificateError::InvalidOcspResponse => "what came with it about its revocation is wrong",
        CertificateError::BadEncoding => "it cannot be read",
        CertificateError::BadSignature => "a signature is wrong",
        CertificateError::UnsupportedSignatureAlgorithmContext { .. } => {
            "it is signed with an algorithm that is not supported"
        }
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed with a kind of key that is not supported, or not with this algorithm"
        }
        CertificateError::NotValidForName => "it is not for the server's name",
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let expected = expected.to_str();
            return match listed(presented) {
                None => format!("it is not for {expected}, nor for any other name"),
                Some(names) => format!("it is not for {expected}, but for {names}"),
            };
        }
        CertificateError::InvalidPurpose => "it is not for this purpose",
        CertificateError::InvalidPurposeContext {
            required,
            presented,
        } => return wrong_purpose(required, presented),
        CertificateError::ApplicationVerificationFailure => "the program has refused it",
        CertificateError::UnhandledCriticalExtension => EXTENSION,
        CertificateError::Other(other) => return unnamed(&other.to_string()),
        other => return unnamed(&other.to_string()),
    };
    told.to_owned()
}

const EXTENSION: &str = "it has an extension that must be understood, and is not";

/// The reasons that have no variant in rustls. webpki says its names for them; a verifier of the program's
/// own says what it likes.
fn unnamed(said: &str) -> String {
    let told = match said {
        "CaUsedAsEndEntity" => {
            "it is an authority's own certificate (CA:TRUE), which cannot be that of a server or a client"
        }
        "EndEntityUsedAsCa" => "who has issued it is no authority (CA:FALSE)",
        "NameConstraintViolation" => "its issuer may not issue certificates for such a name",
        "PathLenConstraintViolated" | "MaximumPathDepthExceeded" => {
            "there are more issuers between it and one who is trusted than may be"
        }
        "UnsupportedCertVersion" => {
            "it is of an old version of X.509, and has to be of version 3: give it extensions"
        }
        "UnsupportedCriticalExtension" => EXTENSION,
        "SignatureAlgorithmMismatch" => "it names two different algorithms for its signature",
        "InvalidSerialNumber" => "its serial number is not valid",
        "MalformedExtensions" | "ExtensionValueInvalid" | "EmptyEkuExtension" => {
            "an extension in it is not valid"
        }
        "MalformedDnsIdentifier" | "MalformedNameConstraint" => "a name in it is not valid",
        "UnsupportedSignatureAlgorithm" => "it is signed with an algorithm that is not supported",
        said if is_name(said) => return words(said),
        said => said,
    };
    told.to_owned()
}

/// Whether this is the name of a variant, and no sentence.
fn is_name(said: &str) -> bool {
    said.starts_with(|first: char| first.is_ascii_uppercase())
        && said.chars().all(|letter| letter.is_ascii_alphanumeric())
}

fn wrong_purpose(required: &ExtendedKeyPurpose, presented: &[ExtendedKeyPurpose]) -> String {
    let presented: Vec<String> = presented.iter().map(ToString::to_string).collect();
    match listed(&presented) {
        None => format!("it is not for {required}"),
        Some(others) => format!("it is not for {required}, but for {others}"),
    }
}

/// `a, b and c`, or fewer and how many more; `None` when there are none. webpki writes a name with its kind,
/// as `DnsName("a")`.
fn listed(names: &[String]) -> Option<String> {
    let bare = |name: &String| {
        let inside = name
            .split_once('(')
            .and_then(|(_, rest)| rest.strip_suffix(')'));
        let name = inside.unwrap_or(name).trim_matches('"');
        // It is the peer's text.
        name.escape_debug().to_string()
    };
    let mut told: Vec<String> = names.iter().take(NAMES).map(bare).collect();
    if names.len() > NAMES {
        told.push(format!("{} more", names.len() - NAMES));
    }
    let last = told.pop()?;
    Some(match told.as_slice() {
        [] => last,
        others => format!("{} and {last}", others.join(", ")),
    })
}

/// A time in the largest unit of which there are two.
fn span(seconds: u64) -> String {
    let (unit, name) = match seconds {
        1 => return "1 second".to_owned(),
        _ if seconds >= 2 * DAY => (DAY, "days"),
        _ if seconds >= 2 * HOUR => (HOUR, "hours"),
        _ if seconds >= 2 * MINUTE => (MINUTE, "minutes"),
        _ => (1, "seconds"),
    };
    format!("{} {name}", seconds / unit)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::OtherError;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    #[test]
    fn a_time_is_told_in_its_largest_unit() {
        for (seconds, expected) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (7199, "119 minutes"),
            (7200, "2 hours"),
            (2 * DAY - 1, "47 hours"),
            (2 * DAY, "2 days"),
            (9000 * DAY + 5, "9000 days"),
        ] {
            assert_eq!(span(seconds), expected);
        }
    }

    #[test]
    fn an_expired_certificate_says_for_how_long() {
        let at = |days| UnixTime::since_unix_epoch(Duration::from_secs(days * DAY));
        let expired = CertificateError::ExpiredContext {
            time: at(1000),
            not_after: at(993),
        };
        assert_eq!(
            refused(&expired),
            "it has expired, 7 days ago by this machine's clock"
        );
        let early = CertificateError::NotValidYetContext {
            time: at(1000),
            not_before: at(1003),
        };
        assert_eq!(
            refused(&early),
            "it is not valid yet, but in 3 days by this machine's clock"
        );
    }

    #[test]
    fn names_are_listed_without_their_kinds_and_without_control_characters() {
        let wrong = |presented: &[&str]| {
            refused(&CertificateError::NotValidForNameContext {
                expected: ServerName::try_from("example.org").unwrap(),
                presented: presented.iter().map(|name| (*name).to_owned()).collect(),
            })
        };
        assert_eq!(
            wrong(&[]),
            "it is not for example.org, nor for any other name"
        );
        assert_eq!(
            wrong(&[r#"DnsName("a.org")"#]),
            "it is not for example.org, but for a.org"
        );
        assert_eq!(
            wrong(&[
                r#"DnsName("a.org")"#,
                "IpAddress(127.0.0.1)",
                "DnsName(\"b\nc\")"
            ]),
            r"it is not for example.org, but for a.org, 127.0.0.1 and b\nc"
        );
        let many = ["x"; 20];
        assert!(
            wrong(&many).ends_with("x, x and 12 more"),
            "{}",
            wrong(&many)
        );
    }

    #[test]
    fn a_wrong_purpose_is_told_with_the_right_ones() {
        let error = CertificateError::InvalidPurposeContext {
            required: ExtendedKeyPurpose::ClientAuth,
            presented: vec![ExtendedKeyPurpose::ServerAuth],
        };
        assert_eq!(
            refused(&error),
            "it is not for client authentication, but for server authentication"
        );
    }

    #[test]
    fn what_has_no_variant_is_told_in_words_too() {
        let other = |said: &'static str| {
            let said: Box<dyn std::error::Error + Send + Sync> = said.into();
            refused(&CertificateError::Other(OtherError(Arc::from(said))))
        };
        assert!(other("CaUsedAsEndEntity").contains("(CA:TRUE)"));
        assert!(other("UnsupportedCertVersion").contains("version 3"));
        assert_eq!(other("CertDistrusted"), "cert distrusted");
        assert_eq!(other("I do not like it"), "I do not like it");
        assert_eq!(other("no."), "no.");
    }
}
