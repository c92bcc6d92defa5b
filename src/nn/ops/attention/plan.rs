//! What is computed for whom: checks of shapes and segments, and the cutting of queries into tiles.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::{Attention, Segment};

/// Query rows that share one block of scores.
pub(in crate::nn::ops) const TILE: usize = 64;

/// A checked request.
pub(in crate::nn::ops) struct Plan {
    pub spec: Attention,
    pub segments: Arc<[Segment]>,
}

/// Some queries of one head, or, where a segment has one query (decoding), of all heads of a group, so that a
/// cached key is read once for the group.
#[derive(Clone, Debug)]
pub(in crate::nn::ops) struct Tile {
    pub segment: usize,
    pub kv_head: usize,
    /// Offset of the first query's first element in q, and the distance to the next one.
    pub offset: usize,
    pub stride: usize,
    pub rows: usize,
    /// The first row's place in the segment, and how far the next row's is: 1, or 0 inside a group.
    pub query: usize,
    pub query_step: usize,
}

impl Plan {
    pub(in crate::nn::ops) fn new(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        spec: &Attention,
        segments: &Arc<[Segment]>,
    ) -> Result<Self> {
        let Attention { heads, kv_heads, head_dim, causal, window, .. } = *spec;
        if kv_heads == 0 || head_dim == 0 || heads % kv_heads != 0 || heads == 0 {
            bail!("attention: {heads} heads of {head_dim} cannot share {kv_heads} key heads");
        }
        if window.is_some() && !causal || window == Some(0) {
            bail!("attention: a window of {window:?} needs causal attention and at least 1 key");
        }
        match (q.dims(), k.dims()) {
            (&[_, q_width], &[_, k_width]) if q_width == heads * head_dim && k_width == kv_heads * head_dim => (),
            _ => bail!(
                "attention: q {:?} and k {:?} do not fit {heads} heads and {kv_heads} key heads of {head_dim}",
                q.shape(),
                k.shape()
            ),
        }
        if k.dims() != v.dims() {
            bail!("attention: k {:?} and v {:?} have different shapes", k.shape(), v.shape());
        }
        let plan = Self { spec: spec.clone(), segments: segments.clone() };
        plan.check_segments(q.dim(0)?, k.dim(0)?)?;
        Ok(plan)
    }

    /// Errors unless all segments lie inside and share no queries.
    pub(in crate::nn::ops) fn check_segments(&self, tokens: usize, keys: usize) -> Result<()> {
        for segment in self.segments.iter() {
            let Segment { q, prefix, k } = segment;
            let ordered = [q, prefix, k].iter().all(|range| range.start <= range.end);
            if !ordered || q.end > tokens || prefix.end > keys || k.end > keys {
                bail!("attention: {segment:?} is outside {tokens} queries and {keys} keys");
            }
            if self.spec.causal && k.len() < q.len() {
                bail!("attention: {segment:?} has fewer keys than queries, which causal attention cannot place");
            }
            if !q.is_empty() && prefix.len() + k.len() == 0 {
                bail!("attention: {segment:?} has queries but no keys");
            }
        }
        // Tiles are written side by side, so no query row may belong to two segments.
        for pair in self.by_query().windows(2) {
            if pair[0].q.end > pair[1].q.start {
                bail!("attention: {:?} and {:?} share queries", pair[0], pair[1]);
            }
        }
        Ok(())
    }

    /// The segments that have queries, in the order of their queries.
    pub(in crate::nn::ops) fn by_query(&self) -> Vec<&Segment> {
        let mut segments: Vec<&Segment> = self.segments.iter().filter(|segment| !segment.q.is_empty()).collect();
        segments.sort_by_key(|segment| segment.q.start);
        segments
    }

    /// Errors unless the prefixes are empty and the segments cover every query and key row exactly once.
    pub(in crate::nn::ops) fn check_partition(&self, tokens: usize, keys: usize) -> Result<()> {
        if let Some(segment) = self.segments.iter().find(|segment| !segment.prefix.is_empty()) {
            bail!("attention: no backward through a prefix: {segment:?} is for inference");
        }
        let covers = |range: fn(&Segment) -> &Range<usize>, len: usize| {
            let mut ranges: Vec<_> = self.segments.iter().map(range).filter(|range| !range.is_empty()).collect();
            ranges.sort_by_key(|range| range.start);
            let end = ranges.iter().try_fold(0, |end, range| (range.start == end).then_some(range.end));
            end == Some(len)
        };
        if !covers(|segment| &segment.q, tokens) || !covers(|segment| &segment.k, keys) {
            bail!(
                "attention: no backward, as the segments do not cover each of {tokens} queries and {keys} keys once: {:?}",
                self.segments
            );
        }
        Ok(())
    }

    /// The keys query `query` of a segment sees, counted from the start of prefix and k put together.
    pub(in crate::nn::ops) fn visible(&self, segment: &Segment, query: usize) -> Range<usize> {
        let all = segment.prefix.len() + segment.k.len();
        let end = if self.spec.causal { all - segment.q.len() + query + 1 } else { all };
        end - self.spec.window.unwrap_or(end).min(end)..end
    }

    /// The tiles of one segment and key head, the ones with the most keys first.
    pub(in crate::nn::ops) fn tiles(&self, segment: usize, kv_head: usize) -> Vec<Tile> {
        let Attention { heads, kv_heads, head_dim, .. } = self.spec;
        let (q, group) = (&self.segments[segment].q, heads / kv_heads);
        let offset = |head: usize, query: usize| ((q.start + query) * heads + head) * head_dim;
        let first_head = kv_head * group;
        if q.len() == 1 {
            let offset = offset(first_head, 0);
            return vec![Tile { segment, kv_head, offset, stride: head_dim, rows: group, query: 0, query_step: 0 }];
        }
        let starts = (0..q.len()).step_by(TILE).rev();
        let tile = |query: usize, head: usize| Tile {
            segment,
            kv_head,
            offset: offset(head, query),
            stride: heads * head_dim,
            rows: TILE.min(q.len() - query),
            query,
            query_step: 1,
        };
        starts
            .flat_map(|query| (first_head..first_head + group).map(move |head| (query, head)))
            .map(|(query, head)| tile(query, head))
            .collect()
    }

    /// All keys that some row of the tile sees.
    pub(in crate::nn::ops) fn span(&self, tile: &Tile) -> Range<usize> {
        let segment = &self.segments[tile.segment];
        let last = tile.query + (tile.rows - 1) * tile.query_step;
        self.visible(segment, tile.query).start..self.visible(segment, last).end
    }

    /// Where a span of keys lies: (offset in the span, key rows) of its part in the prefix and in k.
    pub(in crate::nn::ops) fn pieces(&self, segment: &Segment, span: &Range<usize>) -> [(usize, Range<usize>); 2] {
        let boundary = segment.prefix.len();
        let prefix = span.start.min(boundary)..span.end.min(boundary);
        let rest = span.start.max(boundary)..span.end.max(boundary);
        let shift = |range: Range<usize>, by: usize| range.start + by..range.end + by;
        [
            (0, shift(prefix.clone(), segment.prefix.start)),
            (prefix.len(), segment.k.start + rest.start - boundary..segment.k.start + rest.end - boundary),
        ]
    }

    /// Multiplications of one pass over all scores, to tell small work from large.
    pub(in crate::nn::ops) fn work(&self) -> usize {
        let pairs = self.segments.iter().map(|s| s.q.len() * (s.prefix.len() + s.k.len())).sum::<usize>();
        pairs * self.spec.heads * self.spec.head_dim
    }
}
