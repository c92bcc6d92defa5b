//! Parity with transformers: the registry times the fixtures. `scripts/dev/make_parity.py` made the fixtures,
//! `fixtures/parity/how.md` says with what; tolerances are those of DESIGN.md section 6.

mod encoders;
mod llms;
mod lora;
mod models;
mod projectors;

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use llmore::weights::TensorFiles;

/// Largest and mean absolute difference that hidden states and logits may have.
const MAX: f64 = 1e-4;
const MEAN: f64 = 1e-5;

/// The fixture folders of a group, sorted.
fn cases(group: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(group);
    let mut cases: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// A case's name.
fn name(case: &Path) -> String {
    case.file_name().unwrap().to_string_lossy().into_owned()
}

/// The reference's inputs and outputs.
struct Expected(TensorFiles);

impl Expected {
    fn open(case: &Path) -> Self {
        Expected(TensorFiles::open(&case.join("expected.safetensors")).unwrap())
    }

    fn has(&self, name: &str) -> bool {
        self.0.has(name)
    }

    fn tensor(&self, name: &str) -> Tensor {
        self.0.load(name, &Device::Cpu).unwrap()
    }
}

/// Largest and mean absolute difference; shapes must agree.
fn differences(ours: &Tensor, reference: &Tensor) -> (f64, f64) {
    assert_eq!(ours.dims(), reference.dims());
    let to_f64 = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    let difference = (to_f64(ours) - to_f64(reference)).unwrap().abs().unwrap();
    let scalar = |tensor: Tensor| tensor.to_scalar::<f64>().unwrap();
    (scalar(difference.max(0).unwrap()), scalar(difference.mean_all().unwrap()))
}

/// Fails when a tensor is further from the reference than the contract allows; otherwise says how far it is.
fn assert_close(what: &str, ours: &Tensor, reference: &Tensor) -> (f64, f64) {
    let (max, mean) = differences(ours, reference);
    assert!(max <= MAX && mean <= MEAN, "{what}: differs by {max:.2e} at most, {mean:.2e} in the mean");
    (max, mean)
}
