//! Data: samples, data sets that are read lazily and composed by index, and the order in which training sees
//! them. Nothing here knows a model.

mod archive;
mod brief;
mod dataset;
pub mod flags;
mod index;
mod lfs;
mod llava_json;
mod mapped;
mod message;
pub mod modality;
pub mod order;
mod pack;
mod pictures;
mod prints;
mod published;
mod record;
mod rows;
mod sample;
mod scan;
pub mod table;
mod tar;
pub mod verify;
mod zip;

pub use archive::Archive;
pub use brief::Brief;
pub use dataset::{Dataset, Format, Items};
pub use mapped::Change;
pub use pack::Pack;
pub use pictures::Pictures;
pub use prints::{Print, hex, print_now};
pub use published::{Choice, is_on_hub};
pub use sample::{ImageSource, Sample};
