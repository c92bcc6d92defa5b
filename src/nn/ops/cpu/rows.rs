//! Loops over rows, blocks and other independent parts. They cut the work into blocks whose size depends on the
//! shapes only, so that sums over blocks do not depend on the threads.

use std::ops::Range;

use rayon::prelude::*;

/// Floats touched by one block of a row loop.
pub(super) const BLOCK: usize = 16 * 1024;
/// Floats touched below which a second thread costs more than it saves.
pub(super) const SERIAL: usize = 64 * 1024;

/// `len` floats of unspecified value, which the caller overwrites before it reads them.
pub(super) fn uninitialized(len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: the capacity is `len`, every bit pattern is an f32, and all callers write before they read.
    #[allow(clippy::uninit_vec)]
    unsafe {
        values.set_len(len)
    };
    values
}

/// A new (rows, width) buffer filled by `fill(rows_of_a_block, their_values)`; a row touches about `cost` floats.
pub(super) fn map_rows(
    rows: usize,
    width: usize,
    cost: usize,
    fill: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    reduce_rows(Rows { rows, cost, width, sums: 0 }, |block, out, _| fill(block, out)).0
}

/// What a row loop makes: (rows, width) values and, summed over all rows, `sums` values.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub rows: usize,
    /// Floats touched per row.
    pub cost: usize,
    pub width: usize,
    pub sums: usize,
}

/// Rows in one block of a row loop.
pub(super) fn block_rows(cost: usize) -> usize {
    (BLOCK / cost.max(1)).max(1)
}

/// Runs `fill(rows, out, sums)` over blocks of rows; every block adds into its own zeroed `sums`, which
/// are added in order at the end.
pub(super) fn reduce_rows(
    shape: Rows,
    fill: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync,
) -> (Vec<f32>, Vec<f32>) {
    let Rows { rows, cost, width, sums } = shape;
    let block = block_rows(cost);
    let blocks = rows.div_ceil(block);
    let mut out = uninitialized(rows * width);
    let mut partial = vec![0f32; blocks * sums];
    // Raw parts, because a width of 0 (nothing wanted) has no chunks to iterate over.
    let (out_base, partial_base) = (Shared::new(&mut out), Shared::new(&mut partial));
    let run = |index: usize| {
        let first = index * block;
        let count = block.min(rows - first);
        // SAFETY: blocks are disjoint ranges of two buffers that outlive the loop.
        let (out, partial) =
            unsafe { (out_base.slice(first * width, count * width), partial_base.slice(index * sums, sums)) };
        fill(first..first + count, out, partial);
    };
    for_each(blocks, rows * cost <= SERIAL, run);
    (out, fold(partial, sums))
}

/// Two buffers of `len` floats (empty where not `wanted`), filled by `fill(block, first, second)`.
pub(super) fn map_pairs(
    len: usize,
    wanted: [bool; 2],
    fill: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync,
) -> (Vec<f32>, Vec<f32>) {
    let [mut first, mut second] = wanted.map(|wanted| uninitialized(if wanted { len } else { 0 }));
    let bases = (Shared::new(&mut first), Shared::new(&mut second));
    for_each(len.div_ceil(BLOCK), len <= SERIAL, |index| {
        let block = index * BLOCK..len.min((index + 1) * BLOCK);
        let part = |base: Shared, wanted: bool| {
            let range = if wanted { block.clone() } else { 0..0 };
            // SAFETY: blocks are disjoint ranges of buffers that outlive the loop.
            unsafe { base.slice(range.start, range.len()) }
        };
        fill(block.clone(), part(bases.0, wanted[0]), part(bases.1, wanted[1]));
    });
    (first, second)
}

/// Runs `body` for `0..count`, on one thread if `serial`.
pub(super) fn for_each(count: usize, serial: bool, body: impl Fn(usize) + Sync) {
    if serial || count == 1 { (0..count).for_each(body) } else { (0..count).into_par_iter().for_each(&body) }
}

/// Adds the rows of a (blocks, width) buffer in order.
fn fold(mut partial: Vec<f32>, width: usize) -> Vec<f32> {
    if width > 0 {
        let first = width.min(partial.len());
        let (total, rest) = partial.split_at_mut(first);
        for block in rest.chunks(width) {
            for (total, value) in total.iter_mut().zip(block) {
                *total += value;
            }
        }
        partial.resize(width, 0.0);
    }
    partial
}

/// A buffer that several threads write, each its own part.
#[derive(Clone, Copy)]
pub(super) struct Shared(*mut f32);

// SAFETY: the pointer is only dereferenced through the unsafe methods, whose callers keep to disjoint parts.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(super) fn new(buffer: &mut [f32]) -> Self {
        Self(buffer.as_mut_ptr())
    }

    /// # Safety
    /// The offset is inside the buffer or one past its end.
    pub(super) unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: guaranteed by the caller.
        unsafe { self.0.add(offset) }
    }

    /// # Safety
    /// The range is inside the buffer, which lives as long as the slice, and no other thread touches it.
    pub(super) unsafe fn slice<'a>(self, offset: usize, len: usize) -> &'a mut [f32] {
        // SAFETY: guaranteed by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(offset), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_blocks_are_the_same_on_any_number_of_threads() {
        let run = || {
            let shape = Rows { rows: 5_000, cost: 64, width: 0, sums: 3 };
            reduce_rows(shape, |block, _, sums| {
                for row in block {
                    sums[row % 3] += (row as f32).sin();
                }
            })
            .1
        };
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(run);
        let four = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap().install(run);
        assert_eq!(one, four);
    }
}
