//! Memory for the results of kernels. Unit tests allocate with guard bytes on both sides of every piece
//! (`src/memory/guarded.rs`), so that a kernel which writes outside its result ends the test run.

use std::marker::PhantomData;

/// Room for the values of a result, which are not initialized yet.
pub(super) struct Pending {
    /// Empty, with the capacity for the values.
    memory: Vec<f32>,
    len: usize,
}

impl Pending {
    pub(super) fn new(len: usize) -> Self {
        Self::within(Vec::new(), len)
    }

    /// In memory that is no longer needed, if it is large enough.
    pub(super) fn within(mut memory: Vec<f32>, len: usize) -> Self {
        // Behind a part of a larger piece there would be no guards.
        if cfg!(test) && memory.capacity() != len {
            memory = Vec::new();
        }
        memory.clear();
        memory.reserve_exact(len);
        Self { memory, len }
    }

    /// `row` again and again.
    pub(super) fn repeat(row: &[f32], rows: usize) -> Self {
        let mut pending = Self::new(rows * row.len());
        for index in 0..rows {
            // SAFETY: the buffer holds this many rows, and nothing else borrows it.
            unsafe { pending.shared().at(index * row.len()).copy_from_nonoverlapping(row.as_ptr(), row.len()) };
        }
        pending
    }

    /// The values, for writing.
    pub(super) fn shared(&mut self) -> Shared<'_> {
        Shared { start: self.memory.as_mut_ptr(), len: self.len, buffer: PhantomData }
    }

    /// The values.
    ///
    /// # Safety
    /// All of them were written.
    pub(super) unsafe fn finish(mut self) -> Vec<f32> {
        // SAFETY: `within` reserved this much; the values were written, says the caller.
        unsafe { self.memory.set_len(self.len) };
        self.memory
    }
}

/// The values of a buffer that several threads write, each its own part.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    start: *mut f32,
    len: usize,
    buffer: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for an exclusive borrow of floats, which may go to another thread. It is read and written through the
// unsafe methods alone, whose callers keep to parts that no other thread has.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above; the safe methods touch no value.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn new(buffer: &'a mut [f32]) -> Self {
        Self { start: buffer.as_mut_ptr(), len: buffer.len(), buffer: PhantomData }
    }

    /// Where the value at `offset` lies; the buffer's end if it has no such value.
    pub(super) fn at(self, offset: usize) -> *mut f32 {
        debug_assert!(offset <= self.len, "offset {offset} of a buffer of {}", self.len);
        // SAFETY: at most one past the end of the buffer.
        unsafe { self.start.add(offset.min(self.len)) }
    }

    /// A part as it is.
    ///
    /// # Safety
    /// The range is inside the buffer, its values are initialized, and nobody else uses it while the slice lives.
    pub(super) unsafe fn slice(self, offset: usize, len: usize) -> &'a mut [f32] {
        debug_assert!(offset + len <= self.len, "{len} values from {offset} on in a buffer of {}", self.len);
        // SAFETY: guaranteed by the caller; `buffer` keeps the memory for 'a.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(offset), len) }
    }

    /// A part, of zeros. A block of a row loop stays in cache, so that the zeros cost next to nothing.
    ///
    /// # Safety
    /// The range is inside the buffer, and nobody else uses it while the slice lives.
    pub(super) unsafe fn zeroed(self, offset: usize, len: usize) -> &'a mut [f32] {
        debug_assert!(offset + len <= self.len, "{len} values from {offset} on in a buffer of {}", self.len);
        // SAFETY: the range is inside the buffer and the caller's alone; the first line initializes it.
        unsafe {
            self.start.add(offset).write_bytes(0, len);
            self.slice(offset, len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_comes_out() {
        let mut pending = Pending::within(vec![7.0; 500], 3);
        // SAFETY: inside the buffer, all of which is then initialized.
        let values = unsafe {
            pending.shared().zeroed(0, 3)[1] = 2.0;
            pending.finish()
        };
        assert_eq!(values, [0.0, 2.0, 0.0]);
        // SAFETY: `repeat` wrote all values.
        assert_eq!(unsafe { Pending::repeat(&[1.0, 2.0], 2).finish() }, [1.0, 2.0, 1.0, 2.0]);
    }

    #[test]
    fn memory_that_is_large_enough_is_used_again_and_in_tests_of_the_same_length() {
        let fits = Vec::with_capacity(4);
        let place = fits.as_ptr();
        assert_eq!(Pending::within(fits, 4).memory.as_ptr(), place);
        assert_eq!(Pending::within(Vec::with_capacity(5), 4).memory.capacity(), 4);
    }
}
