//! AdamW whose moments are held in 8 bits: a block's moments are widened, updated with the parameter in f32 and
//! narrowed again, so that no more than a block of them exists in f32.

use candle_core::{CpuStorage, DType, Result, Tensor, bail};
use rayon::prelude::*;

use super::adamw::{AdamW, Factors, update};
use super::cpu::memory::{edit, with_floats};
use super::eight_bit::{BLOCK_8BIT, Moment8, narrow, widen};

/// Blocks of a piece of work.
const PIECE: usize = 64;

/// [`adamw`](super::adamw) with moments in 8 bits; the parameter is f32 and contiguous.
///
/// Errors if the sizes differ or the parameter is not f32. On other devices than the CPU the update runs on the CPU.
pub fn adamw_8bit(
    parameter: &Tensor,
    gradient: &Tensor,
    first: &mut Moment8,
    second: &mut Moment8,
    hyper: &AdamW,
) -> Result<()> {
    let count = parameter.elem_count();
    if gradient.dims() != parameter.dims() || first.codes.len() != count || second.codes.len() != count {
        bail!(
            "adamw_8bit: parameter {:?}, gradient {:?} and moments of {} and {} values do not fit",
            parameter.shape(),
            gradient.shape(),
            first.codes.len(),
            second.codes.len()
        );
    }
    if parameter.dtype() != DType::F32 || hyper.step == 0 {
        bail!("adamw_8bit: expected an f32 parameter and steps from 1, got {:?}, {}", parameter.dtype(), hyper.step);
    }
    if !parameter.device().is_cpu() {
        let cpu = candle_core::Device::Cpu;
        let local = parameter.detach().to_device(&cpu)?;
        adamw_8bit(&local, &gradient.detach().to_device(&cpu)?, first, second, hyper)?;
        let updated = local.to_device(parameter.device())?.flatten_all()?;
        return parameter.detach().flatten_all()?.slice_set(&updated, 0, 0);
    }
    let factors = Factors::new(hyper);
    let signs = (first.sign, second.sign);
    with_floats(&gradient.detach(), |gradient| {
        edit("adamw_8bit", parameter, |parameter, (start, end)| {
            let CpuStorage::F32(parameter) = parameter else { bail!("adamw_8bit: expected f32") };
            let piece = PIECE * BLOCK_8BIT;
            parameter[start..end]
                .par_chunks_mut(piece)
                .zip(gradient.par_chunks(piece))
                .zip(first.codes.par_chunks_mut(piece).zip(first.scales.par_chunks_mut(PIECE)))
                .zip(second.codes.par_chunks_mut(piece).zip(second.scales.par_chunks_mut(PIECE)))
                .for_each(|(((parameter, gradient), first), second)| {
                    let values = parameter.chunks_mut(BLOCK_8BIT).zip(gradient.chunks(BLOCK_8BIT));
                    let first = first.0.chunks_mut(BLOCK_8BIT).zip(first.1);
                    let second = second.0.chunks_mut(BLOCK_8BIT).zip(second.1);
                    let mut wide = [[0f32; BLOCK_8BIT]; 2];
                    for (((parameter, gradient), first), second) in values.zip(first).zip(second) {
                        let [m, v] = &mut wide;
                        let (m, v) = (&mut m[..parameter.len()], &mut v[..parameter.len()]);
                        widen(first.0, *first.1, m, signs.0);
                        widen(second.0, *second.1, v, signs.1);
                        update(parameter, m, v, gradient, factors);
                        *first.1 = narrow(m, first.0, signs.0);
                        *second.1 = narrow(v, second.0, signs.1);
                    }
                });
            Ok(())
        })
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::super::adamw;
    use super::super::eight_bit::Sign;
    use super::super::testing::values;
    use super::*;

    const HYPER: AdamW = AdamW {
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
        learning_rate: 1e-2,
        step: 1,
        gradient_scale: 0.5,
    };

    fn gradient(count: usize, step: u64) -> Result<Tensor> {
        Tensor::from_vec(values(count, 10 + step), count, &Device::Cpu)?.to_dtype(DType::F32)
    }

    fn in_8_bits(count: usize, steps: u64) -> Result<(Vec<f32>, Moment8, Moment8)> {
        let parameter = Var::from_tensor(&gradient(count, 100)?)?;
        let (mut first, mut second) = (Moment8::zeros(count, Sign::Both), Moment8::zeros(count, Sign::Positive));
        for step in 1..=steps {
            adamw_8bit(&parameter, &gradient(count, step)?, &mut first, &mut second, &AdamW { step, ..HYPER })?;
        }
        Ok((parameter.to_vec1()?, first, second))
    }

    #[test]
    fn one_step_from_zero_is_that_of_f32() -> Result<()> {
        // The moments are zero, which both forms hold exactly.
        let count = 20_001;
        let parameter = Var::from_tensor(&gradient(count, 100)?)?;
        let zeros = || Tensor::zeros(count, DType::F32, &Device::Cpu);
        adamw(&parameter, &gradient(count, 1)?, &zeros()?, &zeros()?, &HYPER)?;
        assert_eq!(parameter.to_vec1::<f32>()?, in_8_bits(count, 1)?.0);
        Ok(())
    }

    #[test]
    fn many_steps_stay_near_those_of_f32() -> Result<()> {
        let (count, steps) = (5_000, 30);
        let start = gradient(count, 100)?;
        let parameter = Var::from_tensor(&start)?;
        let zeros = || Tensor::zeros(count, DType::F32, &Device::Cpu);
        let (first, second) = (zeros()?, zeros()?);
        for step in 1..=steps {
            adamw(&parameter, &gradient(count, step)?, &first, &second, &AdamW { step, ..HYPER })?;
        }
        let norm = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
        let (wide, narrow) = (parameter.to_vec1::<f32>()?, in_8_bits(count, steps)?.0);
        let share = norm(&wide, &narrow) / norm(&wide, &start.to_vec1()?);
        println!("8-bit moments after {steps} steps: {share:.4} of the way apart");
        assert!(share < 0.05, "{share}");
        Ok(())
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| in_8_bits(70_001, 3).unwrap())
        };
        assert_eq!(on(1), on(4));
    }

    #[test]
    fn a_value_without_further_gradients_does_not_run_away() -> Result<()> {
        // One large gradient in the block keeps the scale up; the other value saw one tiny gradient and then zeros.
        let count = 2;
        let parameter = Var::from_tensor(&Tensor::zeros(count, DType::F32, &Device::Cpu)?)?;
        let (mut first, mut second) = (Moment8::zeros(count, Sign::Both), Moment8::zeros(count, Sign::Positive));
        for step in 1..=50 {
            let tiny = if step == 1 { 1e-4f32 } else { 0.0 };
            let gradient = Tensor::new(&[1f32, tiny], &Device::Cpu)?;
            let hyper = AdamW { step, weight_decay: 0.0, gradient_scale: 1.0, ..HYPER };
            adamw_8bit(&parameter, &gradient, &mut first, &mut second, &hyper)?;
        }
        let moved = parameter.to_vec1::<f32>()?;
        assert!(moved[1].abs() < 0.2, "{moved:?}");
        Ok(())
    }
}
