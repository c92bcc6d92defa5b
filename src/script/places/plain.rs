//! A script that is run for its own sake: a path is a path, an id is an id.

use std::path::{Path, PathBuf};

use super::Places;
use crate::preset::PresetKind;

/// Nothing is moved and nothing stands for anything else.
pub(in crate::script) struct Plain;

impl Places for Plain {
    fn id(&self, _: PresetKind, id: &str) -> String {
        id.to_string()
    }

    fn model(&self, path: &str) -> String {
        path.to_string()
    }

    fn write(&self, path: &Path) -> PathBuf {
        path.to_path_buf()
    }

    fn write_beside(&self, path: &Path) -> PathBuf {
        path.to_path_buf()
    }

    fn made(&self, _: &Path) -> Option<PathBuf> {
        None
    }
}
