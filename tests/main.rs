//! The one integration-test binary: a module per topic.

mod architecture;
mod images;
mod templates;
mod training;
