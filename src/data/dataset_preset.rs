//! Data sets by name: presets of embedded packs.

use serde::Deserialize;

use super::dataset::Dataset;
use super::pack::{Pack, PackItems};
use crate::error;
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

impl DatasetPreset {
    /// Refuses a pack that comes twice with the same items: every sample of it would, and take its time again.
    fn check(&self, id: &str) -> Result<()> {
        let mut rest = self.packs.as_slice();
        while let [first, behind @ ..] = rest {
            if behind.iter().any(|other| (&other.source, other.items) == (&first.source, first.items)) {
                return Err(error!(Decode, "data set `{id}`: `packs` holds `{}` twice", first.source)
                    .help("take one of the two out; `orders = 2` gives every picture twice, with its questions in another order"));
            }
            rest = behind;
        }
        Ok(())
    }
}

fn once() -> usize {
    1
}

impl Dataset {
    /// A preset of embedded packs.
    pub fn preset(presets: &Presets, id: &str) -> Result<Self> {
        let preset: DatasetPreset = presets.get(PresetKind::Datasets, id)?;
        preset.check(id)?;
        let sources = preset
            .packs
            .iter()
            .map(|pack| Pack::open(&pack.source).map(|opened| pack.items.of(opened, pack.orders)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Dataset::new(id, sources))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_comes_once() {
        let pack = |items: &str| format!("[[packs]]\nitems = \"{items}\"\nsource = \"embedded:data/x.safetensors\"\n");
        let check = |all: &[&str]| {
            let text = format!("about = \"\"\n{}", all.iter().map(|items| pack(items)).collect::<String>());
            toml::from_str::<DatasetPreset>(&text).unwrap().check("mine")
        };
        assert!(check(&["captions", "conversations"]).is_ok());
        let error = check(&["captions", "conversations", "captions"]).unwrap_err().to_string();
        assert!(error.contains("`mine`") && error.contains("`embedded:data/x.safetensors` twice"), "{error}");
    }
}
