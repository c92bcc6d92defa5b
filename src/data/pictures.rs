//! Where a data set's pictures are: folders and archives, each for the names that begin with its prefix. Nothing is
//! opened before it is asked for, so a name may be anything; one that leads out of its place is an error then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{Archive, MemberPicture};
use super::image_source::{ImageSource, stays};
use crate::error::Result;

/// Places by prefix, the longest first.
#[derive(Clone, Default)]
pub struct Pictures(Vec<(String, PicturePlace)>);

#[derive(Clone)]
enum PicturePlace {
    Folder(PathBuf),
    Archive(Arc<Archive>),
}

impl Pictures {
    /// All pictures below one folder or in one `.zip` or `.tar`.
    ///
    /// # Errors
    /// `Missing`, `File` or `Decode` when an archive cannot be read.
    pub fn at(path: &Path) -> Result<Self> {
        Pictures::default().with("", path)
    }

    /// And those whose names begin with `prefix` and a slash, under the rest of their names, there.
    ///
    /// # Errors
    /// `Missing`, `File` or `Decode` when an archive cannot be read.
    pub fn with(mut self, prefix: &str, path: &Path) -> Result<Self> {
        let place = match Archive::is_one(path) {
            true => PicturePlace::Archive(Arc::new(Archive::open(path)?)),
            false => PicturePlace::Folder(path.to_path_buf()),
        };
        self.0.push((prefix.trim_matches('/').to_string(), place));
        self.0.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(self)
    }

    /// The picture of a name; a name that no prefix fits is looked for where it stands.
    pub(super) fn find(&self, name: &str) -> ImageSource {
        let rest = |prefix: &str| match prefix {
            "" => Some(name),
            _ => name.strip_prefix(prefix)?.strip_prefix('/'),
        };
        match self.0.iter().find_map(|(prefix, place)| Some((rest(prefix)?, place))) {
            None => ImageSource::named(Path::new(""), name),
            Some((rest, PicturePlace::Folder(folder))) => ImageSource::named(folder, rest),
            Some((rest, PicturePlace::Archive(archive))) if !stays(rest) => {
                ImageSource::leading_out(archive.path(), rest)
            }
            Some((rest, PicturePlace::Archive(archive))) => MemberPicture::source(archive, rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        let places = Pictures::at(Path::new("all")).unwrap();
        let places = places.with("coco", Path::new("c")).unwrap().with("coco/val/", Path::new("v")).unwrap();
        let key = |name: &str| places.find(name).key();
        assert_eq!(key("coco/train/1.jpg"), "c/train/1.jpg");
        assert_eq!(key("coco/val/1.jpg"), "v/1.jpg");
        assert_eq!(key("cocoa/1.jpg"), "all/cocoa/1.jpg");
    }
}
