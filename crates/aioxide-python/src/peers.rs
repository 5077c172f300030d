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
//! An endpoint keeps the objects of the peers that have sent something, each in the set of four places that
//! its address is hashed to: of five that share a set, the one that came first goes. (With one place for each,
//! 3 of 16 peers shared theirs on average, and displaced each other with each datagram.) An answer to the object
//! that was given with the last datagram is known by that object's identity.
//!
//! # What it costs
//!
//! Up to 128 objects for each endpoint, of some 150 bytes, and the same object is given twice: `is` holds
//! where on asyncio's loop only `==` does.

use std::cell::{Cell, RefCell};
use std::mem;
use std::net::SocketAddr;

use aioxide::sys::address::SocketAddress;
use pyo3::prelude::*;

use crate::convert::address_to_python;

/// How many are kept; a power of two.
const PLACES: usize = 128;

/// Places that an address may be kept in.
const SET: usize = 4;

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

/// The first place of the set that an address is kept in; `None` for one that is not: other families have few peers, and larger
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
    // 2^32 divided by the golden ratio: neighbours end up far from each other, by the highest bits.
    let mixed = (ip ^ u32::from(address.port()) << 8).wrapping_mul(0x9E37_79B9);
    Some((mixed >> 24) as usize * PLACES / 256 / SET * SET)
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
        let found = {
            let known = self.known.borrow();
            let set = known.get(place..place + SET).unwrap_or_default();
            let is_it =
                |peer: &Option<Peer>| peer.as_ref().is_some_and(|peer| peer.address == *address);
            set.iter().position(is_it).and_then(|way| {
                let peer = set[way].as_ref()?;
                Some((way, peer.object.bind(py).clone()))
            })
        };
        if let Some((way, object)) = found {
            self.last.set(place + way);
            return Ok(object);
        }
        let object = address_to_python(py, address)?;
        let mut peer = Some(Peer {
            address: address.clone(),
            object: object.clone().unbind(),
        });
        {
            let mut known = self.known.borrow_mut();
            if known.is_empty() {
                known.resize_with(PLACES, || None);
            }
            for kept in &mut known[place..place + SET] {
                mem::swap(kept, &mut peer);
                if peer.is_none() {
                    break;
                }
            }
        }
        self.last.set(place);
        // The one that goes, with no borrow held.
        drop(peer);
        Ok(object)
    }

    /// The address that the object stands for which was given out last, if it is `object`.
    pub fn address(&self, object: &Bound<'_, PyAny>) -> Option<SocketAddress> {
        let known = self.known.borrow();
        let peer = known.get(self.last.get())?.as_ref()?;
        peer.object.is(object).then(|| peer.address.clone())
    }
}
