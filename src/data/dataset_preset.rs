//! Data sets by name: presets of embedded packs.

use serde::Deserialize;

use super::dataset::Dataset;
use super::pack::{Pack, PackItems};
use crate::error::Result;
use crate::preset::{PresetKind, Presets};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DatasetPreset {
    #[serde(rename = "about")]
    _about: String,
    /// Embedded packs, one after another.
    packs: Vec<PackPreset>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackPreset {
    source: String,
    items: PackItems,
    /// How often every picture comes, each time with its questions begun at another place.
    #[serde(default = "once")]
    orders: usize,
}

fn once() -> usize {
    1
}

impl Dataset {
    /// A preset of embedded packs.
    pub fn preset(presets: &Presets, id: &str) -> Result<Self> {
        let preset: DatasetPreset = presets.get(PresetKind::Datasets, id)?;
        let sources = preset
            .packs
            .iter()
            .map(|pack| Pack::open(&pack.source).map(|opened| pack.items.of(opened, pack.orders)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Dataset::new(id, sources))
    }
}
