//! Dropout whose mask is a function of (numbers, place): nothing is kept for the backward, and a pass that is
//! computed again drops the same.

use candle_core::{Result, Tensor};

use super::dispatch::{Op, apply};
use crate::rng::Rng;

/// Zeros every element with probability `rate` (in [0, 1)) and multiplies the others by 1 / (1 - rate).
pub fn dropout(x: &Tensor, rate: f64, rng: Rng) -> Result<Tensor> {
    apply(Dropout { rate, rng }, [x], || dropout_reference(x, rate, rng))
}

/// [`dropout`] composed of candle's primitives.
pub fn dropout_reference(x: &Tensor, rate: f64, rng: Rng) -> Result<Tensor> {
    let count = x.elem_count();
    let mut mask = vec![1f32; count];
    drop_into(&mut mask, &vec![1f32; count], 0, rate, rng);
    x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?
}

/// dx is the gradient, dropped at the same places.
pub(super) struct Dropout {
    pub rate: f64,
    pub rng: Rng,
}

impl Op<1> for Dropout {
    const NAME: &'static str = "dropout";
}

/// `x` of the places from `first` on; two places share 64 random bits.
pub(super) fn drop_into(out: &mut [f32], x: &[f32], first: usize, rate: f64, rng: Rng) {
    let threshold = (rate * 2f64.powi(32)) as u64;
    let scale = (1.0 / (1.0 - rate)) as f32;
    let mut bits = rng.bits(first as u64 / 2);
    for (place, (out, x)) in (first as u64..).zip(out.iter_mut().zip(x)) {
        let half = if place.is_multiple_of(2) {
            bits = rng.bits(place / 2);
            bits & 0xffff_ffff
        } else {
            bits >> 32
        };
        *out = if half < threshold { 0.0 } else { x * scale };
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Check;
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn dropout_agrees_with_its_reference() {
        for shape in [[3, 7], [130, 601]] {
            let rng = Rng::new(1, "dropout").split(5);
            Check::new("dropout", &[&shape])
                .run(|t| dropout(&t[0], 0.25, rng), |t| dropout_reference(&t[0], 0.25, rng));
        }
    }

    #[test]
    fn the_rate_is_met_and_the_mean_stays() -> Result<()> {
        let ones = Tensor::ones((400, 1000), DType::F32, &Device::Cpu)?;
        for rate in [0.0, 0.05, 0.5] {
            let dropped = dropout(&ones, rate, Rng::new(2, "dropout"))?.flatten_all()?.to_vec1::<f32>()?;
            let share = dropped.iter().filter(|value| **value == 0.0).count() as f64 / 4e5;
            // Five standard errors of a share of 400,000 draws.
            assert!((share - rate).abs() <= 5.0 * (rate * (1.0 - rate) / 4e5).sqrt(), "{rate}: {share}");
            let kept = (1.0 / (1.0 - rate)) as f32;
            assert!(dropped.iter().all(|value| *value == 0.0 || *value == kept));
        }
        Ok(())
    }

    #[test]
    fn other_numbers_drop_other_places() -> Result<()> {
        let ones = Tensor::ones(1000, DType::F32, &Device::Cpu)?;
        let rng = Rng::new(3, "dropout");
        let mask = |rng| dropout(&ones, 0.5, rng)?.to_vec1::<f32>();
        assert_eq!(mask(rng.split(1))?, mask(rng.split(1))?);
        let same = mask(rng.split(1))?.iter().zip(mask(rng.split(2))?).filter(|(a, b)| **a == *b).count();
        assert!((400..600).contains(&same), "{same} of 1000 places are alike");
        Ok(())
    }
}
