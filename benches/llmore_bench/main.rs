//! One measurement per process, so that peak memory belongs to it: `llmore_bench NAME --threads N --rounds N
//! --inputs DIR` prints JSON lines. `torch_peer.py` has the same names; `compare.py` runs both in turn.

mod llama;
mod models;
mod questions;
mod report;
mod stages;
mod vision;

use std::path::PathBuf;

use llmore::error::{Error, Result};

/// As in `llmore`: plans count what tensors take.
#[global_allocator]
static ALLOCATOR: llmore::memory::Counting = llmore::memory::Counting;

/// What the command line says.
pub struct Options {
    pub threads: usize,
    /// Timed repetitions after warming up.
    pub rounds: usize,
    /// Weights and samples that both programs read; `export` writes them.
    pub inputs: PathBuf,
}

const NAMES: &[&str] = &[
    "export",
    "llama-step",
    "toy-stage1",
    "toy-stage2",
    "small-stage1",
    "small-stage2",
    "encoder",
    "preprocess",
    "decode",
    "questions",
];

fn main() {
    // cargo passes `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let Some((name, rest)) = arguments.split_first() else {
        println!("usage: llmore_bench {} [--threads N] [--rounds N] [--inputs DIR]", NAMES.join("|"));
        return;
    };
    if let Err(error) = options(rest).and_then(|options| run(name, &options)) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run(name: &str, options: &Options) -> Result<()> {
    // As `llmore` itself starts.
    llmore::process::keep_freed_memory();
    llmore::process::set_threads(options.threads);
    match name {
        "export" => {
            llama::export(options)?;
            stages::export(options)
        }
        "llama-step" => llama::step(options),
        "decode" => llama::decode(options),
        "questions" => questions::questions(options),
        "toy-stage1" | "toy-stage2" | "small-stage1" | "small-stage2" => stages::step(name, options),
        "encoder" => vision::encoder(options),
        "preprocess" => vision::preprocess(options),
        _ => Err(Error::unknown("measurement", name, NAMES, "")),
    }
}

fn options(arguments: &[String]) -> Result<Options> {
    let mut options = Options { threads: 2, rounds: 5, inputs: PathBuf::from("target/bench-inputs") };
    for pair in arguments.chunks(2) {
        let (key, value) = (&pair[0], pair.get(1).map_or("", String::as_str));
        let number = || value.parse().map_err(|_| llmore::error!(Option, "`{key} {value}` is not a number"));
        match key.as_str() {
            "--threads" => options.threads = number()?,
            "--rounds" => options.rounds = number()?,
            "--inputs" => options.inputs = PathBuf::from(value),
            _ => return Err(Error::unknown("option", key, &["--threads", "--rounds", "--inputs"], "")),
        }
    }
    Ok(options)
}
