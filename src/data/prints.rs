//! Fingerprints of the pictures of a data set, so that a run knows whether they are still those it was trained on. What is
//! read of each lets the pictures of 665,000 samples be looked at before a run begins.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::archive::Archive;
use super::containers;
use super::dataset::Dataset;
use super::image_source::ImageSource;
use super::print::{OF_PICTURE, OF_TABLE, Print, Printable, of_file};
use crate::error::Result;

/// Samples between two words about how far it is.
const CHUNK: usize = 8192;

impl Dataset {
    /// The fingerprints of all pictures, each file once, in the order of the samples; `told` receives how many samples were
    /// looked at.
    ///
    /// # Errors
    /// What reading a sample gives; a picture that cannot be read is none.
    pub fn prints(&self, told: &mut dyn FnMut(usize)) -> Result<Arc<Vec<Print>>> {
        if let Some(known) = self.known_prints() {
            return Ok(known);
        }
        let (mut seen, mut prints) = (HashSet::new(), Vec::new());
        for start in (0..self.len()).step_by(CHUNK) {
            let end = (start + CHUNK).min(self.len());
            let sources: Vec<Vec<Printable>> = (start..end)
                .into_par_iter()
                .map(|index| Ok(self.get(index)?.images.iter().flat_map(ImageSource::prints).collect()))
                .collect::<Result<_>>()?;
            let is_new = |source: &Printable| seen.insert(source.place.clone());
            let new: Vec<Printable> = sources.into_iter().flatten().filter(is_new).collect();
            prints.par_extend(new.into_par_iter().map(Printable::print));
            told(end);
        }
        Ok(self.keep_prints(prints))
    }
}

/// The fingerprint of a place of [`Print`] as it is now.
pub fn print_now(place: &str) -> [u8; 8] {
    if let Some((archive, name)) = place.rsplit_once('#')
        && !Path::new(place).exists()
    {
        return Archive::open(Path::new(archive)).ok().and_then(|archive| archive.print(name)).unwrap_or_default();
    }
    let path = Path::new(place);
    of_file(path, if containers::is_table(path) { OF_TABLE } else { OF_PICTURE }).unwrap_or_default()
}
