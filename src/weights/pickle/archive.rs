//! The zip archives that `torch.save` writes. Entries are found through the central directory; only stored ones are
//! read, in place, so an archive never takes more memory than its own bytes.
//! Source: APPNOTE.TXT 6.3.10 of PKWARE, sections 4.3 and 4.5.3.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::bail;
use crate::error::Result;

const END: &[u8] = b"PK\x05\x06";
const END_64_LOCATOR: &[u8] = b"PK\x06\x07";
const END_64: &[u8] = b"PK\x06\x06";
const CENTRAL: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
/// The sizes of the end record and of the longest comment behind it.
const END_SEARCH: usize = 22 + 65_535;

/// The byte range of every entry.
///
/// # Errors
/// `Decode` for a file that is not a zip archive, is cut short, or has compressed or encrypted entries.
pub(super) fn entries(bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>> {
    let (mut at, end) = directory(bytes)?;
    let mut entries = BTreeMap::new();
    while at < end {
        expect(bytes, at, CENTRAL)?;
        let (flags, method) = (number(bytes, at + 8, 2)?, number(bytes, at + 10, 2)?);
        let (name_length, extra, comment) =
            (size(bytes, at + 28, 2)?, size(bytes, at + 30, 2)?, size(bytes, at + 32, 2)?);
        let name = String::from_utf8_lossy(slice(bytes, at + 46, name_length)?).into_owned();
        if flags & 1 != 0 || method != 0 {
            bail!(Decode, "its entry `{name}` is compressed or encrypted; torch.save stores entries as they are");
        }
        let range = entry(bytes, at, slice(bytes, at + 46 + name_length, extra)?)?;
        if entries.insert(name.clone(), range).is_some() {
            bail!(Decode, "two of its entries are named `{name}`");
        }
        at += 46 + name_length + extra + comment;
    }
    Ok(entries)
}

/// Start and end of the central directory.
fn directory(bytes: &[u8]) -> Result<(usize, usize)> {
    let from = bytes.len().saturating_sub(END_SEARCH);
    let found = bytes[from..].windows(END.len()).rposition(|window| window == END);
    let Some(end) = found.map(|found| from + found) else {
        bail!(Decode, "its table of entries is missing: it is cut short or not a zip archive");
    };
    slice(bytes, end + 22, size(bytes, end + 20, 2)?)?;
    let locator = end.saturating_sub(20);
    let (length, start) = if bytes[locator..].starts_with(END_64_LOCATOR) {
        let record = size(bytes, locator + 8, 8)?;
        expect(bytes, record, END_64)?;
        (size(bytes, record.saturating_add(40), 8)?, size(bytes, record.saturating_add(48), 8)?)
    } else {
        (size(bytes, end + 12, 4)?, size(bytes, end + 16, 4)?)
    };
    slice(bytes, start, length)?;
    Ok((start, start + length))
}

/// The data of the entry whose central record is at `at`; `extra` is its extra field.
fn entry(bytes: &[u8], at: usize, extra: &[u8]) -> Result<Range<usize>> {
    let short = |offset: usize| size(bytes, at + offset, 4);
    let (mut stored, plain, mut local) = (short(20)?, short(24)?, short(42)?);
    // Sizes that do not fit 32 bits are in the extra field, in this order.
    let large = u32::MAX as usize;
    if [stored, plain, local].contains(&large) {
        let field = zip64(extra)?;
        let mut at = if plain == large { 8 } else { 0 };
        if stored == large {
            stored = size(field, at, 8)?;
            at += 8;
        }
        if local == large {
            local = size(field, at, 8)?;
        }
    }
    expect(bytes, local, LOCAL)?;
    let start = local + 30 + size(bytes, local + 26, 2)? + size(bytes, local + 28, 2)?;
    slice(bytes, start, stored)?;
    Ok(start..start + stored)
}

/// The ZIP64 part of an extra field.
fn zip64(mut extra: &[u8]) -> Result<&[u8]> {
    while extra.len() >= 4 {
        let length = size(extra, 2, 2)?;
        let body = slice(extra, 4, length)?;
        if number(extra, 0, 2)? == 1 {
            return Ok(body);
        }
        extra = &extra[4 + length..];
    }
    bail!(Decode, "an entry has no ZIP64 sizes")
}

fn expect(bytes: &[u8], at: usize, signature: &[u8]) -> Result<()> {
    match slice(bytes, at, signature.len())? == signature {
        true => Ok(()),
        false => bail!(Decode, "its table of entries is damaged at byte {at}"),
    }
}

fn size(bytes: &[u8], at: usize, width: usize) -> Result<usize> {
    Ok(number(bytes, at, width)? as usize)
}

/// A little-endian number of `width` bytes.
fn number(bytes: &[u8], at: usize, width: usize) -> Result<u64> {
    Ok(slice(bytes, at, width)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn slice(bytes: &[u8], at: usize, length: usize) -> Result<&[u8]> {
    match at.checked_add(length).and_then(|end| bytes.get(at..end)) {
        Some(slice) => Ok(slice),
        None => bail!(Decode, "an entry reaches beyond the end of the file ({} bytes)", bytes.len()),
    }
}
