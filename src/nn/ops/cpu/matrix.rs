//! Matrix products on strided slices through the `gemm` crate. Results do not depend on the threads: the
//! crate splits the result, never the inner dimension. A projected row does not depend on the rows beside it, as long as
//! their number stays on the same side of `FEW_ROWS` and within `PASS_ROWS`.

use candle_core::Result;

use super::buffer::{Pending, Shared};
use super::kernel::kernel;
use super::math::fma;
use super::memory::FloatSource;
use super::rows::{RowBlocks, SERIAL, block_rows, for_each, reduce_rows, try_for_each};

/// RowBlocks up to which the weight is read row by row instead of through a blocked matrix product.
pub const FEW_ROWS: usize = 64;
/// RowBlocks of several sequences that may go through one pass: up to here a row's sums do not depend on the other rows.
pub const PASS_ROWS: usize = 128;
/// Multiplications below which one thread does everything.
const SERIAL_PRODUCT: usize = 1 << 19;

/// A matrix inside a slice: element (row, column) is `values[row * row_stride + column * column_stride]`.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub values: &'a [f32],
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a> View<'a> {
    /// RowBlocks that lie one after the other, `stride` floats apart.
    pub(super) fn rows(values: &'a [f32], stride: usize) -> Self {
        Self { values, row_stride: stride, column_stride: 1 }
    }

    /// The transpose.
    pub(super) fn t(self) -> Self {
        Self { values: self.values, row_stride: self.column_stride, column_stride: self.row_stride }
    }

    /// Whether every element of a (rows, columns) matrix is in the slice.
    fn holds(&self, rows: usize, columns: usize) -> bool {
        let last = |count: usize, stride: usize| (count - 1).checked_mul(stride);
        let place = || last(rows, self.row_stride)?.checked_add(last(columns, self.column_stride)?);
        rows == 0 || columns == 0 || place().is_some_and(|place| place < self.values.len())
    }
}

/// The sizes of a product (rows, inner) x (inner, columns) and what happens to it.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub rows: usize,
    pub columns: usize,
    pub inner: usize,
    /// The factor of the product.
    pub scale: f32,
    /// Add to what the result holds instead of replacing it.
    pub add: bool,
    /// Let `gemm` use all threads; off inside tasks that already run side by side.
    pub parallel: bool,
}

impl Product {
    /// `out = a x b` on all threads.
    pub(super) fn new(rows: usize, inner: usize, columns: usize) -> Self {
        Self { rows, columns, inner, scale: 1.0, add: false, parallel: true }
    }

    /// Writes the product to `out`, whose rows are `stride` floats apart.
    pub(super) fn write(self, out: &mut [f32], stride: usize, a: View, b: View) {
        assert!(View::rows(out, stride).holds(self.rows, self.columns), "matmul: the result does not fit its buffer");
        assert!(stride >= self.columns || self.rows <= 1, "matmul: rows of the result overlap");
        // SAFETY: `out` is exclusively borrowed and initialized, and was just checked to hold the result.
        unsafe { self.write_at(out.as_mut_ptr(), stride, a, b) }
    }

    /// The product as a new (rows, columns) matrix.
    pub(super) fn matrix(self, a: View, b: View) -> Vec<f32> {
        self.matrix_within(Vec::new(), a, b)
    }

    /// As [`matrix`](Self::matrix), in memory that is no longer needed.
    pub(super) fn matrix_within(self, memory: Vec<f32>, a: View, b: View) -> Vec<f32> {
        let mut out = Pending::within(memory, self.rows * self.columns);
        let product = Self { add: false, ..self };
        // SAFETY: the buffer holds just the (rows, columns) of the result. Without `add` nothing of it is read and all of
        // it is written.
        unsafe {
            product.write_at(out.shared().at(0), self.columns, a, b);
            out.finish()
        }
    }

    /// As [`write`](Self::write), through a pointer. Without `add` the result is written whole and not read.
    ///
    /// # Safety
    /// The `rows` rows of `columns` floats at `out`, `stride` floats apart, do not overlap, may be written and are nobody
    /// else's; with `add` they are initialized.
    pub(super) unsafe fn write_at(self, out: *mut f32, stride: usize, a: View, b: View) {
        let Self { rows, columns, inner, scale, add, parallel } = self;
        assert!(a.holds(rows, inner) && b.holds(inner, columns), "matmul: a factor does not fit its slice");
        let parallelism = if parallel { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
        // SAFETY: every element of the factors is in its slice, as was checked above; the result is the caller's promise. `gemm`
        // reads it only if `read_dst` is set, also where there is nothing to add up.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                inner,
                out,
                1,
                stride as isize,
                add,
                a.values.as_ptr(),
                a.column_stride as isize,
                a.row_stride as isize,
                b.values.as_ptr(),
                b.column_stride as isize,
                b.row_stride as isize,
                1.0,
                scale,
                false,
                false,
                false,
                parallelism,
            )
        }
    }
}

/// `x weight^T + bias`: x (rows, inputs), weight (out, inputs), bias (out), result (rows, out).
pub(super) fn project(
    x: &[f32],
    weight: FloatSource,
    (out, inputs): (usize, usize),
    bias: Option<&[f32]>,
) -> Result<Vec<f32>> {
    let rows = x.len() / inputs;
    let few = rows <= FEW_ROWS || rows <= PASS_ROWS && depends_on_rows(out, inputs);
    match weight {
        _ if rows > 0 && few => few_rows(x, weight, (out, inputs), bias),
        FloatSource::F32(weight) => {
            let (x, weight) = (View::rows(x, inputs), View::rows(weight, inputs).t());
            let mut values = start_values(rows, out, bias);
            let product = Product { add: bias.is_some(), ..Product::new(rows, inputs, out) };
            // SAFETY: the buffer holds the (rows, out) result, which begins as the bias or is written whole.
            unsafe {
                product.write_at(values.shared().at(0), out, x, weight);
                Ok(values.finish())
            }
        }
        _ => strips(x, weight, (out, inputs), bias),
    }
}

/// Whether `gemm` adds up the inner dimension in another order for few rows than for many: it has a kernel of its own
/// for up to 16 x 16 results, and up to 64 x 64 it takes an inner dimension above 512 in other blocks.
fn depends_on_rows(out: usize, inputs: usize) -> bool {
    out < 16 || out <= 64 && inputs > 512
}

/// A (rows, out) result: the bias in every row, for a product to be added to, or nothing yet. The bias has `out` values.
fn start_values(rows: usize, out: usize, bias: Option<&[f32]>) -> Pending {
    match bias {
        Some(bias) => {
            assert!(bias.len() == out, "matmul: a bias of {} values for {out} columns", bias.len());
            Pending::repeat(bias, rows)
        }
        None => Pending::new(rows * out),
    }
}

/// The product for few rows: every weight row is read (and widened) once, for all rows of x.
fn few_rows(x: &[f32], weight: FloatSource, (out, inputs): (usize, usize), bias: Option<&[f32]>) -> Result<Vec<f32>> {
    let rows = x.len() / inputs;
    let mut values = Pending::new(rows * out);
    let base = values.shared();
    let block = block_rows(inputs);
    try_for_each(out.div_ceil(block), out * inputs <= SERIAL, |index| {
        let (first, last) = (index * block, out.min((index + 1) * block));
        let (mut scratch, mut sums) = (Vec::new(), vec![0.0; (last - first) * rows]); // (last - first, rows)
        products(&mut sums, x, weight.part(first * inputs..last * inputs, &mut scratch)?, inputs);
        for row in 0..rows {
            // SAFETY: blocks are disjoint columns of the (rows, out) result.
            let to = unsafe { base.zeroed(row * out + first, last - first) };
            for (column, to) in to.iter_mut().enumerate() {
                *to = sums[column * rows + row] + bias.map_or(0.0, |bias| bias[first + column]);
            }
        }
        Ok(())
    })?;
    // SAFETY: every column of every row is in a block.
    Ok(unsafe { values.finish() })
}

/// The product by strips of weight rows, side by side; a strip of a narrow weight is widened in cache.
fn strips(x: &[f32], weight: FloatSource, (out, inputs): (usize, usize), bias: Option<&[f32]>) -> Result<Vec<f32>> {
    // Whole tiles of gemm's kernels, and above 64, so that a strip sums as the whole product does.
    const STRIP: usize = 96;
    let count = (out / STRIP).max(1);
    let rows = x.len() / inputs;
    let mut values = start_values(rows, out, bias);
    let base = values.shared();
    try_for_each(count, rows * inputs * out <= SERIAL_PRODUCT, |strip| {
        let (first, last) = (strip * STRIP, if strip + 1 == count { out } else { (strip + 1) * STRIP });
        let mut scratch = Vec::new();
        let weight = weight.part(first * inputs..last * inputs, &mut scratch)?;
        let product = Product { add: bias.is_some(), parallel: false, ..Product::new(rows, inputs, last - first) };
        // SAFETY: strips are disjoint columns of the (rows, out) result, which begins as the bias or is written whole.
        unsafe { product.write_at(base.at(first), out, View::rows(x, inputs), View::rows(weight, inputs).t()) };
        Ok(())
    })?;
    // SAFETY: every column is in a strip.
    Ok(unsafe { values.finish() })
}

kernel! {
    /// The scalar products of weight rows and rows of x, (weight rows, rows of x). As many weight rows as stay in the first
    /// cache meet all of x before the next ones are read.
    fn products<const FMA: bool>(values: &mut [f32], x: &[f32], weight: &[f32], inputs: usize) {
        const CACHED: usize = 4096;
        let rows = x.len() / inputs;
        let group = (CACHED / inputs).max(1);
        for (values, weight) in values.chunks_mut(group * rows).zip(weight.chunks(group * inputs)) {
            for (number, x) in x.chunks(4 * inputs).enumerate() {
                let places = values.chunks_exact_mut(rows).map(|values| &mut values[4 * number..]);
                for (values, weight) in places.zip(weight.chunks_exact(inputs)) {
                    match x.len() == 4 * inputs {
                        true => {
                            let (first, second) = x.split_at(2 * inputs);
                            let ((a, b), (c, d)) = (first.split_at(inputs), second.split_at(inputs));
                            values[..4].copy_from_slice(&dots::<FMA, 4>(weight, [a, b, c, d]));
                        }
                        false => {
                            for (value, x) in values.iter_mut().zip(x.chunks_exact(inputs)) {
                                [*value] = dots::<FMA, 1>(weight, [x]);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The scalar products of a weight row, loaded once, with N rows of x; each does not depend on N.
#[inline(always)]
fn dots<const FMA: bool, const N: usize>(weight: &[f32], x: [&[f32]; N]) -> [f32; N] {
    const LANES: usize = 16;
    let (weight_chunks, weight_rest) = weight.as_chunks::<LANES>();
    let x_chunks = x.map(|x| &x.as_chunks::<LANES>().0[..weight_chunks.len()]);
    let mut lanes = [[0f32; LANES]; N];
    for (index, weight) in weight_chunks.iter().enumerate() {
        for row in 0..N {
            let x = x_chunks[row][index];
            let mut sums = lanes[row];
            for lane in 0..LANES {
                sums[lane] = fma::<FMA>(weight[lane], x[lane], sums[lane]);
            }
            lanes[row] = sums;
        }
    }
    std::array::from_fn(|row| {
        let x_rest = x[row].as_chunks::<LANES>().1;
        let rest: f32 = weight_rest.iter().zip(x_rest).map(|(weight, x)| weight * x).sum();
        lanes[row].iter().sum::<f32>() + rest
    })
}

/// `gradient^T x`, the gradient of a weight: `gradient` is (tokens, out_features), `x` is (tokens, in_features), the result
/// (out_features, in_features).
pub(super) fn weight_gradient(gradient: &[f32], x: &[f32], (out_features, in_features): (usize, usize)) -> Vec<f32> {
    let len = out_features * in_features;
    let tokens = gradient.len() / out_features.max(1);
    if tokens == 0 {
        return vec![0f32; len];
    }
    let mut out = Pending::new(len);
    let product = Product::new(out_features, tokens, in_features);
    // SAFETY: the buffer holds the result, and without `add` all of it is written.
    unsafe {
        write_weight_gradient(out.shared(), product, gradient, x);
        out.finish()
    }
}

/// Adds `gradient^T x` to `out`, or, with `add` off, replaces it. As [`weight_gradient`].
pub(super) fn add_weight_gradient(out: &mut [f32], gradient: &[f32], x: &[f32], tokens: usize, add: bool) {
    let (out_features, in_features) = (gradient.len() / tokens.max(1), x.len() / tokens.max(1));
    assert!(out.len() == out_features * in_features, "matmul: the weight gradient does not fit its buffer");
    let product = Product { add, ..Product::new(out_features, tokens, in_features) };
    // SAFETY: `out` is exclusively borrowed and initialized, and was just checked to hold the result.
    unsafe { write_weight_gradient(Shared::new(out), product, gradient, x) }
}

/// One product per strip of rows keeps the packed strip in cache over the long inner dimension; `gemm`'s own split is about
/// 7 % slower here.
///
/// # Safety
/// `out` holds the (rows, columns) of the product and nobody else uses it; with `add` it is initialized.
unsafe fn write_weight_gradient(out: Shared, product: Product, gradient: &[f32], x: &[f32]) {
    const STRIP: usize = 128;
    let Product { rows, columns, .. } = product;
    let (gradient, x) = (View::rows(gradient, rows).t(), View::rows(x, columns));
    if rows < 4 * STRIP {
        // SAFETY: guaranteed by the caller.
        return unsafe { product.write_at(out.at(0), columns, gradient, x) };
    }
    let strips = rows.div_ceil(STRIP);
    let parallel = strips < rayon::current_num_threads();
    for_each(strips, false, |strip| {
        let first = strip * STRIP;
        let product = Product { rows: STRIP.min(rows - first), parallel, ..product };
        let gradient = View { values: &gradient.values[first..], ..gradient };
        // SAFETY: strips are disjoint rows of `out`, which is the caller's alone.
        unsafe { product.write_at(out.at(first * columns), columns, gradient, x) }
    });
}

/// The sum of each column of a (rows, width) matrix.
pub(super) fn column_sums(values: &[f32], width: usize) -> Vec<f32> {
    let rows = values.len() / width.max(1);
    let shape = RowBlocks { rows, cost: width, width: 0, sums: width };
    reduce_rows(shape, |block, _, sums| {
        for row in values[block.start * width..block.end * width].chunks(width) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    })
    .1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::ops::testing::values;
    use crate::weights::Quantized;
    use candle_core::quantized::GgmlDType;
    use candle_core::{Device, Tensor};

    #[test]
    fn a_row_does_not_depend_on_the_rows_beside_it() {
        let floats =
            |count: usize, seed| values(count, seed).into_iter().map(|value| value as f32).collect::<Vec<f32>>();
        let shapes =
            [(64, 64), (96, 64), (64, 192), (576, 192), (1536, 576), (1024, 64), (1000, 8), (4160, 130), (96, 290)];
        for (inputs, out) in shapes {
            let (x, weight) = (floats(PASS_ROWS * inputs, 1), floats(out * inputs, 2));
            let narrow: Vec<half::bf16> = weight.iter().map(|value| half::bf16::from_f32(*value)).collect();
            let matrix = Tensor::from_slice(&weight, (out, inputs), &Device::Cpu).unwrap();
            let blocks = inputs.is_multiple_of(32).then(|| Quantized::new(&matrix, GgmlDType::Q8_0).unwrap());
            let sources = [
                Some(FloatSource::F32(&weight)),
                Some(FloatSource::BF16(&narrow)),
                blocks.as_ref().map(FloatSource::Blocks),
            ];
            for source in sources.into_iter().flatten() {
                let whole = project(&x, source, (out, inputs), None).unwrap();
                for rows in (FEW_ROWS + 1..100).step_by(5) {
                    let first = (rows * 7) % (PASS_ROWS - rows);
                    let part =
                        project(&x[first * inputs..(first + rows) * inputs], source, (out, inputs), None).unwrap();
                    assert!(part == whole[first * out..(first + rows) * out], "{inputs} -> {out}, {rows} rows");
                }
                let few = project(&x[..FEW_ROWS * inputs], source, (out, inputs), None).unwrap();
                for rows in [1, 2, 5, 16, 31, 63] {
                    let part = project(&x[..rows * inputs], source, (out, inputs), None).unwrap();
                    assert!(part == few[..rows * out], "{inputs} -> {out}, {rows} rows");
                }
            }
        }
    }
}
