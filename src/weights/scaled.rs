//! Quantized weights in safetensors files, which need the tensors stored beside them: float8 with scales is supported, every
//! other method is refused by name. The method is recognized by `quantization_config` and by the names of the tensors.
//! Source: transformers 5.24.0, `utils/quantization_config.py` (methods), `integrations/finegrained_fp8.py` (blocks);
//! compressed-tensors' `compressors/` (names, formats).

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use safetensors::Dtype;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::{bail, error};

/// Values of `quant_method` whose weights are float8 with a scale.
const COMPUTED: [&str; 4] = ["fp8", "fbgemm_fp8", "compressed-tensors", "modelopt"];
/// Formats of compressed-tensors whose weights are float8 with a scale.
const FORMATS: [&str; 3] = ["float-quantized", "naive-quantized", "dense"];
/// Keys of a config.json that describe how its weights are stored, and the parts of a model that may have their own.
const KEYS: [&str; 3] = ["quantization_config", "compression_config", "quantization"];
const PARTS: [&str; 3] = ["text_config", "llm_config", "vision_config"];
/// Suffixes of tensor names that identify a method; the weights of models have other names.
const MARKS: [(&str, &str); 21] = [
    (".qweight", "GPTQ or AWQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".g_idx", "GPTQ"),
    (".scales", "GPTQ, AWQ or MLX"),
    (".biases", "MLX"),
    (".SCB", "bitsandbytes in 8 bits"),
    (".weight_format", "bitsandbytes in 8 bits"),
    (".absmax", "bitsandbytes in 4 bits"),
    (".nested_absmax", "bitsandbytes in 4 bits"),
    (".quant_map", "bitsandbytes in 4 bits"),
    (".weight_packed", "compressed-tensors, packed"),
    (".bitmask", "compressed-tensors, sparse"),
    (".weight_scale_2", "ModelOpt's NVFP4"),
    (".weight_global_scale", "NVFP4"),
    ("_blocks", "MXFP4"),
    (".W_q", "HQQ"),
    ("weight_qdata", "torchao"),
    (".weight._data", "quanto"),
    (".weight_scales", "EETQ"),
    (".codebooks", "AQLM"),
    (".centroids", "VPTQ"),
];
/// Suffixes of the scale of a weight `<module>.weight`.
const SCALES: [&str; 2] = [".weight_scale_inv", ".weight_scale"];
/// Scales of activations. Activations are not rounded here, so these have no effect.
const OF_ACTIVATIONS: [&str; 9] = [
    "input_scale",
    "input_scale_ub",
    "output_scale",
    "activation_scale",
    "act_scale",
    "q_scale",
    "k_scale",
    "v_scale",
    "prob_output_scale",
];
/// The blocks of DeepSeek-V3, transformers' default for `weight_block_size`.
const BLOCK: [usize; 2] = [128, 128];
const NEXT: &str = "dequantize it with transformers (`m = AutoModelForCausalLM.from_pretrained(folder)`, \
    `m.dequantize()`, `m.save_pretrained(out)`), or take the model it was made from: \
    llmore quantizes while opening (`quantize: \"q4_k\"`)";

/// A tensor's entry in the header of its file.
pub(super) struct Entry {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// The scale of a weight.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scaled {
    /// The name of the scale's tensor.
    pub scale: String,
    /// Rows and columns that share one value of the scale.
    block: [usize; 2],
}

/// The scales of a checkpoint.
#[derive(Default)]
pub(super) struct Found {
    pub scaled: BTreeMap<String, Scaled>,
    /// Tensors that are not weights, such as the scales.
    pub beside: BTreeSet<String>,
    pub note: Option<String>,
}

/// Pairs the float8 weights of `files` with their scales. `config` is the config.json around them.
///
/// # Errors
/// `Weights`, with the method and a tensor, for every method that is not supported.
pub(super) fn find(files: &str, entries: &BTreeMap<String, Entry>, config: &Value) -> Result<Found> {
    let said = said(config);
    let method = said.and_then(|said| said.get("quant_method")).and_then(Value::as_str);
    if let Some((name, how)) = marked(entries) {
        let how = method.map_or_else(|| how.to_string(), |method| format!("`{method}` (quant_method of config.json)"));
        return Err(error!(Weights, "{files} is quantized by {how}, which llmore does not support: it holds `{name}`")
            .help(NEXT));
    }
    if let Some(said) = said {
        method_is_computed(files, said)?;
    }
    let eight: Vec<(&String, &Entry)> = entries.iter().filter(|(_, entry)| is_float8(entry.dtype)).collect();
    let mut found = Found::default();
    for (name, entry) in entries {
        let Some((weight, scale)) = weight_of(name).and_then(|weight| Some((entries.get_key_value(&weight)?, entry)))
        else {
            continue;
        };
        let (weight, stored) = weight;
        if !is_float8(stored.dtype) {
            let dtype = dtype_name(stored.dtype);
            return Err(error!(Weights, "{files}: `{weight}` is stored as {dtype} with the scale `{name}` beside it; llmore supports scales of float8 only").help(NEXT));
        }
        let block = spread(&stored.shape, &scale.shape, name, said).map_err(|error| error.context(files))?;
        found.scaled.insert(weight.clone(), Scaled { scale: name.clone(), block });
        found.beside.insert(name.clone());
    }
    if eight.is_empty() {
        found.note = method.map(|method| {
            format!("{files}: `quant_method` of config.json is `{method}`, but no weight is float8: all are read without a scale")
        });
        return Ok(found);
    }
    for (name, _) in &eight {
        neighbors(files, name, entries, &mut found)?;
    }
    found.note = Some(note_of(files, &eight, &found, said.is_some())?);
    Ok(found)
}

/// The section of config.json that describes how its weights are stored.
fn said(config: &Value) -> Option<&Value> {
    let here = |config: &'_ Value| KEYS.iter().find(|key| config.get(**key).is_some_and(Value::is_object)).copied();
    let parts = PARTS.iter().filter_map(|part| config.get(*part));
    std::iter::once(config).chain(parts).find_map(|config| config.get(here(config)?))
}

/// Refuses a method by its name.
fn method_is_computed(files: &str, said: &Value) -> Result<()> {
    let refuse = |key: &str, value: &str| -> Result<()> {
        Err(error!(Weights, "{files} is quantized: `{key}` of config.json is `{value}`, which llmore does not support")
            .help(format!("{NEXT}; if the weights are plain floats, take the quantization out of config.json")))
    };
    let text = |key: &str| said.get(key).and_then(Value::as_str);
    let method = match text("quant_method") {
        Some(method) => method,
        // MLX writes neither a method nor distinctive names: `quantization: {group_size, bits}`.
        None if said.get("bits").is_some() => return refuse("quantization.bits", &said["bits"].to_string()),
        None => match ["load_in_4bit", "load_in_8bit"].iter().find(|key| said.get(**key) == Some(&Value::Bool(true))) {
            Some(key) => return refuse(key, "true"),
            None => "compressed-tensors",
        },
    };
    if !COMPUTED.contains(&method) {
        return refuse("quant_method", method);
    }
    if method == "modelopt" {
        let how = text("quant_algo").unwrap_or("FP8");
        return if how == "FP8" { Ok(()) } else { refuse("quant_algo", how) };
    }
    let groups = said.get("config_groups").and_then(Value::as_object).into_iter().flatten();
    let formats = groups.filter_map(|(_, group)| group.get("format")?.as_str()).chain(text("format"));
    let sparse = said.get("sparsity_config").and_then(|sparse| sparse.get("format")).and_then(Value::as_str);
    match formats.chain(sparse).find(|format| !FORMATS.contains(format)) {
        Some(format) => refuse("format", format),
        None => Ok(()),
    }
}

/// A tensor whose name identifies a method, and the method.
fn marked(entries: &BTreeMap<String, Entry>) -> Option<(&str, &'static str)> {
    let of = |name: &str| {
        if name.contains(".quant_state.") {
            return Some("bitsandbytes in 4 bits");
        }
        MARKS.iter().find(|(mark, _)| name.ends_with(mark)).map(|(_, how)| *how)
    };
    entries.keys().find_map(|name| Some((name.as_str(), of(name)?)))
}

/// The weight that a scale with this name belongs to.
fn weight_of(name: &str) -> Option<String> {
    let module = SCALES.iter().find_map(|end| name.strip_suffix(end))?;
    Some(format!("{module}.weight"))
}

/// The size of the block (rows and columns) of a weight that shares a scale.
fn spread(weight: &[usize], scale: &[usize], name: &str, said: Option<&Value>) -> Result<[usize; 2]> {
    let &[rows, columns] = weight else { bail!(Weights, "`{name}` is the scale of a tensor of shape {weight:?}") };
    if rows == 0 || columns == 0 {
        bail!(Weights, "`{name}` is the scale of a tensor of shape {weight:?}");
    }
    let given = said.and_then(block_size);
    let fits = |[high, wide]: [usize; 2]| {
        high > 0 && wide > 0 && matches!(scale, [a, b] if (*a, *b) == (rows.div_ceil(high), columns.div_ceil(wide)))
    };
    if let Some(block) = given.filter(|block| fits(*block)) {
        return Ok(block);
    }
    match *scale {
        [] | [1] | [1, 1] => Ok([rows, columns]),
        [count] | [count, 1] if count == rows => Ok([1, columns]),
        _ if given.is_none() && fits(BLOCK) => Ok(BLOCK),
        _ => {
            let blocks = given.map_or_else(|| "none said".to_string(), |block| format!("{block:?}"));
            Err(error!(
                Weights,
                "`{name}` has shape {scale:?}, which fits no scale of a weight {weight:?}: one value, one per row or one per block \
                 (`weight_block_size`: {blocks})"
            )
            .help(NEXT))
        }
    }
}

/// `weight_block_size` of transformers, or `block_structure` of compressed-tensors.
fn block_size(said: &Value) -> Option<[usize; 2]> {
    let groups = said.get("config_groups").and_then(Value::as_object).into_iter().flatten();
    let nested = groups.filter_map(|(_, group)| group.get("weights")?.get("block_structure"));
    let lists = said.get("weight_block_size").into_iter().chain(nested);
    lists.filter_map(Value::as_array).find_map(|list| match list.as_slice() {
        [high, wide] => Some([high.as_u64()? as usize, wide.as_u64()? as usize]),
        _ => None,
    })
}

/// Checks the other tensors in the module of a float8 weight: scales of activations are ignored, unknown ones refused.
fn neighbors(files: &str, weight: &str, entries: &BTreeMap<String, Entry>, found: &mut Found) -> Result<()> {
    let Some(module) = weight.strip_suffix("weight") else { return Ok(()) };
    let range = entries.range(module.to_string()..).map(|(name, _)| name);
    for name in range.take_while(|name| name.starts_with(module)) {
        let rest = &name[module.len()..];
        if OF_ACTIVATIONS.contains(&rest) {
            found.beside.insert(name.clone());
        } else if !found.beside.contains(name) && (rest.contains("scale") || rest.contains("zero_point")) {
            return Err(error!(
                Weights,
                "{files}: `{weight}` is float8, and the meaning of `{name}` beside it is not known"
            )
            .help(NEXT));
        }
    }
    // The scales of a key/value cache are one level above the projections.
    for end in ["k_scale", "v_scale", "q_scale", "prob_output_scale"] {
        let name = module.trim_end_matches('.').rsplit_once('.').map(|(parent, _)| format!("{parent}.{end}"));
        found.beside.extend(name.filter(|name| entries.contains_key(name)));
    }
    Ok(())
}

fn note_of(files: &str, eight: &[(&String, &Entry)], found: &Found, is_said: bool) -> Result<String> {
    let without: Vec<&&String> =
        eight.iter().map(|(name, _)| name).filter(|name| !found.scaled.contains_key(**name)).collect();
    let count = eight.len();
    match without.first() {
        None => Ok(format!(
            "{files}: {count} weights are float8 and computed as value times scale; activations are not rounded"
        )),
        Some(first) if is_said || !found.scaled.is_empty() => Err(error!(
            Weights,
            "{files}: {} of {count} float8 weights have no scale beside them, the first is `{first}`",
            without.len()
        )
        .help("the file may be a part of a checkpoint: compare it with the source")),
        Some(first) => Ok(format!(
            "{files}: {count} weights are float8 without a scale, as `{first}`: read as the values they are"
        )),
    }
}

/// Whether these are one of the two float8 types.
pub(super) fn is_float8(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2)
}

/// torch's name of a stored type.
pub(super) fn dtype_name(dtype: Dtype) -> String {
    format!("{dtype:?}").to_lowercase()
}

/// Float8 values in f32.
pub(super) fn widen(bytes: &[u8], shape: &[usize], dtype: Dtype) -> candle_core::Result<Tensor> {
    let table = table(dtype);
    let values: Vec<f32> = bytes.par_iter().map(|byte| table[usize::from(*byte)]).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Float8 values times their scales, in f32.
pub(super) fn product(bytes: &[u8], entry: &Entry, scaled: &Scaled, scale: &[f32]) -> candle_core::Result<Tensor> {
    let (table, [high, wide]) = (table(entry.dtype), scaled.block);
    let columns = entry.shape.last().copied().unwrap_or(1).max(1);
    let across = columns.div_ceil(wide);
    let mut values = vec![0f32; bytes.len()];
    values.par_chunks_mut(columns).zip(bytes.par_chunks(columns)).enumerate().for_each(|(row, (values, bytes))| {
        let scales = &scale[row / high * across..];
        for (column, (value, byte)) in values.iter_mut().zip(bytes).enumerate() {
            *value = table[usize::from(*byte)] * scales[column / wide];
        }
    });
    Tensor::from_vec(values, entry.shape.as_slice(), &Device::Cpu)
}

/// A scale's values in f32; E8M0 has only an exponent, a power of two.
pub(super) fn scales(bytes: &[u8], dtype: Dtype) -> Result<Vec<f32>> {
    let halves = || bytes.as_chunks::<2>().0.iter();
    Ok(match dtype {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::BF16 => halves().map(|bytes| half::bf16::from_le_bytes(*bytes).to_f32()).collect(),
        Dtype::F16 => halves().map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()).collect(),
        Dtype::F8_E8M0 => bytes.iter().map(|byte| 2f32.powi(i32::from(*byte) - 127)).collect(),
        other => return Err(unknown_scale(other)),
    })
}

fn unknown_scale(dtype: Dtype) -> Error {
    error!(Weights, "a scale stored as {}", dtype_name(dtype)).help(NEXT)
}

/// The float value of every possible byte.
fn table(dtype: Dtype) -> Vec<f32> {
    let value = |byte: u8| match dtype {
        // The byte is the upper half of an f16.
        Dtype::F8_E5M2 => half::f16::from_bits(u16::from(byte) << 8).to_f32(),
        _ => e4m3(byte),
    };
    (0..=u8::MAX).map(value).collect()
}

/// Four bits of exponent around 7, three of fraction, no infinity (`float8_e4m3fn`).
fn e4m3(byte: u8) -> f32 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let size = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => fraction * 2f32.powi(-9),
        _ => (1.0 + fraction / 8.0) * 2f32.powi(exponent - 7),
    };
    if byte >> 7 == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_the_value_of_candle_and_of_ieee() {
        for byte in 0..=u8::MAX {
            let theirs = candle_core::Tensor::from_raw_buffer(&[byte], candle_core::DType::F8E4M3, &[1], &Device::Cpu);
            let theirs: Vec<f32> = theirs.unwrap().to_dtype(candle_core::DType::F32).unwrap().to_vec1().unwrap();
            assert!(e4m3(byte) == theirs[0] || (e4m3(byte).is_nan() && theirs[0].is_nan()), "{byte}");
        }
        // 0x7b is 57344, the largest; 0x01 is 2^-16, the smallest.
        let table = table(Dtype::F8_E5M2);
        assert_eq!((table[0x7b], table[0x01], table[0xbc]), (57344.0, 2f32.powi(-16), -1.0));
        assert!(table[0x7c].is_infinite() && table[0x7d].is_nan());
    }

    #[test]
    fn a_scale_is_for_the_whole_a_row_or_a_block() {
        let of = |weight: [usize; 2], scale: &[usize], config: Value| {
            spread(&weight, scale, "w", Some(&config).filter(|config| config.is_object())).ok()
        };
        assert_eq!(of([40, 88], &[], Value::Null), Some([40, 88]));
        assert_eq!(of([40, 88], &[40, 1], Value::Null), Some([1, 88]));
        assert_eq!(of([40, 88], &[40], Value::Null), Some([1, 88]));
        assert_eq!(of([200, 300], &[2, 3], Value::Null), Some(BLOCK));
        let blocks = serde_json::json!({ "weight_block_size": [16, 32] });
        assert_eq!(of([40, 88], &[3, 3], blocks.clone()), Some([16, 32]));
        assert_eq!(of([40, 88], &[1, 1], blocks.clone()), Some([40, 88]));
        assert_eq!(of([200, 300], &[2, 3], blocks), None);
        assert_eq!(of([40, 88], &[88], Value::Null), None);
    }
}
