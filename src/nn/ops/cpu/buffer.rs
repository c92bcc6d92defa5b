//! Memory for the results of kernels. In test builds guards lie before and behind it, and a result whose guards were
//! written to fails its test.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Values of a guard.
const GUARD: usize = if cfg!(test) { 64 } else { 0 };
/// What a guard holds: a NaN that no arithmetic makes.
const CANARY: f32 = f32::from_bits(0x7fc5_a5a5);

/// Room for the values of a result, which are not initialized yet.
pub(super) struct Pending {
    /// Guard, values, guard; empty, with the capacity for all three.
    memory: Vec<f32>,
    len: usize,
}

impl Pending {
    pub(super) fn new(len: usize) -> Self {
        Self::within(Vec::new(), len)
    }

    /// In memory that is no longer needed, if it is large enough.
    pub(super) fn within(mut memory: Vec<f32>, len: usize) -> Self {
        memory.clear();
        memory.reserve_exact(len + 2 * GUARD);
        let room = memory.spare_capacity_mut();
        for place in (0..GUARD).chain(GUARD + len..GUARD + len + GUARD) {
            room[place].write(CANARY);
        }
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
        // SAFETY: `within` reserved the guard before the values and the values.
        let start = unsafe { self.memory.as_mut_ptr().add(GUARD) };
        Shared { start, len: self.len, buffer: PhantomData }
    }

    /// The values.
    ///
    /// # Safety
    /// All of them were written.
    pub(super) unsafe fn finish(mut self) -> Vec<f32> {
        // SAFETY: `within` reserved this much and wrote the guards; the values between them were written, says the caller.
        unsafe { self.memory.set_len(GUARD + self.len + GUARD) };
        without_guards(self.memory)
    }
}

/// The values of a result, initialized and between guards.
pub(super) struct Guarded(Vec<f32>);

impl Guarded {
    pub(super) fn zeros(len: usize) -> Self {
        let mut memory = vec![0f32; len + 2 * GUARD];
        memory[..GUARD].fill(CANARY);
        memory[GUARD + len..].fill(CANARY);
        Self(memory)
    }

    pub(super) fn finish(self) -> Vec<f32> {
        without_guards(self.0)
    }
}

impl Deref for Guarded {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0[GUARD..self.0.len() - GUARD]
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut [f32] {
        let end = self.0.len() - GUARD;
        &mut self.0[GUARD..end]
    }
}

fn without_guards(mut memory: Vec<f32>) -> Vec<f32> {
    let end = memory.len() - GUARD;
    let guards = memory[..GUARD].iter().chain(&memory[end..]);
    let hit = guards.filter(|value| value.to_bits() != CANARY.to_bits()).count();
    assert!(hit == 0, "a kernel wrote {hit} values outside its buffer of {}", end - GUARD);
    memory.truncate(end);
    memory.drain(..GUARD);
    memory
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
        let mut zeros = Guarded::zeros(2);
        zeros[1] = 1.0;
        assert_eq!(zeros.finish(), [0.0, 1.0]);
        assert!(Guarded::zeros(0).finish().is_empty());
    }

    #[test]
    #[should_panic(expected = "a kernel wrote 1 values outside its buffer of 4")]
    fn a_write_behind_the_end_is_found() {
        let mut pending = Pending::new(4);
        // SAFETY: the guard behind the end is memory of the buffer.
        unsafe {
            pending.shared().zeroed(0, 4);
            pending.shared().at(4).write(1.0);
            pending.finish();
        }
    }

    #[test]
    #[should_panic(expected = "a kernel wrote 1 values outside its buffer of 4")]
    fn a_write_before_the_beginning_is_found() {
        let mut zeros = Guarded::zeros(4);
        zeros.0[GUARD - 1] = 0.0;
        zeros.finish();
    }
}
