//! Splicing: rendered conversations and projected image features become one packed row of embeddings, and the
//! supervised labels become (row, target) pairs. Positions after the limit are cut, image rows included.
//! Source: LLaVA-MORE 2460d39, `llava_arch.py`.

use std::sync::Arc;

use candle_core::Tensor;

use super::Vlm;
use crate::bail;
use crate::error::Result;
use crate::nn::ops;
use crate::nn::packing::Packing;
use crate::text::{IGNORE, IMAGE_ID, Rendered};

/// One conversation and which of the batch's images it shows.
pub struct Sequence<'a> {
    pub rendered: &'a Rendered,
    pub image: Option<usize>,
}

/// A spliced batch.
pub struct Batch {
    /// (positions, LLM width)
    pub embeds: Tensor,
    /// Positions of each sequence.
    pub lengths: Vec<usize>,
    /// Rows whose next position is supervised, ascending.
    pub rows: Vec<u32>,
    /// What the next position is, per row.
    pub targets: Arc<[u32]>,
    /// Sequences of which supervised positions were cut off.
    pub cut: usize,
}

impl Batch {
    /// Summed cross-entropy over the supervised positions: an f32 scalar with its graph.
    pub fn loss_sum(&self, vlm: &Vlm) -> Result<Tensor> {
        let packing = Packing::whole(&self.lengths).with_rows(self.rows.clone());
        let hidden = vlm.llm.model.hidden(&self.embeds, &packing, None)?; // (targets, width)
        Ok(vlm.llm.model.loss_sum(&hidden, &self.targets)?)
    }

    /// Positions of all sequences.
    pub fn positions(&self) -> usize {
        self.lengths.iter().sum()
    }
}

/// Splices sequences; `features` are (images, tokens, encoder width).
pub fn batch(vlm: &Vlm, sequences: &[Sequence], features: Option<&Tensor>, limit: usize) -> Result<Batch> {
    let tokens = vlm.image_tokens();
    let mut rows = Rows::default();
    let mut lengths = Vec::with_capacity(sequences.len());
    let mut label_rows = Vec::new();
    let mut targets = Vec::new();
    let mut cut = 0;
    for sequence in sequences {
        let start = rows.order.len();
        let Rendered { ids, labels, .. } = sequence.rendered;
        let mut is_cut = false;
        for (&id, &label) in ids.iter().zip(labels) {
            if id == IMAGE_ID {
                let Some(image) = sequence.image else { bail!(Data, "`<image>` stands in a turn without an image") };
                rows.image(image, tokens);
                continue;
            }
            let position = rows.order.len() - start;
            if label != IGNORE && position > 0 && position < limit {
                label_rows.push((start + position - 1) as u32);
                targets.push(label as u32);
            }
            is_cut |= label != IGNORE && position >= limit;
            rows.text(id)?;
        }
        cut += usize::from(is_cut);
        rows.order.truncate(start + limit);
        lengths.push(rows.order.len() - start);
    }
    let projected = match features {
        Some(features) => Some(vlm.projector.project(features)?),
        None => None,
    };
    let embeds = rows.embed(vlm, projected.as_ref())?;
    Ok(Batch { embeds, lengths, rows: label_rows, targets: targets.into(), cut })
}

/// Embeds ids that may hold image marks; `projected` are (images * tokens, width). Every mark is image 0, 1, ...
pub(super) fn embed(vlm: &Vlm, sequences: &[(&[i64], usize)], projected: Option<&Tensor>) -> Result<Tensor> {
    let tokens = vlm.image_tokens();
    let mut rows = Rows::default();
    for &(ids, image) in sequences {
        for &id in ids {
            if id == IMAGE_ID { rows.image(image, tokens) } else { rows.text(id)? }
        }
    }
    rows.embed(vlm, projected)
}

/// The rows of a batch: each is a text embedding or an image row.
#[derive(Default)]
struct Rows {
    ids: Vec<u32>,
    order: Vec<Row>,
}

enum Row {
    Text(u32),
    Image(u32),
}

impl Rows {
    fn text(&mut self, id: i64) -> Result<()> {
        let Ok(id) = u32::try_from(id) else { bail!(Data, "{id} is not a token id") };
        self.order.push(Row::Text(self.ids.len() as u32));
        self.ids.push(id);
        Ok(())
    }

    fn image(&mut self, image: usize, tokens: usize) {
        self.order.extend((image * tokens..(image + 1) * tokens).map(|row| Row::Image(row as u32)));
    }

    fn embed(self, vlm: &Vlm, projected: Option<&Tensor>) -> Result<Tensor> {
        let count = self.ids.len() as u32;
        let ids: Arc<[u32]> = self.ids.into();
        let vocab = vlm.llm.model.spec().vocab as u32;
        if let Some(id) = ids.iter().find(|&&id| id >= vocab) {
            bail!(Data, "token id {id} is outside the vocabulary of {vocab}");
        }
        let text = vlm.llm.model.embed(&ids)?; // (text rows, width)
        let order: Arc<[u32]> = self
            .order
            .iter()
            .map(|row| match *row {
                Row::Text(row) => row,
                Row::Image(row) => count + row,
            })
            .collect();
        Ok(match projected {
            Some(projected) => {
                let all = Tensor::cat(&[&text, &projected.to_dtype(text.dtype())?], 0)?;
                ops::embedding(&all, &order)?
            }
            None if order.len() == count as usize => text,
            None => ops::embedding(&text, &order)?,
        })
    }
}
