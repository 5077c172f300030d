//! Bytes that wait to be sent.
//!
//! Small pieces are copied together, so that many of them leave in one piece; large ones, and a small
//! one that stays alone, are kept as they are and sent from where they lie. What is queued is ours: a caller's buffer that changes
//! later changes nothing here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

/// Pieces of at least this many bytes are kept instead of copied. Copying 4 KiB takes about as
/// long as keeping a reference and sending one more slice.
pub const KEEP: usize = 4 * 1024;

/// Copied pieces are put together up to this many bytes, so that a growing buffer is never moved
/// for long.
pub const CHUNK: usize = 64 * 1024;

/// The most slices of one send. The kernel's own limit is 1,024 (`UIO_MAXIOV`); few queues have
/// more than a handful, and the array lies on the stack.
pub const MAX_SLICES: usize = 16;

/// Queues whose memory is kept: as many connections as are answered in one iteration of a busy loop.
const SPARES: usize = 64;

/// The memory of queues, shared by the queues of a loop: nearly every piece is sent at once, or at the end of the
/// iteration, and no idle queue holds any.
pub struct Spare<P> {
    /// For one copied piece.
    bytes: Cell<Vec<u8>>,
    /// For the pieces of queues, at most [`SPARES`]. Invariant: they have none.
    #[expect(clippy::vec_box, reason = "a queue takes the box as it is")]
    pieces: RefCell<Vec<Box<Pieces<P>>>>,
}

impl<P> Default for Spare<P> {
    fn default() -> Self {
        Spare {
            bytes: Cell::default(),
            pieces: RefCell::default(),
        }
    }
}

/// The queue of one transport. `P` are bytes that are kept without copying.
pub struct WriteQueue<P> {
    spare: Rc<Spare<P>>,
    /// `None` when there are none.
    pieces: Option<Box<Pieces<P>>>,
}

/// What is queued.
struct Pieces<P> {
    queue: VecDeque<Piece<P>>,
    /// Bytes in all pieces that were not sent yet.
    size: usize,
}

/// Bytes that lie together.
pub struct Piece<P> {
    bytes: Bytes<P>,
    /// How many of them were sent.
    sent: usize,
}

enum Bytes<P> {
    Copied(Vec<u8>),
    Kept(P),
}

impl<P: AsRef<[u8]>> Piece<P> {
    /// What was not sent yet.
    pub fn unsent(&self) -> &[u8] {
        let bytes = match &self.bytes {
            Bytes::Copied(bytes) => bytes,
            Bytes::Kept(bytes) => bytes.as_ref(),
        };
        bytes.get(self.sent..).unwrap_or_default()
    }

    /// `count` more bytes were sent.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
    }
}

impl<P: AsRef<[u8]>> WriteQueue<P> {
    /// An empty queue.
    #[must_use]
    pub fn new(spare: Rc<Spare<P>>) -> WriteQueue<P> {
        WriteQueue {
            spare,
            pieces: None,
        }
    }

    /// The pieces, to add one.
    fn pieces(&mut self) -> &mut Pieces<P> {
        self.pieces.get_or_insert_with(|| {
            self.spare.pieces.borrow_mut().pop().unwrap_or_else(|| {
                Box::new(Pieces {
                    queue: VecDeque::new(),
                    size: 0,
                })
            })
        })
    }

    /// Takes the first piece, unless there is none. The queue's memory goes with the last one.
    fn pop_front(&mut self) -> Option<Piece<P>> {
        let pieces = self.pieces.as_mut()?;
        let piece = pieces.queue.pop_front();
        if pieces.queue.is_empty() {
            self.give_back_memory();
        }
        piece
    }

    /// There are no pieces: another queue may have their memory.
    fn give_back_memory(&mut self) {
        let emptied = self.pieces.take();
        let mut spares = self.spare.pieces.borrow_mut();
        if spares.len() < SPARES {
            spares.extend(emptied.filter(|pieces| pieces.queue.capacity() <= MAX_SLICES));
        }
    }

    /// Queues a copy of `bytes` if the last piece has room for it, and not more than `limit` bytes wait then.
    #[inline]
    pub fn append(&mut self, bytes: &[u8], limit: usize) -> bool {
        let Some(pieces) = &mut self.pieces else {
            return false;
        };
        let Some(Piece {
            bytes: Bytes::Copied(tail),
            ..
        }) = pieces.queue.back_mut()
        else {
            return false;
        };
        let room = tail.capacity().min(CHUNK).saturating_sub(tail.len());
        if bytes.len() > room || pieces.size + bytes.len() > limit {
            return false;
        }
        tail.extend_from_slice(bytes);
        pieces.size += bytes.len();
        true
    }

    /// Queues a copy of `bytes`, behind what is small and queued already in one piece.
    pub fn copy(&mut self, bytes: &[u8]) {
        let spare = Rc::clone(&self.spare);
        let pieces = self.pieces();
        pieces.size += bytes.len();
        let tail = pieces.queue.back_mut();
        if let Some(Piece {
            bytes: Bytes::Copied(tail),
            ..
        }) = tail
            && tail.len() + bytes.len() <= CHUNK
        {
            tail.extend_from_slice(bytes);
            return;
        }
        let mut memory = spare.bytes.take();
        if let Some(tail) = pieces.queue.back()
            && matches!(tail.bytes, Bytes::Kept(_))
            && tail.unsent().len() < KEEP
        {
            memory.extend_from_slice(tail.unsent());
            pieces.queue.pop_back();
        }
        memory.extend_from_slice(bytes);
        pieces.queue.push_back(Piece {
            bytes: Bytes::Copied(memory),
            sent: 0,
        });
    }

    /// Queues `bytes` but for the first `sent` of them.
    pub fn keep(&mut self, bytes: P, sent: usize) {
        let pieces = self.pieces();
        pieces.size += bytes.as_ref().len().saturating_sub(sent);
        pieces.queue.push_back(Piece {
            bytes: Bytes::Kept(bytes),
            sent,
        });
    }

    /// Takes `count` bytes off the front: they were sent.
    pub fn advance(&mut self, mut count: usize) {
        while let Some(pieces) = &mut self.pieces
            && let Some(front) = pieces.queue.front_mut()
        {
            let unsent = front.unsent().len();
            pieces.size = pieces.size.saturating_sub(count.min(unsent));
            if count < unsent {
                front.sent += count;
                return;
            }
            count -= unsent;
            if let Some(piece) = self.pop_front() {
                self.reuse(piece);
            }
        }
    }

    /// Takes the only piece off: all of it was sent.
    pub fn sent_only_piece(&mut self) {
        let Some(pieces) = &mut self.pieces else {
            return;
        };
        pieces.size = 0;
        let only = pieces.queue.pop_front();
        self.give_back_memory();
        if let Some(only) = only {
            self.reuse(only);
        }
    }

    /// Keeps the memory of a piece that was sent for the next one.
    fn reuse(&self, piece: Piece<P>) {
        if let Bytes::Copied(mut memory) = piece.bytes
            && memory.capacity() <= CHUNK
        {
            memory.clear();
            self.spare.bytes.set(memory);
        }
    }

    /// Takes the front piece out, to send it while the queue may be written to.
    pub fn pop(&mut self) -> Option<Piece<P>> {
        let pieces = self.pieces.as_mut()?;
        let first = pieces.queue.front()?.unsent().len();
        pieces.size = pieces.size.saturating_sub(first);
        self.pop_front()
    }

    /// Queues a copy of `bytes` in front of everything else.
    pub fn copy_first(&mut self, bytes: &[u8]) {
        self.put_back(Piece {
            bytes: Bytes::Copied(bytes.to_vec()),
            sent: 0,
        });
    }

    /// Queues `bytes`, but for the first `sent` of them, in front of everything else.
    pub fn keep_first(&mut self, bytes: P, sent: usize) {
        self.put_back(Piece {
            bytes: Bytes::Kept(bytes),
            sent,
        });
    }

    /// Puts what was not sent of a piece back to the front.
    pub fn put_back(&mut self, piece: Piece<P>) {
        let left = piece.unsent().len();
        if left > 0 {
            let pieces = self.pieces();
            pieces.size += left;
            pieces.queue.push_front(piece);
        } else {
            self.reuse(piece);
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.pieces = None;
    }

    /// Fills `slices` with the front of the queue; how many it filled. The last one is left for
    /// what the caller has to add.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut count = 0;
        let pieces = self.pieces.iter().flat_map(|pieces| &pieces.queue);
        for (slice, piece) in slices[..MAX_SLICES - 1].iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece.unsent());
            count += 1;
        }
        count
    }

    /// The queue's only piece, if it has one.
    pub fn only_piece(&self) -> Option<&[u8]> {
        let queue = &self.pieces.as_ref()?.queue;
        let only = queue.front().filter(|_| queue.len() == 1);
        only.map(Piece::unsent)
    }

    /// Whether [`slices`](WriteQueue::slices) gives the whole queue.
    pub fn fits_slices(&self) -> bool {
        let pieces = self.pieces.as_ref();
        pieces.is_none_or(|pieces| pieces.queue.len() < MAX_SLICES)
    }

    /// Bytes that were not sent yet.
    pub fn len(&self) -> usize {
        self.pieces.as_ref().map_or(0, |pieces| pieces.size)
    }

    /// Whether everything was sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(queue: &WriteQueue<Vec<u8>>) -> Vec<u8> {
        queue
            .pieces
            .iter()
            .flat_map(|pieces| &pieces.queue)
            .flat_map(|piece| piece.unsent().to_vec())
            .collect()
    }

    #[test]
    fn small_pieces_leave_as_one_slice() {
        let mut queue = WriteQueue::<Vec<u8>>::new(Rc::default());
        for _ in 0..10 {
            queue.copy(b"0123456789");
        }
        assert_eq!(queue.slices(&mut [IoSlice::new(&[]); MAX_SLICES]), 1);
        assert_eq!(queue.len(), 100);
    }

    #[test]
    fn what_is_appended_needs_room_and_a_copied_piece() {
        let mut queue = WriteQueue::<Vec<u8>>::new(Rc::default());
        assert!(!queue.append(b"a", usize::MAX));
        queue.keep(b"b".to_vec(), 0);
        assert!(!queue.append(b"c", usize::MAX));
        queue.copy(b"d");
        let room = (0..).take_while(|_| queue.append(b"e", 5)).count();
        assert!((1..=3).contains(&room));
        assert_eq!(queue.len(), contents(&queue).len());
        assert!(!queue.append(&[0; CHUNK], usize::MAX));
    }

    #[test]
    fn a_piece_that_was_put_back_stays_in_front() {
        let mut queue = WriteQueue::<Vec<u8>>::new(Rc::default());
        queue.keep(b"hello".to_vec(), 0);
        let mut piece = queue.pop().unwrap_or_else(|| unreachable!());
        queue.copy(b" world");
        piece.advance(2);
        queue.put_back(piece);
        assert_eq!((contents(&queue), queue.len()), (b"llo world".to_vec(), 9));
        let mut piece = queue.pop().unwrap_or_else(|| unreachable!());
        piece.advance(3);
        queue.put_back(piece);
        assert_eq!((contents(&queue), queue.len()), (b" world".to_vec(), 6));
    }

    proptest::proptest! {
        #[test]
        fn bytes_leave_in_order(
            pieces in proptest::collection::vec((proptest::bool::ANY, 0_usize..200), 0..40),
            steps in proptest::collection::vec(0_usize..300, 0..40),
        ) {
            let mut queue = WriteQueue::new(Rc::default());
            let mut model = Vec::new();
            for (number, (keep, length)) in pieces.into_iter().enumerate() {
                let bytes = vec![number as u8; length];
                model.extend_from_slice(&bytes);
                if keep {
                    queue.keep(bytes, 0);
                } else if !queue.append(&bytes, usize::MAX) {
                    queue.copy(&bytes);
                }
            }
            for count in steps {
                let count = count.min(queue.len());
                queue.advance(count);
                model.drain(..count);
                proptest::prop_assert_eq!(queue.len(), model.len());
                proptest::prop_assert_eq!(contents(&queue), model.clone());
                proptest::prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
        }
    }
}
