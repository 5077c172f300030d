//! Command lines of the form `--name value --name value`.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// The flags of a command line that nobody has taken yet.
#[derive(Debug)]
pub struct Flags {
    /// Name without its dashes → value as it was typed.
    untaken: HashMap<String, String>,
}

/// A command line that the program cannot act on.
#[derive(Debug, PartialEq, Eq)]
pub enum FlagError {
    /// An argument stands where a `--name` was expected, or a name has no value after it.
    Stray(String),
    /// The program needs this flag.
    Missing(&'static str),
    /// The value is not of the flag's type.
    Invalid(&'static str, String),
    /// The program has no such flag.
    Unknown(String),
}

impl Flags {
    /// Reads the arguments of this process.
    pub fn from_command_line() -> Result<Self, FlagError> {
        Self::parse(std::env::args().skip(1))
    }

    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, FlagError> {
        let mut untaken = HashMap::new();
        while let Some(argument) = arguments.next() {
            match (argument.strip_prefix("--"), arguments.next()) {
                (Some(name), Some(value)) => untaken.insert(name.to_owned(), value),
                _ => return Err(FlagError::Stray(argument)),
            };
        }
        Ok(Self { untaken })
    }

    /// Takes a flag that may be absent.
    pub fn optional<T: FromStr>(&mut self, name: &'static str) -> Result<Option<T>, FlagError> {
        let Some(text) = self.untaken.remove(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(FlagError::Invalid(name, text)),
        }
    }

    /// Takes a flag that must be there.
    pub fn required<T: FromStr>(&mut self, name: &'static str) -> Result<T, FlagError> {
        self.optional(name)?.ok_or(FlagError::Missing(name))
    }

    /// Ends the reading: whatever was not taken is a mistake of the caller.
    pub fn finish(self) -> Result<(), FlagError> {
        match self.untaken.into_keys().next() {
            Some(name) => Err(FlagError::Unknown(name)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stray(argument) => write!(f, "expected --name value, found {argument:?}"),
            Self::Missing(name) => write!(f, "--{name} is required"),
            Self::Invalid(name, text) => write!(f, "--{name} cannot be {text:?}"),
            Self::Unknown(name) => write!(f, "there is no flag --{name}"),
        }
    }
}

impl Error for FlagError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Result<Flags, FlagError> {
        Flags::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn values_are_taken_by_name_and_type() -> Result<(), FlagError> {
        let mut flags = flags("--size 1024 --seconds 0.5")?;
        assert_eq!(flags.required::<f64>("seconds")?, 0.5);
        assert_eq!(flags.required::<usize>("size")?, 1024);
        assert_eq!(flags.optional::<usize>("core")?, None);
        flags.finish()
    }

    #[test]
    fn mistakes_are_named() -> Result<(), FlagError> {
        assert_eq!(flags("size").err(), Some(FlagError::Stray("size".into())));
        assert_eq!(
            flags("--size").err(),
            Some(FlagError::Stray("--size".into()))
        );
        let mut typed = flags("--size big --sice 1")?;
        assert_eq!(
            typed.required::<usize>("port"),
            Err(FlagError::Missing("port"))
        );
        assert_eq!(
            typed.required::<usize>("size"),
            Err(FlagError::Invalid("size", "big".into()))
        );
        assert_eq!(typed.finish(), Err(FlagError::Unknown("sice".into())));
        Ok(())
    }
}
