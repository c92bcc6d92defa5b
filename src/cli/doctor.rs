//! `llmore doctor`: facts about this machine and this build, and possible problems.

use std::path::Path;

use super::graphics::Graphics;
use crate::build;
use crate::device;
use crate::memory::{DeviceMemory, Host};
use crate::process::free_disk;
use crate::settings::Settings;
use crate::show::{Table, bytes};

/// With less free disk space or memory than this even a run of the embedded models may fail.
const TIGHT: u64 = 1 << 30;

/// A table of facts; the last column has problems with the next step.
pub(super) fn table(settings: &Settings) -> Table {
    let mut table = Table::new("doctor").column("what").column("found").column("to do");
    let mut push = |what: &str, found: String, advice: Option<String>| {
        table.push([what.into(), found.into(), advice.unwrap_or_default().into()]);
    };
    push("llmore", format!("{}, {}", build::ABOUT, gpu_build()), None);
    push("processor", processor(), None);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let idle = format!("LLMORE_THREADS leaves {} cores idle", cores.saturating_sub(settings.threads));
    let threads = format!("{} of {cores} cores", settings.threads);
    push("threads", threads, (settings.threads < cores).then_some(idle));
    let (gpu, advice) = gpu();
    push("GPU", gpu, advice);
    let memory = Host.limit();
    let short = memory.filter(|free| *free < TIGHT).map(|_| "`t.plan()` says what would fit".to_string());
    push("memory for a run", memory.map_or("unknown".to_string(), bytes), short);
    for (what, folder, used) in [
        ("runs", Path::new("runs"), "`out` puts a run elsewhere"),
        ("feature cache", &settings.cache_folder, "XDG_CACHE_HOME moves it"),
        ("history", &settings.state_folder, "XDG_STATE_HOME moves it"),
        ("hub cache", &settings.hub.cache, "HF_HOME or HF_HUB_CACHE moves it"),
    ] {
        let free = free_disk(folder);
        let is_tight = free.is_some_and(|free| free < TIGHT);
        let advice = match is_writable(folder) {
            false => Some(format!("it cannot be written; {used}")),
            true => is_tight.then(|| format!("little space; {used}")),
        };
        let free = free.map_or("unknown".to_string(), bytes);
        push(what, format!("{}, {free} free", folder.display()), advice);
    }
    let presets: Vec<String> = settings.preset_folders.iter().map(|folder| folder.display().to_string()).collect();
    push("own presets", presets.join(", "), None);
    let token = if settings.hub.token.is_some() { "a token" } else { "no token" };
    let hub = if settings.hub.offline { "offline".to_string() } else { settings.hub.endpoint.clone() };
    push("hub", format!("{hub}, {token}"), None);
    let graphics = Graphics::of_terminal();
    let none = "LLMORE_GRAPHICS=block shows pictures as text".to_string();
    push("pictures", format!("{graphics:?}").to_lowercase(), (graphics == Graphics::Off).then_some(none));
    table
}

fn gpu_build() -> &'static str {
    if candle_core::utils::cuda_is_available() { "CUDA build" } else { "CPU build" }
}

/// The vector instructions that matrix products choose from at run time.
fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("avx512f", std::is_x86_feature_detected!("avx512f")),
            ("avx2", std::is_x86_feature_detected!("avx2")),
            ("fma", std::is_x86_feature_detected!("fma")),
        ];
        let names: Vec<&str> = known.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
        format!("x86_64, {}", if names.is_empty() { "no AVX".to_string() } else { names.join(" ") })
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::env::consts::ARCH.to_string()
}

fn gpu() -> (String, Option<String>) {
    if !candle_core::utils::cuda_is_available() {
        return ("not used by this build".to_string(), None);
    }
    match device::device("cuda") {
        Ok(device) => (device::device_name(&device), None),
        Err(error) => ("none".to_string(), Some(error.message())),
    }
}

/// Whether a file can be created in a folder, or in its parent where the folder does not exist yet.
fn is_writable(folder: &Path) -> bool {
    let mut existing = if folder.is_absolute() { folder.to_path_buf() } else { Path::new(".").join(folder) };
    while !existing.exists() && existing.pop() {}
    let probe = existing.join(format!(".llmore-doctor-{}", std::process::id()));
    crate::fs::write(&probe, b"").and_then(|()| crate::fs::remove_file(&probe)).is_ok()
}
