//! Data: samples, data sets that are read lazily and composed by index, and the order in which training sees
//! them. Nothing here knows a model.

mod archive;
mod brief;
mod containers;
mod dataset;
mod dataset_preset;
pub mod flags;
mod image_source;
mod index;
mod items;
mod lfs;
mod llava_json;
mod mapped;
mod message;
pub mod modality;
mod open;
pub mod order;
mod pack;
mod pictures;
mod print;
mod prints;
mod published;
mod read_at;
mod record;
mod rows;
mod sample;
mod scan;
pub mod table;
pub mod verify;

pub use archive::Archive;
pub use brief::Brief;
pub use dataset::Dataset;
pub use image_source::ImageSource;
pub use items::Items;
pub use mapped::Change;
pub use open::Format;
pub use pack::Pack;
pub use pictures::Pictures;
pub use print::{Print, hex};
pub use prints::print_now;
pub use published::{SetChoice, is_on_hub};
pub use sample::Sample;
