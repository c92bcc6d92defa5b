//! Files of torch.save against what torch holds in them, and files that must be refused; see
//! `scripts/dev/parity/models.py`, `pickles`.

use std::path::PathBuf;

use candle_core::{DType, Device};

use super::TorchFile;
use crate::error::Error;
use crate::weights::TensorFiles;

fn path(name: &str) -> PathBuf {
    PathBuf::from("tests/fixtures/parity/models/pickle").join(name)
}

fn refused(name: &str) -> Error {
    match TorchFile::open(&path(name)) {
        Ok(_) => panic!("{name} was read"),
        Err(error) => error,
    }
}

#[test]
fn every_dtype_view_and_container_is_what_torch_holds() {
    let ours = TensorFiles::open(&path("tensors.bin")).unwrap();
    let expected = TensorFiles::open(&path("expected.safetensors")).unwrap();
    assert_eq!(ours.names(), expected.names());
    for name in ours.names() {
        let (a, b) = (ours.load(&name, &Device::Cpu).unwrap(), expected.load(&name, &Device::Cpu).unwrap());
        assert_eq!((a.dims(), a.dtype()), (b.dims(), b.dtype()), "{name}");
        let values = |t: &candle_core::Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>();
        assert_eq!(values(&a).unwrap(), values(&b).unwrap(), "{name}");
    }
}

#[test]
fn what_is_not_a_tensor_is_refused_by_name() {
    let error = refused("code.bin");
    assert!(error.message().contains("code.bin") && error.message().contains("`posix.system`"), "{error}");
    assert!(!PathBuf::from("executed").exists());
    for (file, part) in [
        ("legacy.bin", "torch before 1.6"),
        ("bomb.bin", "is compressed"),
        ("beyond.bin", "tensor `w`: shape [5, 6] with strides [6, 1] from value 0 reaches beyond its storage of 24"),
        ("nested.bin", "does not hold tensors by name"),
        ("expected.safetensors", "not a zip archive"),
    ] {
        let error = refused(file);
        assert!(error.message().contains(part) && error.message().contains(file), "{error}");
    }
}

#[test]
fn a_call_has_no_more_arguments_than_a_tensor_needs() {
    let call = |count: usize| {
        let mut bytes = b"ccollections\nOrderedDict\n(".to_vec();
        bytes.extend(b"K\x01".repeat(count));
        bytes.extend(b"tR.");
        super::machine::tensors(&bytes).unwrap_err().message()
    };
    assert!(call(16).contains("arguments that torch.save does not write"), "{}", call(16));
    assert!(call(17).contains("a call with 17 arguments, where 16 are the most"), "{}", call(17));
}

#[test]
fn no_damage_panics_or_allocates_without_bound() {
    let whole = std::fs::read(path("tensors.bin")).unwrap();
    for length in 0..whole.len() {
        assert!(super::table(&whole[..length]).is_err(), "cut at {length}");
    }
    // Whatever one wrong byte makes of the file, reading it ends, and what is read lies inside the file.
    for at in 0..whole.len() {
        for wrong in [0x00, 0x01, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = wrong;
            if let Ok(tensors) = super::table(&bytes) {
                for stored in tensors.values() {
                    let count: usize = stored.described.shape.iter().product();
                    assert!(count <= stored.described.values && stored.bytes.end <= bytes.len());
                }
            }
        }
    }
}
