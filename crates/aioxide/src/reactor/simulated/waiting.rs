//! The operations that wait.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::RawFd;

use crate::reactor::{Op, Side, Token};

/// What waits on which side of which descriptor. An ordered map: what the seed shuffles must be in
/// the same order in every run.
#[derive(Debug, Default)]
pub(super) struct Waiting(BTreeMap<(RawFd, bool), (Op, Token)>);

/// The map's key; [`Side`] has no order.
fn key(fd: RawFd, side: Side) -> (RawFd, bool) {
    (fd, side == Side::Write)
}

impl Waiting {
    pub(super) fn start(&mut self, fd: RawFd, op: Op, token: Token) -> io::Result<()> {
        let key = key(fd, op.side());
        if self.0.contains_key(&key) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.0.insert(key, (op, token));
        Ok(())
    }

    /// The operation that no longer waits.
    pub(super) fn stop(&mut self, fd: RawFd, side: Side) -> Option<Op> {
        self.0.remove(&key(fd, side)).map(|(op, _)| op)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (RawFd, Op, Token)> + '_ {
        self.0
            .iter()
            .map(|((fd, _), (op, token))| (*fd, *op, *token))
    }
}

/// For the message of a loop that would sleep for ever.
impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no operation waits");
        }
        for (index, (fd, op, _)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{op:?} waits on {fd}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_operation_waits_on_each_side() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.to_string(), "no operation waits");
        assert!(waiting.start(5, Op::Receive, Token(1)).is_ok());
        assert!(waiting.start(5, Op::Send, Token(2)).is_ok());
        let twice = waiting
            .start(5, Op::PollRead, Token(3))
            .map_err(|error| error.kind());
        assert_eq!(twice, Err(io::ErrorKind::AlreadyExists));
        assert_eq!(waiting.to_string(), "Receive waits on 5, Send waits on 5");
        assert_eq!(waiting.stop(5, Side::Read), Some(Op::Receive));
        assert_eq!(waiting.stop(5, Side::Read), None);
        assert_eq!(waiting.count(), 1);
    }
}
