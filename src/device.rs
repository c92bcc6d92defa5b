//! Devices and dtypes by name, threads, memory, and the only reading of the environment below `cli`: what
//! other layers need of it travels in a [`Settings`] value.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Where features of frozen encoders are kept between runs: `$XDG_CACHE_HOME/llmore`.
    pub cache_folder: PathBuf,
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
            cache_folder: folder("XDG_CACHE_HOME", ".cache"),
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

/// Ends the process quietly when nobody reads its output any more, as in `llmore docs | head`; for commands that only print.
pub fn end_with_the_pipe() {
    #[cfg(unix)]
    // SAFETY: restores the default action of a signal, which Rust ignores at start-up.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
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
    kib("/proc/self/status", "VmHWM:")
}

/// Resident memory of this process in bytes, where the system says so.
pub fn resident_memory() -> Option<u64> {
    kib("/proc/self/status", "VmRSS:")
}

/// How much memory this process may come to in bytes: what it has and what is free, within the limits of its control
/// group and its own; `None` where the system does not say.
pub fn memory_limit() -> Option<u64> {
    let resident = resident_memory()?;
    let free = kib("/proc/meminfo", "MemAvailable:").map(|free| free + resident);
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let group = |limit: &str, used: &str| {
        let (limit, used) = (number(limit)?, number(used)?);
        // Others of the group use it too.
        Some(limit.saturating_sub(used.saturating_sub(resident)))
    };
    let limits = [
        free,
        group("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        group("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ];
    limits.into_iter().flatten().min()
}

/// Free space in bytes on the disk of a folder, which need not exist yet.
pub fn free_disk(folder: &Path) -> Option<u64> {
    let mut existing = if folder.is_absolute() { folder.to_path_buf() } else { Path::new(".").join(folder) };
    while !existing.exists() && existing.pop() {}
    let path = std::ffi::CString::new(existing.into_os_string().into_encoded_bytes()).ok()?;
    // SAFETY: all fields of statvfs are integers, for which zero is a value.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in zero, and `found` is writable for the call.
    let failed = unsafe { libc::statvfs(path.as_ptr(), &mut found) } != 0;
    (!failed).then(|| found.f_bavail as u64 * found.f_frsize as u64)
}

fn kib(file: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Counts the larger pieces of memory that are held: what tensors take, whatever the process took before and kept.
struct Counting;

/// Pieces from this size on are counted.
const COUNTED: usize = 4096;
static LIVE: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

impl Counting {
    fn grow(size: usize) {
        if size >= COUNTED {
            let live = LIVE.fetch_add(size as u64, Ordering::Relaxed) + size as u64;
            PEAK.fetch_max(live, Ordering::Relaxed);
        }
    }

    fn shrink(size: usize) {
        if size >= COUNTED {
            LIVE.fetch_sub(size as u64, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call goes to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::grow(layout.size());
        // SAFETY: guaranteed by the caller, here and below.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counting::grow(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Counting::shrink(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counting::shrink(layout.size());
        Counting::grow(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Bytes in larger pieces of memory that are held now.
pub fn live_memory() -> u64 {
    LIVE.load(Ordering::Relaxed)
}

/// Begins to look for the most that [`live_memory`] comes to.
pub fn watch_live_memory() {
    PEAK.store(live_memory(), Ordering::Relaxed);
}

/// The most that [`live_memory`] came to since it is watched.
pub fn peak_live_memory() -> u64 {
    PEAK.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_held_for_a_moment_is_seen() {
        // Other tests hold some, too.
        const SIZE: u64 = 1 << 30;
        let before = live_memory();
        watch_live_memory();
        drop(std::hint::black_box(Vec::<u8>::with_capacity(SIZE as usize)));
        assert!(peak_live_memory() >= before.min(live_memory()) / 2 + SIZE / 2);
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_is_on_a_disk() {
        let known = free_disk(Path::new(".")).unwrap();
        assert!(known > 0);
        assert!(free_disk(Path::new("does/not/exist")).is_some());
    }
}
