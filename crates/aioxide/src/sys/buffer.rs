//! Memory that a receive writes to.

use std::mem::MaybeUninit;

/// A view of memory that can only be written, from its beginning, with initialised bytes. So the
/// memory may be uninitialised before (a vector's spare capacity, a new Python object), and
/// whoever lends it may trust [`filled`](Buffer::filled), whatever network wrote to it.
pub struct Buffer<'a> {
    memory: &'a mut [MaybeUninit<u8>],
    /// Invariant: the first `filled` bytes are initialised.
    filled: usize,
}

impl<'a> Buffer<'a> {
    /// A view of uninitialised memory.
    #[inline]
    pub fn new(memory: &'a mut [MaybeUninit<u8>]) -> Buffer<'a> {
        Buffer { memory, filled: 0 }
    }

    /// Appends as much of `bytes` as there is room for; how much that is.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let room = &mut self.memory[self.filled..];
        let count = bytes.len().min(room.len());
        for (to, from) in room.iter_mut().zip(bytes) {
            to.write(*from);
        }
        self.filled += count;
        count
    }

    /// What was written.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let filled = &self.memory[..self.filled];
        // SAFETY: the invariant says that these bytes are initialised, and u8 and MaybeUninit<u8>
        // have the same layout.
        unsafe { std::slice::from_raw_parts(filled.as_ptr().cast::<u8>(), filled.len()) }
    }

    /// Bytes that were written.
    #[inline]
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Bytes that can still be written.
    #[must_use]
    pub fn room(&self) -> usize {
        self.memory.len() - self.filled
    }

    /// Lets foreign code write to what is left: `write` gives how many bytes it wrote, from the
    /// beginning.
    ///
    /// # Errors
    /// Those of `write`.
    ///
    /// # Safety
    /// `write` must write initialised bytes only, and no fewer than it says.
    #[inline]
    pub unsafe fn write_with<E>(
        &mut self,
        write: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let room = &mut self.memory[self.filled..];
        let length = room.len();
        let count = write(room)?.min(length);
        self.filled += count;
        Ok(count)
    }
}

impl<'a> From<&'a mut [u8]> for Buffer<'a> {
    #[inline]
    fn from(memory: &'a mut [u8]) -> Self {
        let length = memory.len();
        let memory: *mut [u8] = memory;
        // SAFETY: the memory is borrowed for 'a, and u8 and MaybeUninit<u8> have the same layout.
        // Nothing uninitialised can be written through this type: `append` writes bytes, and so does
        // who calls `write_with`.
        let memory =
            unsafe { std::slice::from_raw_parts_mut(memory.cast::<MaybeUninit<u8>>(), length) };
        Buffer { memory, filled: 0 }
    }
}

/// Lets `write` fill the spare capacity of `bytes`, `limit` bytes at the most, and makes what it filled part of them.
#[inline]
pub fn fill<R>(bytes: &mut Vec<u8>, limit: usize, write: impl FnOnce(&mut Buffer<'_>) -> R) -> R {
    let spare = bytes.spare_capacity_mut();
    let limit = limit.min(spare.len());
    let mut buffer = Buffer::new(&mut spare[..limit]);
    let result = write(&mut buffer);
    let length = buffer.filled() + bytes.len();
    // SAFETY: the invariant of `Buffer` says that the spare capacity's first `filled` bytes are
    // initialised.
    unsafe { bytes.set_len(length) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_stops_at_the_end() {
        let mut memory = [0; 4];
        let mut buffer = Buffer::from(&mut memory[..]);
        assert_eq!(buffer.append(b"abc"), 3);
        assert_eq!(buffer.append(b"def"), 1);
        assert_eq!((buffer.filled(), buffer.room()), (4, 0));
        assert_eq!(&memory, b"abcd");
    }

    #[test]
    fn what_was_filled_becomes_part_of_the_vector() {
        let mut bytes = Vec::with_capacity(8);
        bytes.extend_from_slice(b"ab");
        assert_eq!(fill(&mut bytes, 2, |buffer| buffer.append(b"cdef")), 2);
        assert_eq!(bytes, b"abcd");
    }
}
