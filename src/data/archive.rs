//! Pictures straight from `.zip` and `.tar` files: the members are listed once, about 50 bytes and the name for each, and
//! read by position from then on. Nothing is ever extracted, so a member's name cannot reach outside.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::{prints, tar, zip};
use crate::error::{Context, Error, Result};
use crate::{bail, error};

/// The largest member that is read: no picture is this large, a decompression bomb is.
const LARGEST: u64 = 256 << 20;

/// An open archive; reading takes no lock.
pub struct Archive {
    file: File,
    path: PathBuf,
    /// All names one after another, and the members sorted by name.
    names: String,
    members: Vec<Member>,
}

/// Where a member is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// In `names`.
    name: (u32, u16),
    /// Of its local header in a zip file, of its bytes in a tar file.
    pub(super) offset: u64,
    /// Bytes in the archive.
    pub(super) stored: u64,
    /// Bytes when unpacked.
    pub(super) size: u64,
    pub(super) packing: Packing,
}

/// How a member's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// In a tar file: as they are.
    Plain,
    /// In a zip file, with the sum over the unpacked bytes.
    Zip { method: u16, crc: u32, encrypted: bool },
}

/// Collects members while an archive is listed.
#[derive(Default)]
pub(super) struct Listing {
    names: String,
    members: Vec<Member>,
}

impl Listing {
    /// Adds a member; `./` in front of a name is dropped.
    pub(super) fn push(&mut self, name: &str, offset: u64, stored: u64, size: u64, packing: Packing) -> Result<()> {
        let name = plain(name);
        let (Ok(start), Ok(length)) = (u32::try_from(self.names.len()), u16::try_from(name.len())) else {
            bail!(Decode, "its names are too long: {} bytes, and one of {}", self.names.len(), name.len());
        };
        self.names.push_str(name);
        self.members.push(Member { name: (start, length), offset, stored, size, packing });
        Ok(())
    }
}

/// A name without the `./` some programs put in front.
fn plain(name: &str) -> &str {
    name.strip_prefix("./").unwrap_or(name)
}

impl Archive {
    /// Whether a path's name says that it is an archive.
    pub fn is_one(path: &Path) -> bool {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        matches!(extension.as_deref(), Some("zip" | "tar"))
    }

    /// Lists the members, by content whatever the name ends in.
    ///
    /// # Errors
    /// `Missing` or `File` when it cannot be read, `Decode` when it is neither, damaged or cut off.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::file(path, error))?;
        let length = file.metadata().map_err(|error| Error::file(path, error))?.len();
        let here = || format!("archive `{}`", path.display());
        let mut head = [0; 512];
        let read = read_up_to(&file, &mut head, 0).map_err(|error| Error::file(path, error))?;
        let head = &head[..read];
        let listing = match head {
            [b'P', b'K', 3 | 5, 4 | 6, ..] => zip::list(&file, length).context(here)?,
            _ if tar::is_header(head) => tar::list(&file, length).context(here)?,
            _ => {
                return Err(error!(Decode, "`{}` is neither a zip nor a tar file", path.display())
                    .help("compressed tar files have no random access: unpack the compression first"));
            }
        };
        let Listing { names, mut members } = listing;
        // Of members with one name the last one counts, as when unpacking.
        members.reverse();
        members.sort_by(|a, b| text(&names, a).cmp(text(&names, b)));
        members.dedup_by(|later, first| text(&names, later) == text(&names, first));
        members.shrink_to_fit();
        Ok(Archive { file, path: path.to_path_buf(), names, members })
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

    /// The fingerprint of a member: in a zip file its length and sum, in a tar file as that of a file.
    pub(super) fn print(&self, name: &str, places: usize) -> Option<[u8; 8]> {
        let member = self.find(name)?;
        if let Packing::Zip { crc, .. } = member.packing {
            let mut print = [0; 8];
            print[..4].copy_from_slice(&crc.to_le_bytes());
            print[4..].copy_from_slice(&(member.size as u32).to_le_bytes());
            return Some(print);
        }
        let read = |bytes: &mut [u8], at: u64| self.file.read_exact_at(bytes, member.offset + at);
        prints::print(member.size, places, read).ok()
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
        let (start, method, crc) = match member.packing {
            Packing::Plain => return self.bytes(member.offset, member.stored),
            Packing::Zip { encrypted: true, .. } => bail!(Decode, "it is encrypted"),
            Packing::Zip { method, crc, .. } => (zip::data_start(&self.file, member.offset)?, method, crc),
        };
        let stored = self.bytes(start, member.stored)?;
        let bytes = match method {
            0 => stored,
            8 => {
                let mut bytes = Vec::with_capacity(member.size.min(1 << 20) as usize);
                // One byte more than there should be, to see whether there is more.
                DeflateDecoder::new(&*stored)
                    .take(member.size + 1)
                    .read_to_end(&mut bytes)
                    .map_err(|error| error!(Decode, "it is damaged: {error}"))?;
                bytes
            }
            other => bail!(Decode, "it is packed by method {other}; only stored (0) and deflate (8) are read"),
        };
        let mut sum = Crc::new();
        sum.update(&bytes);
        if bytes.len() as u64 != member.size || sum.sum() != crc {
            bail!(
                Decode,
                "it is damaged: {} bytes with sum {:08x}, not {} with {crc:08x}",
                bytes.len(),
                sum.sum(),
                member.size
            );
        }
        Ok(bytes)
    }

    fn bytes(&self, start: u64, length: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length as usize];
        self.file
            .read_exact_at(&mut bytes, start)
            .map_err(|error| error!(Decode, "{length} bytes at {start} cannot be read: {error}"))?;
        Ok(bytes)
    }
}

fn text<'a>(names: &'a str, member: &Member) -> &'a str {
    let start = member.name.0 as usize;
    names.get(start..start + usize::from(member.name.1)).unwrap_or_default()
}

/// Reads as many bytes as there are, up to the buffer's length.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// A little-endian number at a place in bytes; 0 where the bytes end.
pub(super) fn little<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let part = bytes.get(at..at + N).unwrap_or_default();
    part.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
