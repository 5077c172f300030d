//! How a read fails.

use std::fmt;
use std::io;

/// Why a read gives no bytes.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The end came first. Nothing is left in the reader.
    IncompleteRead {
        /// What came before it.
        partial: Vec<u8>,
        /// How many bytes were asked for; `None` when it was a separator.
        expected: Option<usize>,
    },
    /// More bytes than the reader's limit stand before the separator.
    LimitOverrun {
        /// How many bytes it is safe to read without splitting a separator.
        consumed: usize,
    },
    /// The connection has failed, or the call was wrong (`InvalidInput`).
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::IncompleteRead { partial, expected } => {
                let read = partial.len();
                match expected {
                    Some(expected) => write!(f, "the end came after {read} of {expected} bytes"),
                    None => write!(f, "the end came after {read} bytes, before a separator"),
                }
            }
            ReadError::LimitOverrun { consumed } => {
                write!(
                    f,
                    "{consumed} bytes came before a separator: more than the limit"
                )
            }
            ReadError::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        ReadError::Io(error)
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match error {
            ReadError::IncompleteRead { .. } => io::ErrorKind::UnexpectedEof,
            ReadError::LimitOverrun { .. } => io::ErrorKind::InvalidData,
            ReadError::Io(error) => return error,
        };
        io::Error::new(kind, error)
    }
}
