//! The one integration-test binary: a module per topic.

mod images;
mod templates;
mod training;
