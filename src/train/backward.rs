//! The loss of a micro-batch and its gradients. With checkpointing the forward pass keeps what enters each block of the
//! LLM and nothing else; the backward goes from the last block to the first that needs it, computes the block again
//! and hands its gradients out before it turns to the next.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use crate::error::Result;
use crate::models::Forward;
use crate::nn::packing::Packing;
use crate::vlm::{Batch, Vlm};

/// One forward pass of some samples.
pub(super) struct MicroLoss {
    /// Summed cross-entropy with its graph; with checkpointing, the graph behind the last block.
    pub sum: Tensor,
    pub tokens: usize,
    kept: Option<CheckpointedPass>,
}

/// What a checkpointed forward pass leaves behind.
struct CheckpointedPass {
    packing: Packing,
    /// What enters the first block, with the graph of embeddings and projector: (positions, width).
    entered: Tensor,
    /// The first block with something to train in it or before it.
    lowest: usize,
    /// What enters this block and those after it, without graphs.
    inputs: Vec<Tensor>,
    /// What leaves the last block, where the graph of `sum` begins: (targets, width).
    top: Var,
}

impl MicroLoss {
    pub(super) fn new(vlm: &Vlm, batch: &Batch, checkpointing: bool) -> Result<Self> {
        let tokens = batch.targets.len();
        if !checkpointing {
            return Ok(MicroLoss { sum: batch.loss_sum(vlm)?, tokens, kept: None });
        }
        let packing = batch.packing();
        let model = &vlm.llm.model;
        let forward = model.forward(&packing, None)?;
        let entered = forward.enter(&batch.embeds)?;
        let (lowest, inputs, output) = pass(&*forward, &entered)?;
        let top = Var::from_tensor(&output)?;
        let sum = model.loss_sum(&forward.leave(&top)?, &batch.targets)?;
        drop(forward);
        Ok(MicroLoss { sum, tokens, kept: Some(CheckpointedPass { packing, entered, lowest, inputs, top }) })
    }

    /// Gradients of the sum times `weight`: `each` sees every store of them, block by block with checkpointing.
    pub(super) fn backward(
        self,
        vlm: &Vlm,
        weight: f64,
        each: &mut dyn FnMut(&mut GradStore) -> Result<()>,
    ) -> Result<()> {
        let weighted = if weight == 1.0 { self.sum } else { (self.sum * weight)? };
        let mut store = weighted.backward()?;
        drop(weighted);
        let Some(CheckpointedPass { packing, entered, lowest, mut inputs, top }) = self.kept else {
            return each(&mut store);
        };
        let mut gradient = store.remove(&top);
        each(&mut store)?;
        let forward = vlm.llm.model.forward(&packing, None)?;
        for layer in (lowest..forward.blocks()).rev() {
            let (Some(above), Some(input)) = (gradient.take(), inputs.pop()) else { break };
            let needed = layer > lowest || entered.track_op();
            let input = if needed { Var::from_tensor(&input)?.into_inner() } else { input };
            let mut store = seeded(&forward.block(layer, &input)?, &above)?;
            gradient = store.remove(&input);
            each(&mut store)?;
        }
        match gradient {
            Some(gradient) if entered.track_op() => each(&mut seeded(&entered, &gradient)?),
            _ => Ok(()),
        }
    }
}

/// The blocks without a graph: the first that needs a gradient, what enters it and those after it, and the result.
fn pass(forward: &dyn Forward, entered: &Tensor) -> Result<(usize, Vec<Tensor>, Tensor)> {
    let blocks = forward.blocks();
    let mut lowest = if entered.track_op() { 0 } else { blocks };
    let mut inputs = Vec::new();
    let mut hidden = entered.detach(); // (positions, width)
    for layer in 0..blocks {
        let output = forward.block(layer, &hidden)?;
        if output.track_op() {
            lowest = lowest.min(layer);
        }
        let input = std::mem::replace(&mut hidden, output.detach());
        if layer >= lowest {
            inputs.push(input);
        }
    }
    Ok((lowest, inputs, hidden))
}

/// Gradients of everything behind `output`, whose own gradient is known.
fn seeded(output: &Tensor, gradient: &Tensor) -> Result<GradStore> {
    Ok((output * gradient)?.sum_all()?.backward()?)
}
