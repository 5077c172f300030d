//! What the requests contain.
//!
//! All requests are windows into one block of pseudo-random bytes, so they cost no copy and little
//! cache. Where the window starts depends on the connection and on the request's number: a reply
//! that belongs to another connection or to an earlier request, or that lost or gained a byte,
//! differs from what is expected almost everywhere.

use crate::http::REQUEST;

/// Places at which a window may start.
const STARTS: usize = 4096;

/// Distance of two connections' windows, and of a connection's successive windows, in bytes. Odd,
/// so that a sequence of them visits every start before it repeats.
const CONNECTION_STEP: usize = 577;
const REQUEST_STEP: usize = 89;

/// The block of bytes that all requests are windows into.
pub struct Payload {
    block: Vec<u8>,
    size: usize,
    /// The bytes of a response's body, if that is what comes back.
    body: Option<usize>,
}

impl Payload {
    /// For requests of `size` bytes.
    pub fn new(size: usize) -> Self {
        // Marsaglia's xorshift64 from a fixed seed: every run sends the same bytes.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let block = (0..STARTS + size)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        Self {
            block,
            size,
            body: None,
        }
    }

    /// One request of HTTP for all, whose responses have a body of this size.
    pub fn http(body: usize) -> Self {
        Self {
            block: REQUEST.to_vec(),
            size: REQUEST.len(),
            body: Some(body),
        }
    }

    /// The bytes of a response's body; none where an echo comes back.
    pub fn body(&self) -> Option<usize> {
        self.body
    }

    /// The contents of one request, and of its reply.
    pub fn request(&self, connection: usize, number: usize) -> &[u8] {
        if self.body.is_some() {
            return &self.block;
        }
        let start = connection
            .wrapping_mul(CONNECTION_STEP)
            .wrapping_add(number.wrapping_mul(REQUEST_STEP))
            % STARTS;
        &self.block[start..start + self.size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_size_and_differ_from_their_neighbours() {
        let payload = Payload::new(1024);
        let request = payload.request(3, 7);
        assert_eq!(request.len(), 1024);
        assert_ne!(request, payload.request(3, 8));
        assert_ne!(request, payload.request(4, 7));
        assert_eq!(request, payload.request(3, 7 + STARTS));
    }
}
