//! What every op is checked for: values and gradients against the unfused form in f64, gradients against finite
//! differences, bf16 within its rounding, no gradient for frozen inputs, strided inputs, identical bits.

use candle_core::{DType, Device, Result, Tensor, Var};

/// `count` reproducible values in (-1, 1).
pub(super) fn values(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    // Rounded to bf16 so that every dtype starts from the same numbers.
    (0..count).map(|_| f64::from(half::bf16::from_f64(next() * 2.0 - 1.0))).collect()
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).and_then(|t| t.flatten_all()).and_then(|t| t.to_vec1()).unwrap()
}

/// The largest absolute value, at least 1e-3: the unit of the tolerances below.
fn magnitude(values: &[f64]) -> f64 {
    values.iter().fold(1e-3, |a, b| a.max(b.abs()))
}

fn worst(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    // NaN has to count as a difference.
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

/// An op and its inputs.
pub(super) struct Check {
    name: &'static str,
    shapes: Vec<Vec<usize>>,
    inputs: Vec<Vec<f64>>,
    tolerance: f64,
}

struct Outcome {
    result: Vec<f64>,
    gradients: Vec<Option<Vec<f64>>>,
}

impl Check {
    pub(super) fn new(name: &'static str, shapes: &[&[usize]]) -> Self {
        let inputs = shapes.iter().zip(1..).map(|(s, seed)| values(s.iter().product(), seed)).collect();
        Self { name, shapes: shapes.iter().map(|s| s.to_vec()).collect(), inputs, tolerance: 5e-6 }
    }

    /// Multiplies the values of every input.
    pub(super) fn scaled(mut self, factor: f64) -> Self {
        self.inputs.iter_mut().flatten().for_each(|v| *v *= factor);
        self
    }

    fn variables(&self, dtype: DType) -> Vec<Var> {
        let make = |(values, shape): (&Vec<f64>, &Vec<usize>)| {
            let tensor = Tensor::from_vec(values.clone(), shape.as_slice(), &Device::Cpu)?;
            Var::from_tensor(&tensor.to_dtype(dtype)?)
        };
        self.inputs.iter().zip(&self.shapes).map(|pair| make(pair).unwrap()).collect()
    }

    /// The result and the gradients of a fixed random weighting of it; input `frozen` is no variable.
    fn outcome(
        &self,
        dtype: DType,
        frozen: Option<usize>,
        op: &(dyn Fn(&[Tensor]) -> Result<Tensor> + Sync),
    ) -> Outcome {
        let variables = self.variables(dtype);
        let inputs: Vec<Tensor> = variables
            .iter()
            .enumerate()
            .map(|(i, v)| if Some(i) == frozen { v.as_detached_tensor() } else { v.as_tensor().clone() })
            .collect();
        let result = op(&inputs).unwrap();
        let weights = Tensor::from_vec(values(result.elem_count(), 99), result.shape(), &Device::Cpu).unwrap();
        let loss = (&result * weights.to_dtype(result.dtype()).unwrap()).unwrap().sum_all().unwrap();
        if !loss.track_op() {
            return Outcome { result: flat(&result), gradients: inputs.iter().map(|_| None).collect() };
        }
        let store = loss.backward().unwrap();
        let gradients = inputs.iter().map(|t| {
            let gradient = store.get(t)?;
            assert_eq!((gradient.dtype(), gradient.dims()), (t.dtype(), t.dims()));
            Some(flat(gradient))
        });
        Outcome { result: flat(&result), gradients: gradients.collect() }
    }

    pub(super) fn run(
        &self,
        op: impl Fn(&[Tensor]) -> Result<Tensor> + Sync,
        reference: impl Fn(&[Tensor]) -> Result<Tensor> + Sync,
    ) {
        let exact = self.outcome(DType::F64, None, &reference);
        let ours = self.outcome(DType::F32, None, &op);
        self.compare("f32", &ours, &exact, self.tolerance);
        self.compare("bf16", &self.outcome(DType::BF16, None, &op), &exact, 2f64.powi(-7));
        // candle sums in bf16, and logits are rounded before the loss.
        self.compare("bf16 unfused", &self.outcome(DType::BF16, None, &reference), &exact, 2f64.powi(-5));
        // f64 has no fused form: the public function has to take the unfused one.
        self.compare("f64", &self.outcome(DType::F64, None, &op), &exact, 1e-12);
        self.finite_differences(&exact, &reference);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let again = pool.install(|| self.outcome(DType::F32, None, &op));
            let same = ours.result == again.result && ours.gradients == again.gradients;
            assert!(same, "{}: {threads} threads give other bits", self.name);
        }
        for frozen in 0..self.inputs.len() {
            let without = self.outcome(DType::F32, Some(frozen), &op);
            for (i, (gradient, full)) in without.gradients.iter().zip(&ours.gradients).enumerate() {
                if i == frozen {
                    assert!(gradient.is_none(), "{}: frozen input {i} got a gradient", self.name);
                } else {
                    assert_eq!(gradient, full, "{}: freezing input {frozen} changed gradient {i}", self.name);
                }
            }
        }
        let strided = self.outcome(DType::F32, None, &|inputs| {
            let strided: Result<Vec<_>> = inputs.iter().map(|t| t.t_if_matrix()?.contiguous()?.t_if_matrix()).collect();
            op(&strided?)
        });
        assert!(strided.result == ours.result, "{}: a strided input changed the result", self.name);
        assert!(strided.gradients == ours.gradients, "{}: a strided input changed the gradients", self.name);
    }

    fn compare(&self, dtype: &str, ours: &Outcome, exact: &Outcome, tolerance: f64) {
        let difference = worst(&ours.result, &exact.result);
        let mut report = format!("{} {:?} {dtype}: max |diff| result {difference:.1e}", self.name, self.shapes);
        assert!(difference <= tolerance * magnitude(&exact.result), "{report}");
        for (i, (ours, exact)) in ours.gradients.iter().zip(&exact.gradients).enumerate() {
            let (Some(ours), Some(exact)) = (ours, exact) else { panic!("{report}: no gradient for input {i}") };
            let difference = worst(ours, exact);
            report += &format!(", gradient {i} {difference:.1e}");
            assert!(difference <= tolerance * magnitude(exact), "{report} of {:.1e}", magnitude(exact));
        }
        println!("{report}");
    }

    /// Central differences of the f64 reference at some places of every input.
    fn finite_differences(&self, exact: &Outcome, reference: &(dyn Fn(&[Tensor]) -> Result<Tensor> + Sync)) {
        const STEP: f64 = 1e-5;
        let loss = |inputs: &[Vec<f64>]| -> f64 {
            let tensors =
                inputs.iter().zip(&self.shapes).map(|(v, s)| Tensor::from_vec(v.clone(), s.as_slice(), &Device::Cpu));
            let result = flat(&reference(&tensors.collect::<Result<Vec<_>>>().unwrap()).unwrap());
            result.iter().zip(values(result.len(), 99)).map(|(a, b)| a * b).sum()
        };
        for (i, gradient) in exact.gradients.iter().enumerate() {
            let gradient = gradient.as_ref().unwrap();
            for place in (0..gradient.len()).step_by((gradient.len() / 5).max(1)) {
                let mut inputs = self.inputs.clone();
                inputs[i][place] += STEP;
                let above = loss(&inputs);
                inputs[i][place] -= 2.0 * STEP;
                let slope = (above - loss(&inputs)) / (2.0 * STEP);
                let difference = (slope - gradient[place]).abs();
                assert!(
                    difference < 1e-6 * magnitude(gradient),
                    "{}: input {i}[{place}]: slope {slope}, gradient {}",
                    self.name,
                    gradient[place]
                );
            }
        }
    }
}

trait Strided: Sized {
    fn t_if_matrix(&self) -> Result<Self>;
}

impl Strided for Tensor {
    fn t_if_matrix(&self) -> Result<Tensor> {
        if self.rank() >= 2 { self.t() } else { Ok(self.clone()) }
    }
}
