//! Rows of a table by id. The backward adds the rows of repeated ids in their order.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::cpu::memory::{fused, tensor, with_floats};

/// The rows `ids` of weight `(vocab, d)`, as `(ids, d)`; errors if an id is not in the table.
pub fn embedding(weight: &Tensor, ids: &Arc<[u32]>) -> Result<Tensor> {
    let vocab = match *weight.dims() {
        [vocab, _] => vocab,
        _ => bail!("embedding: weight {:?} is not (vocab, d)", weight.shape()),
    };
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
        bail!("embedding: id {id} is outside weight {:?} (vocab, d)", weight.shape());
    }
    if !fused("embedding", &[weight])? {
        return embedding_reference(weight, ids);
    }
    weight.contiguous()?.apply_op1(Embedding { ids: ids.clone() })
}

/// [`embedding`] composed of candle's primitives.
pub fn embedding_reference(weight: &Tensor, ids: &Arc<[u32]>) -> Result<Tensor> {
    weight.index_select(&Tensor::from_slice(ids, ids.len(), weight.device())?, 0)
}

struct Embedding {
    ids: Arc<[u32]>,
}

impl Embedding {
    fn gather<T: Copy>(&self, table: &[T], layout: &Layout) -> Result<Vec<T>> {
        let width = layout.shape().dims2()?.1;
        let Some((start, _)) = layout.contiguous_offsets() else {
            bail!("embedding: expected a contiguous weight, got strides {:?}", layout.stride());
        };
        let mut rows = Vec::with_capacity(self.ids.len() * width);
        for &id in self.ids.iter() {
            rows.extend_from_slice(&table[start + id as usize * width..][..width]);
        }
        Ok(rows)
    }
}

impl CustomOp1 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, weight: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let rows = match weight {
            CpuStorage::F32(table) => CpuStorage::F32(self.gather(table, layout)?),
            CpuStorage::BF16(table) => CpuStorage::BF16(self.gather(table, layout)?),
            CpuStorage::F16(table) => CpuStorage::F16(self.gather(table, layout)?),
            other => bail!("embedding: unsupported dtype {:?}", other.dtype()),
        };
        Ok((rows, Shape::from((self.ids.len(), layout.shape().dims2()?.1))))
    }

    fn bwd(&self, weight: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let width = weight.dim(1)?;
        let mut values = vec![0f32; weight.elem_count()];
        with_floats(gradient, |gradient| {
            for (&id, gradient) in self.ids.iter().zip(gradient.chunks_exact(width.max(1))) {
                for (sum, value) in values[id as usize * width..][..width].iter_mut().zip(gradient) {
                    *sum += value;
                }
            }
            Ok(())
        })?;
        Ok(Some(tensor(values, weight.shape(), weight.dtype())?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Check;
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn embedding_agrees_with_its_reference() {
        let ids: Arc<[u32]> = Arc::from([3, 0, 3, 9, 3, 1]);
        Check::new("embedding", &[&[10, 37]]).run(|t| embedding(&t[0], &ids), |t| embedding_reference(&t[0], &ids));
    }

    #[test]
    fn an_id_outside_the_table_is_named() -> Result<()> {
        let weight = Tensor::zeros((4, 2), DType::F32, &Device::Cpu)?;
        let message = embedding(&weight, &Arc::from([1, 4])).unwrap_err().to_string();
        assert!(message.contains("embedding: id 4 is outside weight [4, 2]"), "{message}");
        Ok(())
    }
}
