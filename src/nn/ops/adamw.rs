//! One AdamW step in place, with the arithmetic of `torch.optim.AdamW` (single-tensor form, no amsgrad).

use candle_core::{DType, Result, Tensor, bail};

use super::in_place::edit;

/// The hyper-parameters of one step.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub learning_rate: f64,
    /// Number of this step, from 1, for the bias correction.
    pub step: u64,
    /// The factor every gradient is multiplied by: clipping, or 1 over the micro-batches.
    pub gradient_scale: f64,
}

/// Updates `parameter` and its f32 moments `first` and `second` in place.
///
/// `p -= lr wd p`, then `p -= lr / (1 - beta1^step) m / (sqrt(v) / sqrt(1 - beta2^step) + eps)`, computed in f32.
/// Errors if the shapes differ or the moments are not f32. The four tensors must not share storage.
pub fn adamw(parameter: &Tensor, gradient: &Tensor, first: &Tensor, second: &Tensor, hyper: &AdamW) -> Result<()> {
    for (name, other) in [("gradient", gradient), ("first moment", first), ("second moment", second)] {
        if other.dims() != parameter.dims() {
            bail!("adamw: parameter {:?} and {name} {:?} have different shapes", parameter.shape(), other.shape());
        }
    }
    if first.dtype() != DType::F32 || second.dtype() != DType::F32 {
        bail!("adamw: the moments have to be f32, got {:?} and {:?}", first.dtype(), second.dtype());
    }
    if hyper.step == 0 {
        bail!("adamw: steps count from 1, got 0");
    }
    let takes = matches!(parameter.dtype(), DType::F32 | DType::BF16);
    if takes && edit(hyper, [parameter, first, second], [gradient])? {
        return Ok(());
    }
    adamw_reference(parameter, gradient, first, second, hyper)
}

/// [`adamw`] composed of candle's primitives.
fn adamw_reference(
    parameter: &Tensor,
    gradient: &Tensor,
    first: &Tensor,
    second: &Tensor,
    hyper: &AdamW,
) -> Result<()> {
    let [parameter, first, second] = [parameter.detach(), first.detach(), second.detach()];
    let gradient = (gradient.detach().to_dtype(DType::F32)? * hyper.gradient_scale)?;
    let new_first = (&first + ((&gradient - &first)? * (1.0 - hyper.beta1))?)?;
    let new_second = ((&second * hyper.beta2)? + (gradient.sqr()? * (1.0 - hyper.beta2))?)?;
    let power = hyper.step as f64;
    let (bias1, bias2) = (1.0 - hyper.beta1.powf(power), 1.0 - hyper.beta2.powf(power));
    let denominator = ((new_second.sqrt()? / bias2.sqrt())? + hyper.eps)?;
    let decayed = (parameter.to_dtype(DType::F32)? * (1.0 - hyper.learning_rate * hyper.weight_decay))?;
    let updated = (decayed - ((&new_first / denominator)? * (hyper.learning_rate / bias1))?)?;
    for (target, value) in [(&parameter, updated), (&first, new_first), (&second, new_second)] {
        target.flatten_all()?.slice_set(&value.to_dtype(target.dtype())?.flatten_all()?, 0, 0)?;
    }
    Ok(())
}

/// The step's constants, rounded to f32 once.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    pub gradient_scale: f32,
    pub keep: f32,
    pub first_rate: f32,
    pub beta2: f32,
    pub second_rate: f32,
    pub step_size: f32,
    pub root_bias2: f32,
    pub eps: f32,
}

impl Factors {
    pub(super) fn new(hyper: &AdamW) -> Self {
        let power = hyper.step as f64;
        let (bias1, bias2) = (1.0 - hyper.beta1.powf(power), 1.0 - hyper.beta2.powf(power));
        Self {
            gradient_scale: hyper.gradient_scale as f32,
            keep: (1.0 - hyper.learning_rate * hyper.weight_decay) as f32,
            first_rate: (1.0 - hyper.beta1) as f32,
            beta2: hyper.beta2 as f32,
            second_rate: (1.0 - hyper.beta2) as f32,
            step_size: (hyper.learning_rate / bias1) as f32,
            root_bias2: bias2.sqrt() as f32,
            eps: hyper.eps as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::values;
    use super::*;
    use candle_core::{Device, Var};

    const HYPER: AdamW = AdamW {
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        learning_rate: 1e-2,
        step: 1,
        gradient_scale: 0.5,
    };

    /// Parameter, first and second moment after ten steps.
    fn ten_steps(
        count: usize,
        dtype: DType,
        run: impl Fn(&Tensor, &Tensor, &Tensor, &Tensor, &AdamW) -> Result<()>,
    ) -> Result<[Vec<f32>; 3]> {
        let start = Tensor::from_vec(values(count, 1), count, &Device::Cpu)?;
        let parameter = Var::from_tensor(&start.to_dtype(dtype)?)?;
        let (first, second) =
            (Tensor::zeros(count, DType::F32, &Device::Cpu)?, Tensor::zeros(count, DType::F32, &Device::Cpu)?);
        for step in 1..=10 {
            let gradient = Tensor::from_vec(values(count, 10 + step), count, &Device::Cpu)?.to_dtype(dtype)?;
            run(&parameter, &gradient, &first, &second, &AdamW { step, ..HYPER })?;
        }
        Ok([parameter.to_dtype(DType::F32)?.to_vec1()?, first.to_vec1()?, second.to_vec1()?])
    }

    #[test]
    fn ten_steps_agree_with_the_formula_in_f64() -> Result<()> {
        let count = 40_001;
        let ours = ten_steps(count, DType::F32, adamw)?;
        let mut parameter = values(count, 1);
        let (mut first, mut second) = (vec![0f64; count], vec![0f64; count]);
        for step in 1..=10 {
            for (i, gradient) in values(count, 10 + step as u64).into_iter().enumerate() {
                let gradient = gradient * HYPER.gradient_scale;
                parameter[i] -= HYPER.learning_rate * HYPER.weight_decay * parameter[i];
                first[i] = HYPER.beta1 * first[i] + (1.0 - HYPER.beta1) * gradient;
                second[i] = HYPER.beta2 * second[i] + (1.0 - HYPER.beta2) * gradient * gradient;
                let (bias1, bias2) = (1.0 - HYPER.beta1.powi(step), 1.0 - HYPER.beta2.powi(step));
                parameter[i] -= HYPER.learning_rate / bias1 * first[i] / (second[i].sqrt() / bias2.sqrt() + HYPER.eps);
            }
        }
        for (ours, exact) in ours.iter().zip([parameter, first, second]) {
            let worst = ours.iter().zip(exact).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            println!("adamw: max |diff| {worst:.1e}");
            assert!(worst < 1e-6, "{worst}");
        }
        assert_eq!(ours, ten_steps(count, DType::F32, adamw)?);
        Ok(())
    }

    #[test]
    fn the_unfused_form_agrees() -> Result<()> {
        for (dtype, tolerance) in [(DType::F32, 5e-7), (DType::BF16, 2f32.powi(-8))] {
            let (ours, theirs) = (ten_steps(2_000, dtype, adamw)?, ten_steps(2_000, dtype, adamw_reference)?);
            for (a, b) in ours.iter().flatten().zip(theirs.iter().flatten()) {
                assert!((a - b).abs() <= tolerance, "{a} and {b}");
            }
        }
        Ok(())
    }

    #[test]
    fn wrong_shapes_and_steps_are_named() -> Result<()> {
        let (a, b) = (Tensor::zeros(3, DType::F32, &Device::Cpu)?, Tensor::zeros(4, DType::F32, &Device::Cpu)?);
        let message = adamw(&a, &b, &a.copy()?, &a.copy()?, &HYPER).unwrap_err().to_string();
        assert!(message.contains("adamw: parameter [3] and gradient [4]"), "{message}");
        let message =
            adamw(&a, &a.copy()?, &a.copy()?, &a.copy()?, &AdamW { step: 0, ..HYPER }).unwrap_err().to_string();
        assert!(message.contains("steps count from 1"), "{message}");
        Ok(())
    }
}
