//! Data: samples, data sets that are read lazily and composed by index, and the order in which training sees
//! them. Nothing here knows a model.

mod dataset;
mod llava_json;
pub mod order;
mod pack;
mod sample;
pub mod table;

pub use dataset::{Dataset, Items};
pub use pack::Pack;
pub use sample::{ImageSource, Sample};
