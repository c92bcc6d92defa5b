//! What defines a vision tower: sizes, variants as enum values, and the names of its tensors.

use serde::Serialize;

use crate::error::Result;
use crate::nn::ops::Gelu;
use crate::{bail, error};

/// What stands in the sequence beside the patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Tokens {
    Patches,
    /// One class token in front.
    Cls,
    /// A class token, then this many registers, which have no position.
    ClsRegisters(usize),
}

/// How the position table meets pictures of other sizes than the tower's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Positions {
    /// It does not: the pixels must have the tower's size.
    Fixed,
    /// The square of patch positions is resized to the picture's grid, in f32.
    Bicubic { antialias: bool },
}

/// The feed-forward part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Mlp {
    /// `fc2(gelu(fc1(x)))`.
    Gelu(Gelu),
    /// `fc2(silu(a) * b)` with `a`, `b` the halves of `fc1(x)`.
    SwiGlu,
}

/// How class token, registers and positions are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Stored {
    /// (width) and (positions, width).
    Flat,
    /// With a batch dimension of one: (1, 1, width), (1, positions, width).
    Batched,
}

/// What a published tower holds that no hidden state depends on; it counts as the tower's all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unread {
    /// LayerNorm after the last block.
    Norm(&'static str),
    /// A vector of the tower's width.
    Vector(&'static str),
    /// A square layer with bias.
    Linear(&'static str),
    /// SigLIP's pooling head: a probe that attends to all tokens, LayerNorm, MLP.
    AttentionPool(&'static str),
}

/// Names of the tensors of one architecture, below the prefix of the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VitNames {
    /// What may stand before all names; which one does is seen from the tensors that are there. The first is that
    /// of random weights.
    pub prefixes: &'static [&'static str],
    pub stored: Stored,
    pub class_embedding: &'static str,
    pub registers: &'static str,
    pub patch_embedding: &'static str,
    pub position_embedding: &'static str,
    /// LayerNorm before block 0, where there is one.
    pub pre_norm: Option<&'static str>,
    /// `<blocks>.<i>` is a block.
    pub blocks: &'static str,
    pub attention_norm: &'static str,
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub output: &'static str,
    pub mlp_norm: &'static str,
    pub fc1: &'static str,
    pub fc2: &'static str,
    /// Factors per channel on what attention and MLP add, where there are any.
    pub layer_scales: Option<[&'static str; 2]>,
    pub unread: &'static [Unread],
}

/// Everything that defines a vision tower.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VitSpec {
    /// Side of the square the position table is for, in pixels.
    pub image_size: usize,
    pub patch_size: usize,
    pub channels: usize,
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    /// Inputs of the second layer of the MLP.
    pub intermediate: usize,
    pub mlp: Mlp,
    pub norm_eps: f64,
    pub tokens: Tokens,
    pub positions: Positions,
    pub patch_bias: bool,
    /// Whether query, key and value have biases; the attention's output always has.
    pub qkv_bias: bool,
    /// What layer scales start from where no checkpoint holds them.
    pub layer_scale: f64,
    pub names: VitNames,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
}

/// Larger values of a config are taken for mistakes, before memory is asked for.
const LARGEST: usize = 1 << 16;

impl VitSpec {
    /// What the tower's checkpoint holds beside the parameters: what its names begin with, and how many numbers.
    pub fn unread(&self) -> Vec<(&'static str, usize)> {
        let (width, inner) = (self.width, self.intermediate);
        let linear = |input: usize, output: usize| (input + 1) * output;
        let count = |unread: &Unread| match *unread {
            Unread::Norm(name) => (name, 2 * width),
            Unread::Vector(name) => (name, width),
            Unread::Linear(name) => (name, linear(width, width)),
            Unread::AttentionPool(name) => {
                let attention = linear(width, 3 * width) + linear(width, width);
                (name, width + attention + 2 * width + linear(width, inner) + linear(inner, width))
            }
        };
        self.names.unread.iter().map(count).collect()
    }

    /// Patches along one side of the position table.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Tokens in front of the patches.
    pub fn extra_tokens(&self) -> usize {
        match self.tokens {
            Tokens::Patches => 0,
            Tokens::Cls => 1,
            Tokens::ClsRegisters(registers) => 1 + registers,
        }
    }

    /// Rows of the position table that belong to no patch.
    pub(super) fn extra_positions(&self) -> usize {
        match self.tokens {
            Tokens::Patches => 0,
            Tokens::Cls | Tokens::ClsRegisters(_) => 1,
        }
    }

    /// Rows and columns of patches of a picture; what is left over at the right and below is not seen.
    ///
    /// # Errors
    /// `Shape` for a size this tower does not take.
    pub fn patches(&self, height: usize, width: usize) -> Result<(usize, usize)> {
        let (size, patch) = (self.image_size, self.patch_size);
        match self.positions {
            Positions::Fixed if (height, width) != (size, size) => {
                Err(error!(Shape, "the pixels are {width} x {height}, the tower takes {size} x {size}")
                    .help("its positions belong to that size and are not interpolated"))
            }
            Positions::Bicubic { .. } if height < patch || width < patch => {
                bail!(Shape, "the pixels are {width} x {height}, less than one patch of {patch} x {patch}")
            }
            _ => Ok((height / patch, width / patch)),
        }
    }

    /// The block a parameter of this name belongs to.
    pub fn block_of(&self, name: &str) -> Option<usize> {
        self.names.prefixes.iter().find_map(|prefix| {
            let rest = name.strip_prefix(prefix)?.strip_prefix(self.names.blocks)?.strip_prefix('.')?;
            rest.split('.').next()?.parse().ok()
        })
    }

    /// Refuses sizes that do not belong together.
    ///
    /// # Errors
    /// `Decode`, naming the value.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("num_channels", self.channels),
            ("hidden_size", self.width),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("the MLP's width", self.intermediate),
        ];
        if let Some((name, size)) = sizes.into_iter().find(|(_, size)| !(1..=LARGEST).contains(size)) {
            bail!(Decode, "the tower's config: {name} is {size}, expected 1 to {LARGEST}");
        }
        if self.extra_tokens() > LARGEST {
            bail!(Decode, "the tower's config: {:?} are too many", self.tokens);
        }
        if !self.width.is_multiple_of(self.heads) {
            bail!(Decode, "the tower's config: hidden_size {} is no multiple of {} heads", self.width, self.heads);
        }
        if self.patch_size > self.image_size {
            bail!(Decode, "the tower's config: patches of {} in pictures of {}", self.patch_size, self.image_size);
        }
        Ok(())
    }
}
