//! A parameter: one named tensor that can be frozen or trained in place. Freezing and unfreezing share the
//! storage, so every holder sees an update, and a frozen parameter starts no autograd graph. A quantized
//! parameter is frozen for good.

mod adapter;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use candle_core::{DType, Device, Result, Tensor, Var};

pub use adapter::{Adapter, Dropout, Dropping};

use super::hashing::Known;
use super::quantized::{Quantized, not_trainable, quantized_name};

/// One named weight.
pub struct Param {
    name: String,
    values: Values,
    adapter: RwLock<Option<Arc<Adapter>>>,
    pub(super) known: Mutex<Known>,
    /// Whether it was given values since it was made.
    changed: AtomicBool,
}

enum Values {
    Plain(RwLock<TensorCell>),
    /// Blocks, and the dtype they are widened to for those who want a tensor.
    Quantized(Arc<Quantized>, DType),
}

/// The weight of a linear layer, as the forward pass takes it.
#[derive(Clone)]
pub enum Weight {
    Plain(Tensor),
    Quantized(Arc<Quantized>),
}

struct TensorCell {
    /// What a forward pass sees: the variable itself, or its storage without tracking.
    tensor: Tensor,
    /// Made when the parameter is first trained, kept ever after.
    var: Option<Var>,
}

impl Param {
    /// A frozen parameter.
    pub fn new(name: String, tensor: Tensor) -> Self {
        Param::of(name, Values::Plain(RwLock::new(TensorCell { tensor, var: None })))
    }

    /// A parameter in blocks; `dtype` is that of the model around it.
    pub fn quantized(name: String, blocks: Quantized, dtype: DType) -> Self {
        Param::of(name, Values::Quantized(Arc::new(blocks), dtype))
    }

    fn of(name: String, values: Values) -> Self {
        let (known, changed) = (Mutex::default(), AtomicBool::default());
        Param { name, values, adapter: RwLock::default(), known, changed }
    }

    /// The name in the checkpoint, below the prefix of its part.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tensor to compute with. A quantized parameter is widened at every call.
    ///
    /// # Errors
    /// Blocks that cannot be widened, by the name of the parameter.
    pub fn tensor(&self) -> Result<Tensor> {
        match &self.values {
            Values::Plain(cell) => Ok(now(cell)),
            Values::Quantized(blocks, dtype) => blocks
                .tensor()
                .and_then(|tensor| tensor.to_dtype(*dtype))
                .map_err(|error| candle_core::Error::msg(format!("`{}` cannot be widened: {error}", self.name))),
        }
    }

    /// What a linear layer multiplies with.
    pub fn weight(&self) -> Weight {
        match &self.values {
            Values::Plain(cell) => Weight::Plain(now(cell)),
            Values::Quantized(blocks, _) => Weight::Quantized(blocks.clone()),
        }
    }

    /// The blocks of a quantized parameter.
    pub fn blocks(&self) -> Option<&Quantized> {
        match &self.values {
            Values::Plain(_) => None,
            Values::Quantized(blocks, _) => Some(blocks),
        }
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        match &self.values {
            Values::Plain(cell) => now(cell).elem_count(),
            Values::Quantized(blocks, _) => blocks.dims().iter().product(),
        }
    }

    /// Its shape; nothing is widened for it.
    pub fn dims(&self) -> Vec<usize> {
        match &self.values {
            Values::Plain(cell) => now(cell).dims().to_vec(),
            Values::Quantized(blocks, _) => blocks.dims().to_vec(),
        }
    }

    /// The dtype of [`tensor`](Self::tensor).
    pub fn dtype(&self) -> DType {
        match &self.values {
            Values::Plain(cell) => now(cell).dtype(),
            Values::Quantized(_, dtype) => *dtype,
        }
    }

    /// Where it is; blocks are on the CPU.
    pub fn device(&self) -> Device {
        match &self.values {
            Values::Plain(cell) => now(cell).device().clone(),
            Values::Quantized(..) => Device::Cpu,
        }
    }

    /// What is added to this weight in a linear layer.
    pub fn adapter(&self) -> Option<Arc<Adapter>> {
        self.adapter.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hangs an adapter on this weight, or takes it off.
    pub fn set_adapter(&self, adapter: Option<Arc<Adapter>>) {
        *self.adapter.write().unwrap_or_else(PoisonError::into_inner) = adapter;
    }

    /// Whether gradients are wanted.
    pub fn is_trainable(&self) -> bool {
        matches!(&self.values, Values::Plain(cell) if now(cell).is_variable())
    }

    /// Turns gradients on or off for the forward passes that follow.
    ///
    /// # Errors
    /// For a quantized parameter, when turned on.
    pub fn set_trainable(&self, on: bool) -> Result<()> {
        if self.is_trainable() == on {
            return Ok(());
        }
        let mut cell = self.cell()?.write().unwrap_or_else(PoisonError::into_inner);
        if on {
            let var = match &cell.var {
                Some(var) => var.clone(),
                None => Var::from_tensor(&cell.tensor)?,
            };
            cell.tensor = var.as_tensor().clone();
            cell.var = Some(var);
        } else {
            cell.tensor = cell.tensor.detach();
        }
        Ok(())
    }

    /// Replaces the values. A frozen tensor gets another id by it, so that what was derived from it can be kept by id.
    ///
    /// # Errors
    /// For a quantized parameter.
    pub fn assign(&self, values: &Tensor) -> Result<()> {
        self.touch();
        let mut cell = self.cell()?.write().unwrap_or_else(PoisonError::into_inner);
        let values = values.to_dtype(cell.tensor.dtype())?.to_device(cell.tensor.device())?;
        let Some(var) = cell.var.clone() else {
            cell.tensor = values;
            return Ok(());
        };
        var.set(&values)?;
        if !cell.tensor.is_variable() {
            cell.tensor = var.as_tensor().detach();
        }
        Ok(())
    }

    /// Says that its variable was given other values in place.
    pub fn touch(&self) {
        self.changed.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_touched(&self) -> bool {
        self.changed.load(Ordering::SeqCst)
    }

    fn cell(&self) -> Result<&RwLock<TensorCell>> {
        match &self.values {
            Values::Plain(cell) => Ok(cell),
            Values::Quantized(blocks, _) => {
                Err(candle_core::Error::msg(not_trainable(&self.name, blocks.dtype()).message()))
            }
        }
    }
}

fn now(cell: &RwLock<TensorCell>) -> Tensor {
    cell.read().unwrap_or_else(PoisonError::into_inner).tensor.clone()
}

/// The parameters of a model, in the order they were made.
#[derive(Clone, Default)]
pub struct ParamSet(Vec<Arc<Param>>);

impl ParamSet {
    /// Adds one.
    pub fn push(&mut self, param: Arc<Param>) {
        self.0.push(param);
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Param>> {
        self.0.iter()
    }

    /// Number of values in all of them.
    pub fn count(&self) -> usize {
        self.0.iter().map(|param| param.count()).sum()
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none (an identity projector).
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes by the type they are stored in.
    pub fn storage(&self) -> BTreeMap<&'static str, usize> {
        let mut storage = BTreeMap::new();
        for param in self.iter() {
            let (name, bytes) = match param.blocks() {
                Some(blocks) => (quantized_name(blocks.dtype()), blocks.bytes()),
                None => (param.dtype().as_str(), param.count() * param.dtype().size_in_bytes()),
            };
            *storage.entry(name).or_default() += bytes;
        }
        storage
    }

    /// Freezes or unfreezes all of them.
    pub fn set_trainable(&self, on: bool) -> Result<()> {
        self.0.iter().try_for_each(|param| param.set_trainable(on))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freezing_shares_storage_and_stops_the_graph() {
        let tensor = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let param = Param::new("w".to_string(), tensor);
        assert!(!(param.tensor().unwrap() * 2.0).unwrap().track_op());
        param.set_trainable(true).unwrap();
        assert!((param.tensor().unwrap() * 2.0).unwrap().track_op());
        let before = param.tensor().unwrap();
        param.set_trainable(false).unwrap();
        assert!(!(param.tensor().unwrap() * 2.0).unwrap().track_op());
        param.assign(&Tensor::new(&[5f32, 6.0], &Device::Cpu).unwrap()).unwrap();
        assert_eq!(before.to_vec1::<f32>().unwrap(), [5.0, 6.0]);
        let frozen = param.tensor().unwrap().id();
        param.assign(&Tensor::new(&[7f32, 8.0], &Device::Cpu).unwrap()).unwrap();
        assert_ne!(frozen, param.tensor().unwrap().id());
        param.set_trainable(true).unwrap();
        assert_eq!(param.tensor().unwrap().id(), before.id());
    }

    #[test]
    fn a_quantized_weight_stays_frozen() {
        let matrix = Tensor::ones((2, 32), DType::F32, &Device::Cpu).unwrap();
        let blocks = Quantized::new(&matrix, candle_core::quantized::GgmlDType::Q8_0).unwrap();
        let param = Param::quantized("q_proj.weight".to_string(), blocks, DType::F32);
        assert_eq!((param.count(), param.dims(), param.tensor().unwrap().dims()), (64, vec![2, 32], &[2, 32][..]));
        param.set_trainable(false).unwrap();
        let message = param.set_trainable(true).unwrap_err().to_string();
        assert!(
            message.contains("`q_proj.weight` is quantized (q8_0): quantized weights cannot be trained"),
            "{message}"
        );
        assert!(param.assign(&matrix).is_err());
    }

    #[test]
    fn blocks_that_cannot_be_widened_are_an_error_that_names_the_weight() {
        let matrix = Tensor::ones((2, 32), DType::F32, &Device::Cpu).unwrap();
        let blocks = Quantized::new(&matrix, candle_core::quantized::GgmlDType::Q8_0).unwrap();
        // candle computes nothing in this dtype.
        let param = Param::quantized("q_proj.weight".to_string(), blocks, DType::F4);
        let message = param.tensor().unwrap_err().to_string();
        assert!(message.starts_with("`q_proj.weight` cannot be widened: "), "{message}");
    }
}
