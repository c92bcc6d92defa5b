//! The one integration-test binary: a module per topic.
// clippy.toml allows these in test functions; their helpers are tests as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod architecture;
mod data;
mod errors;
mod images;
mod memory;
mod parity;
mod presets;
mod resume;
mod runs;
mod scripting;
mod templates;
mod training;
mod trouble;
