//! What the environment says, and its only reading below `cli`: what other layers need of it travels in a [`Settings`]
//! value.

use std::path::{Path, PathBuf};

use crate::hub::HubSettings;

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
