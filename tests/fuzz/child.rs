//! The process that one reader runs in: it makes inputs, reads them, and writes down what went wrong. A panic is caught, an
//! input that takes too long ends the process, and so does whatever else does; the process that started it goes on behind it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use llmore::memory::{DeviceMemory, Host};

use super::reader::{self, Reader};

/// What an input may take.
pub const SECONDS: f64 = 2.0;
pub const BYTES: u64 = 1 << 30;
/// A process that computed nothing for so long waits for what does not come. On a busy machine others may have the cores.
const WAITED: f64 = 60.0;
const NOTHING: f64 = 0.2;
/// The exit code after an input that took too long.
pub const HANGS: i32 = 86;
/// The files that a process writes, in its folder.
pub const FOUND: &str = "found.tsv";
pub const PROGRESS: &str = "progress";
/// The size of the main thread's stack in `llmore`.
const STACK: usize = 8 << 20;

/// What a process is to do.
#[derive(Clone, Debug)]
pub struct Job {
    pub seed: u64,
    /// The first index.
    pub from: u64,
    /// The index to stop before.
    pub to: u64,
    pub time: Duration,
}

/// Where and with what message the last panic began, whoever catches it.
static PANICKED: Mutex<Option<(String, String)>> = Mutex::new(None);
/// The index of the input that is being read.
static INDEX: AtomicU64 = AtomicU64::new(0);
/// How many were begun: a look at it tells whether it is still the same one.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// Runs a reader in this process; `folder` is its own.
pub fn run(reader: &'static Reader, job: &Job, folder: &Path) {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or(String::new(), |place| format!("{}:{}", short(place.file()), place.line()));
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        *PANICKED.lock().unwrap_or_else(PoisonError::into_inner) = Some((place, text));
    }));
    let (job, folder) = (job.clone(), folder.to_path_buf());
    let found = folder.clone();
    std::thread::spawn(move || watch(&found));
    // On one of rayon's threads, so that loops over few things run there and wake no other. A second one is for whoever waits
    // for a thread with such a loop.
    rayon::ThreadPoolBuilder::new().num_threads(2).stack_size(STACK).build_global().unwrap();
    rayon::scope(|_| read_all(reader, &job, &folder));
}

/// A path below the sources of a crate.
fn short(path: &str) -> String {
    let behind = |mark: &str| path.split_once(mark).map(|(_, rest)| rest);
    let registry = behind("/registry/src/").and_then(|rest| rest.split_once('/')).map(|(_, rest)| rest);
    registry.or_else(|| behind("/rustlib/src/rust/")).unwrap_or(path).to_string()
}

fn read_all(reader: &Reader, job: &Job, folder: &Path) {
    let begun = Instant::now();
    let seeds = (reader.seeds)();
    let work = folder.join("work");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work).unwrap();
    let mut read = (reader.open)(&work);
    let progress = File::create(folder.join(PROGRESS)).unwrap();
    let (start, mut whole) = (Instant::now(), 0u64);
    let note = |index: u64, whole: u64| {
        let numbers = [index, whole, start.elapsed().as_nanos() as u64];
        progress.write_all_at(&numbers.map(u64::to_le_bytes).concat(), 0).unwrap();
    };
    let mut seen = Vec::new();
    for index in job.from..job.to {
        note(index, whole);
        // Seeds are read in any case, however long it took to make them.
        if index >= seeds.len() as u64 && begun.elapsed() >= job.time {
            return;
        }
        let input = reader::input(reader, &seeds, job.seed, index);
        INDEX.store(index, Ordering::Relaxed);
        let held = Host.held();
        Host.watch();
        BEGUN.fetch_add(1, Ordering::Relaxed);
        let ended = catch_unwind(AssertUnwindSafe(|| read(&input)));
        let peak = Host.peak().saturating_sub(held);
        if peak > BYTES {
            // Of several inputs of about the same size one is enough.
            let place = format!("{} GB", peak >> 30);
            told(
                folder,
                &mut seen,
                "memory",
                index,
                &place,
                &format!("{peak} bytes, of {} that were read", input.bytes.len()),
            );
        }
        match ended {
            Ok(is_whole) => whole += u64::from(is_whole),
            Err(_) => {
                let last = PANICKED.lock().unwrap_or_else(PoisonError::into_inner).take();
                let (place, text) = last.unwrap_or_default();
                told(folder, &mut seen, "panic", index, &place, &text);
            }
        }
    }
    note(job.to, whole);
}

/// Writes down what was found, once a place.
fn told(folder: &Path, seen: &mut Vec<(String, String)>, kind: &str, index: u64, place: &str, text: &str) {
    let this = (kind.to_string(), place.to_string());
    if !seen.contains(&this) {
        seen.push(this);
        write(folder, kind, index, place, text);
    }
}

fn write(folder: &Path, kind: &str, index: u64, place: &str, text: &str) {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    let mut file = OpenOptions::new().create(true).append(true).open(folder.join(FOUND)).unwrap();
    file.write_all(format!("{kind}\t{index}\t{place}\t{text}\n").as_bytes()).unwrap();
}

/// Ends the process when one input takes too long: computing, or waiting for what does not come.
fn watch(folder: &Path) {
    let (mut number, mut since, mut computed) = (0, Instant::now(), computing());
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let begun = BEGUN.load(Ordering::Relaxed);
        if begun != number || begun == 0 {
            (number, since, computed) = (begun, Instant::now(), computing());
            continue;
        }
        let (waited, worked) = (since.elapsed().as_secs_f64(), computing() - computed);
        if worked > SECONDS || (waited > WAITED && worked < NOTHING) {
            let text = format!("not done after {worked:.1} s of computing and {waited:.1} s in all");
            write(folder, "hang", INDEX.load(Ordering::Relaxed), "", &text);
            std::process::exit(HANGS);
        }
    }
}

/// Seconds that this process computed; 0 where the system does not tell.
fn computing() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, in ticks of 10 ms; field 3 is the first one behind the name in brackets.
    let fields = text.rsplit(')').next().unwrap_or("").split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
