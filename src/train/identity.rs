//! Whether what a run is about is still what it was: options, code, model, data and their pictures.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::run::{Lock, Run};
use crate::data::{Dataset, Print, hex};
use crate::error::{Context, Error, Result};
use crate::events::{Event, Listeners};
use crate::files::write_atomically;
use crate::{error, guard};

/// The fingerprints of a run's pictures: a line `hash, tab, place` each.
pub(super) const PICTURES: &str = "pictures.tsv.gz";
/// From so many samples on it is said how far the look at the pictures is.
const MANY: usize = 20_000;
/// Pictures that an error names.
const NAMED: usize = 3;

/// The fingerprints of the pictures of a data set; progress is reported for a large one.
pub(super) fn prints(data: &Dataset, listeners: &Listeners) -> Result<Arc<Vec<Print>>> {
    let (task, unit, total) = ("looking at pictures".to_string(), "samples".to_string(), data.len() as u64);
    let (start, is_long) = (std::time::Instant::now(), data.len() >= MANY && data.known_prints().is_none());
    if is_long {
        listeners.tell(&Event::Start { task: task.clone(), done: 0, total, unit: unit.clone() });
    }
    let prints = data.prints(&mut |done| {
        if is_long {
            listeners.tell(&Event::Progress { task: task.clone(), done: done as u64, total });
        }
    })?;
    if is_long {
        let (status, seconds) = ("done".to_string(), start.elapsed().as_secs_f64());
        listeners.tell(&Event::End { task, done: total, total, unit, status, seconds });
    }
    Ok(prints)
}

/// What identifies so many samples with these pictures beside their texts.
pub(super) fn data_identity(samples: usize, prints: &[Print]) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([("data.samples".to_string(), samples.to_string())]);
    if !prints.is_empty() {
        let mut hasher = Sha256::new();
        prints.iter().for_each(|print| hasher.update(print.hash));
        facts.insert("data.pictures".to_string(), format!("{:x}", hasher.finalize()));
    }
    facts
}

/// A run goes on only under the options, data and code it was started with. The run, where it is at hand, says which
/// pictures changed.
///
/// # Errors
/// `Train`, with everything that differs.
pub(super) fn refuse_drift(then: &Lock, now: &Lock, run: Option<&Run>, prints: &[Print]) -> Result<()> {
    let mut differences = then.differences(now);
    if differences.is_empty() {
        return Ok(());
    }
    if let Some(run) = run.filter(|_| then.identity.get("data.pictures") != now.identity.get("data.pictures")) {
        differences.extend(changed(&run.pictures()?, prints));
    }
    Err(error!(Train, "this trainer is not the one of run.lock: {}", differences.join("; "))
        .help("give the trainer the model, data and options of run.lock, or start a new run"))
}

/// Which pictures are others than they were, in words.
pub(super) fn changed(then: &[Print], now: &[Print]) -> Option<String> {
    if then.is_empty() || then.len() != now.len() {
        return None;
    }
    let others: Vec<&Print> =
        then.iter().zip(now).filter(|(then, now)| then.hash != now.hash).map(|pair| pair.1).collect();
    let names: Vec<String> = others.iter().take(NAMED).map(|print| format!("`{}`", print.place)).collect();
    let more = if others.len() > NAMED { ", .." } else { "" };
    Some(format!("{} of {} pictures changed: {}{more}", others.len(), now.len(), names.join(", ")))
}

impl Run {
    /// Writes which pictures it is about.
    pub(super) fn write_pictures(&self, prints: &[Print]) -> Result<()> {
        if prints.is_empty() {
            return Ok(());
        }
        let path = self.dir().join(PICTURES);
        write_atomically(&path, |path| {
            let failed = |error| Error::file(path, error);
            let mut file = GzEncoder::new(crate::fs::create(path).map_err(failed)?, Compression::fast());
            for Print { place, hash } in prints {
                let hash = hex(hash);
                let place = std::path::absolute(place).unwrap_or_else(|_| PathBuf::from(place));
                writeln!(file, "{hash}\t{}", place.display()).map_err(failed)?;
            }
            file.finish().map(|_| ()).map_err(failed)
        })
    }

    /// The pictures it was about when it began; none where nothing is known.
    ///
    /// # Errors
    /// `File` or `Decode` when the list cannot be read.
    pub fn pictures(&self) -> Result<Vec<Print>> {
        let path = self.dir().join(PICTURES);
        if !path.is_file() {
            return Ok(Vec::new());
        }
        let (mut text, failed) = (String::new(), |error| Error::file(&path, error));
        let mut packed = GzDecoder::new(crate::fs::open(&path).map_err(failed)?);
        guard::read("flate2", &path.display(), || packed.read_to_string(&mut text).map_err(failed))?;
        let print = |line: &str| {
            let (hash, place) = line.split_once('\t')?;
            let hash = u64::from_str_radix(hash, 16).ok()?.to_be_bytes();
            Some(Print { place: place.to_string(), hash })
        };
        let all: Option<Vec<Print>> = text.lines().map(print).collect();
        all.ok_or_else(|| error!(Decode, "a line is not `hash, tab, place`"))
            .context(|| format!("`{}`", path.display()))
    }
}
