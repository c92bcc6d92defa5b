//! The members of a tar file, found by walking its headers: ustar, GNU long names, pax paths and sizes.
//! Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar 1.35 manual, "Basic Tar Format".

use std::fs::File;

use super::Container;
use crate::data::archive::{Listing, Members};
use crate::data::read_at::read_up_to;
use crate::error::Result;
use crate::{bail, error};

const BLOCK: u64 = 512;
/// The longest extended header; names are far shorter.
const LONGEST: u64 = 1 << 20;

/// Tar files; their members lie in them as they are.
pub(super) struct Tar;

impl Container for Tar {
    fn endings(&self) -> &'static [&'static str] {
        &["tar"]
    }

    fn members(&self) -> Option<&'static dyn Members> {
        Some(&Tar)
    }
}

impl Members for Tar {
    fn begins(&self, head: &[u8]) -> bool {
        is_header(head)
    }

    fn list(&self, file: &File, length: u64) -> Result<Listing> {
        list(file, length)
    }
}

/// Whether 512 bytes are a header: its sum over all bytes, the sum's own taken as spaces.
fn is_header(bytes: &[u8]) -> bool {
    let Some(sum) = bytes.get(148..156) else { return false };
    let spaces: u64 = 8 * u64::from(b' ');
    let bytes_sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    bytes.len() == BLOCK as usize && octal(sum) == Some(bytes_sum(&bytes[..148]) + spaces + bytes_sum(&bytes[156..]))
}

fn list(file: &File, length: u64) -> Result<Listing> {
    let mut listing = Listing::default();
    // What an extended header said about the member that follows it.
    let (mut long_name, mut long_size): (Option<String>, Option<u64>) = (None, None);
    let mut at = 0;
    while at < length {
        let mut header = [0; BLOCK as usize];
        let read = read_up_to(file, &mut header, at).map_err(|error| error!(Decode, "it cannot be read: {error}"))?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(listing);
        }
        if read < header.len() {
            return Err(error!(Decode, "it is cut off at byte {at}").help("fetch it again"));
        }
        if !is_header(&header) {
            bail!(Decode, "its header at byte {at} is damaged");
        }
        let Some(size) = long_size.take().or_else(|| number(&header[124..136])) else {
            bail!(Decode, "its header at byte {at} has no size");
        };
        let (data, kind) = (at + BLOCK, header[156]);
        let Some(end) = data.checked_add(size).filter(|end| *end <= length) else {
            return Err(error!(Decode, "it is cut off in the member at byte {at}").help("fetch it again"));
        };
        match kind {
            b'L' => long_name = Some(text(&extended(file, data, size)?).to_string()),
            b'x' => {
                let fields = extended(file, data, size)?;
                long_name = pax(&fields, "path").map(str::to_string).or(long_name);
                long_size = pax(&fields, "size").and_then(|size| size.parse().ok());
            }
            b'0' | 0 | b'7' => {
                let name = long_name.take().unwrap_or_else(|| name(&header));
                listing.push(&name, data, size, size, 0)?;
            }
            b'g' => {}
            _ => long_name = None,
        }
        at = end.div_ceil(BLOCK) * BLOCK;
    }
    Err(error!(Decode, "it is cut off: it has no end mark").help("fetch it again"))
}

/// The content of an extended header.
fn extended(file: &File, at: u64, size: u64) -> Result<Vec<u8>> {
    if size > LONGEST {
        bail!(Decode, "an extended header at byte {at} has {size} bytes");
    }
    let mut bytes = vec![0; size as usize];
    let read = read_up_to(file, &mut bytes, at).map_err(|error| error!(Decode, "it cannot be read: {error}"))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The value of a record `<length> <key>=<value>\n`; lengths are not needed, for names hold no line breaks.
fn pax<'a>(bytes: &'a [u8], key: &str) -> Option<&'a str> {
    let lines = std::str::from_utf8(bytes).ok()?.lines();
    lines.filter_map(|line| line.split_once(' ')?.1.split_once('=')).find(|(k, _)| *k == key).map(|(_, value)| value)
}

/// The name in a header, with the prefix that ustar has for long ones.
fn name(header: &[u8; BLOCK as usize]) -> String {
    let name = text(&header[..100]);
    match text(&header[345..500]) {
        prefix if header[257..263] == *b"ustar\0" && !prefix.is_empty() => format!("{prefix}/{name}"),
        _ => name.into_owned(),
    }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end])
}

/// A number in octal, or binary where the first bit is set (GNU, for 8 GB and more).
fn number(field: &[u8]) -> Option<u64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => {
            let (head, tail) = field.split_at(field.len() - 8);
            (head[0] == 0x80 && head[1..].iter().all(|byte| *byte == 0))
                .then(|| tail.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        }
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(|c: char| c == ' ' || c == '\0'), 8).ok()
}
