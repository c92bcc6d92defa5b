//! The backward: each tile's weights are computed again, so that no more than a tile of them exists. One task
//! owns a segment's key head (its dk, dv and the dq of its group), so nothing is added across tasks.

use candle_core::Result;
use rayon::prelude::*;

use super::super::super::attention::{Attention, Plan, Tile};
use super::super::buffer::Shared;
use super::super::kernel::kernel;
use super::super::math::{fma, sum_of};
use super::super::matrix::{Product, View};
use super::forward::{SERIAL, head_rows, weigh};

/// q, k, v and the gradient of the result.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub gradient: &'a [f32],
}

/// Buffers of one tile, `(rows, keys)` each.
#[derive(Default)]
struct Scratch {
    weights: Vec<f32>,
    slopes: Vec<f32>,
    scores: Vec<f32>,
}

/// The gradients of q, k and v, empty where not wanted. Errors unless the plan is a partition without prefixes.
pub(super) fn backward(plan: &Plan, inputs: Inputs, wanted: [bool; 3]) -> Result<[Vec<f32>; 3]> {
    let Attention { heads, kv_heads, head_dim, .. } = plan.spec;
    let (tokens, keys) = (inputs.q.len() / (heads * head_dim), inputs.k.len() / (kv_heads * head_dim));
    plan.check_segments(tokens, keys)?;
    plan.check_partition(tokens, keys)?;
    let [mut dq, mut dk, mut dv] = [(0, inputs.q), (1, inputs.k), (2, inputs.v)]
        .map(|(place, like)| vec![0f32; if wanted[place] { like.len() } else { 0 }]);
    let outputs = [&mut dq, &mut dk, &mut dv].map(|values| Shared::new(values));
    let units: Vec<(usize, usize)> = (0..plan.segments.len())
        .filter(|&segment| !plan.segments[segment].q.is_empty())
        .flat_map(|segment| (0..plan.spec.kv_heads).map(move |head| (segment, head)))
        .collect();
    let run = |scratch: &mut Scratch, &(segment, kv_head): &(usize, usize)| {
        for tile in plan.tiles(segment, kv_head) {
            differentiate_tile(plan, &tile, inputs, scratch, (outputs, wanted));
        }
    };
    if plan.work() <= SERIAL {
        let mut scratch = Scratch::default();
        units.iter().for_each(|unit| run(&mut scratch, unit));
    } else {
        units.par_iter().for_each_init(Scratch::default, run);
    }
    Ok([dq, dk, dv])
}

fn differentiate_tile(
    plan: &Plan,
    tile: &Tile,
    inputs: Inputs,
    scratch: &mut Scratch,
    (outputs, wanted): ([Shared; 3], [bool; 3]),
) {
    let Inputs { q, k, v, gradient } = inputs;
    let [dq, dk, dv] = outputs;
    let (head_dim, scale) = (plan.spec.head_dim, plan.spec.scale as f32);
    let span = plan.span(tile);
    let keys = span.len();
    weigh(plan, tile, &span, (q, k), (&mut scratch.weights, &mut scratch.slopes));
    let rows = &plan.pieces(&plan.segments[tile.segment], &span)[1].1;
    let key_stride = plan.spec.kv_heads * head_dim;
    let key_offset = rows.start * key_stride + tile.kv_head * head_dim;
    let queries = View::rows(&q[tile.offset..], tile.stride);
    let gradient = View::rows(&gradient[tile.offset..], tile.stride);
    let weights = View::rows(&scratch.weights, keys);
    let product = |rows, inner, columns| Product { parallel: false, ..Product::new(rows, inner, columns) };
    if wanted[2] {
        let product = Product { add: true, ..product(keys, tile.rows, head_dim) };
        // SAFETY: this task alone writes these key rows of this key head, as segments share no keys (a partition, see
        // `backward`); they are inside dv, which is like v and initialized.
        unsafe { product.write_at(dv.at(key_offset), key_stride, weights.t(), gradient) };
    }
    if !wanted[0] && !wanted[1] {
        return;
    }
    scratch.scores.resize(tile.rows * keys, 0.0);
    product(tile.rows, head_dim, keys).write(
        &mut scratch.scores,
        keys,
        gradient,
        head_rows(plan, v, rows, tile.kv_head).t(),
    );
    score_gradients(&mut scratch.scores, &scratch.weights, &scratch.slopes, keys);
    let scores = View::rows(&scratch.scores, keys);
    if wanted[0] {
        let product = Product { scale, ..product(tile.rows, keys, head_dim) };
        let keys = head_rows(plan, k, rows, tile.kv_head);
        // SAFETY: tiles are disjoint rows and heads of q, and dq is like q and initialized.
        unsafe { product.write_at(dq.at(tile.offset), tile.stride, scores, keys) };
    }
    if wanted[1] {
        let product = Product { add: true, scale, ..product(keys, tile.rows, head_dim) };
        // SAFETY: as for dv.
        unsafe { product.write_at(dk.at(key_offset), key_stride, scores.t(), queries) };
    }
}

kernel! {
    /// ds = w (dw - sum(w dw)) per row, times the slope of the softcap where there is one.
    fn score_gradients<const FMA: bool>(gradients: &mut [f32], weights: &[f32], slopes: &[f32], keys: usize) {
        for (row, (gradients, weights)) in gradients.chunks_exact_mut(keys).zip(weights.chunks_exact(keys)).enumerate() {
            let mean = sum_of(keys, |i| weights[i] * gradients[i]);
            for (gradient, weight) in gradients.iter_mut().zip(weights) {
                *gradient = fma::<FMA>(*gradient, *weight, -(weight * mean));
            }
            if let Some(slopes) = slopes.get(row * keys..(row + 1) * keys) {
                gradients.iter_mut().zip(slopes).for_each(|(gradient, slope)| *gradient *= slope);
            }
        }
    }
}
