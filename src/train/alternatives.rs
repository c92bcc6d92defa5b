//! What a run would take with other options, for the advice of a plan that does not fit.

use super::step::Stepper;
use crate::vlm::Part;

/// Rank of the adapters that advice counts with.
pub(super) const RANK: usize = 16;

/// What other options would take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alternatives {
    /// Bytes of activations where blocks keep their inputs only: these, and one block at a time.
    pub checkpointed: u64,
    /// Weights of the LLM that are trained, and of adapters in their place.
    pub llm: usize,
    pub adapters: usize,
}

impl Alternatives {
    /// What the run would take with other options, given what it takes.
    pub(super) fn of(stepper: &Stepper, activations: u64, positions: usize) -> Self {
        let llm = stepper.vlm().llm.model.spec();
        let inputs = positions * llm.width * llm.layers * stepper.vlm().target().dtype.size_in_bytes();
        let (queries, keys) = (llm.heads * llm.head_dim, llm.kv_heads * llm.head_dim);
        // In and out of query, key, value, output, gate, up, down.
        let sides = 2 * (llm.width + queries) + 2 * (llm.width + keys) + 3 * (llm.width + llm.intermediate);
        let of_llm = stepper.trained().iter().filter(|trained| trained.part == Part::Llm);
        Alternatives {
            checkpointed: match stepper.options.checkpointing {
                true => activations,
                false => (activations / llm.layers as u64 + inputs as u64).min(activations),
            },
            llm: match stepper.options.lora {
                Some(_) => 0,
                None => of_llm.map(|trained| trained.param.count()).sum(),
            },
            adapters: RANK * llm.layers * sides,
        }
    }
}
