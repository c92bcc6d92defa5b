//! Quantized weights: rows of blocks as ggml defines them, each block a few bits per value and a scale. They can be
//! computed with but not trained.

use candle_core::quantized::{GgmlDType, QuantizedType};
use candle_core::{CpuStorage, DType, Device, Shape, Storage, Tensor};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::{bail, error};

/// Rows that one task quantizes or dequantizes.
const ROWS: usize = 64;

/// The names of the types a weight can be quantized to.
const NAMES: [(&str, GgmlDType); 10] = [
    ("q8_0", GgmlDType::Q8_0),
    ("q6_k", GgmlDType::Q6K),
    ("q5_k", GgmlDType::Q5K),
    ("q4_k", GgmlDType::Q4K),
    ("q3_k", GgmlDType::Q3K),
    ("q2_k", GgmlDType::Q2K),
    ("q5_1", GgmlDType::Q5_1),
    ("q5_0", GgmlDType::Q5_0),
    ("q4_1", GgmlDType::Q4_1),
    ("q4_0", GgmlDType::Q4_0),
];

/// How to store the weights of linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantize {
    /// Keep the blocks of the file (GGUF).
    Keep,
    /// Quantize them while loading.
    To(GgmlDType),
}

impl Quantize {
    /// `keep`, or the name of a type: `q8_0`, `q4_k`, ...
    pub fn parse(name: &str) -> Result<Self> {
        if name == "keep" {
            return Ok(Quantize::Keep);
        }
        let known: Vec<&str> = ["keep"].into_iter().chain(NAMES.iter().map(|(name, _)| *name)).collect();
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, dtype)| Quantize::To(*dtype)).ok_or_else(|| Error::unknown("quantization", name, &known, ""))
    }

    /// The name that parses to this value.
    pub fn name(self) -> &'static str {
        match self {
            Quantize::Keep => "keep",
            Quantize::To(dtype) => quantized_name(dtype),
        }
    }
}

/// The name of a block type, as `quantize:` takes it.
pub fn quantized_name(dtype: GgmlDType) -> &'static str {
    match dtype {
        GgmlDType::F32 => "f32",
        GgmlDType::F16 => "f16",
        GgmlDType::BF16 => "bf16",
        other => NAMES.iter().find(|(_, dtype)| *dtype == other).map_or("q8", |(name, _)| name),
    }
}

/// The type for rows of `inputs` values where `wanted` is asked for: blocks do not cross rows, so rows whose length is
/// not a multiple of 256 get `q8_0` instead of a k type, and those not a multiple of 32 are not quantized.
pub fn fitting(wanted: GgmlDType, inputs: usize) -> Option<GgmlDType> {
    [wanted, GgmlDType::Q8_0].into_iter().find(|dtype| inputs > 0 && inputs.is_multiple_of(dtype.block_size()))
}

/// A matrix (rows, inputs) in blocks.
pub struct Quantized {
    blocks: Box<dyn QuantizedType>,
    rows: usize,
    inputs: usize,
}

impl Quantized {
    /// Quantizes a matrix (rows, inputs), many rows at a time on all threads.
    pub fn new(matrix: &Tensor, dtype: GgmlDType) -> Result<Self> {
        let (rows, inputs) = matrix.dims2()?;
        if inputs == 0 || !inputs.is_multiple_of(dtype.block_size()) {
            bail!(Shape, "rows of {inputs} values do not fit blocks of {}", dtype.block_size());
        }
        let values = matrix.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let parts: Vec<Box<dyn QuantizedType>> = values
            .par_chunks(ROWS * inputs)
            .map(|values| {
                let mut blocks = dtype.cpu_zeros(values.len());
                blocks.from_float(values);
                blocks
            })
            .collect();
        drop(values);
        let bytes: Vec<u8> = parts.iter().flat_map(|part| bytes(part.as_ref()).iter().copied()).collect();
        drop(parts);
        Quantized::from_bytes(&bytes, dtype, rows, inputs)
    }

    /// A matrix from the bytes of its blocks, as in a file.
    pub fn from_bytes(bytes: &[u8], dtype: GgmlDType, rows: usize, inputs: usize) -> Result<Self> {
        let blocks = inputs / dtype.block_size();
        let needed = rows.checked_mul(blocks).and_then(|blocks| blocks.checked_mul(dtype.type_size()));
        if !inputs.is_multiple_of(dtype.block_size()) || needed != Some(bytes.len()) {
            let name = quantized_name(dtype);
            bail!(Shape, "{} bytes are not a ({rows}, {inputs}) matrix in {name}", bytes.len());
        }
        // Blocks start with a number of two or four bytes, which has to be aligned.
        let mut copy = Vec::new();
        let bytes = match bytes.as_ptr().align_offset(8) {
            0 => bytes,
            _ => {
                copy.resize(bytes.len() + 8, 0u8);
                let start = copy.as_ptr().align_offset(8).min(8);
                copy[start..start + bytes.len()].copy_from_slice(bytes);
                &copy[start..start + bytes.len()]
            }
        };
        Ok(Quantized { blocks: dtype.from_data(bytes.into()), rows, inputs })
    }

    /// The type of the blocks.
    pub fn dtype(&self) -> GgmlDType {
        self.blocks.dtype()
    }

    /// (rows, inputs)
    pub fn dims(&self) -> [usize; 2] {
        [self.rows, self.inputs]
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.blocks.storage_size_in_bytes()
    }

    /// The bytes of the blocks in memory.
    pub(super) fn as_bytes(&self) -> &[u8] {
        bytes(self.blocks.as_ref())
    }

    /// The number of values in blocks whose scale or offset is NaN or infinite.
    pub(super) fn not_finite(&self) -> usize {
        let (places, size) = (scales(self.dtype()), self.dtype().type_size());
        let odd = |block: &&[u8]| {
            let number = |&at: &usize| u16::from_le_bytes([block[at], block[at + 1]]);
            places.iter().map(number).any(|bits| bits & 0x7c00 == 0x7c00)
        };
        self.as_bytes().par_chunks_exact(size).filter(odd).count() * self.dtype().block_size()
    }

    /// The values of some rows, by index, concatenated.
    pub fn rows(&self, rows: &[u32]) -> candle_core::Result<Vec<f32>> {
        match self.blocks.embedding(rows, self.rows, self.inputs)? {
            CpuStorage::F32(values) => Ok(values),
            other => {
                candle_core::bail!("quantized rows came as {:?}", candle_core::backend::BackendStorage::dtype(&other))
            }
        }
    }

    /// All values, (rows, inputs), in f32.
    pub fn tensor(&self) -> candle_core::Result<Tensor> {
        let mut values = vec![0f32; self.rows * self.inputs];
        values.par_chunks_mut(ROWS * self.inputs).enumerate().try_for_each(|(index, values)| {
            let first = index * ROWS;
            let rows: Vec<u32> = (first..first + values.len() / self.inputs).map(|row| row as u32).collect();
            values.copy_from_slice(&self.rows(&rows)?);
            candle_core::Result::Ok(())
        })?;
        let shape = Shape::from((self.rows, self.inputs));
        let none = candle_core::op::BackpropOp::none();
        Ok(Tensor::from_storage(Storage::Cpu(CpuStorage::F32(values)), shape, none, false))
    }

    /// `x W^T` by candle's integer kernels, which round x to blocks of 8 bits: x (m, inputs), out (m, rows).
    pub fn multiply(&self, x: &[f32], out: &mut [f32]) -> candle_core::Result<()> {
        self.blocks.matmul_t((x.len() / self.inputs, self.inputs, self.rows), x, out)
    }
}

/// The byte offsets of a block's f16 scale and f16 offset. Source: ggml, `ggml-common.h`.
fn scales(dtype: GgmlDType) -> &'static [usize] {
    match dtype {
        GgmlDType::Q4_0 | GgmlDType::Q5_0 | GgmlDType::Q8_0 => &[0],
        GgmlDType::Q4_1 | GgmlDType::Q5_1 | GgmlDType::Q4K | GgmlDType::Q5K => &[0, 2],
        GgmlDType::Q2K => &[80, 82],
        GgmlDType::Q3K => &[108],
        GgmlDType::Q6K => &[208],
        _ => &[],
    }
}

fn bytes(blocks: &dyn QuantizedType) -> &[u8] {
    // SAFETY: candle keeps the blocks in one Vec; `as_ptr` is its start and `storage_size_in_bytes` its length times the size
    // of a block, so the bytes are one allocation that lives and stays unchanged as long as `blocks` is borrowed. Blocks are
    // `repr(C)` structs of bytes and f16 without padding (candle asserts their sizes), so every byte is initialized.
    unsafe { std::slice::from_raw_parts(blocks.as_ptr(), blocks.storage_size_in_bytes()) }
}

/// The error for an attempt to change a quantized weight.
pub(super) fn not_trainable(name: &str, dtype: GgmlDType) -> Error {
    let dtype = quantized_name(dtype);
    error!(
        Train,
        "`{name}` is quantized ({dtype}): quantized weights cannot be trained; open without `quantize`, or train adapters \
         (option `lora`)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, inputs: usize) -> Tensor {
        let values: Vec<f32> = (0..rows * inputs).map(|i| ((i * 7919) % 2003) as f32 / 1001.0 - 1.0).collect();
        Tensor::from_vec(values, (rows, inputs), &Device::Cpu).unwrap()
    }

    #[test]
    fn quantizing_in_parts_is_quantizing_the_whole() {
        let matrix = matrix(130, 512);
        for (name, dtype) in NAMES {
            let ours = Quantized::new(&matrix, dtype).unwrap();
            let theirs = candle_core::quantized::QTensor::quantize(&matrix, dtype).unwrap();
            assert_eq!(bytes(ours.blocks.as_ref()), &theirs.data().unwrap()[..], "{name}");
            let expected = theirs.dequantize(&Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(ours.tensor().unwrap().to_vec2::<f32>().unwrap(), expected, "{name}");
            assert_eq!(ours.rows(&[129, 3]).unwrap()[..512], expected[129], "{name}");
        }
    }

    #[test]
    fn rows_that_do_not_fit_fall_back() {
        assert_eq!(fitting(GgmlDType::Q4K, 512), Some(GgmlDType::Q4K));
        assert_eq!(fitting(GgmlDType::Q4K, 576), Some(GgmlDType::Q8_0));
        assert_eq!(fitting(GgmlDType::Q4K, 40), None);
        assert!(Quantized::new(&matrix(2, 40), GgmlDType::Q8_0).is_err());
        assert!(Quantized::from_bytes(&[0; 33], GgmlDType::Q8_0, 1, 32).is_err());
        assert!(Quantize::parse("q8").unwrap_err().to_string().contains("q8_0"));
    }

    #[test]
    fn a_scale_that_is_no_number_is_found_in_every_type() {
        let matrix = Tensor::randn(0f32, 1.0, (3, 512), &Device::Cpu).unwrap();
        for (name, dtype) in NAMES {
            let whole = Quantized::new(&matrix, dtype).unwrap();
            assert_eq!(whole.not_finite(), 0, "{name}");
            for &place in scales(dtype) {
                let mut bytes = whole.as_bytes().to_vec();
                // The second block of all.
                let at = dtype.type_size() + place;
                bytes[at..at + 2].copy_from_slice(&0x7e00u16.to_le_bytes());
                let broken = Quantized::from_bytes(&bytes, dtype, 3, 512).unwrap();
                assert_eq!(broken.not_finite(), dtype.block_size(), "{name}");
                let values = broken.tensor().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let odd = values.iter().filter(|value| !value.is_finite()).count();
                assert_eq!(odd, dtype.block_size(), "{name}, byte {place}");
            }
        }
    }
}
