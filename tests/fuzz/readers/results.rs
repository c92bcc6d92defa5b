//! Files of results: scored, explained, compared.

use llmore::eval::compare::{compare, table};
use llmore::eval::{AnswerDiff, Benchmark, BenchmarkOptions, Results, Rules, Tally};
use llmore::preset::Presets;

use crate::fuzz::frames::Frame;
use crate::fuzz::reader::{Reader, Seed, seeds};

pub const RESULTS: Reader = Reader {
    name: "results",
    seeds: all,
    words: &[
        "facts",
        "left_out",
        "id",
        "group",
        "category",
        "score",
        "scorer",
        "rules",
        "benchmark",
        "model",
        "output",
        "extracted",
        "likelihoods",
        "letter",
        "log_probability",
        "answer",
        "answers",
        "choices",
        "shard",
        "of",
        "parts",
        "asked",
        "seconds",
        "baselines",
        "made",
        "notes",
        "vqa/1",
        "yes_no/1",
        "released",
        "documented",
        "section",
        "pictures",
        "questions",
    ],
    open: |folder| {
        let (path, other) = (folder.join("results.jsonl"), folder.join("other.jsonl"));
        std::fs::write(&other, &all()[0].bytes).unwrap();
        let other = Results::open(&other).unwrap();
        Box::new(move |input| {
            input.write(path.clone());
            let _ = Tally::open(&path);
            let Ok(results) = Results::open(&path) else { return false };
            let _ = AnswerDiff::new(&results, &other).same();
            if let Ok(compared) = compare(&[&results, &other]) {
                let _ = table(&compared, None).text(None, false);
            }
            looked_at(&results)
        })
    },
};

/// Asks results for all that they say.
pub fn looked_at(results: &Results) -> bool {
    let _ = (results.score(), results.interval(), results.metrics(), results.worst(3), results.warnings());
    let _ = results.table().text(None, false);
    let told = (0..results.rows.len().min(8)).all(|row| results.why(row).is_ok());
    for rules in ["released", "documented"] {
        let _ = Rules::parse(rules).and_then(|rules| results.rescore(rules));
    }
    told
}

/// Answers to a few questions of each kind of metric, saved.
pub fn all() -> Vec<Seed> {
    let saved = |id: &&str| {
        let options = BenchmarkOptions { limit: Some(4), ..BenchmarkOptions::default() };
        let benchmark = Benchmark::open(&Presets::default(), id, &options).unwrap();
        let outputs: Vec<String> = (0..benchmark.items.len()).map(|n| ["yes", "A", "red"][n % 3].to_string()).collect();
        let results = Results::score_outputs(&benchmark, "a model", &outputs, 2.5).unwrap();
        let path = crate::scratch::scratch_path("results.jsonl");
        results.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        bytes
    };
    seeds("results.jsonl", Frame::JsonLines, ["tiny-vqa", "tiny-pope", "tiny-seed"].iter().map(saved).collect())
}
