//! Addresses of peers as Python objects, kept for the next datagram.
//!
//! # Facts
//!
//! A datagram comes with an address, and the answer goes to it. Making a pair of a text and a number,
//! and reading it again, takes longer than all else that is done with a datagram above the kernel.
//! Peers come again, and such an object never changes.
//!
//! # What was chosen
//!
//! An endpoint keeps the objects of the peers that have sent something, each in the place that its
//! address is hashed to: of two that share a place, the last one stays. An answer to the object that
//! was given with the last datagram is known by that object's identity.
//!
//! # What it costs
//!
//! Up to 64 objects for each endpoint, of some 150 bytes, and the same object is given twice: `is` holds
//! where on asyncio's loop only `==` does.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;

use aioxide::sys::address::SocketAddress;
use pyo3::prelude::*;

use crate::convert::address_to_python;

/// How many are kept; a power of two.
const PLACES: usize = 64;

/// The addresses of those who have sent to an endpoint. The objects are texts and numbers and tuples of
/// them, which refer to nothing else: no circle leads through here.
#[derive(Default)]
pub struct Peers {
    /// Empty until the first datagram comes.
    known: RefCell<Vec<Option<Peer>>>,
    /// Whose object was given out last.
    last: Cell<usize>,
}

struct Peer {
    address: SocketAddress,
    object: Py<PyAny>,
}

/// Where an address is kept; `None` for one that is not: other families have few peers, and larger
/// addresses.
fn place(address: &SocketAddress) -> Option<usize> {
    let SocketAddress::Ip(address) = address else {
        return None;
    };
    let ip = match address {
        SocketAddr::V4(address) => address.ip().to_bits(),
        SocketAddr::V6(address) => {
            let bits = address.ip().to_bits();
            (bits ^ bits >> 32 ^ bits >> 64 ^ bits >> 96) as u32
        }
    };
    let mixed = (ip ^ u32::from(address.port()) << 8).wrapping_mul(0x9E37_79B9);
    Some((mixed >> 24) as usize % PLACES)
}

impl Peers {
    /// The object for an address.
    pub fn object<'py>(
        &self,
        py: Python<'py>,
        address: &SocketAddress,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(place) = place(address) else {
            return address_to_python(py, address);
        };
        self.last.set(place);
        if let Some(Some(peer)) = self.known.borrow().get(place)
            && peer.address == *address
        {
            return Ok(peer.object.bind(py).clone());
        }
        let object = address_to_python(py, address)?;
        let peer = Peer {
            address: address.clone(),
            object: object.clone().unbind(),
        };
        let before = {
            let mut known = self.known.borrow_mut();
            if known.is_empty() {
                known.resize_with(PLACES, || None);
            }
            known[place].replace(peer)
        };
        drop(before);
        Ok(object)
    }

    /// The address that the object stands for which was given out last, if it is `object`.
    pub fn address(&self, object: &Bound<'_, PyAny>) -> Option<SocketAddress> {
        let known = self.known.borrow();
        let peer = known.get(self.last.get())?.as_ref()?;
        peer.object.is(object).then(|| peer.address.clone())
    }
}
