//! Weights: where a model's tensors come from (safetensors folders, embedded bytes, random numbers, none) and the
//! parameters made of them. The tree of [`Builder::pp`] is the tree of names in the checkpoint.

mod files;
mod finite;
mod folder;
mod gguf;
mod gguf_types;
mod gguf_view;
mod hashing;
mod param;
mod pickle;
mod quantized;
mod scaled;
mod seal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};

pub use files::{TensorFiles, save_shards, save_tensors};
pub use folder::{ADAPTER, INDEX, WHOLE, indexed_files, is_part};
pub use gguf::Gguf;
pub use gguf_view::{Change, Renamed};
pub use param::{Adapter, Dropout, Dropping};
pub use param::{Param, ParamSet, Weight};
pub use quantized::{Quantize, Quantized, quantized_name};
pub use seal::{HASHES, check_folder, edited, listed, seal, seal_more, sha256_of, unseal_removed};

use crate::error::Result;
use crate::notes::Notes;
use crate::rng::Rng;
use crate::{bail, error};

/// How a parameter starts when no checkpoint holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    Zeros,
    Ones,
    Constant(f64),
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform in (-bound, bound); torch's `Linear` uses 1 / sqrt(in).
    Uniform(f64),
}

/// Where tensors come from.
#[derive(Clone)]
pub enum Source {
    /// Safetensors; a parameter `x` is the tensor `<prefix>x`.
    Files { files: Arc<TensorFiles>, prefix: String },
    /// Random numbers: functions of the seed and the parameter's name.
    Random { seed: u64 },
    /// Shapes alone: every tensor is one zero seen many times, so a model of any size takes no memory.
    Shapes,
}

/// Makes the parameters of one model and remembers them.
#[derive(Clone)]
pub struct Builder {
    source: Source,
    path: String,
    dtype: DType,
    device: Device,
    quantize: Option<Quantize>,
    made: Arc<Mutex<ParamSet>>,
    seen: Arc<Mutex<Seen>>,
}

/// What is told all at once by `finish`.
#[derive(Default)]
struct Seen {
    /// Names the source does not hold.
    missing: Vec<String>,
    /// Tensors with values that are no numbers: name, how many, of how many.
    not_finite: Vec<(String, usize, usize)>,
    /// Weights that did not get the blocks that were asked for: what was, what they got, their row's length; how many.
    fallen_back: BTreeMap<(&'static str, &'static str, usize), usize>,
}

/// What a builder made, and what its source held beside it.
pub struct Finished {
    pub params: ParamSet,
    pub unused: Vec<(String, Tensor)>,
    /// What people should know of the weights.
    pub notes: Notes,
}

impl Builder {
    /// A builder at the root of the names.
    pub fn new(source: Source, dtype: DType, device: &Device) -> Self {
        Builder {
            source,
            path: String::new(),
            dtype,
            device: device.clone(),
            quantize: None,
            made: Arc::default(),
            seen: Arc::default(),
        }
    }

    /// The same builder, with the weights of linear layers in blocks.
    pub fn quantized(mut self, quantize: Option<Quantize>) -> Self {
        self.quantize = quantize;
        self
    }

    /// The builder one name deeper.
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        let mut deeper = self.clone();
        deeper.path = if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) };
        deeper
    }

    /// Whether the source holds a tensor of this name; random weights and shapes hold everything.
    pub fn has(&self, name: &str) -> bool {
        match &self.source {
            Source::Files { files, prefix } => files.has(&format!("{prefix}{}", self.pp(name).path)),
            Source::Random { .. } | Source::Shapes => true,
        }
    }

    /// The parameter `name` of this shape, from the source or by `init`.
    pub fn param(&self, name: &str, shape: &[usize], init: Init) -> Result<Arc<Param>> {
        let full = self.pp(name).path;
        let tensor = self.tensor(&full, shape, init)?;
        Ok(self.keep(Param::new(full, tensor)))
    }

    fn tensor(&self, full: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        Ok(match &self.source {
            Source::Files { files, prefix } if !files.has(&format!("{prefix}{full}")) => {
                self.seen().missing.push(format!("{prefix}{full}"));
                // `finish` fails; until then the config's sizes take no memory.
                Tensor::zeros((), self.dtype, &self.device)?.broadcast_as(shape)?
            }
            Source::Files { files, prefix } => {
                let tensor = files.load(&format!("{prefix}{full}"), &self.device)?;
                if tensor.dims() != shape {
                    bail!(
                        Shape,
                        "tensor `{prefix}{full}` of {} has shape {:?}, the model needs {:?}",
                        files.name(),
                        tensor.dims(),
                        shape
                    );
                }
                if tensor.dtype().is_int() {
                    let stored = files.stored_type(&format!("{prefix}{full}"));
                    let dtype = stored.unwrap_or_else(|| tensor.dtype().as_str().to_string());
                    return Err(error!(
                        Weights,
                        "tensor `{prefix}{full}` of {} is stored as {dtype}, not as floats",
                        files.name()
                    )
                    .help("if the model is quantized, dequantize it first, or take the model it was made from"));
                }
                let tensor = tensor.to_dtype(self.dtype)?;
                match finite::not_finite(&tensor)? {
                    0 => {}
                    count => self.seen().not_finite.push((format!("{prefix}{full}"), count, tensor.elem_count())),
                }
                tensor
            }
            Source::Random { seed } => {
                random(*seed, full, shape, init).and_then(|t| t.to_dtype(self.dtype)?.to_device(&self.device))?
            }
            Source::Shapes => Tensor::zeros((), self.dtype, &self.device)?.broadcast_as(shape)?,
        })
    }

    /// The weight of a linear layer, (out, in): a [`param`](Self::param), in blocks if the builder quantizes and the
    /// rows fit them.
    pub fn weight(&self, name: &str, shape: [usize; 2], init: Init) -> Result<Arc<Param>> {
        self.matrix(name, shape, init, self.quantize)
    }

    /// Embeddings or a head, (vocab, width): as [`weight`](Self::weight), but in 8 bits whatever the layers have, as
    /// every token's scores depend on it.
    pub fn table(&self, name: &str, shape: [usize; 2], init: Init) -> Result<Arc<Param>> {
        let quantize = self.quantize.map(|quantize| match quantize {
            Quantize::To(_) => Quantize::To(GgmlDType::Q8_0),
            Quantize::Keep => Quantize::Keep,
        });
        self.matrix(name, shape, init, quantize)
    }

    fn matrix(&self, name: &str, shape: [usize; 2], init: Init, quantize: Option<Quantize>) -> Result<Arc<Param>> {
        let Some(quantize) = quantize.filter(|_| !matches!(self.source, Source::Shapes)) else {
            return self.param(name, &shape, init);
        };
        let full = self.pp(name).path;
        if let Source::Files { files, prefix } = &self.source
            && let Some(blocks) = files.load_blocks(&format!("{prefix}{full}"), quantize, shape)?
        {
            match blocks.not_finite() {
                0 => {}
                count => self.seen().not_finite.push((format!("{prefix}{full}"), count, shape[0] * shape[1])),
            }
            return Ok(self.keep(Param::quantized(full, blocks, self.dtype)));
        }
        let dtype = match quantize {
            Quantize::To(wanted) => {
                let got = quantized::fitting(wanted, shape[1]);
                if got != Some(wanted) {
                    let names = (quantized_name(wanted), got.map_or(self.dtype.as_str(), quantized_name), shape[1]);
                    *self.seen().fallen_back.entry(names).or_default() += 1;
                }
                got
            }
            Quantize::Keep => None,
        };
        match dtype {
            None => self.param(name, &shape, init),
            Some(dtype) => {
                let blocks = Quantized::new(&self.tensor(&full, &shape, init)?, dtype)?;
                Ok(self.keep(Param::quantized(full, blocks, self.dtype)))
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, param: Param) -> Arc<Param> {
        let param = Arc::new(param);
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(param.clone());
        param
    }

    /// The parameters made by this builder and those deeper, in order, and the tensors that were left over. Tensors
    /// that the source lacks are an error that says how many and which.
    pub fn finish(&self) -> Result<Finished> {
        let params = self.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let unused = self.unused(&params)?;
        let seen = self.seen();
        let missing = &seen.missing;
        if let (Some(_), Source::Files { files, .. }) = (missing.first(), &self.source) {
            let some = |names: &[String]| names.iter().take(3).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
            let unused: Vec<String> = unused.into_iter().map(|(name, _)| name).collect();
            let (lacks, needs, spare) = (missing.len(), params.len(), unused.len());
            let error =
                error!(Weights, "{} lacks {lacks} of the {needs} tensors needed: {}", files.name(), some(missing));
            return Err(match spare {
                0 => error.help("it may be another model's checkpoint, or only a part of this one's"),
                _ => error.help(format!("{spare} of its tensors are not used: {}", some(&unused))),
            });
        }
        let notes = Notes::default();
        seen.tell(&self.source, &notes);
        if let Source::Files { files, .. } = &self.source {
            files.notes().extend(&notes);
        }
        Ok(Finished { params, unused, notes })
    }

    /// Tensors the source holds under its prefix that no parameter took: kept, so that saving loses nothing.
    fn unused(&self, params: &ParamSet) -> Result<Vec<(String, Tensor)>> {
        let Source::Files { files, prefix } = &self.source else { return Ok(Vec::new()) };
        let used: BTreeSet<&str> = params.iter().map(|param| param.name()).collect();
        let mut unused = Vec::new();
        for name in files.names() {
            if let Some(rest) = name.strip_prefix(prefix.as_str())
                && !used.contains(rest)
            {
                unused.push((rest.to_string(), files.load(&name, &Device::Cpu)?));
            }
        }
        Ok(unused)
    }
}

impl Seen {
    fn tell(&self, source: &Source, notes: &Notes) {
        let of = match source {
            Source::Files { files, .. } => format!(" of {}", files.name()),
            _ => String::new(),
        };
        for (name, count, all) in self.not_finite.iter().take(3) {
            notes.add(format!("tensor `{name}`{of}: {count} of {all} values are NaN or infinite, and so will be what is computed with them"));
        }
        if let Some(more) = self.not_finite.len().checked_sub(3).filter(|more| *more > 0) {
            notes.add(format!("{more} more tensors{of} hold values that are NaN or infinite"));
        }
        for ((wanted, got, inputs), count) in &self.fallen_back {
            notes.add(format!("quantize `{wanted}`: rows of {inputs} values do not fit its blocks, so {count} matrices{of} are in {got}"));
        }
    }
}

fn random(seed: u64, name: &str, shape: &[usize], init: Init) -> candle_core::Result<Tensor> {
    let count: usize = shape.iter().product();
    let rng = Rng::new(seed, name);
    let values: Vec<f32> = match init {
        Init::Zeros => vec![0.0; count],
        Init::Ones => vec![1.0; count],
        Init::Constant(value) => vec![value as f32; count],
        Init::Normal(deviation) => (0..count as u64).map(|i| (rng.normal(i) * deviation) as f32).collect(),
        Init::Uniform(bound) => (0..count as u64).map(|i| ((2.0 * rng.uniform(i) - 1.0) * bound) as f32).collect(),
    };
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Reads a whole safetensors file into a sorted list, for scripts (`tensors(path)`) and checkpoints.
pub fn read_tensors(path: &std::path::Path, device: &Device) -> Result<Vec<(String, Tensor)>> {
    let files = TensorFiles::open(path)?;
    files.names().into_iter().map(|name| Ok((name.clone(), files.load(&name, device)?))).collect()
}

/// Copies tensors into parameters of the same names; every parameter must be there, with its shape.
pub fn restore(params: &ParamSet, files: &TensorFiles) -> Result<()> {
    for param in params.iter() {
        let tensor = files.load(param.name(), &param.device())?;
        if tensor.dims() != param.dims() {
            bail!(
                Shape,
                "tensor `{}` of {} has shape {:?}, the model has {:?}",
                param.name(),
                files.name(),
                tensor.dims(),
                param.dims()
            );
        }
        param.assign(&tensor).map_err(|error| error!(Weights, "`{}`: {error}", param.name()))?;
    }
    Ok(())
}
