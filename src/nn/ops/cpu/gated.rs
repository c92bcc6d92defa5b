//! Gated products on the CPU.

use candle_core::{CpuStorage, Result};

use super::super::dispatch::{Kernels, Outcome};
use super::super::gated::{Gate, Gated};
use super::gelu::{tanh_slope, tanh_value};
use super::kernel::kernel;
use super::math::{fma, sigmoid};
use super::memory::{Cpu, floats, storage};
use super::rows::{map_pairs, map_rows};

/// Equally long stretches of both inputs and of the result's gradient.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    gradient: &'a [f32],
}

kernel! {
    fn product<const FMA: bool>(out: &mut [f32], gate: &[f32], up: &[f32], kind: Gate) {
        match kind {
            Gate::Silu => multiply(out, gate, up, |x| x * sigmoid::<FMA>(x)),
            Gate::GeluTanh => multiply(out, gate, up, tanh_value::<FMA>),
        }
    }
}

#[inline(always)]
fn multiply(out: &mut [f32], gate: &[f32], up: &[f32], activation: impl Fn(f32) -> f32) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = activation(*gate) * up;
    }
}

kernel! {
    /// Either gradient is left out if its slice is empty.
    fn gradients<const FMA: bool>(gate_gradient: &mut [f32], up_gradient: &mut [f32], inputs: Inputs, kind: Gate) {
        match kind {
            Gate::Silu => differentiate(gate_gradient, up_gradient, inputs, |x| {
                let s = sigmoid::<FMA>(x);
                (x * s, s * fma::<FMA>(x, 1.0 - s, 1.0))
            }),
            Gate::GeluTanh => differentiate(gate_gradient, up_gradient, inputs, |x| (tanh_value::<FMA>(x), tanh_slope::<FMA>(x))),
        }
    }
}

/// `activation` gives the value and the slope; what is not used of them is optimized away.
#[inline(always)]
fn differentiate(gate_out: &mut [f32], up_out: &mut [f32], inputs: Inputs, activation: impl Fn(f32) -> (f32, f32)) {
    let inputs = inputs.gate.iter().zip(inputs.up).zip(inputs.gradient);
    if up_out.is_empty() {
        for (gate_out, ((gate, up), gradient)) in gate_out.iter_mut().zip(inputs) {
            *gate_out = gradient * up * activation(*gate).1;
        }
    } else if gate_out.is_empty() {
        for (up_out, ((gate, _), gradient)) in up_out.iter_mut().zip(inputs) {
            *up_out = gradient * activation(*gate).0;
        }
    } else {
        for ((gate_out, up_out), ((gate, up), gradient)) in gate_out.iter_mut().zip(up_out).zip(inputs) {
            let (value, slope) = activation(*gate);
            *gate_out = gradient * up * slope;
            *up_out = gradient * value;
        }
    }
}

impl Kernels<CpuStorage, 2> for Gated {
    fn forward(&self, [gate, up]: [Cpu; 2]) -> Result<CpuStorage> {
        let dtype = gate.dtype();
        let (gate, up) = (floats(gate)?, floats(up)?);
        let values = map_rows(gate.len(), 1, 1, |block, out| {
            product(out, &gate[block.clone()], &up[block], self.kind);
        });
        storage(values, dtype)
    }

    fn backward(
        &self,
        [gate, up]: [Cpu; 2],
        outcome: Outcome<CpuStorage>,
        wanted: [bool; 2],
    ) -> Result<[Option<CpuStorage>; 2]> {
        let (gates, ups, result_gradients) = (floats(gate)?, floats(up)?, floats(outcome.gradient)?);
        let (gate_values, up_values) = map_pairs(gates.len(), wanted, |block, gate_out, up_out| {
            let gradient = &result_gradients[block.clone()];
            let inputs = Inputs { gate: &gates[block.clone()], up: &ups[block], gradient };
            gradients(gate_out, up_out, inputs, self.kind);
        });
        Ok([
            wanted[0].then(|| storage(gate_values, gate.dtype())).transpose()?,
            wanted[1].then(|| storage(up_values, up.dtype())).transpose()?,
        ])
    }
}
