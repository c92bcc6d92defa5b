//! Which embedded preset stands for an id or a path in a smoke run.

use std::path::PathBuf;

use crate::preset::{PresetKind, Presets};

/// The stand-ins of a session's presets.
pub(in crate::script) struct Ids(pub Presets);

impl Ids {
    /// The id to open: itself, or its stand-in. What the smoke run has written itself (`made`) is opened.
    pub(super) fn of(&self, kind: PresetKind, id: &str, made: Option<PathBuf>) -> String {
        let is_tiny = |name: &str| name.starts_with("tiny-") || name.ends_with("-tiny");
        if is_tiny(id) || kind == PresetKind::Templates {
            return id.to_string();
        }
        if let Some(place) = made.filter(|_| kind != PresetKind::Benchmarks) {
            return place.display().to_string();
        }
        // `data/tiny-captions`: a script put a folder before what the tiny recipe names.
        let named = id.rsplit('/').next().filter(|name| is_tiny(name) && self.0.contains(kind, name));
        named.unwrap_or_else(|| tiny(kind, id)).to_string()
    }
}

/// The `tiny-*` preset that is most like what an id or a path names.
fn tiny(kind: PresetKind, id: &str) -> &'static str {
    let id = id.to_lowercase();
    let names = |words: &[&str]| words.iter().any(|word| id.contains(word));
    match kind {
        PresetKind::Encoders if names(&["siglip"]) => "tiny-siglip",
        PresetKind::Encoders if names(&["dino"]) => "tiny-dinov2",
        PresetKind::Encoders => "tiny-clip",
        PresetKind::Llms if names(&["gemma"]) => "tiny-gemma-2",
        PresetKind::Llms => "tiny-llama",
        PresetKind::Models => "tiny-llava",
        PresetKind::Datasets if names(&["blip", "caption", "pretrain"]) => "tiny-captions",
        PresetKind::Datasets => "tiny-instruct",
        PresetKind::Benchmarks if names(&["pope"]) => "tiny-pope",
        PresetKind::Benchmarks if names(&["seed", "mmbench", "ai2d", "scienceqa", "mmmu", "realworld"]) => "tiny-seed",
        PresetKind::Benchmarks => "tiny-vqa",
        PresetKind::Recipes => "llava-more-tiny",
        PresetKind::Templates => "tiny",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_keep_the_axes_of_a_study() {
        let cases = [
            (PresetKind::Encoders, "google/siglip2-so400m-patch14-384", "tiny-siglip"),
            (PresetKind::Encoders, "models/DINOv2-small", "tiny-dinov2"),
            (PresetKind::Encoders, "clip-vit-l-336", "tiny-clip"),
            (PresetKind::Llms, "gemma-2-9b-it", "tiny-gemma-2"),
            (PresetKind::Llms, "phi-4-mini-instruct", "tiny-llama"),
            (PresetKind::Datasets, "data/blip_laion_cc_sbu_558k.json", "tiny-captions"),
            (PresetKind::Datasets, "data/llava_v1_5_mix665k.json", "tiny-instruct"),
            (PresetKind::Benchmarks, "pope", "tiny-pope"),
            (PresetKind::Benchmarks, "mmbench_en_dev", "tiny-seed"),
            (PresetKind::Benchmarks, "gqa", "tiny-vqa"),
        ];
        for (kind, id, expected) in cases {
            assert_eq!(tiny(kind, id), expected, "{id}");
        }
    }
}
