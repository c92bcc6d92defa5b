//! Loops over rows, blocks and other independent parts. They cut the work into blocks whose size depends on the
//! shapes only, so that sums over blocks do not depend on the threads.

use std::ops::Range;

use candle_core::Result;
use rayon::prelude::*;

use super::buffer::{Pending, Shared};

/// Floats touched by one block of a row loop.
pub(super) const BLOCK: usize = 16 * 1024;
/// Floats touched below which a second thread costs more than it saves.
pub(super) const SERIAL: usize = 64 * 1024;

/// A new (rows, width) buffer filled by `fill(rows_of_a_block, their_values)`, values that begin as zeros; a row touches about `cost` floats.
pub(super) fn map_rows(
    rows: usize,
    width: usize,
    cost: usize,
    fill: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    reduce_rows(RowBlocks { rows, cost, width, sums: 0 }, |block, out, _| fill(block, out)).0
}

/// What a row loop makes: (rows, width) values and, summed over all rows, `sums` values.
#[derive(Clone, Copy)]
pub(super) struct RowBlocks {
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
    shape: RowBlocks,
    fill: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync,
) -> (Vec<f32>, Vec<f32>) {
    let RowBlocks { rows, cost, width, sums } = shape;
    let block = block_rows(cost);
    let blocks = rows.div_ceil(block);
    let mut out = Pending::new(rows * width);
    let mut partial = vec![0f32; blocks * sums];
    // Raw parts, because a width of 0 (nothing wanted) has no chunks to iterate over.
    let (out_base, partial_base) = (out.shared(), Shared::new(&mut partial));
    let run = |index: usize| {
        let first = index * block;
        let count = block.min(rows - first);
        // SAFETY: blocks are disjoint ranges of the two buffers, and the sums began as zeros.
        let (out, partial) =
            unsafe { (out_base.zeroed(first * width, count * width), partial_base.slice(index * sums, sums)) };
        fill(first..first + count, out, partial);
    };
    for_each(blocks, rows * cost <= SERIAL, run);
    // SAFETY: every row is in a block, and a block begins as zeros.
    (unsafe { out.finish() }, fold(partial, sums))
}

/// Two buffers of `len` floats (empty where not `wanted`), filled by `fill(block, first, second)`.
pub(super) fn map_pairs(
    len: usize,
    wanted: [bool; 2],
    fill: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync,
) -> (Vec<f32>, Vec<f32>) {
    let [mut first, mut second] = wanted.map(|wanted| Pending::new(if wanted { len } else { 0 }));
    let bases = (first.shared(), second.shared());
    for_each(len.div_ceil(BLOCK), len <= SERIAL, |index| {
        let block = index * BLOCK..len.min((index + 1) * BLOCK);
        let [a, b] = wanted.map(|wanted| if wanted { block.clone() } else { 0..0 });
        // SAFETY: blocks are disjoint ranges of the buffers.
        let (first, second) = unsafe { (bases.0.zeroed(a.start, a.len()), bases.1.zeroed(b.start, b.len())) };
        fill(block, first, second);
    });
    // SAFETY: every value that is wanted is in a block, and a block begins as zeros.
    unsafe { (first.finish(), second.finish()) }
}

/// Runs `body` for `0..count`, on one thread if `serial`.
pub(super) fn for_each(count: usize, serial: bool, body: impl Fn(usize) + Sync) {
    if serial || count == 1 { (0..count).for_each(body) } else { (0..count).into_par_iter().for_each(&body) }
}

/// As [`for_each`], until one of them fails.
pub(super) fn try_for_each(count: usize, serial: bool, body: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    match serial || count == 1 {
        true => (0..count).try_for_each(body),
        false => (0..count).into_par_iter().try_for_each(&body),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_blocks_are_the_same_on_any_number_of_threads() {
        let run = || {
            let shape = RowBlocks { rows: 5_000, cost: 64, width: 0, sums: 3 };
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

    #[test]
    fn what_a_block_leaves_out_is_zero() {
        // Memory of just this size was used before, so that leftovers would be seen.
        drop(vec![1f32; 3 * 40_000]);
        assert_eq!(map_rows(40_000, 3, 3, |_, _| ()), vec![0f32; 120_000]);
        let (first, second) = map_pairs(40_000, [false, true], |_, _, _| ());
        assert!(first.is_empty() && second == vec![0f32; 40_000]);
    }

    #[test]
    fn a_body_that_fails_ends_the_loop_with_its_error() {
        for serial in [false, true] {
            let body = |index: usize| if index == 70 { candle_core::bail!("block {index}") } else { Ok(()) };
            let message = try_for_each(100, serial, body).unwrap_err().to_string();
            assert!(message.contains("block 70"), "{message}");
        }
    }
}
