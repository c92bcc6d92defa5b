//! Adapters initialized by OLoRA: they were trained on the base minus `scale Q R`, the part of its weight in the span of
//! its first r columns. PEFT subtracts that part from the base when it opens the adapter; here it becomes part of the
//! adapter, as in PEFT's own conversion, so that the base stays as it is in its file.
//! Source: PEFT 0.21.2, `tuners/lora/layer.py` (`olora_init`), `tuners/lora/model.py` (`subtract_mutated_init`).

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::sites::Plan;
use crate::error;
use crate::error::Result;
use crate::weights::{Adapter, Param, ParamSet};

/// Converts adapters to twice the rank, so that they apply to the unchanged base.
///
/// # Errors
/// `Option` for a quantized base, whose values are not those that the adapter was trained on.
pub(super) fn plain(adapters: &mut [(Arc<Param>, Adapter)], mut plan: Plan) -> Result<(ParamSet, Plan)> {
    let mut params = ParamSet::default();
    for ((weight, adapter), site) in adapters.iter_mut().zip(&mut plan.sites) {
        if weight.blocks().is_some() {
            return Err(error!(Option, "`init_lora_weights` is \"olora\": its base cannot be quantized at opening")
                .help("open it without `quantize`, save it with `m.save(dir)` and quantize that"));
        }
        let (start, project) = initial(&weight.tensor()?.detach().to_dtype(DType::F32)?, site.r)?;
        let double = |param: &Param, other: &Tensor, dim: usize| -> Result<Arc<Param>> {
            let both = Tensor::cat(&[&param.tensor()?.detach(), other], dim)?;
            Ok(Arc::new(Param::new(param.name().to_string(), both)))
        };
        adapter.down = double(&adapter.down, &project, 0)?;
        adapter.up = double(&adapter.up, &start.neg()?, 1)?;
        params.push(adapter.down.clone());
        params.push(adapter.up.clone());
        // Keeps alpha / r, or alpha / sqrt(r), unchanged.
        let growth = adapter.down.dims()[0] as f64 / site.r as f64;
        site.alpha *= if plan.rslora { growth.sqrt() } else { growth };
        site.r = adapter.down.dims()[0];
    }
    plan.olora = false;
    Ok((params, plan))
}

/// The QR decomposition of the first `r` columns: Q (out, r), and R = Q^T W (r, in).
fn initial(weight: &Tensor, r: usize) -> Result<(Tensor, Tensor)> {
    let (out, inputs) = weight.dims2()?;
    let r = r.min(out).min(inputs);
    let mut columns = weight.narrow(1, 0, r)?.t()?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    for number in 0..r {
        let (before, rest) = columns.split_at_mut(number);
        // Twice (Gram-Schmidt), so that rounding errors leave no component along earlier columns.
        for _ in 0..2 {
            for other in before.iter() {
                let share: f64 = other.iter().zip(&rest[0]).map(|(a, b)| a * b).sum();
                rest[0].iter_mut().zip(other).for_each(|(value, other)| *value -= share * other);
            }
        }
        let length = rest[0].iter().map(|value| value * value).sum::<f64>().sqrt();
        if length == 0.0 {
            return Err(error!(
                Weights,
                "`init_lora_weights` is \"olora\": the first {r} columns depend on each other"
            ));
        }
        rest[0].iter_mut().for_each(|value| *value /= length);
    }
    let flat: Vec<f32> = columns.into_iter().flatten().map(|value| value as f32).collect();
    let q = Tensor::from_vec(flat, (r, out), weight.device())?;
    let project = q.matmul(weight)?;
    Ok((q.t()?.contiguous()?, project))
}
