//! The command line: the only layer that prints, or reads arguments and the environment.

pub mod graphics;
pub mod progress;
mod query;
mod sixel;
