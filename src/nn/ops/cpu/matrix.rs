//! Matrix products on strided slices through the `gemm` crate. Results do not depend on the threads: the
//! crate splits the result, never the inner dimension. A projected row does not depend on the rows beside it, as long as
//! their number stays on the same side of `FEW_ROWS` and within `PASS_ROWS`.

use super::kernel::kernel;
use super::math::fma;
use super::memory::Source;
use super::rows::{Rows, SERIAL, Shared, block_rows, for_each, reduce_rows, uninitialized};

/// Rows up to which the weight is read row by row instead of through a blocked matrix product.
pub const FEW_ROWS: usize = 64;
/// Rows of several sequences that may go through one pass: up to here a row's sums do not depend on the other rows.
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
    /// Rows that lie one after the other, `stride` floats apart.
    pub(super) fn rows(values: &'a [f32], stride: usize) -> Self {
        Self { values, row_stride: stride, column_stride: 1 }
    }

    /// The transpose.
    pub(super) fn t(self) -> Self {
        Self { values: self.values, row_stride: self.column_stride, column_stride: self.row_stride }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows * columns == 0 || (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.values.len()
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
        // SAFETY: `out` is exclusively borrowed and was just checked to hold the result.
        unsafe { self.write_at(out.as_mut_ptr(), stride, a, b) }
    }

    /// As [`write`](Self::write), through a pointer.
    ///
    /// # Safety
    /// The `rows` rows of `columns` floats at `out`, `stride` floats apart, are valid and nobody else's.
    pub(super) unsafe fn write_at(self, out: *mut f32, stride: usize, a: View, b: View) {
        let Self { rows, columns, inner, scale, add, parallel } = self;
        assert!(a.holds(rows, inner) && b.holds(inner, columns), "matmul: a factor does not fit its slice");
        let parallelism = if parallel { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
        // SAFETY: the factors were checked above, the result is the caller's promise.
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
pub(super) fn project(x: &[f32], weight: Source, (out, inputs): (usize, usize), bias: Option<&[f32]>) -> Vec<f32> {
    let rows = x.len() / inputs;
    let few = rows <= FEW_ROWS || rows <= PASS_ROWS && depends_on_rows(out, inputs);
    match weight {
        _ if rows > 0 && few => few_rows(x, weight, (out, inputs), bias),
        Source::F32(weight) => {
            let mut values = start_values(rows, out, bias);
            let product = Product { add: bias.is_some(), ..Product::new(rows, inputs, out) };
            product.write(&mut values, out, View::rows(x, inputs), View::rows(weight, inputs).t());
            values
        }
        _ => strips(x, weight, (out, inputs), bias),
    }
}

/// Whether `gemm` adds up the inner dimension in another order for few rows than for many: it has a kernel of its own
/// for up to 16 x 16 results, and up to 64 x 64 it takes an inner dimension above 512 in other blocks.
fn depends_on_rows(out: usize, inputs: usize) -> bool {
    out < 16 || out <= 64 && inputs > 512
}

/// A (rows, out) result that a product is added to: the bias in every row, or values nobody reads.
fn start_values(rows: usize, out: usize, bias: Option<&[f32]>) -> Vec<f32> {
    match bias {
        Some(bias) => bias.repeat(rows),
        None => uninitialized(rows * out),
    }
}

/// The product for few rows: every weight row is read (and widened) once, for all rows of x.
fn few_rows(x: &[f32], weight: Source, (out, inputs): (usize, usize), bias: Option<&[f32]>) -> Vec<f32> {
    let rows = x.len() / inputs;
    let mut values = uninitialized(rows * out);
    let base = Shared::new(&mut values);
    let block = block_rows(inputs);
    for_each(out.div_ceil(block), out * inputs <= SERIAL, |index| {
        let (first, last) = (index * block, out.min((index + 1) * block));
        let (mut scratch, mut sums) = (Vec::new(), vec![0.0; (last - first) * rows]); // (last - first, rows)
        products(&mut sums, x, weight.part(first * inputs..last * inputs, &mut scratch), inputs);
        for row in 0..rows {
            // SAFETY: blocks are disjoint columns of the (rows, out) result.
            let to = unsafe { base.slice(row * out + first, last - first) };
            for (column, to) in to.iter_mut().enumerate() {
                *to = sums[column * rows + row] + bias.map_or(0.0, |bias| bias[first + column]);
            }
        }
    });
    values
}

/// The product by strips of weight rows, side by side; a strip of a narrow weight is widened in cache.
fn strips(x: &[f32], weight: Source, (out, inputs): (usize, usize), bias: Option<&[f32]>) -> Vec<f32> {
    // Whole tiles of gemm's kernels, and above 64, so that a strip sums as the whole product does.
    const STRIP: usize = 96;
    let count = (out / STRIP).max(1);
    let rows = x.len() / inputs;
    let mut values = start_values(rows, out, bias);
    let base = Shared::new(&mut values);
    for_each(count, rows * inputs * out <= SERIAL_PRODUCT, |strip| {
        let (first, last) = (strip * STRIP, if strip + 1 == count { out } else { (strip + 1) * STRIP });
        let mut scratch = Vec::new();
        let weight = weight.part(first * inputs..last * inputs, &mut scratch);
        let product = Product { add: bias.is_some(), parallel: false, ..Product::new(rows, inputs, last - first) };
        // SAFETY: strips are disjoint columns of the (rows, out) result.
        unsafe { product.write_at(base.at(first), out, View::rows(x, inputs), View::rows(weight, inputs).t()) };
    });
    values
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

/// `out (+)= gradient^T x`, the gradient of a weight: `gradient` is (tokens, out_features), `x` is
/// (tokens, in_features), `out` is (out_features, in_features). One product per strip of rows keeps the packed
/// strip in cache over the long inner dimension; `gemm`'s own split is about 7 % slower here.
pub(super) fn weight_gradient(out: &mut [f32], gradient: &[f32], x: &[f32], tokens: usize, add: bool) {
    const STRIP: usize = 128;
    if tokens == 0 {
        if !add {
            out.fill(0.0);
        }
        return;
    }
    let (out_features, in_features) = (gradient.len() / tokens, x.len() / tokens);
    assert!(out.len() == out_features * in_features, "matmul: the weight gradient does not fit its buffer");
    let product = Product { add, ..Product::new(out_features, tokens, in_features) };
    let (gradient, x) = (View::rows(gradient, out_features).t(), View::rows(x, in_features));
    if out_features < 4 * STRIP {
        return product.write(out, in_features, gradient, x);
    }
    let base = Shared::new(out);
    let strips = out_features.div_ceil(STRIP);
    let parallel = strips < rayon::current_num_threads();
    for_each(strips, false, |strip| {
        let first = strip * STRIP;
        let product = Product { rows: STRIP.min(out_features - first), parallel, ..product };
        let gradient = View { values: &gradient.values[first..], ..gradient };
        // SAFETY: strips are disjoint rows of `out`, whose size was checked above.
        unsafe { product.write_at(base.at(first * in_features), in_features, gradient, x) }
    });
}

/// The sum of each column of a (rows, width) matrix.
pub(super) fn column_sums(values: &[f32], width: usize) -> Vec<f32> {
    let rows = values.len() / width.max(1);
    let shape = Rows { rows, cost: width, width: 0, sums: width };
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
            let sources =
                [Some(Source::F32(&weight)), Some(Source::BF16(&narrow)), blocks.as_ref().map(Source::Blocks)];
            for source in sources.into_iter().flatten() {
                let whole = project(&x, source, (out, inputs), None);
                for rows in (FEW_ROWS + 1..100).step_by(5) {
                    let first = (rows * 7) % (PASS_ROWS - rows);
                    let part = project(&x[first * inputs..(first + rows) * inputs], source, (out, inputs), None);
                    assert!(part == whole[first * out..(first + rows) * out], "{inputs} -> {out}, {rows} rows");
                }
                let few = project(&x[..FEW_ROWS * inputs], source, (out, inputs), None);
                for rows in [1, 2, 5, 16, 31, 63] {
                    let part = project(&x[..rows * inputs], source, (out, inputs), None);
                    assert!(part == few[..rows * out], "{inputs} -> {out}, {rows} rows");
                }
            }
        }
    }
}
