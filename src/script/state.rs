//! What the functions of a session share: presets, listeners, overrides, the place output goes. It travels in the
//! engine's tag, so there is no global state.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rhai::NativeCallContext;
use toml::{Table, Value};

use super::fitting::{AsWritten, Fitting};
use super::imports::Imports;
use super::overrides::Overrides;
use super::places::{Files, Ids, Plain, Repeat, Rerun, Smoke};
use super::smoke::Tiny;
use crate::build;
use crate::error::Result;
use crate::eval::AnswerCache;
use crate::events::{Event, Interrupt, Listeners};
use crate::ledger::Ledger;
use crate::notes::Notes;
use crate::preset::Presets;
use crate::show::{Figure, Painted, Table as ShownTable};
use crate::study::Repeated;
use crate::train::{Lock, RunPlace, overrule};

/// Where a session's output goes: a terminal, a file, a notebook cell.
pub trait Output: Send + Sync {
    /// A line of text.
    fn text(&self, text: &str);
    /// A piece of a line, at once (an answer that is being generated).
    fn fragment(&self, text: &str);
    /// A text with painted parts; where there is no paint they stand in brackets.
    fn painted(&self, text: &Painted) {
        self.text(&text.text(false));
    }
    /// A table.
    fn table(&self, table: &ShownTable);
    /// A picture; `about` says what it is in one line.
    fn figure(&self, figure: &Figure, about: &str);
}

/// What a session is made from.
pub struct SessionOptions {
    pub presets: Presets,
    pub output: Arc<dyn Output>,
    pub listeners: Listeners,
    pub interrupt: Interrupt,
    pub overrides: Overrides,
    /// What follows `--` on the command line.
    pub args: Vec<String>,
    /// Where run folders go.
    pub runs: PathBuf,
    /// Where features, answers and the ledger of what was written are kept between runs.
    pub cache: PathBuf,
    /// What the script is to make again, where it is not run for its own sake: everything is written below `runs` then.
    pub repeats: Option<Repeat>,
}

/// What the API functions of one session share.
#[derive(Clone)]
pub(super) struct State(Arc<Shared>);

struct Shared {
    options: SessionOptions,
    seed: AtomicU64,
    /// Trainers of this session so far.
    trainers: AtomicU64,
    script: Mutex<String>,
    /// What it imports.
    imports: Imports,
    /// Answers of this session's evaluations.
    answers: AnswerCache,
    /// Its ids and files.
    places: Files,
    /// What of the script's wishes its parts can honor.
    fitting: Box<dyn Fitting>,
    /// Notes that were reported already.
    reported: Notes,
}

impl State {
    pub(super) fn new(options: SessionOptions) -> Self {
        // `--set seed=n` is for everything that takes a seed, not for trainers alone.
        let seed = options.overrides.train.get("seed").and_then(Value::as_integer).unwrap_or(0);
        let seed = AtomicU64::new(seed as u64);
        let trainers = AtomicU64::default();
        let answers = AnswerCache::in_memory();
        let given = options.repeats.as_ref().map(|repeat| repeat.lock.modules.clone());
        let imports = Imports::new(given, &options.args);
        let (places, fitting) = kind_of(&options);
        State(Arc::new(Shared {
            options,
            seed,
            trainers,
            script: Mutex::default(),
            imports,
            answers,
            places,
            fitting,
            reported: Notes::default(),
        }))
    }

    /// The state of the session a native function was called in.
    pub(super) fn of(context: &NativeCallContext) -> Result<State> {
        let state = context.tag().and_then(|tag| tag.clone().try_cast::<State>());
        state.ok_or_else(|| crate::error!(Usage, "this function needs a session"))
    }

    pub(super) fn presets(&self) -> &Presets {
        &self.0.options.presets
    }

    pub(super) fn output(&self) -> &dyn Output {
        self.0.options.output.as_ref()
    }

    pub(super) fn listeners(&self) -> &Listeners {
        &self.0.options.listeners
    }

    /// Reports what opening something found to the listeners, each note once a session.
    pub(super) fn tell_notes(&self, notes: &Notes) {
        let reported = self.0.reported.list();
        for text in notes.list().into_iter().filter(|text| !reported.contains(text)) {
            self.0.reported.add(text.clone());
            self.listeners().tell(&Event::Warning { text });
        }
    }

    pub(super) fn interrupt(&self) -> &Interrupt {
        &self.0.options.interrupt
    }

    pub(super) fn overrides(&self) -> &Overrides {
        &self.0.options.overrides
    }

    pub(super) fn args(&self) -> &[String] {
        &self.0.options.args
    }

    /// The seed of everything that is not given one.
    pub(super) fn seed(&self) -> u64 {
        self.0.seed.load(Ordering::SeqCst)
    }

    pub(super) fn set_seed(&self, seed: u64) {
        self.0.seed.store(seed, Ordering::SeqCst);
    }

    pub(super) fn set_script(&self, text: &str) {
        *self.0.script.lock().unwrap_or_else(PoisonError::into_inner) = text.to_string();
    }

    /// What scripts import.
    pub(super) fn imports(&self) -> &Imports {
        &self.0.imports
    }

    pub(super) fn cache(&self) -> &Path {
        &self.0.options.cache
    }

    /// Its ids and files.
    pub(super) fn places(&self) -> &Files {
        &self.0.places
    }

    /// What of the script's wishes its parts can honor.
    pub(super) fn fitting(&self) -> &dyn Fitting {
        self.0.fitting.as_ref()
    }

    /// How many questions of a benchmark are asked, of those the script wants.
    pub(super) fn limit(&self, wanted: Option<usize>) -> Option<usize> {
        self.overrides().limit.or_else(|| self.fitting().questions(wanted))
    }

    /// The answers that evaluations of this session gave.
    pub(super) fn answers(&self) -> &AnswerCache {
        &self.0.answers
    }

    /// The number of the next trainer, from 0.
    pub(super) fn next_trainer(&self) -> u64 {
        self.0.trainers.fetch_add(1, Ordering::SeqCst)
    }

    /// The run that the trainer of this number repeats.
    pub(super) fn repeats(&self, number: u64) -> Option<Lock> {
        self.repeated()
            .filter(|asked| asked.study.is_none() && asked.lock.number == number)
            .map(|asked| asked.lock.clone())
    }

    /// What the study of this number repeats.
    pub(super) fn repeated_study(&self, number: u64) -> Option<Repeated> {
        self.repeated().filter(|asked| asked.lock.number == number).and_then(|asked| asked.study.clone())
    }

    /// What this session makes again.
    pub(super) fn repeated(&self) -> Option<&Repeat> {
        self.0.options.repeats.as_ref()
    }

    /// Where run folders go.
    pub(super) fn runs(&self) -> &Path {
        &self.0.options.runs
    }

    /// Puts what `--set` says over the options of a trainer.
    pub(super) fn overrule(&self, options: &mut Table) {
        for key in overrule(options, &self.overrides().train()) {
            let text = format!("`--set {key}` changes nothing here: this trainer trains no LLM, so it has no adapters");
            self.listeners().tell(&Event::Warning { text });
        }
    }

    /// What run.lock says about program and script.
    pub(super) fn lock(&self, number: u64) -> Lock {
        let script = self.0.script.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut lock = Lock {
            llmore: build::VERSION.to_string(),
            build: build::SOURCES.to_string(),
            commit: build::COMMIT.to_string(),
            threads: rayon::current_num_threads(),
            script,
            args: self.args().to_vec(),
            number,
            modules: self.imports().texts(),
            set: self.overrides().table(),
            disposable: self.overrides().smoke,
            ..Lock::default()
        };
        lock.script_sha256 = lock.script_hash();
        lock
    }

    /// What a new run's folder is called: `runs/<time>-<name>`.
    pub(super) fn run_folder(&self, name: &str) -> PathBuf {
        self.runs().join(folder_name(name))
    }

    /// A new folder of that name that no other process has.
    pub(super) fn own_folder(&self, name: &str) -> Result<PathBuf> {
        RunPlace::Numbered(self.run_folder(name)).make()
    }
}

/// What is special about a session: it is a smoke run, a rerun, a rerun of a smoke run, or nothing of this.
fn kind_of(options: &SessionOptions) -> (Files, Box<dyn Fitting>) {
    let (overrides, listeners) = (&options.overrides, options.listeners.clone());
    let ids = overrides.smoke.then(|| Ids(options.presets.clone()));
    let fitting: Box<dyn Fitting> =
        if overrides.smoke { Box::new(Tiny(options.presets.clone())) } else { Box::new(AsWritten) };
    let ledger = Ledger::in_folder(&options.cache);
    let files = match (&options.repeats, ids) {
        (Some(repeat), ids) => Files::new(Rerun::new(repeat.clone(), options.runs.clone(), ids, listeners), ledger),
        (None, Some(ids)) => {
            let elsewhere = options.runs.join(folder_name(&format!("smoke-run-{}", std::process::id())));
            Files::new(Smoke::new(ids, elsewhere, overrides.train.contains_key("out"), listeners), ledger)
        }
        (None, None) => Files::new(Plain, ledger),
    };
    (files, fitting)
}

/// What a folder for something new is called: `<time>-<name>`.
pub fn folder_name(name: &str) -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs());
    format!("{}-{}", timestamp(seconds), name.replace([' ', '/'], "-"))
}

/// `20261123-041530`, UTC.
fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = days as i64 + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}-{:02}{:02}{:02}", rest / 3600, rest % 3600 / 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_folders_carry_the_civil_date() {
        assert_eq!(timestamp(0), "19700101-000000");
        assert_eq!(timestamp(1_795_407_330), "20261123-041530");
        assert_eq!(timestamp(951_782_400), "20000229-000000");
    }
}
