//! The forward: scores and softmax of a tile, then its weighted values.

use std::ops::Range;

use candle_core::Result;
use rayon::prelude::*;

use super::super::super::attention::{Attention, Plan, Tile};
use super::super::buffer::Shared;
use super::super::kernel::kernel;
use super::super::math::{exponentials, maximum, tanh};
use super::super::matrix::{Product, View};

/// Multiplications below which one thread does everything.
pub(super) const SERIAL: usize = 1 << 18;

/// One head's part of a k or v row range: the rows start at `values[0]`.
pub(super) fn head_rows<'a>(plan: &Plan, values: &'a [f32], rows: &Range<usize>, kv_head: usize) -> View<'a> {
    let stride = plan.spec.kv_heads * plan.spec.head_dim;
    let start = rows.start * stride + kv_head * plan.spec.head_dim;
    View::rows(values.get(start..).unwrap_or(&[]), stride)
}

/// (tokens, heads * head_dim), zero in rows without a segment.
pub(super) fn forward(plan: &Plan, q: &[f32], k: &[f32], v: &[f32]) -> Result<Vec<f32>> {
    let Attention { heads, kv_heads, head_dim, .. } = plan.spec;
    plan.check_segments(q.len() / (heads * head_dim), k.len() / (kv_heads * head_dim))?;
    let mut out = vec![0f32; q.len()];
    let base = Shared::new(&mut out);
    let units = (0..plan.segments.len()).flat_map(|segment| (0..plan.spec.kv_heads).map(move |head| (segment, head)));
    let units = units.filter(|&(segment, _)| !plan.segments[segment].q.is_empty());
    let tiles: Vec<Tile> = units.flat_map(|(segment, kv_head)| plan.tiles(segment, kv_head)).collect();
    let run = |scores: &mut Vec<f32>, tile: &Tile| {
        let span = plan.span(tile);
        weigh(plan, tile, &span, (q, k), (scores, &mut Vec::new()));
        let segment = &plan.segments[tile.segment];
        let mut add = false;
        for (offset, rows) in plan.pieces(segment, &span) {
            if rows.is_empty() {
                continue;
            }
            let product = Product { add, parallel: false, ..Product::new(tile.rows, rows.len(), head_dim) };
            let weights = View::rows(&scores[offset..], span.len());
            // SAFETY: tiles are disjoint rows and heads of q (segments share no queries and lie inside, as was checked),
            // and `out` is like q and initialized.
            unsafe {
                product.write_at(base.at(tile.offset), tile.stride, weights, head_rows(plan, v, &rows, tile.kv_head))
            };
            add = true;
        }
    };
    if plan.work() <= SERIAL {
        let mut scores = Vec::new();
        tiles.iter().for_each(|tile| run(&mut scores, tile));
    } else {
        tiles.par_iter().for_each_init(Vec::new, run);
    }
    Ok(out)
}

/// Fills `scores` with the tile's attention weights `(rows, span)` and, where there is a softcap, `slopes` with
/// the derivative of the capped by the uncapped score.
pub(super) fn weigh(
    plan: &Plan,
    tile: &Tile,
    span: &Range<usize>,
    (q, k): (&[f32], &[f32]),
    (scores, slopes): (&mut Vec<f32>, &mut Vec<f32>),
) {
    let segment = &plan.segments[tile.segment];
    let head_dim = plan.spec.head_dim;
    scores.resize(tile.rows * span.len(), 0.0);
    for (offset, rows) in plan.pieces(segment, span) {
        if rows.is_empty() {
            continue;
        }
        let scale = plan.spec.scale as f32;
        let product = Product { scale, parallel: false, ..Product::new(tile.rows, head_dim, rows.len()) };
        let queries = View::rows(&q[tile.offset..], tile.stride);
        product.write(&mut scores[offset..], span.len(), queries, head_rows(plan, k, &rows, tile.kv_head).t());
    }
    if let Some(cap) = plan.spec.softcap {
        slopes.resize(scores.len(), 0.0);
        soften(scores, slopes, cap as f32);
    }
    for (row, scores) in scores.chunks_exact_mut(span.len()).enumerate() {
        let visible = plan.visible(segment, tile.query + row * tile.query_step);
        let (before, rest) = scores.split_at_mut(visible.start - span.start);
        let (seen, after) = rest.split_at_mut(visible.len());
        before.fill(0.0);
        normalize(seen);
        after.fill(0.0);
    }
}

kernel! {
    fn soften<const FMA: bool>(scores: &mut [f32], slopes: &mut [f32], cap: f32) {
        for (score, slope) in scores.iter_mut().zip(slopes) {
            let t = tanh::<FMA>(*score / cap);
            *score = cap * t;
            *slope = 1.0 - t * t;
        }
    }
}

kernel! {
    fn normalize<const FMA: bool>(scores: &mut [f32]) {
        let shift = maximum(scores);
        let inverse = 1.0 / exponentials::<FMA>(scores, shift);
        scores.iter_mut().for_each(|score| *score *= inverse);
    }
}
