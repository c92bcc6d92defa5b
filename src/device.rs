//! Devices and dtypes by name, threads, memory, and the only reading of the environment below `cli`: what
//! other layers need of it travels in a [`Settings`] value.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use crate::error::{Error, Result};
use crate::hub::HubSettings;
use crate::{bail, error};

/// What the environment says, read once at start-up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where user presets live: `$XDG_CONFIG_HOME/llmore/presets`.
    pub preset_folders: Vec<PathBuf>,
    /// Where the REPL keeps its history: `$XDG_STATE_HOME/llmore`.
    pub state_folder: PathBuf,
    /// Worker threads (`LLMORE_THREADS`, else all cores).
    pub threads: usize,
    /// The Hugging Face hub (`HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`).
    pub hub: HubSettings,
}

impl Settings {
    /// Reads the environment.
    pub fn from_env() -> Self {
        let home = PathBuf::from(variable("HOME").unwrap_or_else(|| ".".to_string()));
        let folder = |name: &str, fallback: &str| {
            variable(name).map_or_else(|| home.join(fallback), PathBuf::from).join("llmore")
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Settings {
            preset_folders: vec![folder("XDG_CONFIG_HOME", ".config").join("presets")],
            state_folder: folder("XDG_STATE_HOME", ".local/state"),
            hub: hub(&home),
            threads: variable("LLMORE_THREADS").and_then(|n| n.parse().ok()).filter(|&n| n > 0).unwrap_or(cores),
        }
    }
}

/// Where Python's `huggingface_hub` has its cache and its token.
fn hub(home: &Path) -> HubSettings {
    let caches = variable("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    let hf_home = variable("HF_HOME").map_or_else(|| caches.join("huggingface"), PathBuf::from);
    let token_file = variable("HF_TOKEN_PATH").map_or_else(|| hf_home.join("token"), PathBuf::from);
    let saved = || std::fs::read_to_string(&token_file).ok().map(|token| token.trim().to_string());
    let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_string());
    HubSettings {
        cache: variable("HF_HUB_CACHE").map_or_else(|| hf_home.join("hub"), PathBuf::from),
        endpoint: endpoint.trim_end_matches('/').to_string(),
        token: variable("HF_TOKEN").or_else(saved).filter(|token| !token.is_empty()),
        offline: variable("HF_HUB_OFFLINE")
            .is_some_and(|on| ["1", "on", "yes", "true"].contains(&on.to_lowercase().as_str())),
    }
}

/// A variable of the environment, when it is set and not empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Gives rayon all threads and candle's own pool one: two pools on few cores spin against each other.
/// To be called first thing in `main`, before any other thread exists.
pub fn set_threads(threads: usize) {
    // SAFETY: called before any other thread is started, so nothing reads the environment meanwhile.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    // A pool built earlier (a test binary, a notebook cell) stays as it is.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
}

/// Keeps freed memory in the process: tensors of a step are as large as those of the step before, and giving their
/// pages back and faulting them in again costs more than many of the operations. To be called first thing in `main`.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only sets parameters of the allocator; no other thread exists yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

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

/// Peak resident memory of this process in bytes, where the system says so.
pub fn peak_memory() -> Option<u64> {
    status("VmHWM:")
}

fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
