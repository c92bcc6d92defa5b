//! Splicing: rendered conversations and projected image features become one packed row of embeddings, and the
//! supervised labels become (row, target) pairs. Positions after the limit are cut, image rows included.
//! Source: LLaVA-MORE 2460d39, `llava_arch.py`.

use std::sync::Arc;

use candle_core::Tensor;

use super::generate::{Piece, check_marks};
use super::{Llm, Vlm};
use crate::bail;
use crate::error::Result;
use crate::nn::ops;
use crate::nn::packing::{Packing, Tree};
use crate::text::{IGNORE, IMAGE_ID, Rendered};

/// A conversation, and the indices of the batch's images for its markers, in order.
pub struct Sequence<'a> {
    pub rendered: &'a Rendered,
    pub images: Vec<usize>,
}

/// A spliced batch.
pub struct Batch {
    /// (positions, LLM width)
    pub embeds: Tensor,
    /// The layout of each sequence.
    pub trees: Vec<Tree>,
    /// Rows whose next position is supervised, ascending.
    pub rows: Vec<u32>,
    /// The target of each of these rows: the id at its next position.
    pub targets: Arc<[u32]>,
    /// The number of sequences that lost supervised positions by truncation.
    pub cut: usize,
    /// The sequences that have no supervised position left.
    pub unsupervised: Vec<usize>,
}

impl Batch {
    /// Summed cross-entropy over the supervised positions: an f32 scalar with its graph.
    pub fn loss_sum(&self, vlm: &Vlm) -> Result<Tensor> {
        let hidden = vlm.llm.model.hidden(&self.embeds, &self.packing(), None)?; // (targets, width)
        Ok(vlm.llm.model.loss_sum(&hidden, &self.targets)?)
    }

    /// The packing for a forward pass that returns the supervised rows.
    pub fn packing(&self) -> Packing {
        Packing::trees(&self.trees).with_rows(self.rows.clone())
    }

    /// Positions of all sequences together.
    pub fn positions(&self) -> usize {
        self.trees.iter().map(Tree::rows).sum()
    }
}

/// Splices sequences; `features` are (images, tokens, encoder width).
///
/// # Errors
/// `Data` when the number of a sequence's images differs from the number of its markers, naming both.
pub fn batch(vlm: &Vlm, sequences: &[Sequence], features: Option<&Tensor>, limit: usize) -> Result<Batch> {
    let tokens = vlm.image_tokens();
    let mut rows = EmbeddingRows::default();
    let mut trees = Vec::with_capacity(sequences.len());
    let mut label_rows = Vec::new();
    let mut targets = Vec::new();
    let (mut cut, mut unsupervised) = (0, Vec::new());
    for (number, sequence) in sequences.iter().enumerate() {
        let (start, before) = (rows.order.len(), targets.len());
        let Rendered { ids, labels, branches, .. } = sequence.rendered;
        let mut is_cut = false;
        check_marks(ids, sequence.images.len())?;
        let mut images = sequence.images.iter();
        // Rows before each branch, and at the end.
        let mut bounds = Vec::with_capacity(branches.len() + 1);
        let mut coming = branches.iter().peekable();
        for (index, (&id, &label)) in ids.iter().zip(labels).enumerate() {
            if coming.next_if(|start| **start == index).is_some() {
                bounds.push((rows.order.len() - start).min(limit));
            }
            if id == IMAGE_ID {
                rows.extend(images.next().map_or(0..0, |image| image * tokens..(image + 1) * tokens));
                continue;
            }
            let position = rows.order.len() - start;
            if label != IGNORE && position > 0 && bounds.last() == Some(&position) {
                bail!(Data, "a branch begins with the supervised id {id}, which nothing before it can predict");
            }
            if label != IGNORE && position > 0 && position < limit {
                label_rows.push((start + position - 1) as u32);
                targets.push(label as u32);
            }
            is_cut |= label != IGNORE && position >= limit;
            rows.text(id)?;
        }
        cut += usize::from(is_cut);
        if targets.len() == before {
            unsupervised.push(number);
        }
        rows.order.truncate(start + limit);
        bounds.push(rows.order.len() - start);
        trees.push(match bounds.as_slice() {
            [length] => Tree::sequence(*length),
            [stem, ..] => Tree { stem: *stem, branches: bounds.windows(2).map(|ends| ends[1] - ends[0]).collect() },
            [] => Tree::sequence(0),
        });
    }
    let projected = match features {
        Some(features) => Some(vlm.projector.project(features)?.flatten_to(1)?), // (images * tokens, width)
        None => None,
    };
    let embeds = rows.embed(&vlm.llm, projected.as_slice())?;
    Ok(Batch { embeds, trees, rows: label_rows, targets: targets.into(), cut, unsupervised })
}

/// Embeds prompts one after the other, (rows of all prompts, width).
pub(super) fn embed(llm: &Llm, prompts: &[&[Piece]]) -> Result<Tensor> {
    let mut rows = EmbeddingRows::default();
    let mut images: Vec<Tensor> = Vec::new();
    // The first row of every image, in the order of `images`.
    let mut starts = vec![0];
    for piece in prompts.iter().flat_map(|prompt| prompt.iter()) {
        match piece {
            Piece::Token(id) => rows.text(i64::from(*id))?,
            Piece::Image(tokens) => {
                let known = images.iter().position(|image| image.id() == tokens.id());
                let place = known.unwrap_or_else(|| {
                    images.push(tokens.clone());
                    starts.push(starts[starts.len() - 1] + piece.rows());
                    images.len() - 1
                });
                rows.extend(starts[place]..starts[place + 1]);
            }
        }
    }
    rows.embed(llm, &images)
}

/// The rows of a batch: each is a text embedding or an image row.
#[derive(Default)]
struct EmbeddingRows {
    ids: Vec<u32>,
    order: Vec<EmbeddingRow>,
}

enum EmbeddingRow {
    Text(u32),
    Image(u32),
}

impl EmbeddingRows {
    fn text(&mut self, id: i64) -> Result<()> {
        let Ok(id) = u32::try_from(id) else { bail!(Data, "{id} is not a token id") };
        self.order.push(EmbeddingRow::Text(self.ids.len() as u32));
        self.ids.push(id);
        Ok(())
    }

    /// Appends rows of the concatenated images.
    fn extend(&mut self, rows: std::ops::Range<usize>) {
        self.order.extend(rows.map(|row| EmbeddingRow::Image(row as u32)));
    }

    /// (rows, width); `images` are (rows, width) each.
    fn embed(self, llm: &Llm, images: &[Tensor]) -> Result<Tensor> {
        let count = self.ids.len() as u32;
        let ids: Arc<[u32]> = self.ids.into();
        llm.check_ids(&ids)?;
        if self.order.len() == ids.len() {
            return Ok(llm.model.embed(&ids)?);
        }
        let mut parts = Vec::with_capacity(images.len() + 1);
        if count > 0 {
            parts.push(llm.model.embed(&ids)?); // (text rows, width)
        }
        let dtype = llm.target().dtype;
        for image in images {
            parts.push(image.to_dtype(dtype)?);
        }
        let row = |row: &EmbeddingRow| match *row {
            EmbeddingRow::Text(row) => row,
            EmbeddingRow::Image(row) => count + row,
        };
        let order: Arc<[u32]> = self.order.iter().map(row).collect();
        Ok(ops::embedding(&Tensor::cat(&parts, 0)?, &order)?)
    }
}
