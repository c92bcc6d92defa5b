//! LLaVA's JSON: a list of `{id, image?, conversations: [{from, value}]}`.
//! Source: LLaVA-MORE 2460d39, `docs/Finetune_Custom_Data.md` and `train.py`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::dataset::Items;
use super::sample::{ImageSource, Sample};
use crate::error;
use crate::error::{Error, Result};
use crate::text::{Role, Turn};

/// A file of conversations.
pub struct LlavaJson {
    items: Vec<Item>,
    images: PathBuf,
    file: PathBuf,
    sha256: String,
}

#[derive(Deserialize)]
struct Item {
    /// A string or a number in published files.
    id: serde_json::Value,
    image: Option<String>,
    conversations: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    from: String,
    value: String,
}

impl LlavaJson {
    /// Reads and checks the file.
    pub fn open(path: &Path, images: Option<&Path>) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::file(path, error))?;
        let items: Vec<Item> = serde_json::from_slice(&bytes).map_err(|error| {
            error!(Decode, "`{}`: {error}", path.display())
                .help("expected a list of { id, image, conversations: [{ from, value }] }")
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Ok(LlavaJson {
            items,
            images: images.unwrap_or(folder).to_path_buf(),
            file: path.to_path_buf(),
            sha256: format!("{:x}", Sha256::digest(&bytes)),
        })
    }
}

impl Items for LlavaJson {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let item = self.items.get(index).ok_or_else(|| error!(Data, "no sample {index}"))?;
        let id = match &item.id {
            serde_json::Value::String(id) => id.clone(),
            other => other.to_string(),
        };
        let turns = item
            .conversations
            .iter()
            .map(|message| {
                let role = match message.from.as_str() {
                    "human" => Role::Human,
                    "gpt" => Role::Gpt,
                    other => {
                        return Err(error!(Data, "`{}`, sample `{id}`: a turn is from `{other}`", self.file.display())
                            .help("turns are from `human` or `gpt`"));
                    }
                };
                Ok(Turn { role, value: message.value.clone() })
            })
            .collect::<Result<Vec<_>>>()?;
        let image = item.image.as_ref().map(|image| ImageSource::File(self.images.join(image)));
        Ok(Sample { id, image, turns })
    }

    fn sha256(&self) -> String {
        self.sha256.clone()
    }
}
