//! Attention on the CPU: tiles of scores, in the forward and again in the backward.

mod backward;
mod forward;

use candle_core::{CpuStorage, Result};

use super::super::attention::Plan;
use super::super::dispatch::{Kernels, Outcome};
use super::memory::{Cpu, floats, storage};
use backward::Inputs;

impl Kernels<CpuStorage, 3> for Plan {
    fn forward(&self, [q, k, v]: [Cpu; 3]) -> Result<CpuStorage> {
        storage(forward::forward(self, &floats(q)?, &floats(k)?, &floats(v)?)?, q.dtype())
    }

    fn backward(
        &self,
        [q, k, v]: [Cpu; 3],
        outcome: Outcome<CpuStorage>,
        wanted: [bool; 3],
    ) -> Result<[Option<CpuStorage>; 3]> {
        let (qs, ks, vs, gradient) = (floats(q)?, floats(k)?, floats(v)?, floats(outcome.gradient)?);
        let inputs = Inputs { q: &qs, k: &ks, v: &vs, gradient: &gradient };
        let [dq, dk, dv] = backward::backward(self, inputs, wanted)?;
        Ok([
            wanted[0].then(|| storage(dq, q.dtype())).transpose()?,
            wanted[1].then(|| storage(dk, k.dtype())).transpose()?,
            wanted[2].then(|| storage(dv, v.dtype())).transpose()?,
        ])
    }
}
