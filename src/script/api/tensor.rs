//! Tensors: files, facts, slices, comparison.

use candle_core::{DType, Device, Tensor};
use rhai::plugin::*;
use rhai::{Array, Map, NativeCallContext};

use super::Fallible;
use crate::device::{device_name, dtype};
use crate::error::{Error, Result};
use crate::script::convert::Options;
use crate::script::handles::{TensorHandle, dtype_name};
use crate::script::options::SAVE_TENSORS;
use crate::script::state::State;
use crate::weights::{read_tensors, save_tensors};
use crate::{bail, error};

/// All values as f32, row by row.
pub(super) fn floats(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// All values as f64: facts about a tensor are computed in it.
fn values(x: &TensorHandle) -> Result<Vec<f64>> {
    let values: Vec<f64> = x.0.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
    if values.is_empty() {
        bail!(Data, "the tensor of shape {:?} holds no value", x.0.dims());
    }
    Ok(values)
}

fn mean_of(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn difference(a: &TensorHandle, b: &TensorHandle) -> Result<f64> {
    if a.0.dims() != b.0.dims() {
        bail!(Shape, "tensors of shape {:?} and {:?} cannot be compared", a.0.dims(), b.0.dims());
    }
    for x in [a, b] {
        if x.0.dtype().is_int() {
            bail!(Type, "`max_abs_diff` compares float tensors, got {}", dtype_name(x.0.dtype()));
        }
    }
    // NaN is never smaller than anything: it has to show.
    Ok(values(a)?
        .iter()
        .zip(values(b)?)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m, d| if d.is_nan() { d } else { f64::max(m, d) }))
}

fn reshaped(x: &TensorHandle, shape: &Array) -> Result<Tensor> {
    let dims: Vec<usize> = shape
        .iter()
        .map(|n| {
            n.as_int()
                .ok()
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| error!(Type, "a shape holds whole numbers"))
        })
        .collect::<Result<_>>()?;
    if dims.iter().product::<usize>() != x.0.elem_count() {
        bail!(Shape, "a tensor of shape {:?} cannot become {dims:?}", x.0.dims());
    }
    Ok(x.0.reshape(dims)?)
}

/// Nested arrays of ints or floats.
fn nested(x: &Tensor) -> Result<Dynamic> {
    if x.rank() == 0 {
        let x = x.to_device(&Device::Cpu)?;
        return Ok(match x.dtype().is_int() {
            true => Dynamic::from_int(x.to_dtype(DType::I64)?.to_scalar::<i64>()?),
            false => Dynamic::from_float(x.to_dtype(DType::F64)?.to_scalar::<f64>()?),
        });
    }
    if x.rank() == 1 {
        let x = x.to_device(&Device::Cpu)?;
        let array: Array = match x.dtype().is_int() {
            true => x.to_dtype(DType::I64)?.to_vec1::<i64>()?.into_iter().map(Dynamic::from_int).collect(),
            false => x.to_dtype(DType::F64)?.to_vec1::<f64>()?.into_iter().map(Dynamic::from_float).collect(),
        };
        return Ok(Dynamic::from_array(array));
    }
    let rows = (0..x.dims()[0]).map(|row| nested(&x.get(row)?)).collect::<Result<Array>>()?;
    Ok(Dynamic::from_array(rows))
}

fn element(x: &TensorHandle, index: i64) -> Result<Dynamic> {
    let length = x.0.dims().first().copied().unwrap_or(0);
    match usize::try_from(index) {
        Ok(index) if index < length && x.0.rank() == 1 => nested(&x.0.get(index)?),
        Ok(index) if index < length => Ok(Dynamic::from(TensorHandle(x.0.get(index)?))),
        _ => bail!(Shape, "index {index} is outside a tensor of shape {:?}", x.0.dims()),
    }
}

fn save_all(state: &State, map: Map, path: &str, overwrite: bool) -> Result<()> {
    let mut all = Vec::new();
    for (name, value) in map {
        let Some(tensor) = value.clone().try_cast::<TensorHandle>() else {
            return Err(error!(Type, "`{name}` is of type {}, expected a Tensor", value.type_name()));
        };
        all.push((name.to_string(), tensor.0));
    }
    state.places().write_file(path, overwrite, |place| save_tensors(&all, place))
}

#[export_module]
pub mod tensor {
    /// All tensors of a safetensors file (or folder) by name.
    ///
    /// ```rhai
    /// let all = tensors("tests/fixtures/training/expected.safetensors");
    /// print(all["stage1.losses"][0]);
    /// ```
    #[rhai_fn(name = "tensors", return_raw)]
    pub fn tensors(context: NativeCallContext, path: &str) -> Fallible<Map> {
        let all = read_tensors(&State::of(&context)?.places().read(path)?, &Device::Cpu)?;
        Ok(all.into_iter().map(|(name, tensor)| (name.into(), Dynamic::from(TensorHandle(tensor)))).collect())
    }

    /// Writes a map of tensors to a safetensors file.
    ///
    /// ```rhai
    /// let x = encoder("tiny-clip").encode(image("tests/fixtures/images/red-circle.png"));
    /// save_tensors(#{ features: x }, "target/example.safetensors");
    /// ```
    #[rhai_fn(name = "save_tensors", return_raw)]
    pub fn save(context: NativeCallContext, map: Map, path: &str) -> Fallible<()> {
        Ok(save_all(&State::of(&context)?, map, path, false)?)
    }

    /// The same with options.
    ///
    /// ```rhai
    /// let x = encoder("tiny-clip").encode(image("tests/fixtures/images/red-circle.png"));
    /// save_tensors(#{ features: x }, "target/example.safetensors", #{ overwrite: true });
    /// ```
    #[rhai_fn(name = "save_tensors", return_raw)]
    pub fn save_with(context: NativeCallContext, map: Map, path: &str, options: Map) -> Fallible<()> {
        let overwrite = Options::new(options, &SAVE_TENSORS)?.get("overwrite")?;
        Ok(save_all(&State::of(&context)?, map, path, overwrite)?)
    }

    /// The largest absolute difference of two float tensors of one shape.
    ///
    /// ```rhai
    /// let e = encoder("tiny-clip");
    /// let i = image("tests/fixtures/images/red-circle.png");
    /// print(max_abs_diff(e.encode(i), e.encode(i)));  // 0.0
    /// ```
    #[rhai_fn(name = "max_abs_diff", return_raw)]
    pub fn max_abs_diff(a: TensorHandle, b: TensorHandle) -> Fallible<f64> {
        Ok(difference(&a, &b)?)
    }

    /// Length of every dimension.
    #[rhai_fn(get = "shape", pure)]
    pub fn shape(x: &mut TensorHandle) -> Array {
        x.0.dims().iter().map(|n| Dynamic::from_int(*n as i64)).collect()
    }

    /// The dtype's name: f32, bf16, i64, ...
    #[rhai_fn(get = "dtype", pure)]
    pub fn dtype_of(x: &mut TensorHandle) -> String {
        dtype_name(x.0.dtype()).to_string()
    }

    /// Where it is.
    #[rhai_fn(get = "device", pure)]
    pub fn device_of(x: &mut TensorHandle) -> String {
        device_name(x.0.device())
    }

    /// Mean of all values.
    #[rhai_fn(get = "mean", return_raw, pure)]
    pub fn mean(x: &mut TensorHandle) -> Fallible<f64> {
        Ok(mean_of(&values(x)?))
    }

    /// Standard deviation of all values (divided by n - 1).
    #[rhai_fn(get = "std", return_raw, pure)]
    pub fn std(x: &mut TensorHandle) -> Fallible<f64> {
        let values = values(x)?;
        let mean = mean_of(&values);
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Ok((squares / (values.len() as f64 - 1.0)).sqrt())
    }

    /// Smallest value.
    #[rhai_fn(get = "min", return_raw, pure)]
    pub fn min(x: &mut TensorHandle) -> Fallible<f64> {
        Ok(values(x)?.into_iter().fold(f64::INFINITY, f64::min))
    }

    /// Largest value.
    #[rhai_fn(get = "max", return_raw, pure)]
    pub fn max(x: &mut TensorHandle) -> Fallible<f64> {
        Ok(values(x)?.into_iter().fold(f64::NEG_INFINITY, f64::max))
    }

    /// Sum of all values.
    #[rhai_fn(get = "sum", return_raw, pure)]
    pub fn sum(x: &mut TensorHandle) -> Fallible<f64> {
        Ok(values(x)?.into_iter().sum())
    }

    /// A tensor of one dimension less; of a one-dimensional one, a number.
    #[rhai_fn(index_get, return_raw, pure)]
    pub fn at(x: &mut TensorHandle, index: i64) -> Fallible<Dynamic> {
        Ok(element(x, index)?)
    }

    /// Nested arrays of ints or floats.
    #[rhai_fn(name = "to_array", return_raw)]
    pub fn to_array(x: TensorHandle) -> Fallible<Array> {
        let array = nested(&x.0)?.try_cast::<Array>();
        Ok(array.ok_or_else(|| error!(Shape, "a tensor without dimensions is not an array"))?)
    }

    /// The same values in another shape.
    #[rhai_fn(name = "reshape", return_raw)]
    pub fn reshape(x: TensorHandle, shape: Array) -> Fallible<TensorHandle> {
        Ok(TensorHandle(reshaped(&x, &shape)?))
    }

    /// The same values in another dtype.
    #[rhai_fn(name = "to", return_raw)]
    pub fn to(x: TensorHandle, dtype_name: &str) -> Fallible<TensorHandle> {
        Ok(TensorHandle(x.0.to_dtype(dtype(dtype_name)?).map_err(Error::from)?))
    }
}
