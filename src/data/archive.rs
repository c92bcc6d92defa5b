//! Pictures straight from archives: the members are listed once, about 50 bytes and the name for each, and
//! read by position from then on. Nothing is ever extracted, so a member's name cannot reach outside.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::image_source::{ImageSource, Picture};
use super::print::{OF_PICTURE, Printable, print};
use crate::error::{Context, Result};
use crate::{bail, error, guard};

/// The largest member that is read: no picture is this large, a decompression bomb is.
const LARGEST: u64 = 256 << 20;

/// How the members of a kind of archive are found and unpacked.
pub(super) trait Members: Sync {
    /// Whether a file that begins so (512 bytes, or all there are) is one, whatever it is called.
    fn begins(&self, head: &[u8]) -> bool;

    /// All members that are files, of an archive of `length` bytes.
    ///
    /// # Errors
    /// `Decode` when it is damaged or cut off.
    fn list(&self, file: &File, length: u64) -> Result<Listing>;

    /// The bytes of a member.
    ///
    /// # Errors
    /// `Decode` when it is damaged, encrypted, or packed in a way that pictures are not.
    fn unpack(&self, file: &File, member: &Member) -> Result<Vec<u8>> {
        stored(file, member.offset, member.stored)
    }

    /// The fingerprint of a member where the list holds one; else its bytes are looked at.
    fn print(&self, _member: &Member) -> Option<[u8; 8]> {
        None
    }
}

/// An open archive; reading takes no lock.
pub struct Archive {
    kind: &'static dyn Members,
    file: File,
    path: PathBuf,
    /// All names one after another, and the members sorted by name.
    names: String,
    members: Vec<Member>,
}

/// Where a member is.
#[derive(Clone, Copy)]
pub(super) struct Member {
    /// In `names`.
    name: (u32, u16),
    /// Of its local header in a zip file, of its bytes in a tar file.
    pub(super) offset: u64,
    /// Bytes in the archive.
    pub(super) stored: u64,
    /// Bytes when unpacked.
    pub(super) size: u64,
    /// What its kind of archive notes of how it is packed.
    pub(super) note: u64,
}

/// Collects members while an archive is listed.
#[derive(Default)]
pub(super) struct Listing {
    names: String,
    members: Vec<Member>,
}

impl Listing {
    /// Adds a member; `./` in front of a name is dropped.
    pub(super) fn push(&mut self, name: &str, offset: u64, stored: u64, size: u64, note: u64) -> Result<()> {
        let name = plain(name);
        let (Ok(start), Ok(length)) = (u32::try_from(self.names.len()), u16::try_from(name.len())) else {
            bail!(Decode, "its names are too long: {} bytes, and one of {}", self.names.len(), name.len());
        };
        self.names.push_str(name);
        self.members.push(Member { name: (start, length), offset, stored, size, note });
        Ok(())
    }
}

/// A name without the `./` some programs put in front.
fn plain(name: &str) -> &str {
    name.strip_prefix("./").unwrap_or(name)
}

impl Archive {
    /// The archive that a file is, its members listed.
    ///
    /// # Errors
    /// `Decode` when it is damaged or cut off.
    pub(super) fn list(kind: &'static dyn Members, path: &Path, file: File, length: u64) -> Result<Self> {
        let listing = kind.list(&file, length).context(|| format!("archive `{}`", path.display()))?;
        let Listing { names, mut members } = listing;
        // Of members with one name the last one counts, as when unpacking.
        members.reverse();
        members.sort_by(|a, b| text(&names, a).cmp(text(&names, b)));
        members.dedup_by(|later, first| text(&names, later) == text(&names, first));
        members.shrink_to_fit();
        Ok(Archive { kind, file, path: path.to_path_buf(), names, members })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The bytes of a member.
    ///
    /// # Errors
    /// `Missing` when there is no such member, `Decode` when it is damaged, encrypted, too large or packed in a way
    /// that pictures are not.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let Some(member) = self.find(name) else {
            let example = self.members.first().map_or("", |member| text(&self.names, member));
            return Err(error!(Missing, "no member `{name}` in archive `{}`", self.path.display())
                .help(format!("it has {} members; names look like `{example}`", self.members.len())));
        };
        self.unpack(member).context(|| format!("archive `{}`: member `{name}`", self.path.display()))
    }

    /// Whether there is a member of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The fingerprint of a member: what its list says, else as that of a file.
    pub(super) fn print(&self, name: &str) -> Option<[u8; 8]> {
        let member = self.find(name)?;
        let read = |bytes: &mut [u8], at: u64| self.file.read_exact_at(bytes, member.offset + at);
        self.kind.print(member).or_else(|| print(member.size, OF_PICTURE, read).ok())
    }

    fn find(&self, name: &str) -> Option<&Member> {
        let wanted = plain(name);
        let found = self.members.binary_search_by(|member| text(&self.names, member).cmp(wanted));
        found.ok().and_then(|at| self.members.get(at))
    }

    fn unpack(&self, member: &Member) -> Result<Vec<u8>> {
        if member.stored.max(member.size) > LARGEST {
            bail!(Decode, "it has {} bytes, more than {LARGEST}", member.size);
        }
        guard::read("flate2", &self.path.display(), || self.kind.unpack(&self.file, member))
    }
}

/// Bytes of a file.
pub(super) fn stored(file: &File, start: u64, length: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, start)
        .map_err(|error| error!(Decode, "{length} bytes at {start} cannot be read: {error}"))?;
    Ok(bytes)
}

fn text<'a>(names: &'a str, member: &Member) -> &'a str {
    let start = member.name.0 as usize;
    names.get(start..start + usize::from(member.name.1)).unwrap_or_default()
}

/// A member of an archive as a picture.
pub(super) struct MemberPicture {
    pub(super) archive: Arc<Archive>,
    pub(super) name: String,
}

impl MemberPicture {
    /// The picture of this name.
    pub(super) fn source(archive: &Arc<Archive>, name: &str) -> ImageSource {
        ImageSource::new(MemberPicture { archive: archive.clone(), name: name.to_string() })
    }
}

impl Picture for MemberPicture {
    fn key(&self) -> String {
        format!("{}/{}", self.archive.path().display(), self.name)
    }

    fn is_there(&self) -> Result<bool> {
        Ok(self.archive.contains(&self.name))
    }

    fn bytes(&self) -> Result<Cow<'static, [u8]>> {
        self.archive.read(&self.name).map(Cow::Owned)
    }

    fn prints(&self) -> Vec<Printable> {
        let (archive, name) = (self.archive.clone(), self.name.clone());
        let place = format!("{}#{name}", archive.path().display());
        vec![Printable::new(place, move || archive.print(&name))]
    }
}
