//! Matrix products on strided slices through the `gemm` crate. Results do not depend on the threads: the
//! crate splits the result, never the inner dimension.

use super::memory::{Rows, Shared, for_each, reduce_rows};

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
    for_each(out_features.div_ceil(STRIP), false, |strip| {
        let first = strip * STRIP;
        let product = Product { rows: STRIP.min(out_features - first), parallel: false, ..product };
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
