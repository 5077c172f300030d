//! As much of HTTP/1.1 as a fixed request and its answers need.

use crate::failure::Failure;

/// The request that is sent over and over; the connection is kept by default.
pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";

/// What a body consists of, over and over, cut off at its length.
const GREETING: &[u8] = b"Hello, world!";

/// The longest head that a server may send.
const HEAD: usize = 8 * 1024;

/// One response, as it comes in.
#[derive(Default)]
pub struct Response {
    /// What has come of the head; kept until the response is complete.
    head: Vec<u8>,
    /// Where the body begins, once the head is complete.
    has_head: bool,
    /// Bytes of the body that have come.
    body: usize,
}

impl Response {
    /// Another response is expected.
    pub fn clear(&mut self) {
        self.head.clear();
        self.has_head = false;
        self.body = 0;
    }

    /// Whether all of it has come.
    pub fn is_complete(&self, size: usize) -> bool {
        self.has_head && self.body == size
    }

    /// Takes what has come, of a response with a body of `size` bytes.
    pub fn take(
        &mut self,
        mut bytes: &[u8],
        size: usize,
        connection: usize,
    ) -> Result<(), Failure> {
        let bad = |why| Failure::BadResponse { connection, why };
        if bytes.is_empty() {
            return Err(bad("the server closed the connection"));
        }
        if !self.has_head {
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            let Some(end) = end_of_head(&self.head) else {
                return match self.head.len() > HEAD {
                    true => Err(bad("its head does not end")),
                    false => Ok(()),
                };
            };
            check_head(&self.head[..end], size).map_err(bad)?;
            bytes = &bytes[end - before..];
            self.has_head = true;
        }
        let expected = GREETING.iter().cycle().skip(self.body % GREETING.len());
        if bytes.len() > size - self.body {
            return Err(bad("its body is longer than it says"));
        }
        if !bytes.iter().eq(expected.take(bytes.len())) {
            return Err(bad("its body is not the greeting"));
        }
        self.body += bytes.len();
        Ok(())
    }
}

/// Where the body begins.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mark = b"\r\n\r\n";
    let at = bytes.windows(mark.len()).position(|found| found == mark)?;
    Some(at + mark.len())
}

/// What is wrong with a head, if something is.
fn check_head(head: &[u8], size: usize) -> Result<(), &'static str> {
    let head = std::str::from_utf8(head).map_err(|_| "its head is not text")?;
    let mut lines = head.split("\r\n");
    if !lines
        .next()
        .is_some_and(|line| line.starts_with("HTTP/1.1 200 "))
    {
        return Err("its status is not 200");
    }
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok());
    match length {
        Some(length) if size == length => Ok(()),
        _ => Err("its content-length is not the body's"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &[u8] =
        b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 13\r\n\r\nHello, world!";

    #[test]
    fn a_response_may_come_in_any_pieces() -> Result<(), Failure> {
        for piece in 1..=HELLO.len() {
            let mut response = Response::default();
            for bytes in HELLO.chunks(piece) {
                assert!(!response.is_complete(13));
                response.take(bytes, 13, 0)?;
            }
            assert!(response.is_complete(13));
        }
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_noticed() {
        for wrong in [
            "HTTP/1.1 500 Oops\r\nContent-Length: 13\r\n\r\nHello, world!",
            "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nHello, world",
            "HTTP/1.1 200 OK\r\n\r\nHello, world!",
            "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!",
            "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, world!!",
            "",
        ] {
            let mut response = Response::default();
            assert!(response.take(wrong.as_bytes(), 13, 0).is_err(), "{wrong}");
        }
    }
}
