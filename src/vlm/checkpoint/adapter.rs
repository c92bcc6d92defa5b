//! Folders that PEFT writes: an adapter and its config, and no model. The adapter of an LLM opens with its base, which
//! adapter_config.json names.

use std::path::Path;

use crate::assets::Folder;
use crate::error;
use crate::error::Result;
use crate::models::config::Config;
use crate::vlm::lora;

/// Refuses a folder that holds an adapter alone where a whole model is asked for.
pub(super) fn refuse_alone(path: &Path) -> Result<()> {
    let folder = Folder::Disk(path.to_path_buf());
    if !lora::is_adapter_alone(&folder) {
        return Ok(());
    }
    let config = Config::new(folder.json(lora::CONFIG)?, format!("`{}`", folder.locate(lora::CONFIG)));
    let base = config.string(lora::BASE_KEY, "")?;
    Err(error!(Weights, "this folder holds an adapter alone, as PEFT writes it; a base is needed (it names `{base}`)")
        .help(format!(
            "an adapter of an LLM opens with its base: `llm(\"{0}\")`, which `vlm(encoder(..), projector(\"mlp2x_gelu\"), \
             llm(\"{0}\"))` joins with a tower; add one of a whole LLaVA to it with peft's `merge_and_unload()`",
            path.display()
        )))
}
