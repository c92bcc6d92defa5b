//! The gate of SwiGLU and GeGLU feed-forward layers: `act(gate) * up`.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use serde::Serialize;

use super::cpu::kernel::kernel;
use super::cpu::math::{fma, sigmoid};
use super::cpu::memory::{floats, fused, in_f32, storage, tensor, with_floats};
use super::cpu::rows::{map_pairs, map_rows};
use super::gelu::{tanh_slope, tanh_value};

/// The activation of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Gate {
    /// `x * sigmoid(x)`: SwiGLU (Llama, Qwen, Phi).
    Silu,
    /// The tanh form of GELU: GeGLU (Gemma).
    GeluTanh,
}

/// `act(gate) * up`, elementwise; errors if the shapes or dtypes differ.
pub fn gated(gate: &Tensor, up: &Tensor, kind: Gate) -> Result<Tensor> {
    if gate.dims() != up.dims() {
        bail!("gated: gate {:?} and up {:?} have different shapes", gate.shape(), up.shape());
    }
    if !fused("gated", &[gate, up])? {
        return gated_reference(gate, up, kind);
    }
    gate.contiguous()?.apply_op2(&up.contiguous()?, Gated { kind })
}

/// [`gated`] composed of candle's primitives.
pub fn gated_reference(gate: &Tensor, up: &Tensor, kind: Gate) -> Result<Tensor> {
    in_f32(gate, |gate| {
        let up = up.to_dtype(gate.dtype())?;
        match kind {
            Gate::Silu => gate.silu()? * up,
            Gate::GeluTanh => super::gelu_reference(gate, super::Gelu::Tanh)? * up,
        }
    })
}

struct Gated {
    kind: Gate,
}

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

impl CustomOp2 for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dtype = gate.dtype();
        let (gate, up) = (floats(gate, gate_layout)?, floats(up, up_layout)?);
        let values = map_rows(gate.len(), 1, 1, |block, out| {
            product(out, &gate[block.clone()], &up[block], self.kind);
        });
        Ok((storage(values, dtype)?, gate_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let wanted = [gate.track_op(), up.track_op()];
        let (gate_values, up_values) = with_floats(gate, |gates| {
            with_floats(up, |ups| {
                with_floats(gradient, |result_gradients| {
                    Ok(map_pairs(gates.len(), wanted, |block, gate_out, up_out| {
                        let gradient = &result_gradients[block.clone()];
                        let inputs = Inputs { gate: &gates[block.clone()], up: &ups[block], gradient };
                        gradients(gate_out, up_out, inputs, self.kind);
                    }))
                })
            })
        })?;
        Ok((
            wanted[0].then(|| tensor(gate_values, gate.shape(), gate.dtype())).transpose()?,
            wanted[1].then(|| tensor(up_values, up.shape(), up.dtype())).transpose()?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Check;
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn gated_agrees_with_its_reference() {
        for kind in [Gate::Silu, Gate::GeluTanh] {
            for shape in [[3, 7], [150, 301]] {
                Check::new("gated", &[&shape, &shape])
                    .scaled(4.0)
                    .run(|t| gated(&t[0], &t[1], kind), |t| gated_reference(&t[0], &t[1], kind));
            }
        }
    }

    #[test]
    fn different_shapes_are_named() -> Result<()> {
        let gate = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let message = gated(&gate, &gate.t()?, Gate::Silu).unwrap_err().to_string();
        assert!(message.contains("gated: gate [2, 3] and up [3, 2] have different shapes"), "{message}");
        let message = gated(&gate, &gate.to_dtype(DType::BF16)?, Gate::Silu).unwrap_err().to_string();
        assert!(message.contains("gated: inputs have different dtypes, F32 and BF16"), "{message}");
        Ok(())
    }
}
