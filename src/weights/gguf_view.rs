//! A GGUF file as the tensors of a model in Hugging Face layout: renamed, with rows and norms converted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};

use super::gguf::Gguf;
use super::quantized::{Quantize, Quantized};
use crate::bail;
use crate::error::Result;

/// How a tensor of the Hugging Face layout is stored in a GGUF file.
#[derive(Clone, Debug, PartialEq)]
pub struct Renamed {
    /// The name in the file.
    pub stored: String,
    pub change: Change,
}

/// The conversion of a tensor's values to those of the Hugging Face layout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    None,
    /// Rows of every head (this many heads) are in adjacent pairs for rotation; they become two halves.
    Unpair(usize),
    /// `1 + w` is stored; 1 is subtracted.
    MinusOne,
    /// It is not stored: this many zeros.
    Zeros(usize),
}

/// A GGUF file under the names a model asks for.
pub(super) struct GgufView {
    pub(super) file: Arc<Gguf>,
    pub(super) names: BTreeMap<String, Renamed>,
}

impl GgufView {
    /// A tensor in f32.
    pub(super) fn load(&self, name: &str, device: &Device) -> candle_core::Result<Tensor> {
        match self.names.get(name) {
            Some(renamed) => load(&self.file, renamed, device),
            None => candle_core::bail!("no tensor `{name}`"),
        }
    }

    /// The blocks of a matrix, where the stored type is what `quantize` asks for.
    pub(super) fn blocks(&self, name: &str, quantize: Quantize, shape: [usize; 2]) -> Result<Option<Quantized>> {
        let file = &self.file;
        let Some((renamed, stored)) = self.names.get(name).and_then(|name| Some((name, file.tensor(&name.stored)?)))
        else {
            return Ok(None);
        };
        let plain = matches!(stored.dtype, GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16);
        if plain || matches!(quantize, Quantize::To(dtype) if dtype != stored.dtype) {
            return Ok(None);
        }
        if stored.shape != shape {
            let file = file.path().display();
            bail!(Shape, "tensor `{name}` of `{file}` has shape {:?}, the model needs {shape:?}", stored.shape);
        }
        let (rows, inputs) = (shape[0], shape[1]);
        let bytes = match renamed.change {
            Change::None => Cow::Borrowed(file.data(stored)),
            // Blocks do not cross rows, so rows can be moved without requantizing.
            Change::Unpair(heads) => unpaired(file.data(stored), rows, heads).into(),
            Change::MinusOne | Change::Zeros(_) => return Ok(None),
        };
        Quantized::from_bytes(&bytes, stored.dtype, rows, inputs).map(Some)
    }
}

/// A tensor of a GGUF file in f32.
fn load(file: &Gguf, renamed: &Renamed, device: &Device) -> candle_core::Result<Tensor> {
    if let Change::Zeros(count) = renamed.change {
        return Tensor::zeros(count, DType::F32, device);
    }
    let Some(stored) = file.tensor(&renamed.stored) else { candle_core::bail!("no tensor `{}`", renamed.stored) };
    let inputs = stored.shape.last().copied().unwrap_or(1);
    let rows = stored.shape.iter().product::<usize>() / inputs.max(1);
    let bytes = match renamed.change {
        Change::Unpair(heads) => unpaired(file.data(stored), stored.shape[0], heads).into(),
        _ => Cow::Borrowed(file.data(stored)),
    };
    let tensor = Quantized::from_bytes(&bytes, stored.dtype, rows, inputs)
        .map_err(|error| candle_core::Error::msg(error.message()))?
        .tensor()?
        .reshape(stored.shape.as_slice())?;
    match renamed.change {
        Change::MinusOne => tensor - 1.0,
        _ => Ok(tensor),
    }?
    .to_device(device)
}

/// Reorders the rows of every head from adjacent pairs (0, 1), (2, 3), ... to two halves.
fn unpaired(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let (row, head) = (bytes.len() / rows.max(1), rows / heads.max(1));
    let half = head / 2;
    if half == 0 || head * heads != rows || half * 2 != head {
        // Such heads fit no model; the caller, who knows the expected shape, reports the error.
        return bytes.to_vec();
    }
    let mut out = Vec::with_capacity(bytes.len());
    for index in 0..rows {
        let (first, inside) = (index / head * head, index % head);
        let from = first + inside % half * 2 + inside / half;
        out.extend_from_slice(&bytes[from * row..(from + 1) * row]);
    }
    out
}
