//! Devices and dtypes by name.

use candle_core::{DType, Device};

use crate::error::{Error, Result};
use crate::{bail, error};

/// The device of a name: `cpu`, `cuda`, `cuda:1`.
pub fn device(name: &str) -> Result<Device> {
    match name.split_once(':').unwrap_or((name, "0")) {
        ("cpu", "0") => Ok(Device::Cpu),
        ("cuda", index) => {
            let index: usize = index.parse().map_err(|_| error!(Device, "no device `{name}`"))?;
            Device::new_cuda(index).map_err(|error| {
                let help = if candle_core::utils::cuda_is_available() {
                    "`llmore doctor` shows what this machine has"
                } else {
                    "this is the CPU build: build with `--features cuda`"
                };
                error!(Device, "no CUDA device {index}: {error}").help(help)
            })
        }
        _ => Err(Error::unknown("device", name, &["cpu", "cuda", "cuda:0"], "")),
    }
}

/// The name of a device, as [`device`] reads it.
pub fn device_name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".to_string(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// The dtype of a name: `f32`, `bf16`, `f16`.
pub fn dtype(name: &str) -> Result<DType> {
    match name {
        "f32" => Ok(DType::F32),
        "bf16" => Ok(DType::BF16),
        "f16" => Ok(DType::F16),
        "f64" => bail!(Device, "f64 is not computed in; use `f32`"),
        _ => Err(Error::unknown("dtype", name, &["f32", "bf16", "f16"], "")),
    }
}
