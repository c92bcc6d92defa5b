//! Finds the file of a model's folder that says how pictures are prepared. transformers 5 writes it into processor_config.json,
//! under `image_processor`, and leaves an older preprocessor_config.json as it was; `AutoImageProcessor` takes the new one
//! (5.24.0, `image_processing_base.py`, `get_image_processor_dict`).

use serde_json::Value;

use super::Preprocessing;
use crate::assets::Folder;
use crate::error;
use crate::error::Result;
use crate::notes::Notes;

/// The file of an image processor alone.
pub const ALONE: &str = "preprocessor_config.json";
/// The file of a processor that includes the image processor.
pub const WHOLE: &str = "processor_config.json";
/// The key of the image processor in that file.
pub const INSIDE: &str = "image_processor";

impl Preprocessing {
    /// Reads it from a folder; `class` is the processor class of the model in it, for files that name none.
    ///
    /// # Errors
    /// `Missing` when neither file has it, `Decode` naming file and key.
    pub fn open(folder: &Folder, class: Option<&str>, notes: &Notes) -> Result<Self> {
        let inside = match folder.has(WHOLE) {
            true => folder.json(WHOLE)?.get(INSIDE).filter(|inside| !inside.is_null()).cloned(),
            false => None,
        };
        let alone = |json: &Value| Preprocessing::from_json(json, &folder.locate(ALONE), class);
        let Some(inside) = inside else {
            return match folder.has(ALONE) {
                true => alone(&folder.json(ALONE)?),
                false => Err(error!(
                    Missing,
                    "no `{}`, and no `{WHOLE}` with `{INSIDE}` beside it",
                    folder.locate(ALONE)
                )
                .help("it says how pictures are prepared: copy it from where the tower was published; transformers writes it with `AutoImageProcessor.from_pretrained(..).save_pretrained(..)`")),
            };
        };
        let read = Preprocessing::from_json(&inside, &format!("{}: {INSIDE}", folder.locate(WHOLE)), class)?;
        if folder.has(ALONE) && folder.json(ALONE).and_then(|json| alone(&json)).ok().as_ref() != Some(&read) {
            notes.add(format!(
                "`{}` and `{ALONE}` beside it prepare pictures differently: the first is used, as in transformers 5",
                folder.locate(WHOLE)
            ));
        }
        Ok(read)
    }
}
