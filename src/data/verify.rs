//! The pre-flight check: every turn is read and every picture decoded, once each, before hours go into training. What is
//! found is counted by kind; the first ids of each kind are kept, so memory does not grow with a bad data set.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::brief::{id_hash, is_blank};
use super::dataset::Dataset;
use super::image_source::ImageSource;
use super::sample::Sample;
use crate::assets::refuse_pointer;
use crate::error::{Error, Kind, Result};
use crate::events::{Event, Interrupt, Listeners};
use crate::image::Image;
use crate::text::{IMAGE_MARKER, Role, Turn, opened};

/// Ids that are kept per kind.
const KEPT: usize = 1000;
/// Samples between two looks at Ctrl-C.
const CHUNK: usize = 256;

/// What becomes of a sample with a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Training stops at it.
    Error,
    /// Training leaves it out and says so.
    Skipped,
    /// Training takes it.
    Note,
}

impl Level {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Skipped => "skipped",
            Level::Note => "note",
        }
    }
}

/// One thing that is wrong with one sample: what it is called in counts, and the particulars.
pub type Fault = (Level, Cow<'static, str>, String);

/// Faults by kind.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Samples looked at.
    pub samples: usize,
    /// Of which without any fault but notes.
    pub good: usize,
    pub kinds: BTreeMap<(Level, Cow<'static, str>), Cases>,
}

/// The samples with a fault of one kind.
#[derive(Clone, Debug, Default)]
pub struct Cases {
    pub count: usize,
    /// The first of them in order.
    pub ids: Vec<String>,
    /// The particulars of the very first.
    pub example: String,
}

impl Findings {
    /// Counts a sample and its faults.
    pub fn push(&mut self, id: &str, faults: Vec<Fault>) {
        self.samples += 1;
        self.good += usize::from(faults.iter().all(|(level, ..)| *level == Level::Note));
        for (level, what, particulars) in faults {
            let cases = self.kinds.entry((level, what)).or_default();
            if cases.count == 0 {
                cases.example = particulars;
            }
            cases.count += 1;
            if cases.ids.len() < KEPT {
                cases.ids.push(id.to_string());
            }
        }
    }

    /// How many samples have a fault of this kind.
    pub fn count(&self, what: &str) -> usize {
        self.kinds.iter().find(|((_, kind), _)| *kind == what).map_or(0, |(_, cases)| cases.count)
    }
}

/// Who is informed how far a walk is, and how it is stopped.
pub struct Walk<'a> {
    pub task: &'a str,
    pub listeners: &'a Listeners,
    pub interrupt: &'a Interrupt,
}

impl Walk<'_> {
    /// Looks at every sample on all cores; `look` gets its position, and `None` in place of a sample that cannot be read.
    ///
    /// # Errors
    /// `Interrupted` after Ctrl-C.
    pub fn samples<T: Send>(
        &self,
        dataset: &Dataset,
        look: impl Fn(usize, Result<Sample>) -> T + Sync,
        mut take: impl FnMut(T),
    ) -> Result<()> {
        let (task, unit, total) = (self.task.to_string(), "samples".to_string(), dataset.len() as u64);
        let start = std::time::Instant::now();
        self.listeners.tell(&Event::Start { task: task.clone(), done: 0, total, unit: unit.clone() });
        let end = |done: u64, status: &str| Event::End {
            task: task.clone(),
            done,
            total,
            unit: unit.clone(),
            status: status.to_string(),
            seconds: start.elapsed().as_secs_f64(),
        };
        let positions: Vec<usize> = (0..dataset.len()).collect();
        for chunk in positions.chunks(CHUNK) {
            if self.interrupt.is_set() {
                self.listeners.tell(&end(chunk[0] as u64, "paused"));
                return Err(Error::new(
                    Kind::Interrupted,
                    format!("interrupted after {} of {total} samples", chunk[0]),
                ));
            }
            let looked: Vec<T> = chunk.par_iter().map(|&position| look(position, dataset.get(position))).collect();
            looked.into_iter().for_each(&mut take);
            self.listeners.tell(&Event::Progress { task: task.clone(), done: (chunk[0] + chunk.len()) as u64, total });
        }
        self.listeners.tell(&end(total, "done"));
        Ok(())
    }
}

/// Checks every sample; `more` finds what only a model can (lengths after expansion, what its template refuses).
///
/// # Errors
/// `Interrupted` after Ctrl-C; nothing else: what cannot be read is a finding.
pub fn verify(dataset: &Dataset, more: &(dyn Fn(&Sample) -> Vec<Fault> + Sync), walk: &Walk) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut ids = HashSet::with_capacity(dataset.len());
    let pictures = Seen::default();
    let look = |position: usize, sample: Result<Sample>| match sample {
        Ok(sample) => {
            let mut faults = turn_faults(&sample);
            faults.extend(sample.images.iter().filter_map(|image| pictures.fault(image)));
            let unread = dataset.unread(position).unwrap_or_default();
            faults.extend(unread.into_iter().map(|key| {
                let particulars = format!("{key} changes nothing in training");
                (Level::Note, format!("unknown key {key}").into(), particulars)
            }));
            if faults.iter().all(|(level, ..)| *level == Level::Note) {
                faults.extend(more(&sample));
            }
            (id_hash(&sample.id), sample.id, faults)
        }
        Err(error) => {
            let brief = dataset.brief(position).ok();
            let role = brief.is_some_and(|brief| brief.unknown_role());
            let what = if role { "unknown role" } else { "unreadable sample" };
            let id = format!("#{position}");
            (brief.map_or(position as u64, |brief| brief.id), id, vec![(Level::Error, what.into(), error.message())])
        }
    };
    walk.samples(dataset, look, |(hash, id, mut faults)| {
        if !ids.insert(hash) {
            faults.push((Level::Note, "repeated id".into(), format!("`{id}` was there before")));
        }
        findings.push(&id, faults);
    })?;
    Ok(findings)
}

/// What is wrong with the conversation, by the rules that training follows.
fn turn_faults(sample: &Sample) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut error = |what: &'static str, particulars: String| faults.push((Level::Error, what.into(), particulars));
    let (system, turns) = opened(&sample.turns);
    let leading = sample.turns.len() - turns.len();
    let expected = [Role::Human, Role::Gpt].into_iter().cycle();
    if let Some(number) = turns.iter().zip(expected).position(|(turn, role)| turn.role != role) {
        let (number, name) = (leading + number + 1, turns[number].role.name());
        error(
            "turns out of order",
            match number > 1 && sample.turns[number - 2].role.name() == name {
                true => format!("turn {number} is a second one from `{name}`"),
                false => format!("turn {number} is from `{name}`"),
            },
        );
    }
    let rounds = &turns[..turns.len() / 2 * 2];
    if rounds.is_empty() {
        error("no answered turn", format!("{} turns", sample.turns.len()));
    } else if let Some((what, particulars)) = mark_fault(rounds, sample.images.len()) {
        error(what, particulars);
    }
    let empty = |turn: &Turn| turn.role == Role::Gpt && is_blank(&turn.value);
    if let Some(number) = sample.turns.iter().position(empty) {
        faults.push((Level::Skipped, "empty answer".into(), format!("turn {}", number + 1)));
    }
    let hidden = rounds.iter().filter(|turn| turn.role == Role::Gpt && !turn.supervised).count();
    if hidden > 0 && hidden == rounds.len() / 2 {
        faults.push((Level::Skipped, "no answer is to be learned".into(), format!("{hidden} answers")));
    }
    if leading > usize::from(system.is_some()) {
        faults.push((Level::Note, "begins with an answer".into(), "the first turn is dropped".to_string()));
    }
    faults
}

/// Marks against pictures: those of a turn about one picture are one; about several, each stands for one.
fn mark_fault(rounds: &[Turn], images: usize) -> Option<(&'static str, String)> {
    let turns = rounds.iter().filter(|turn| turn.value.contains(IMAGE_MARKER)).count();
    let marks: usize = rounds.iter().map(|turn| turn.value.matches(IMAGE_MARKER).count()).sum();
    match (images, if images > 1 { marks } else { turns }) {
        (0, 1..) => Some(("<image> without a picture", format!("{turns} turns have the marker"))),
        (1.., 0) => Some(("picture without <image>", "no turn has the marker".to_string())),
        (1, 2..) => Some(("more <image> than pictures", format!("{turns} turns have the marker"))),
        (_, marks) if marks > images => {
            Some(("more <image> than pictures", format!("{marks} markers, {images} pictures")))
        }
        (_, marks) if marks < images => {
            Some(("fewer <image> than pictures", format!("{marks} markers, {images} pictures")))
        }
        _ => None,
    }
}

/// Pictures by key, so that one that many samples share is decoded once.
#[derive(Default)]
struct Seen(Mutex<HashMap<u64, Option<Fault>>>);

impl Seen {
    fn fault(&self, image: &ImageSource) -> Option<Fault> {
        let key = id_hash(&image.key());
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fault) = known().get(&key) {
            return fault.clone();
        }
        let fault = picture_fault(image);
        known().insert(key, fault.clone());
        fault
    }
}

/// Whether a picture is there, whole, and what its name says. The content wins over the name.
fn picture_fault(image: &ImageSource) -> Option<Fault> {
    if image.pixels().is_some() {
        return None;
    }
    let name = image.key();
    let bytes = match image.bytes() {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == Kind::Missing => {
            return Some((Level::Error, "missing picture".into(), error.message()));
        }
        Err(error) => return Some((Level::Error, "corrupt picture".into(), error.message())),
    };
    if let Err(error) = refuse_pointer(Path::new(&name), &bytes).and_then(|()| Image::decode(&bytes, &name)) {
        return Some((Level::Error, "corrupt picture".into(), error.message()));
    }
    let extension = Path::new(&name).extension()?.to_string_lossy().to_lowercase();
    let format = ::image::guess_format(&bytes).ok()?;
    let says = ::image::ImageFormat::from_extension(&extension)?;
    (says != format).then(|| {
        let content = format.extensions_str().first().copied().unwrap_or("something else");
        (Level::Note, "mistyped picture".into(), format!("`{name}` holds {content}; it is read as that"))
    })
}
