//! What the optimizer remembers of a tensor: its two AdamW moments, in f32 or in 8 bits, and an f32 master copy where
//! the model computes in a narrower dtype. All of it is made at the first update, so that a plan costs nothing.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::Result;
use crate::nn::ops::{self, AdamW, Moment8, Sign};
use crate::weights::{Param, TensorFiles};

/// How moments are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MomentKind {
    #[default]
    #[serde(rename = "f32")]
    Full,
    /// Blocks of 256 values with a scale: 1.016 bytes a value.
    #[serde(rename = "8bit")]
    EightBit,
}

impl MomentKind {
    /// Bytes of both moments of a tensor of `count` values.
    pub fn bytes(self, count: usize) -> usize {
        match self {
            MomentKind::Full => 2 * count * DType::F32.size_in_bytes(),
            MomentKind::EightBit => 2 * Moment8::bytes(count),
        }
    }
}

/// The first and second moment of a tensor.
pub(super) enum Moments {
    Full(Tensor, Tensor),
    EightBit(Moment8, Moment8),
}

/// Names of the tensors that hold 8-bit moments in a checkpoint, beside their scales.
const SCALES: &str = "scales.";

impl Moments {
    /// Zeros.
    pub(super) fn zeros(kind: MomentKind, like: &Tensor) -> Result<Self> {
        Ok(match kind {
            MomentKind::Full => {
                let zeros = || Tensor::zeros(like.shape(), DType::F32, like.device());
                Moments::Full(zeros()?, zeros()?)
            }
            MomentKind::EightBit => {
                let zeros = |sign| Moment8::zeros(like.elem_count(), sign, like.device());
                Moments::EightBit(zeros(Sign::Both)?, zeros(Sign::Positive)?)
            }
        })
    }

    /// One update of an f32 tensor, or of a narrower one with f32 moments.
    pub(super) fn update(&mut self, values: &Tensor, gradient: &Tensor, hyper: &AdamW) -> Result<()> {
        match self {
            Moments::Full(first, second) => Ok(ops::adamw(values, gradient, first, second, hyper)?),
            Moments::EightBit(first, second) if values.dtype() == DType::F32 => {
                Ok(ops::adamw_8bit(values, gradient, first, second, hyper)?)
            }
            Moments::EightBit(first, second) => {
                let wide = values.detach().to_dtype(DType::F32)?;
                ops::adamw_8bit(&wide, gradient, first, second, hyper)?;
                Ok(values.detach().flatten_all()?.slice_set(&wide.to_dtype(values.dtype())?.flatten_all()?, 0, 0)?)
            }
        }
    }

    /// What a checkpoint keeps of them.
    pub(super) fn tensors(&self, name: &str) -> Result<Vec<(String, Tensor)>> {
        let of = |moment: &Moment8, which: &str| {
            let name = format!("{which}.{name}");
            [(name.clone(), moment.codes.clone()), (format!("{SCALES}{name}"), moment.scales.clone())]
        };
        Ok(match self {
            Moments::Full(first, second) => {
                vec![(format!("first.{name}"), first.clone()), (format!("second.{name}"), second.clone())]
            }
            Moments::EightBit(first, second) => [of(first, "first"), of(second, "second")].concat(),
        })
    }

    /// The moments of a checkpoint.
    pub(super) fn load(kind: MomentKind, files: &TensorFiles, name: &str, like: &Tensor) -> Result<Self> {
        match kind {
            MomentKind::Full => {
                let load = |which: &str| full(files, &format!("{which}.{name}"), like);
                Ok(Moments::Full(load("first")?, load("second")?))
            }
            MomentKind::EightBit => {
                let load = |which: &str, sign| eight_bit(files, &format!("{which}.{name}"), like, sign);
                Ok(Moments::EightBit(load("first", Sign::Both)?, load("second", Sign::Positive)?))
            }
        }
    }
}

/// A tensor of the optimizer in f32, shaped like a parameter.
pub(super) fn full(files: &TensorFiles, name: &str, like: &Tensor) -> Result<Tensor> {
    let loaded = files.load(name, like.device())?;
    if loaded.shape() != like.shape() || loaded.dtype() != DType::F32 {
        let (dtype, dims) = (loaded.dtype(), loaded.dims());
        bail!(Shape, "`{name}` of {} is {dtype:?} {dims:?}, the model needs f32 {:?}", files.name(), like.dims());
    }
    Ok(loaded)
}

fn eight_bit(files: &TensorFiles, name: &str, like: &Tensor, sign: Sign) -> Result<Moment8> {
    let (count, device) = (like.elem_count(), like.device());
    let (codes, scales) = (files.load(name, device)?, files.load(&format!("{SCALES}{name}"), device)?);
    let fits = codes.dtype() == DType::U8 && scales.dtype() == DType::F32;
    if !fits || codes.dims() != [count] || scales.dims() != [Moment8::blocks(count)] {
        bail!(
            Shape,
            "`{name}` of {} is {:?} {:?} with {:?} scales, the model needs u8 [{count}] with {}",
            files.name(),
            codes.dtype(),
            codes.dims(),
            scales.dims(),
            Moment8::blocks(count)
        );
    }
    Ok(Moment8 { codes, scales, sign })
}

/// The f32 values behind a parameter of a narrower dtype: updates below its precision add up in them.
pub(super) struct Master(pub Tensor);

impl Master {
    /// A copy of the parameter in f32.
    pub(super) fn of(param: &Param) -> Result<Self> {
        Ok(Master(param.tensor()?.detach().to_dtype(DType::F32)?))
    }

    /// Rounds the master to the parameter's dtype.
    pub(super) fn publish(&self, param: &Param) -> Result<()> {
        Ok(param.assign(&self.0)?)
    }
}
