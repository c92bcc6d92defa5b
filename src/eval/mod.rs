//! Evaluation: benchmarks as data, a runner that prefills an image once for all its questions, scorers that can say why,
//! statistics over groups of questions that share an image, comparison with other and with published results.

mod answers;
mod asker;
mod baselines;
mod benchmark;
mod changes;
pub mod compare;
mod contents;
mod counts;
mod embedded;
mod gold;
mod grouping;
mod journal;
mod layout;
mod metrics;
mod names;
mod prompt;
mod published;
mod python;
mod result_file;
mod results;
mod runner;
pub mod scorers;
mod second_table;
mod source;
pub mod stats;
mod table;
mod table_items;
mod tally;

pub use answers::{Answer, AnswerCache, Likelihood};
pub use baselines::baseline_name;
pub use benchmark::{Benchmark, BenchmarkOptions, Item};
pub use changes::Changes;
pub use contents::Contents;
pub use counts::Counts;
pub use gold::{Answers, Choice, Gold};
pub use grouping::{Grouping, shared};
pub use metrics::Metric;
pub use names::names;
pub use published::{Published, PublishedModel};
pub use result_file::{Facts, LeftOut, Shard};
pub use results::{Results, Row};
pub use runner::{Choices, Control, RunOptions, run};
pub use scorers::{Rules, Scorer};
pub use tally::Tally;
