//! Evaluation: benchmarks as data, a runner that prefills an image once for all its questions, scorers that can
//! say why, intervals clustered by image.

mod benchmark;
mod results;
mod runner;
pub mod scorers;
pub mod stats;

pub use benchmark::{Benchmark, Item};
pub use results::{Results, Row};
pub use runner::{Control, RunOptions, run};
