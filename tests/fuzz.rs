//! Mutated inputs: whatever a file or a text holds, its reader gives it back or an error, in time and in memory. Inputs are
//! made from small seeds by random mutations, others in every run; `scripts/dev/fuzz.sh` goes on for longer.
//!
//! Read from the environment: `LLMORE_FUZZ_SECONDS` for all readers together (20), `LLMORE_FUZZ_READER` (names with commas
//! between), `LLMORE_FUZZ_SEED`, `LLMORE_FUZZ_INPUTS` (of each reader, at most). With `LLMORE_FUZZ_INDEX` one input is made
//! again and read in this process; `LLMORE_FUZZ_KEEP` is where it is written to.

mod bytes;
mod child;
mod draw;
mod frames;
mod parent;
mod planted;
mod reader;
mod readers;
mod values;

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parent::Outcome;
use reader::Reader;

const TIME: f64 = 20.0;

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(format!("LLMORE_FUZZ_{name}")).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("LLMORE_FUZZ_{name} is `{text}`, which is not of its type")))
}

/// Shown whatever the test harness keeps.
fn say(text: &str) {
    if text.is_empty() {
        return;
    }
    let _ = std::io::stdout().write_all(format!("{text}\n").as_bytes());
}

/// The readers that were asked for.
fn wanted() -> Vec<&'static Reader> {
    let all = readers::ALL;
    let Some(names) = variable::<String>("READER") else { return all.to_vec() };
    let find = |name: &str| {
        let known: Vec<&str> = all.iter().map(|reader| reader.name).collect();
        let found = all.iter().chain(planted::ALL).find(|reader| reader.name == name);
        *found.unwrap_or_else(|| panic!("no reader `{name}`; there are {}", known.join(", ")))
    };
    names.split(',').map(find).collect()
}

#[test]
fn every_mutated_input_is_read_or_refused() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = variable("SEED").unwrap_or(now.as_nanos() as u64 % 1_000_000_007);
    let readers = wanted();
    if let Some(index) = variable("INDEX") {
        let keep: Option<String> = variable("KEEP");
        for reader in readers {
            say(&format!("{}: {}", reader.name, parent::again(reader, seed, index, keep.as_deref())));
        }
        return;
    }
    let time = Duration::from_secs_f64(variable("SECONDS").unwrap_or(TIME) / readers.len() as f64);
    let inputs = variable("INPUTS").unwrap_or(u64::MAX);
    say(&format!("mutated inputs: seed {seed}, {:.1} s a reader", time.as_secs_f64()));
    let run = |reader: &'static Reader| -> Outcome {
        let outcome = parent::run(reader, seed, time, inputs);
        let Outcome { reader, inputs, whole, found, .. } = &outcome;
        say(&format!("{reader}: {inputs} inputs, {whole} read whole, {:.0}/s, {} found", outcome.rate(), found.len()));
        say(parent::told(std::slice::from_ref(&outcome), seed).trim_end());
        outcome
    };
    let outcomes: Vec<Outcome> = readers.into_iter().map(run).collect();
    say(&parent::table(&outcomes, seed));
    let told = parent::told(&outcomes, seed);
    assert!(told.is_empty(), "{told}");
    for Outcome { reader, whole, .. } in outcomes {
        assert!(whole > 0 || readers::REFUSE.contains(&reader), "{reader}: not even its seeds were read");
    }
}

/// Started by the test above, once a reader and once more after each input that ended it.
#[test]
#[ignore = "a process of another test"]
fn the_process_of_one_reader() {
    let (Ok(name), Ok(job)) = (std::env::var(parent::READER), std::env::var(parent::JOB)) else { return };
    let folder = std::env::var(parent::FOLDER).unwrap();
    let mut all = readers::ALL.iter().chain(planted::ALL);
    let reader = *all.find(|reader| reader.name == name).unwrap();
    child::run(reader, &parent::job(&job).unwrap(), std::path::Path::new(&folder));
}

#[test]
fn what_is_planted_is_found() {
    let found = |name: &str| {
        let reader = *planted::ALL.iter().find(|reader| reader.name == name).unwrap();
        parent::run(reader, 1, Duration::from_secs(30), planted::INPUTS)
    };
    let kinds = |outcome: &Outcome| -> Vec<String> { outcome.found.iter().map(|found| found.kind.clone()).collect() };
    for (name, kind) in [("panics", "panic"), ("waits", "hang"), ("fills", "memory"), ("ends", "abort")] {
        let outcome = found(name);
        assert_eq!(kinds(&outcome), [kind], "{name}: {:?}", outcome.found);
        assert_eq!(outcome.found[0].index, planted::AT, "{name}");
        // The reader goes on behind it.
        assert_eq!(outcome.inputs, planted::INPUTS, "{name}");
    }
    let outcome = found("guarded");
    assert_eq!((outcome.found.len(), outcome.inputs), (0, planted::INPUTS), "a panic that the reader caught");
    let outcome = found("panics");
    assert!(outcome.found[0].place.contains("tests/fuzz/planted.rs"), "{:?}", outcome.found);
    assert_eq!(outcome.found[0].text, "planted");
}

#[test]
fn an_input_is_made_again_from_its_numbers() {
    for reader in readers::ALL {
        let (one, two) = ((reader.seeds)(), (reader.seeds)());
        for index in [0, 1, 99, 12_345_678_901] {
            let (a, b) = (reader::input(reader, &one, 7, index), reader::input(reader, &two, 7, index));
            assert!(a.kind == b.kind && a.bytes == b.bytes, "{}: input {index}", reader.name);
        }
        // Behind the seeds themselves, which are the first inputs.
        let mutated =
            |seed| (1000..1010).map(|index| reader::input(reader, &one, seed, index).bytes).collect::<Vec<_>>();
        assert!(mutated(1) != mutated(2), "{}: other seeds give the same inputs", reader.name);
    }
}

#[test]
fn frames_are_put_right_again() {
    let zip = frames::zip_of(&[("a".to_string(), b"one".to_vec()), ("b/c".to_string(), Vec::new())]);
    assert_eq!(frames::members(&zip).unwrap()[0], ("a".to_string(), b"one".to_vec()));
    assert_eq!(frames::members(&zip).unwrap().len(), 2);
    // Of what is mutated within its frame, more is read than of what is mutated as bytes.
    for (name, least) in [("png", 3), ("safetensors", 10), ("zip", 10)] {
        let reader = readers::ALL.iter().find(|reader| reader.name == name).unwrap();
        let (folder, seeds) = (parent::scratch(&format!("frames-{name}")), (reader.seeds)());
        let mut read = (reader.open)(&folder);
        let whole = (0..200).filter(|index| read(&reader::input(reader, &seeds, 3, 1000 + index))).count();
        std::fs::remove_dir_all(folder).unwrap();
        assert!(whole >= least && whole < 200, "{name}: {whole} of 200 mutated inputs were read whole");
    }
}
