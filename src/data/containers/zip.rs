//! Zip files, with the 64-bit fields that files over 4 GB have.
//! Source: PKWARE, APPNOTE.TXT 6.3.9, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::Container;
use crate::data::archive::{Listing, Member, Members, stored};
use crate::data::read_at::{little, read_up_to};
use crate::error::Result;
use crate::{bail, error};

const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
/// The end record and the longest comment behind it.
const TAIL: u64 = 22 + 65_535;

/// Where the table is, and how many entries it has.
struct Table {
    offset: u64,
    size: u64,
    entries: u64,
}

/// Zip files; a member's note is its sum, the method of packing and whether it is encrypted.
pub(super) struct Zip;

const ENCRYPTED: u64 = 1 << 63;

impl Container for Zip {
    fn endings(&self) -> &'static [&'static str] {
        &["zip"]
    }

    fn members(&self) -> Option<&'static dyn Members> {
        Some(&Zip)
    }
}

impl Members for Zip {
    fn begins(&self, head: &[u8]) -> bool {
        matches!(head, [b'P', b'K', 3 | 5, 4 | 6, ..])
    }

    fn list(&self, file: &File, length: u64) -> Result<Listing> {
        list(file, length)
    }

    fn unpack(&self, file: &File, member: &Member) -> Result<Vec<u8>> {
        if member.note & ENCRYPTED != 0 {
            bail!(Decode, "it is encrypted");
        }
        let packed = stored(file, data_start(file, member.offset)?, member.stored)?;
        let bytes = match member.note as u16 {
            0 => packed,
            8 => {
                let mut bytes = Vec::with_capacity(member.size.min(1 << 20) as usize);
                // One byte more than there should be, to see whether there is more.
                DeflateDecoder::new(&*packed)
                    .take(member.size + 1)
                    .read_to_end(&mut bytes)
                    .map_err(|error| error!(Decode, "it is damaged: {error}"))?;
                bytes
            }
            other => bail!(Decode, "it is packed by method {other}; only stored (0) and deflate (8) are read"),
        };
        let mut sum = Crc::new();
        sum.update(&bytes);
        let crc = crc(member);
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

    /// Its sum and length.
    fn print(&self, member: &Member) -> Option<[u8; 8]> {
        let mut print = [0; 8];
        print[..4].copy_from_slice(&crc(member).to_le_bytes());
        print[4..].copy_from_slice(&(member.size as u32).to_le_bytes());
        Some(print)
    }
}

/// What a note holds between the method in its low 16 bits and the mark of encryption: the sum over the unpacked bytes.
fn crc(member: &Member) -> u32 {
    (member.note >> 16) as u32
}

fn list(file: &File, length: u64) -> Result<Listing> {
    let table = find_table(file, length)?;
    if table.offset.checked_add(table.size).is_none_or(|end| end > length) {
        bail!(Decode, "its table of contents lies outside: {} bytes at {} of {length}", table.size, table.offset);
    }
    let damaged = |error: std::io::Error| error!(Decode, "its table of contents is damaged: {error}");
    let mut source = file;
    source.seek(SeekFrom::Start(table.offset)).map_err(damaged)?;
    let mut reader = BufReader::with_capacity(1 << 20, source.take(table.size));
    let mut listing = Listing::default();
    for number in 0..table.entries {
        let mut fixed = [0; 46];
        reader.read_exact(&mut fixed).map_err(damaged)?;
        if !fixed.starts_with(ENTRY) {
            bail!(Decode, "its table of contents is damaged at entry {number}");
        }
        let [name, extra, comment] = [28, 30, 32].map(|at| little::<2>(&fixed, at) as usize);
        let mut rest = vec![0; name + extra + comment];
        reader.read_exact(&mut rest).map_err(damaged)?;
        // Names are UTF-8 or ASCII in practice; others cannot be asked for.
        let Ok(text) = std::str::from_utf8(&rest[..name]) else { continue };
        if text.ends_with('/') {
            continue;
        }
        let [stored, size, offset] = sizes(&fixed, &rest[name..name + extra]);
        let (flags, method, crc) = (little::<2>(&fixed, 8), little::<2>(&fixed, 10), little::<4>(&fixed, 16));
        let note = method | crc << 16 | (flags & 1) << 63;
        listing.push(text, offset, stored, size, note)?;
    }
    Ok(listing)
}

/// Packed size, size and offset; where 32 bits are all ones, from the 64-bit extra field in its order.
fn sizes(fixed: &[u8; 46], mut extra: &[u8]) -> [u64; 3] {
    let short = [20, 24, 42].map(|at| little::<4>(fixed, at));
    let mut long: &[u8] = &[];
    while extra.len() >= 4 {
        let end = (4 + little::<2>(extra, 2) as usize).min(extra.len());
        if little::<2>(extra, 0) == 1 {
            long = &extra[4..end];
        }
        extra = &extra[end..];
    }
    let mut at = 0;
    let mut wide = |short: u64| {
        if short != u64::from(u32::MAX) {
            return short;
        }
        at += 8;
        little::<8>(long, at - 8)
    };
    // The extra field holds the size first.
    let size = wide(short[1]);
    let stored = wide(short[0]);
    [stored, size, wide(short[2])]
}

fn find_table(file: &File, length: u64) -> Result<Table> {
    let start = length.saturating_sub(TAIL);
    let mut tail = vec![0; (length - start) as usize];
    file.read_exact_at(&mut tail, start).map_err(|error| error!(Decode, "it cannot be read: {error}"))?;
    // The record is 22 bytes and its comment, which may hold anything.
    let is_end =
        |at: &usize| tail[*at..].starts_with(END) && at + 22 + little::<2>(&tail, at + 20) as usize == tail.len();
    let Some(at) = (0..tail.len()).rev().find(is_end) else {
        return Err(error!(Decode, "it is cut off: it has no end record").help("fetch it again"));
    };
    let end = &tail[at..];
    let table = Table { offset: little::<4>(end, 16), size: little::<4>(end, 12), entries: little::<2>(end, 10) };
    let narrow = table.entries != 0xffff && table.size != 0xffff_ffff && table.offset != 0xffff_ffff;
    let mut locator = [0; 20];
    let Some(before) = (start + at as u64).checked_sub(20).filter(|_| !narrow) else { return Ok(table) };
    file.read_exact_at(&mut locator, before).map_err(|error| error!(Decode, "it cannot be read: {error}"))?;
    if !locator.starts_with(LOCATOR_64) {
        return Ok(table);
    }
    let mut wide = [0; 56];
    let read = read_up_to(file, &mut wide, little::<8>(&locator, 8)).unwrap_or(0);
    if read < wide.len() || !wide.starts_with(END_64) {
        bail!(Decode, "its 64-bit table of contents is damaged");
    }
    Ok(Table { offset: little::<8>(&wide, 48), size: little::<8>(&wide, 40), entries: little::<8>(&wide, 32) })
}

/// The first byte of a member's data, behind the header in front of it.
fn data_start(file: &File, offset: u64) -> Result<u64> {
    let mut header = [0; 30];
    file.read_exact_at(&mut header, offset).map_err(|error| error!(Decode, "it cannot be read: {error}"))?;
    if !header.starts_with(LOCAL) {
        bail!(Decode, "there is no member at byte {offset}");
    }
    Ok(offset.saturating_add(30 + little::<2>(&header, 26) + little::<2>(&header, 28)))
}
