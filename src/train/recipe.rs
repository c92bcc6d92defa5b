//! Recipes: the stages of a protocol as data.

use serde::Deserialize;
use toml::{Table, Value};

use super::options::{TrainOptions, overrule};
use crate::error;
use crate::error::{Context, Result};
use crate::preset::{PresetKind, Presets, from_table};

/// One stage: the options of a trainer, as the table it was written in.
#[derive(Clone, Debug)]
pub struct Stage(pub Table);

/// A protocol.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub id: String,
    pub about: String,
    pub stages: Vec<Stage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipePreset {
    about: String,
    stages: Vec<Table>,
}

impl Recipe {
    /// A recipe by id; `overrides` go over every stage, `lora.r` over the `r` of its `lora`.
    pub fn open(presets: &Presets, id: &str, overrides: &Table) -> Result<Self> {
        let preset: RecipePreset = presets.get(PresetKind::Recipes, id)?;
        let mut stages = Vec::with_capacity(preset.stages.len());
        for (i, mut table) in preset.stages.into_iter().enumerate() {
            overrule(&mut table, overrides);
            let options: TrainOptions =
                from_table(table.clone()).context(|| format!("recipe `{id}`, stage {}", i + 1))?;
            options.check().context(|| format!("recipe `{id}`, stage {}", i + 1))?;
            if !table.get("data").is_some_and(Value::is_str) {
                return Err(error!(Option, "recipe `{id}`, stage {} has no `data`", i + 1));
            }
            stages.push(Stage(table));
        }
        Ok(Recipe { id: id.to_string(), about: preset.about, stages })
    }
}
