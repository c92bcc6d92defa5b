//! What enters block 0: patches as one matmul, positions (interpolated where the picture has another size),
//! class token and registers, and CLIP's norm.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, Tensor, TensorId};

use super::spec::{Positions, Stored, Tokens, VitSpec};
use crate::nn::norm::LayerNorm;
use crate::nn::ops;
use crate::nn::resample::{Filter, resize};
use crate::weights::{Builder, Init, Param};

/// Sizes whose positions are kept.
const KEPT: usize = 8;

/// The embeddings of a tower.
pub(super) struct Embedding {
    class: Option<Arc<Param>>,
    registers: Option<Arc<Param>>,
    patch_weight: Arc<Param>,
    patch_bias: Option<Arc<Param>>,
    positions: Arc<Param>,
    pre_norm: Option<LayerNorm>,
    /// Interpolated positions of a frozen table.
    interpolated: Mutex<Vec<Interpolated>>,
}

struct Interpolated {
    /// The table it was made of; other values have another id.
    table: TensorId,
    grid: (usize, usize),
    positions: Tensor,
}

impl Embedding {
    /// `builder` stands below the checkpoint's prefix.
    pub(super) fn new(builder: &Builder, spec: &VitSpec, init: Init) -> crate::error::Result<Self> {
        let (names, width) = (spec.names, spec.width);
        let stored = |rows: usize| match names.stored {
            Stored::Flat => vec![rows, width],
            Stored::Batched => vec![1, rows, width],
        };
        let class_shape = match names.stored {
            Stored::Flat => vec![width],
            Stored::Batched => vec![1, 1, width],
        };
        let class = match spec.tokens {
            Tokens::Patches => None,
            Tokens::Cls | Tokens::ClsRegisters(_) => Some(builder.param(names.class_embedding, &class_shape, init)?),
        };
        let registers = match spec.tokens {
            Tokens::ClsRegisters(count @ 1..) => Some(builder.param(names.registers, &stored(count), init)?),
            _ => None,
        };
        let patch = builder.pp(names.patch_embedding);
        let patch_weight = patch.param("weight", &[width, spec.channels, spec.patch_size, spec.patch_size], init)?;
        let patch_bias = if spec.patch_bias { Some(patch.param("bias", &[width], Init::Zeros)?) } else { None };
        let positions = spec.grid() * spec.grid() + spec.extra_positions();
        let positions = builder.param(names.position_embedding, &stored(positions), init)?;
        let pre_norm = match names.pre_norm {
            Some(name) => Some(LayerNorm::new(&builder.pp(name), width, spec.norm_eps)?),
            None => None,
        };
        let interpolated = Mutex::default();
        Ok(Embedding { class, registers, patch_weight, patch_bias, positions, pre_norm, interpolated })
    }

    /// Pixels (batch, channels, height, width) to (batch * sequence, width).
    pub(super) fn forward(&self, spec: &VitSpec, pixels: &Tensor, grid: (usize, usize)) -> Result<Tensor> {
        let batch = pixels.dim(0)?;
        let (extra, own) = self.positions(spec, grid)?;
        let patches = self.patches(spec, pixels, grid)?.broadcast_add(&own)?; // (batch, rows * columns, width)
        let hidden = match &self.class {
            Some(class) => {
                let first = (class.tensor()?.reshape((1, 1, spec.width))? + extra.reshape((1, 1, spec.width))?)?;
                let front = match &self.registers {
                    Some(registers) => Tensor::cat(&[&first, &registers.tensor()?], 1)?,
                    None => first,
                };
                let front = front.broadcast_as((batch, spec.extra_tokens(), spec.width))?;
                Tensor::cat(&[&front, &patches], 1)? // (batch, extra tokens + patches, width)
            }
            None => patches,
        };
        let hidden = hidden.flatten_to(1)?;
        match &self.pre_norm {
            Some(norm) => norm.forward(&hidden),
            None => Ok(hidden),
        }
    }

    /// A convolution whose stride is its kernel: (batch, rows * columns, width).
    fn patches(&self, spec: &VitSpec, pixels: &Tensor, (rows, columns): (usize, usize)) -> Result<Tensor> {
        let (batch, channels, ..) = pixels.dims4()?;
        let patch = spec.patch_size;
        let patches = pixels
            .narrow(2, 0, rows * patch)?
            .narrow(3, 0, columns * patch)?
            .reshape((batch, channels, rows, patch, columns, patch))?
            .permute((0, 2, 4, 1, 3, 5))?
            .reshape((batch * rows * columns, channels * patch * patch))?;
        let weight = self.patch_weight.tensor()?.flatten_from(1)?; // (width, channels * patch * patch)
        let bias = self.patch_bias.as_ref().map(|bias| bias.tensor()).transpose()?;
        ops::linear(&patches, &weight, bias.as_ref())?.reshape((batch, rows * columns, spec.width))
    }

    /// The positions of the tokens in front (extra positions, width) and of the patches (rows * columns, width).
    fn positions(&self, spec: &VitSpec, (rows, columns): (usize, usize)) -> Result<(Tensor, Tensor)> {
        let stored = self.positions.tensor()?;
        let (extra, grid) = (spec.extra_positions(), spec.grid());
        let table = stored.reshape((grid * grid + extra, spec.width))?;
        let (front, own) = (table.narrow(0, 0, extra)?, table.narrow(0, extra, grid * grid)?);
        let filter = match spec.positions {
            Positions::Bicubic { antialias } if (rows, columns) != (grid, grid) => Filter::Bicubic { antialias },
            _ => return Ok((front, own)),
        };
        if stored.track_op() {
            return Ok((front, interpolate(&own, grid, (rows, columns), filter)?));
        }
        let kept = self.kept(stored.id(), (rows, columns));
        let own = match kept {
            Some(own) => own,
            None => {
                let own = interpolate(&own, grid, (rows, columns), filter)?;
                self.keep(Interpolated { table: stored.id(), grid: (rows, columns), positions: own.clone() });
                own
            }
        };
        Ok((front, own))
    }

    fn kept(&self, table: TensorId, grid: (usize, usize)) -> Option<Tensor> {
        let kept = self.interpolated.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|one| one.table == table && one.grid == grid).map(|one| one.positions.clone())
    }

    fn keep(&self, one: Interpolated) {
        let mut kept = self.interpolated.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|other| other.table == one.table && other.grid != one.grid);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(one);
    }
}

/// Positions of a square grid, (grid * grid, width), for another one: (rows * columns, width).
fn interpolate(table: &Tensor, grid: usize, (rows, columns): (usize, usize), filter: Filter) -> Result<Tensor> {
    let width = table.dim(1)?;
    let maps = table.t()?.contiguous()?.reshape((width, grid, grid))?;
    resize(&maps, (rows, columns), filter)?.reshape((width, rows * columns))?.t()?.contiguous()
}
