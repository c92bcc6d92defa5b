//! Evaluation: benchmarks as data, a runner that prefills an image once for all its questions, scorers that can say why,
//! statistics over groups of questions that share an image, comparison with other and with published results.

mod benchmark;
pub mod compare;
mod embedded;
mod gold;
mod journal;
mod metrics;
mod prompt;
mod published;
mod python;
mod results;
mod runner;
pub mod scorers;
mod source;
pub mod stats;
mod table;
mod table_items;

pub use benchmark::{Benchmark, BenchmarkOptions, Item};
pub use gold::{Answers, Choice, Gold};
pub use metrics::Metric;
pub use published::{Published, PublishedModel};
pub use results::{Results, Row};
pub use runner::{Control, RunOptions, run};
pub use scorers::{Rules, Scorer};
