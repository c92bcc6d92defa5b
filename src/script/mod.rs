//! The script layer, the only one that knows Rhai: sessions, the API modules, errors with positions, and docs that
//! are generated from what is registered.

// `export_module` writes `unwrap` into what it generates for getters.
#[allow(clippy::unwrap_used)]
mod api;
mod convert;
pub mod docs;
pub mod error;
mod fitting;
mod handles;
mod imports;
mod options;
mod overrides;
mod places;
mod printed_error;
mod session;
mod smoke;
mod state;
pub mod stdlib;
mod suggest;

pub use handles::describe;
pub use overrides::Overrides;
pub use places::Repeat;
pub use printed_error::Report;
pub use session::{Outcome, Session};
pub use state::{Output, SessionOptions, folder_name};
