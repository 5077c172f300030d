//! Why an address did not do.

use std::error::Error;
use std::fmt;
use std::io;

use crate::sys::address::SocketAddress;

/// Why one address did not do.
#[derive(Debug)]
pub struct AddressError {
    /// Where it failed.
    pub stage: Stage,
    /// The address.
    pub address: SocketAddress,
    /// What the kernel said.
    pub error: io::Error,
}

/// The steps on the way to a usable socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Making the socket.
    Open,
    /// Setting an option on it.
    Option,
    /// Giving it its own address.
    Bind,
    /// No local address is of the remote one's family.
    NoLocalAddress,
    /// Beginning to connect it: there is no way to the address.
    Begin,
    /// Connecting it: the peer has refused, or not answered.
    Connect,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AddressError {
            stage,
            address,
            error,
        } = self;
        match stage {
            Stage::Open => write!(f, "no socket for {address}: {error}"),
            Stage::Option => write!(f, "no such option for a socket of {address}: {error}"),
            Stage::Bind => write!(f, "cannot bind to {address}: {error}"),
            Stage::NoLocalAddress => write!(f, "no local address of the family of {address}"),
            Stage::Begin | Stage::Connect => write!(f, "cannot connect to {address}: {error}"),
        }
    }
}

impl Error for AddressError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Why no address did: an error for each that was tried, in the order of the addresses. (asyncio's
/// `all_errors`.)
///
/// The [`io::Error`]s of `create_connection` and `create_server` have it inside. Their kind is
/// that of the first one.
///
/// ```
/// # use aioxide::{AddressErrors, ConnectOptions, Protocol};
/// # struct Client;
/// # impl Protocol for Client {}
/// # async fn program() -> std::io::Result<()> {
/// let event_loop = aioxide::running()?;
/// let options = ConnectOptions::default();
/// let connected = event_loop.create_connection(|| Client, "127.0.0.1", 9, &options).await;
/// if let Err(error) = connected {
///     for failed in AddressErrors::of(&error).map_or(&[][..], AddressErrors::errors) {
///         println!("{}: {}", failed.address, failed.error);
///     }
/// }
/// # Ok(())
/// # }
/// # aioxide::run(program())??;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct AddressErrors(pub(super) Vec<AddressError>);

impl AddressErrors {
    /// What is inside `error`, if it was made of this.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&AddressErrors> {
        error.get_ref()?.downcast_ref()
    }

    /// The errors; none when there was no address.
    #[must_use]
    pub fn errors(&self) -> &[AddressError] {
        &self.0
    }
}

impl fmt::Display for AddressErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.0.split_first() else {
            return f.write_str("no address was found");
        };
        write!(f, "{first}")?;
        others.iter().try_for_each(|error| write!(f, "; {error}"))
    }
}

impl Error for AddressErrors {
    /// The first one.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.first().map(|error| error as &dyn Error)
    }
}

impl From<AddressErrors> for io::Error {
    fn from(errors: AddressErrors) -> Self {
        let kind = errors
            .0
            .first()
            .map_or(io::ErrorKind::AddrNotAvailable, |error| error.error.kind());
        io::Error::new(kind, errors)
    }
}

impl From<AddressError> for io::Error {
    fn from(error: AddressError) -> Self {
        AddressErrors(vec![error]).into()
    }
}
