//! Attention over packed sequences of different lengths, without padding. Queries, keys and values are rows of
//! `(tokens, heads * head_dim)` matrices; a `Segment` says which query rows attend to which key rows.
//! Scores exist for one tile of `TILE` queries of one head at a time, in the forward and in the backward.

mod plan;

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::common::in_f32;
use super::dispatch::{Op, apply};
pub(super) use plan::{Plan, Tile};

/// Query rows `q` attend to the key rows `prefix` (a cache; empty in training) and then `k`.
///
/// Where attention is causal, query i of `q` sees all of the prefix and the first `k.len() - q.len() + i + 1`
/// rows of `k`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub q: Range<usize>,
    pub prefix: Range<usize>,
    pub k: Range<usize>,
}

/// How attention is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    pub heads: usize,
    /// Divides `heads`; heads `g * kv_head .. g * (kv_head + 1)` share a key and value head, g = heads / kv_heads.
    pub kv_heads: usize,
    pub head_dim: usize,
    /// The factor of the scores, usually 1 / sqrt(head_dim).
    pub scale: f64,
    pub causal: bool,
    /// Turns a score s into `cap * tanh(s / cap)`, before the mask.
    pub softcap: Option<f64>,
    /// Only the last `window` visible keys, the query's own included; needs `causal`.
    pub window: Option<usize>,
}

/// `softmax(scale q k^T + mask) v` for every head and segment.
///
/// q `(tokens, heads * head_dim)`, k and v `(keys, kv_heads * head_dim)`, result like q; query rows in no segment
/// give zeros. Errors if the shapes, dtypes or segments do not fit. The backward is for training: it needs empty
/// prefixes, and segments that cover every row of q and of k exactly once.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, spec: &Attention, segments: &Arc<[Segment]>) -> Result<Tensor> {
    let plan = Plan::new(q, k, v, spec, segments)?;
    apply(plan, [q, k, v], || attention_reference(q, k, v, spec, segments))
}

/// [`attention`] composed of candle's primitives; holds all scores.
pub fn attention_reference(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spec: &Attention,
    segments: &Arc<[Segment]>,
) -> Result<Tensor> {
    let plan = Plan::new(q, k, v, spec, segments)?;
    let width = spec.heads * spec.head_dim;
    let mut results: Vec<Tensor> = Vec::new();
    let mut covered = 0;
    let gap = |from: usize, to: usize| Tensor::zeros((to - from, width), q.dtype(), q.device());
    for segment in plan.by_query() {
        if segment.q.start > covered {
            results.push(gap(covered, segment.q.start)?);
        }
        if !segment.q.is_empty() {
            results.push(segment_reference(q, k, v, &plan, segment)?);
        }
        covered = covered.max(segment.q.end);
    }
    if covered < q.dim(0)? || results.is_empty() {
        results.push(gap(covered, q.dim(0)?)?);
    }
    Tensor::cat(&results, 0)
}

fn segment_reference(q: &Tensor, k: &Tensor, v: &Tensor, plan: &Plan, segment: &Segment) -> Result<Tensor> {
    let weights = segment_weights(q, k, plan, segment)?;
    let mixed = weights.matmul(&keys_of(v, plan, segment)?)?; // (heads, queries, head_dim)
    let width = plan.spec.heads * plan.spec.head_dim;
    mixed.transpose(0, 1)?.contiguous()?.reshape((segment.q.len(), width))
}

/// The rows of k or v that a segment sees, (heads, keys, head_dim), the key heads repeated for their group.
fn keys_of(x: &Tensor, plan: &Plan, segment: &Segment) -> Result<Tensor> {
    let Attention { heads, kv_heads, head_dim, .. } = plan.spec;
    let keys = segment.prefix.len() + segment.k.len();
    let prefix = x.narrow(0, segment.prefix.start, segment.prefix.len())?;
    let rows = Tensor::cat(&[prefix, x.narrow(0, segment.k.start, segment.k.len())?], 0)?;
    let rows = rows.reshape((keys, kv_heads, 1, head_dim))?.transpose(0, 1)?.transpose(1, 2)?;
    rows.broadcast_as((kv_heads, heads / kv_heads, keys, head_dim))?.contiguous()?.reshape((heads, keys, head_dim))
}

/// The probabilities of a segment, (heads, queries, keys).
fn segment_weights(q: &Tensor, k: &Tensor, plan: &Plan, segment: &Segment) -> Result<Tensor> {
    let Attention { heads, head_dim, scale, softcap, .. } = plan.spec;
    let (queries, keys) = (segment.q.len(), segment.prefix.len() + segment.k.len());
    let rows = q.narrow(0, segment.q.start, queries)?.contiguous()?;
    let q = rows.reshape((queries, heads, head_dim))?.transpose(0, 1)?.contiguous()?;
    // (heads, queries, keys)
    let scores = q.matmul(&keys_of(k, plan, segment)?.t()?)?;
    let mask = (0..queries).flat_map(|query| {
        let visible = plan.visible(segment, query);
        (0..keys).map(move |key| if visible.contains(&key) { 0f32 } else { f32::NEG_INFINITY })
    });
    let mask = Tensor::from_vec(mask.collect::<Vec<_>>(), (1, queries, keys), q.device())?;
    in_f32(&scores, |scores| {
        let scores = (scores * scale)?;
        let scores = match softcap {
            Some(cap) => ((scores / cap)?.tanh()? * cap)?,
            None => scores,
        };
        super::softmax_reference(&scores.broadcast_add(&mask.to_dtype(scores.dtype())?)?)
    })
}

/// What [`attention`] weighs the values of one whole sequence with, for looking at: the probabilities of its last
/// `queries` rows, (heads, queries, keys) over `keys` rows. q `(queries, heads * head_dim)`, k `(keys, kv_heads * head_dim)`.
pub fn attention_weights(q: &Tensor, k: &Tensor, spec: &Attention) -> Result<Tensor> {
    let (queries, keys) = (q.dim(0)?, k.dim(0)?);
    let segment = Segment { q: 0..queries, prefix: 0..0, k: 0..keys };
    let plan = Plan::new(q, k, k, spec, &Arc::from([segment.clone()]))?;
    segment_weights(q, k, &plan, &segment)
}

/// With w the weights, g the gradient and dw = g v^T: dv = w^T g, and with ds = w (dw - sum(w dw)), times the slope of the
/// softcap: dq = scale ds k, dk = scale ds^T q.
impl Op<3> for Plan {
    const NAME: &'static str = "attention";
}

#[cfg(test)]
mod tests;
