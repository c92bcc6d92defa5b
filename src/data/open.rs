//! Files of samples by their format, and whether their pictures are where they are looked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dataset::Dataset;
use super::image_source::ImageSource;
use super::items::Items;
use super::llava_json::LlavaJson;
use super::pictures::Pictures;
use super::rows::RowItems;
use crate::error;
use crate::error::Result;

/// Of how many samples, over the whole, pictures are looked for when a file is opened, until one is found.
const LOOKED_FOR: usize = 1000;

/// The formats of files of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON list, as LLaVA publishes it.
    Llava,
    /// One JSON object a line, with the same fields. How a file begins says which of the two it is.
    Jsonl,
    /// A parquet file or a folder of them with these fields as columns; pictures may lie in the rows.
    Parquet,
}

impl Format {
    /// The names scripts use.
    pub const NAMES: [(&'static str, Format); 3] =
        [("llava", Format::Llava), ("jsonl", Format::Jsonl), ("parquet", Format::Parquet)];

    /// The format that a file's name suggests.
    pub fn of(path: &Path) -> Self {
        match path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).as_deref() {
            Some("jsonl" | "ndjson") => Format::Jsonl,
            Some("parquet") => Format::Parquet,
            _ if path.is_dir() => Format::Parquet,
            _ => Format::Llava,
        }
    }
}

impl Dataset {
    /// A LLaVA JSON file; pictures are paths below `images` (default: the file's folder).
    pub fn llava_json(path: &Path, images: Option<&Path>) -> Result<Self> {
        let pictures = images.map(Pictures::at).transpose()?;
        Dataset::open(path, Format::Llava, pictures)
    }

    /// A file of samples; pictures are below its folder unless `pictures` says otherwise.
    ///
    /// # Errors
    /// `Missing` or `File` when it cannot be read, or when none of the pictures looked for is there; `Decode` when it is not
    /// of that format or cut off.
    pub fn open(path: &Path, format: Format, pictures: Option<Pictures>) -> Result<Self> {
        let given = pictures.clone();
        let pictures = match pictures {
            Some(pictures) => pictures,
            None => Pictures::at(path.parent().unwrap_or(Path::new(".")))?,
        };
        let items: Arc<dyn Items> = match format {
            Format::Llava | Format::Jsonl => Arc::new(LlavaJson::open(path, pictures)?),
            Format::Parquet => Arc::new(RowItems::open(path, given)?),
        };
        let dataset = Dataset::new(&path.display().to_string(), vec![items]);
        dataset.look_for_pictures()?;
        Ok(dataset)
    }

    /// Several files of one format as one set, called `name`; pictures are below each one's folder unless `pictures` says otherwise.
    ///
    /// # Errors
    /// As for [`Dataset::open`].
    pub fn open_files(name: &str, files: &[PathBuf], format: Format, pictures: Option<Pictures>) -> Result<Self> {
        let sources: Vec<Arc<dyn Items>> = match format {
            Format::Parquet => vec![Arc::new(RowItems::open_files(files, pictures)?)],
            Format::Llava | Format::Jsonl => {
                let open = |file: &PathBuf| -> Result<Arc<dyn Items>> {
                    let pictures = match &pictures {
                        Some(pictures) => pictures.clone(),
                        None => Pictures::at(file.parent().unwrap_or(Path::new(".")))?,
                    };
                    Ok(Arc::new(LlavaJson::open(file, pictures)?))
                };
                files.iter().map(open).collect::<Result<_>>()?
            }
        };
        let dataset = Dataset::new(name, sources);
        dataset.look_for_pictures()?;
        Ok(dataset)
    }

    /// Looks for pictures, the first one and others over the whole: where none is there, their folder is a wrong one.
    /// Single ones that are missing are for `verify`.
    fn look_for_pictures(&self) -> Result<()> {
        let has_image = |index: &usize| self.brief(*index).is_ok_and(|brief| brief.has_image());
        let pictured: Vec<usize> = (0..self.len()).filter(has_image).collect();
        let mut first: Option<(String, ImageSource)> = None;
        let mut looked = 0;
        for &index in pictured.iter().step_by(pictured.len().div_ceil(LOOKED_FOR).max(1)) {
            // What cannot be read is reported when it is needed.
            let Ok(sample) = self.get(index) else { continue };
            for image in sample.images {
                if image.is_there()? {
                    return Ok(());
                }
                looked += 1;
                first.get_or_insert((sample.id.clone(), image));
            }
        }
        let Some((id, image)) = first else { return Ok(()) };
        let (name, place) = (self.name(), image.place());
        Err(error!(
            Missing,
            "`{name}`: none of its pictures is there ({looked} looked for); that of sample `{id}` would be `{place}`"
        )
        .help("`images:` names the folder, `.zip` or `.tar` from which the names of pictures lead on"))
    }
}
