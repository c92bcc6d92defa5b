//! Rows of a table by id. The backward adds the rows of repeated ids in their order.

use std::sync::Arc;

use candle_core::{Result, Shape, Tensor, bail};

use super::dispatch::{Op, apply};

/// The rows `ids` of weight `(vocab, d)`, as `(ids, d)`; errors if an id is not in the table.
pub fn embedding(weight: &Tensor, ids: &Arc<[u32]>) -> Result<Tensor> {
    let vocab = match *weight.dims() {
        [vocab, _] => vocab,
        _ => bail!("embedding: weight {:?} is not (vocab, d)", weight.shape()),
    };
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
        bail!("embedding: id {id} is outside weight {:?} (vocab, d)", weight.shape());
    }
    apply(Embedding { ids: ids.clone() }, [weight], || embedding_reference(weight, ids))
}

/// [`embedding`] composed of candle's primitives.
pub fn embedding_reference(weight: &Tensor, ids: &Arc<[u32]>) -> Result<Tensor> {
    weight.index_select(&Tensor::from_slice(ids, ids.len(), weight.device())?, 0)
}

/// The gradient of a row of the table is the sum of the gradients of its ids, in their order.
pub(super) struct Embedding {
    pub ids: Arc<[u32]>,
}

impl Op<1> for Embedding {
    const NAME: &'static str = "embedding";

    fn shape(&self, [weight]: [&Shape; 1]) -> Result<Shape> {
        Ok((self.ids.len(), weight.dims2()?.1).into())
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
