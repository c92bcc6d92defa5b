//! Starts a process for each reader, goes on behind inputs that ended one, and adds up what was found.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::child::{self, FOUND, HANGS, Job, PROGRESS};
use super::reader::Reader;

/// After so many ended processes a reader is given up: more of the same tells nothing.
const MOST_ENDED: usize = 25;
/// The variables that tell a process what to do.
pub const READER: &str = "LLMORE_FUZZ_CHILD";
pub const JOB: &str = "LLMORE_FUZZ_JOB";
pub const FOLDER: &str = "LLMORE_FUZZ_FOLDER";
/// Virtual memory of a process in KiB: an input that wants more of it ends its process, not the machine.
const VIRTUAL: u64 = 8 << 20;

/// Something that an input did and should not.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub kind: String,
    pub index: u64,
    pub place: String,
    pub text: String,
}

/// What came of a reader.
pub struct Outcome {
    pub reader: &'static str,
    pub inputs: u64,
    /// Of which were read without an error.
    pub whole: u64,
    pub seconds: f64,
    pub found: Vec<Found>,
}

impl Outcome {
    /// Inputs a second of reading.
    pub fn rate(&self) -> f64 {
        self.inputs as f64 / self.seconds.max(1e-3)
    }
}

/// An empty folder, in memory where there is a place for it.
pub fn scratch(name: &str) -> PathBuf {
    let inner = format!("llmore-fuzz-{}-{name}", std::process::id());
    let empty = |base: &Path| {
        let folder = base.join(&inner);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).map(|()| folder)
    };
    empty(Path::new("/dev/shm")).or_else(|_| empty(&std::env::temp_dir())).unwrap()
}

/// Runs a reader for a time, or until so many inputs were tried.
pub fn run(reader: &'static Reader, seed: u64, time: Duration, inputs: u64) -> Outcome {
    let folder = scratch(reader.name);
    let mut outcome = Outcome { reader: reader.name, inputs: 0, whole: 0, seconds: 0.0, found: Vec::new() };
    let (start, mut from, mut ended) = (Instant::now(), 0, 0);
    while from < inputs {
        let left = time.saturating_sub(start.elapsed());
        let job = Job { seed, from, to: inputs, time: left };
        let (status, said) = process(reader.name, &job, &folder);
        let [at, whole, nanos] = numbers(&folder);
        outcome.whole += whole;
        outcome.seconds += nanos as f64 / 1e9;
        outcome.inputs += at.saturating_sub(from);
        take(&folder, &mut outcome.found);
        if status == Some(0) {
            break;
        }
        outcome.inputs += 1;
        ended += 1;
        if status != Some(HANGS) {
            let place = said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            // Of two that differ in a number one is enough.
            let place = place.replace(|c: char| c.is_ascii_digit(), "#");
            add(&mut outcome.found, Found { kind: "abort".to_string(), index: at, place, text: tail(&said) });
        }
        if ended == MOST_ENDED || left.is_zero() {
            break;
        }
        from = at + 1;
    }
    let _ = std::fs::remove_dir_all(&folder);
    outcome
}

/// Runs the process of a job: its exit code, and what it wrote to stderr.
fn process(reader: &str, job: &Job, folder: &Path) -> (Option<i32>, String) {
    let program = std::env::current_exe().unwrap();
    let log = folder.join("stderr");
    let file = std::fs::File::create(&log).unwrap();
    let status = Command::new("sh")
        .args(["-c", &format!("ulimit -v {VIRTUAL} 2>/dev/null; ulimit -c 0; exec \"$0\" \"$@\"")])
        .arg(program)
        .args(["--exact", "fuzz::the_process_of_one_reader", "--ignored", "--nocapture", "--test-threads=1"])
        .env(READER, reader)
        .env(JOB, format!("{} {} {} {}", job.seed, job.from, job.to, job.time.as_millis()))
        .env(FOLDER, folder)
        .env("MALLOC_ARENA_MAX", "2")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .status()
        .unwrap();
    (status.code(), String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned())
}

/// The job that [`process`] wrote down.
pub fn job(text: &str) -> Option<Job> {
    let numbers: Vec<u64> = text.split(' ').filter_map(|number| number.parse().ok()).collect();
    let [seed, from, to, millis] = numbers[..] else { return None };
    Some(Job { seed, from, to, time: Duration::from_millis(millis) })
}

/// How far a process came: the index it was at, inputs read whole, nanoseconds.
fn numbers(folder: &Path) -> [u64; 3] {
    let bytes = std::fs::read(folder.join(PROGRESS)).unwrap_or_default();
    let _ = std::fs::remove_file(folder.join(PROGRESS));
    let number = |at: usize| bytes.get(at..at + 8).map_or(0, |eight| u64::from_le_bytes(eight.try_into().unwrap()));
    [number(0), number(8), number(16)]
}

fn take(folder: &Path, found: &mut Vec<Found>) {
    let text = std::fs::read_to_string(folder.join(FOUND)).unwrap_or_default();
    let _ = std::fs::remove_file(folder.join(FOUND));
    for line in text.lines() {
        let mut fields = line.splitn(4, '\t').map(str::to_string);
        let mut next = || fields.next().unwrap_or_default();
        let (kind, index) = (next(), next().parse().unwrap_or(0));
        add(found, Found { kind, index, place: next(), text: next() });
    }
}

/// Adds what is not there yet, by kind and place.
fn add(found: &mut Vec<Found>, one: Found) {
    if !found.iter().any(|known| known.kind == one.kind && known.place == one.place) {
        found.push(one);
    }
}

/// The last lines of a text, as one.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join(" | ")
}

/// The table at the end.
pub fn table(outcomes: &[Outcome], seed: u64) -> String {
    let mut text = format!("\n{:<14}{:>11}{:>11}{:>11}  found\n", "reader", "inputs", "whole", "inputs/s");
    for outcome in outcomes {
        let rate = outcome.rate();
        let found = outcome.found.len();
        let Outcome { reader, inputs, whole, .. } = outcome;
        writeln!(text, "{reader:<14}{inputs:>11}{whole:>11}{rate:>11.0}  {found}").unwrap();
    }
    let inputs: u64 = outcomes.iter().map(|outcome| outcome.inputs).sum();
    writeln!(text, "{:<14}{inputs:>11}  seed {seed}", "all").unwrap();
    text
}

/// What was found, each with the way to make its input again.
pub fn told(outcomes: &[Outcome], seed: u64) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        for Found { kind, index, place, text: said } in &outcome.found {
            let reader = outcome.reader;
            writeln!(text, "{reader}: {kind} at {place}: {said}").unwrap();
            writeln!(text, "    LLMORE_FUZZ_SEED={seed} LLMORE_FUZZ_READER={reader} LLMORE_FUZZ_INDEX={index}")
                .unwrap();
        }
    }
    text
}

/// Reads one input in this process, so that a panic is shown with its backtrace; `keep` is where to write the input.
pub fn again(reader: &Reader, seed: u64, index: u64, keep: Option<&str>) -> String {
    let folder = scratch("again");
    let input = super::reader::input(reader, &(reader.seeds)(), seed, index);
    if let Some(path) = keep {
        std::fs::write(path, &input.bytes).unwrap();
    }
    let mut read = (reader.open)(&folder);
    let start = Instant::now();
    let whole = if read(&input) { "was read whole" } else { "was refused" };
    let limit = child::SECONDS;
    let _ = std::fs::remove_dir_all(&folder);
    format!("{} bytes as `{}`: {whole} in {:?} (limit {limit} s)", input.bytes.len(), input.kind, start.elapsed())
}
