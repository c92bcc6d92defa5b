//! AdamW whose moments are held in 8 bits: a block's moments are widened, updated with the parameter in f32 and
//! narrowed again, so that no more than a block of them exists in f32.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::adamw::AdamW;
use super::eight_bit::{Moment8, Sign};
use super::in_place::edit;

/// [`adamw`](super::adamw) with moments in 8 bits; the parameter is f32 and contiguous.
///
/// Errors if the sizes differ or the parameter is not f32. On a device without a kernel of it the update runs on the CPU.
pub fn adamw_8bit(
    parameter: &Tensor,
    gradient: &Tensor,
    first: &Moment8,
    second: &Moment8,
    hyper: &AdamW,
) -> Result<()> {
    let count = parameter.elem_count();
    if gradient.dims() != parameter.dims() || [first, second].iter().any(|moment| moment.codes.dims() != [count]) {
        bail!(
            "adamw_8bit: parameter {:?}, gradient {:?} and moments of {} and {} values do not fit",
            parameter.shape(),
            gradient.shape(),
            first.codes.elem_count(),
            second.codes.elem_count()
        );
    }
    if let Some(moment) = [first, second].iter().find(|moment| moment.scales.dims() != [Moment8::blocks(count)]) {
        bail!("adamw_8bit: {count} values need {} scales, got {:?}", Moment8::blocks(count), moment.scales.shape());
    }
    if parameter.dtype() != DType::F32 || hyper.step == 0 {
        bail!("adamw_8bit: expected an f32 parameter and steps from 1, got {:?}, {}", parameter.dtype(), hyper.step);
    }
    let op = AdamW8 { hyper: *hyper, signs: [first.sign, second.sign] };
    let edited = [parameter, &first.codes, &first.scales, &second.codes, &second.scales];
    if edit(&op, edited, [gradient])? { Ok(()) } else { on_the_cpu(&op, edited, gradient) }
}

/// The update for a device without a kernel of it: there and back.
fn on_the_cpu(op: &AdamW8, edited: [&Tensor; 5], gradient: &Tensor) -> Result<()> {
    let local = edited.map(|tensor| tensor.detach().to_device(&Device::Cpu));
    let [parameter, first, first_scales, second, second_scales] = local;
    let local = [&parameter?, &first?, &first_scales?, &second?, &second_scales?];
    if !edit(op, local, [&gradient.detach().to_device(&Device::Cpu)?])? {
        bail!("adamw_8bit: no kernel on the CPU");
    }
    for (target, value) in edited.iter().zip(local) {
        let value = value.to_device(target.device())?.flatten_all()?;
        target.detach().flatten_all()?.slice_set(&value, 0, 0)?;
    }
    Ok(())
}

pub(super) struct AdamW8 {
    pub hyper: AdamW,
    /// Of the first and the second moment.
    pub signs: [Sign; 2],
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::adamw;
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

    fn zeros(count: usize) -> Result<[Moment8; 2]> {
        let zeros = |sign| Moment8::zeros(count, sign, &Device::Cpu);
        Ok([zeros(Sign::Both)?, zeros(Sign::Positive)?])
    }

    /// The parameter, and codes and scales of both moments.
    type StateOf8Bits = (Vec<f32>, Vec<Vec<u8>>, Vec<Vec<f32>>);

    /// The state after some steps.
    fn in_8_bits(count: usize, steps: u64) -> Result<StateOf8Bits> {
        let parameter = Var::from_tensor(&gradient(count, 100)?)?;
        let [first, second] = zeros(count)?;
        for step in 1..=steps {
            adamw_8bit(&parameter, &gradient(count, step)?, &first, &second, &AdamW { step, ..HYPER })?;
        }
        let codes = [&first, &second].map(|moment| moment.codes.to_vec1()).into_iter().collect::<Result<_>>()?;
        let scales = [&first, &second].map(|moment| moment.scales.to_vec1()).into_iter().collect::<Result<_>>()?;
        Ok((parameter.to_vec1()?, codes, scales))
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
        let [first, second] = zeros(count)?;
        for step in 1..=50 {
            let tiny = if step == 1 { 1e-4f32 } else { 0.0 };
            let gradient = Tensor::new(&[1f32, tiny], &Device::Cpu)?;
            let hyper = AdamW { step, weight_decay: 0.0, gradient_scale: 1.0, ..HYPER };
            adamw_8bit(&parameter, &gradient, &first, &second, &hyper)?;
        }
        let moved = parameter.to_vec1::<f32>()?;
        assert!(moved[1].abs() < 0.2, "{moved:?}");
        Ok(())
    }
}
