//! A parameter: one named tensor that can be frozen or trained in place. Freezing and unfreezing share the
//! storage, so every holder sees an update, and a frozen parameter starts no autograd graph.

use std::sync::{Arc, PoisonError, RwLock};

use candle_core::{Result, Tensor, Var};

use super::Adapter;

/// One named weight.
pub struct Param {
    name: String,
    cell: RwLock<Cell>,
    adapter: RwLock<Option<Arc<Adapter>>>,
}

struct Cell {
    /// What a forward pass sees: the variable itself, or its storage without tracking.
    tensor: Tensor,
    /// Made when the parameter is first trained, kept ever after.
    var: Option<Var>,
}

impl Param {
    /// A frozen parameter.
    pub fn new(name: String, tensor: Tensor) -> Self {
        Param { name, cell: RwLock::new(Cell { tensor, var: None }), adapter: RwLock::default() }
    }

    /// The name in the checkpoint, below the prefix of its part.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tensor to compute with.
    pub fn tensor(&self) -> Tensor {
        self.cell.read().unwrap_or_else(PoisonError::into_inner).tensor.clone()
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        self.tensor().elem_count()
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
        self.tensor().is_variable()
    }

    /// Turns gradients on or off for the forward passes that follow.
    pub fn set_trainable(&self, on: bool) -> Result<()> {
        if self.is_trainable() == on {
            return Ok(());
        }
        let mut cell = self.cell.write().unwrap_or_else(PoisonError::into_inner);
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
    pub fn assign(&self, values: &Tensor) -> Result<()> {
        let mut cell = self.cell.write().unwrap_or_else(PoisonError::into_inner);
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

    /// Freezes or unfreezes all of them.
    pub fn set_trainable(&self, on: bool) -> Result<()> {
        self.0.iter().try_for_each(|param| param.set_trainable(on))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn freezing_shares_storage_and_stops_the_graph() {
        let tensor = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let param = Param::new("w".to_string(), tensor);
        assert!(!(param.tensor() * 2.0).unwrap().track_op());
        param.set_trainable(true).unwrap();
        assert!((param.tensor() * 2.0).unwrap().track_op());
        let before = param.tensor();
        param.set_trainable(false).unwrap();
        assert!(!(param.tensor() * 2.0).unwrap().track_op());
        param.assign(&Tensor::new(&[5f32, 6.0], &Device::Cpu).unwrap()).unwrap();
        assert_eq!(before.to_vec1::<f32>().unwrap(), [5.0, 6.0]);
        let frozen = param.tensor().id();
        param.assign(&Tensor::new(&[7f32, 8.0], &Device::Cpu).unwrap()).unwrap();
        assert_ne!(frozen, param.tensor().id());
        param.set_trainable(true).unwrap();
        assert_eq!(param.tensor().id(), before.id());
    }
}
