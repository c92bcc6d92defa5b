//! An LLM with its key/value cache: begins streams, sends what is pending through the LLM, takes rows back. What prompts
//! share up to their last picture is computed once; the last of these prefixes stays for the requests that follow.

use std::sync::Arc;

use candle_core::DType;

use super::prompt::{Piece, Prefix, common, rows, shared};
use super::stream::Stream;
use crate::error::Result;
use crate::nn::cache::{Cache, Slot, append};
use crate::vlm::Llm;
use crate::vlm::splice::embed;

/// Rows for new tokens that a prompt begins with; the cache grows when they are full.
const NEW_ROWS: usize = 32;

/// The cache, and what is known of its rows.
pub(super) struct CachedLlm {
    pub llm: Arc<Llm>,
    pub cache: Cache,
    /// What streams begin with; the last one stays when nobody uses it.
    prefixes: Vec<Arc<Prefix>>,
    /// Rows that went through the LLM so far.
    pub computed: usize,
}

impl CachedLlm {
    /// An empty cache. The LLM is frozen.
    pub fn new(llm: Arc<Llm>) -> Result<Self> {
        llm.ready()?;
        llm.params.set_trainable(false)?;
        let cache = llm.model.cache(0)?;
        Ok(CachedLlm { llm, cache, prefixes: Vec::new(), computed: 0 })
    }

    /// Forgets everything: after a failure nothing in the cache can be relied on.
    pub fn reset(&mut self) -> Result<()> {
        self.prefixes.clear();
        self.cache = self.llm.model.cache(0)?;
        Ok(())
    }

    /// Gives a stream its place in the cache and finds what it begins with there. `true` where that took a pass of its
    /// own through the LLM.
    pub fn begin(&mut self, stream: &mut Stream) -> Result<bool> {
        let planned = self.plan(rows(&stream.prompt));
        if stream.stays {
            let (known, slot) = self.resume(&stream.prompt, planned)?;
            stream.pending = stream.prompt[known..].to_vec();
            stream.slot = Some(slot);
            return Ok(false);
        }
        let (head, before) = (shared(&stream.prompt), self.computed);
        if head > 0 {
            stream.prefix = Some(self.prefix(&stream.prompt[..head], planned)?);
        }
        stream.pending = stream.prompt[head..].to_vec();
        let room = rows(&stream.pending) + stream.longest.min(NEW_ROWS);
        let prefix = stream.prefix.as_ref().map(|prefix| &prefix.slot);
        stream.slot = Some(self.cache.slot(room, prefix)?.planned(planned));
        Ok(self.computed > before)
    }

    /// Begins a stream anew where its next rows make it longer than what it has in the cache was rotated for.
    pub fn renew(&mut self, stream: &mut Stream) -> Result<()> {
        let reach = stream.reach();
        if stream.slot.as_ref().is_none_or(|slot| reach <= slot.plan()) {
            return Ok(());
        }
        let slot = self.cache.slot(0, None)?.planned(self.plan(reach));
        stream.slot.replace(slot).into_iter().for_each(|old| self.cache.free(old));
        stream.prefix = None;
        stream.pending = stream.pieces(usize::MAX);
        stream.starts = true;
        Ok(())
    }

    /// One pass of what is pending; gives the logits of each stream's last row, (vocab) each.
    pub fn pass(&mut self, streams: &mut [&mut Stream]) -> Result<Vec<Vec<f32>>> {
        let lengths: Vec<usize> = streams.iter().map(|stream| rows(&stream.pending)).collect();
        let (mut pending, mut slots) = (Vec::with_capacity(streams.len()), Vec::with_capacity(streams.len()));
        for stream in streams.iter_mut() {
            let Stream { pending: pieces, slot: Some(slot), .. } = &mut **stream else { continue };
            self.cache.reserve(slot, rows(pieces))?;
            pending.push(pieces.as_slice());
            slots.push(slot);
        }
        let embeds = embed(&self.llm, &pending)?; // (rows, width)
        let packing = append(&mut slots, &lengths)?;
        self.computed += packing.tokens();
        let hidden = self.llm.model.hidden(&embeds, &packing, Some(&self.cache))?; // (streams, width)
        Ok(self.llm.model.logits(&hidden)?.to_dtype(DType::F32)?.to_vec2::<f32>()?)
    }

    /// Takes the rows of a stream back, or keeps them for the prompt that goes on from them.
    pub fn retire(&mut self, stream: &mut Stream) {
        stream.prefix = None;
        let Some(slot) = stream.slot.take() else { return };
        if stream.stays {
            // The last token did not go through the LLM.
            let pieces = stream.pieces(slot.len());
            self.prefixes.push(Arc::new(Prefix { pieces, slot }));
        } else {
            self.cache.free(slot);
        }
    }

    /// Frees the prefixes nobody uses, except the last one.
    pub fn sweep(&mut self) {
        let last = self.prefixes.len().saturating_sub(1);
        self.free(|place, prefix| place != last && Arc::strong_count(prefix) == 1);
    }

    /// The longest sequence that may share rotations with one of this length.
    fn plan(&self, length: usize) -> usize {
        self.llm.model.spec().horizon(length)
    }

    /// The slot of what the cache has of a prompt, and how many of its pieces that are. Its last piece goes through the
    /// LLM in any case, as that gives its logits.
    fn resume(&mut self, prompt: &[Piece], planned: usize) -> Result<(usize, Slot)> {
        let known = |prefix: &Prefix| common(&prefix.pieces, prompt).min(prompt.len() - 1);
        let free = |prefix: &Arc<Prefix>| prefix.slot.plan() == planned && Arc::strong_count(prefix) == 1;
        let places = (0..self.prefixes.len()).filter(|&place| free(&self.prefixes[place]));
        let best = places.max_by_key(|&place| known(&self.prefixes[place]));
        let found = best.and_then(|place| Arc::into_inner(self.prefixes.remove(place)));
        self.free(|_, prefix| Arc::strong_count(prefix) == 1);
        let Some(mut found) = found else { return Ok((0, self.cache.slot(0, None)?.planned(planned))) };
        let known = known(&found);
        found.slot.truncate(rows(&prompt[..known]));
        Ok((known, found.slot))
    }

    /// The rows of a prefix, computed where they are not in the cache; it is the last one then.
    fn prefix(&mut self, head: &[Piece], planned: usize) -> Result<Arc<Prefix>> {
        let is = |prefix: &Arc<Prefix>| {
            let same = prefix.pieces.len() == head.len() && common(&prefix.pieces, head) == head.len();
            prefix.slot.plan() == planned && same
        };
        let prefix = match self.prefixes.iter().position(is) {
            Some(place) => self.prefixes.remove(place),
            None => {
                let mut slot = self.cache.slot(rows(head), None)?.planned(planned);
                let packing = append(&mut [&mut slot], &[rows(head)])?;
                self.computed += packing.tokens();
                self.llm.model.hidden(&embed(&self.llm, &[head])?, &packing, Some(&self.cache))?;
                Arc::new(Prefix { pieces: head.to_vec(), slot })
            }
        };
        self.prefixes.push(prefix.clone());
        Ok(prefix)
    }

    fn free(&mut self, is_free: impl Fn(usize, &Arc<Prefix>) -> bool) {
        for (place, prefix) in std::mem::take(&mut self.prefixes).into_iter().enumerate() {
            if !is_free(place, &prefix) {
                self.prefixes.push(prefix);
            } else if let Some(prefix) = Arc::into_inner(prefix) {
                self.cache.free(prefix.slot);
            }
        }
    }
}
