//! The one integration-test binary: a module per topic.

mod errors;
mod images;
mod resume;
mod scripting;
mod templates;
mod training;
