//! One conversation through the whole model: its logits, its loss.

use candle_core::Tensor;

use super::splice::{Batch, Sequence, batch};
use super::{Vlm, generate};
use crate::error;
use crate::error::Result;
use crate::image::Image;
use crate::nn::packing::Packing;
use crate::text::Turn;

impl Vlm {
    /// A rendered conversation through the whole model: logits of every position, (positions, vocab).
    ///
    /// # Errors
    /// `Data` when there are not as many images as marks, naming both numbers.
    pub fn logits(&self, images: &[Image], turns: &[Turn]) -> Result<Tensor> {
        let batch = self.single(images, turns)?;
        let packing = Packing::trees(&batch.trees);
        Ok(self.llm.model.logits(&self.llm.model.hidden(&batch.embeds, &packing, None)?)?)
    }

    /// Mean cross-entropy over the supervised positions of one conversation.
    ///
    /// # Errors
    /// As [`logits`](Self::logits), and `Data` when nothing is supervised.
    pub fn loss(&self, images: &[Image], turns: &[Turn]) -> Result<f64> {
        let batch = self.single(images, turns)?;
        if batch.targets.is_empty() {
            return Err(error!(Data, "no position of this conversation is supervised")
                .help("the last turn must be an answer (`from: \"gpt\"`)"));
        }
        let sum = batch.loss_sum(self)?.to_scalar::<f32>()?;
        Ok(f64::from(sum) / batch.targets.len() as f64)
    }

    /// Renders one conversation for training and splices its pictures.
    fn single(&self, images: &[Image], turns: &[Turn]) -> Result<Batch> {
        self.llm.ready()?;
        self.freeze()?;
        let rendered = self.template().render_about(self.tokenizer()?, turns, images.len())?;
        generate::check_marks(&rendered.ids, images.len())?;
        let features = match images {
            [] => None,
            images => Some(self.features(&images.iter().collect::<Vec<_>>(), self.aspect())?),
        };
        let sequence = Sequence { rendered: &rendered, images: (0..images.len()).collect() };
        batch(self, &[sequence], features.as_ref(), self.llm.context())
    }
}
