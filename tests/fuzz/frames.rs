//! Containers whose lengths and sums are put right again, so that what is mutated in them is read at all.

use serde_json::Value;

use super::draw::Draw;
use super::{bytes, values};

/// How the seeds of a reader are built.
#[derive(Clone, Copy, PartialEq)]
pub enum Frame {
    /// Whatever it is, no part of it speaks of another.
    Bytes,
    Json,
    JsonLines,
    Toml,
    /// A length, a JSON header, data.
    Safetensors,
    /// Stored members; other zip files are mutated as bytes.
    Zip,
    /// Chunks, each with its sum.
    Png,
    /// Blocks of 512 bytes, headers with their sum.
    Tar,
    /// Pages, then a footer and its length.
    Parquet,
}

/// Mutates a seed within its frame; `None` where the seed is not built so.
pub fn within(frame: Frame, draw: &mut Draw, seed: &[u8], other: &[u8], words: &[&str]) -> Option<Vec<u8>> {
    match frame {
        Frame::Bytes => None,
        Frame::Json => values::json(draw, seed, words),
        Frame::JsonLines => values::json_lines(draw, seed, words),
        Frame::Toml => values::toml(draw, seed, words),
        Frame::Safetensors => safetensors(draw, seed, words),
        Frame::Zip => zip(draw, seed, words),
        Frame::Png => {
            let mut data = seed.to_vec();
            bytes::mutate(draw, &mut data, other, words);
            sum_chunks(&mut data);
            Some(data)
        }
        Frame::Tar => {
            let mut data = seed.to_vec();
            bytes::mutate(draw, &mut data, other, words);
            sum_headers(&mut data);
            Some(data)
        }
        Frame::Parquet => parquet(draw, seed, other, words),
    }
}

fn safetensors(draw: &mut Draw, seed: &[u8], words: &[&str]) -> Option<Vec<u8>> {
    let length = u64::from_le_bytes(seed.get(..8)?.try_into().ok()?) as usize;
    let (header, data) = (seed.get(8..8 + length)?, &seed[8 + length..]);
    let mut mutated = match draw.one_in(3) {
        true => values::json(draw, header, words)?,
        false => offsets(draw, header)?,
    };
    let padding = (8 - mutated.len() % 8) % 8;
    mutated.extend(std::iter::repeat_n(b' ', padding));
    Some([&(mutated.len() as u64).to_le_bytes(), mutated.as_slice(), data].concat())
}

/// Changes type, shape or place of one tensor.
fn offsets(draw: &mut Draw, header: &[u8]) -> Option<Vec<u8>> {
    const DTYPES: &[&str] = &[
        "BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "F64", "I64", "F4",
    ];
    let mut value: Value = serde_json::from_slice(header).ok()?;
    let map = value.as_object_mut()?;
    let key = map.keys().nth(draw.below(map.len()))?.clone();
    let tensor = map.get_mut(&key)?.as_object_mut()?;
    match draw.below(3) {
        0 => drop(tensor.insert("dtype".to_string(), Value::from(draw.pick(DTYPES)))),
        1 => {
            let sides = draw.below(5);
            let shape: Vec<u64> = (0..sides).map(|_| [0, 1, 2, 4, 8, 1 << 32, u64::MAX][draw.below(7)]).collect();
            tensor.insert("shape".to_string(), shape.into());
        }
        _ => {
            let ends: Vec<u64> = (0..2).map(|_| [0, 4, 8, 16, 32, 64, u64::MAX][draw.below(7)]).collect();
            tensor.insert("data_offsets".to_string(), ends.into());
        }
    }
    serde_json::to_vec(&value).ok()
}

/// A zip file of stored members.
pub fn zip_of(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let sum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let (mut out, mut table) = (Vec::new(), Vec::new());
    for (name, data) in members {
        let (offset, size) = (out.len() as u32, data.len() as u32);
        let mut fields = vec![0, 0, 0, 0, 0, 0, 0, 0];
        fields.extend(sum.checksum(data).to_le_bytes());
        fields.extend(size.to_le_bytes().repeat(2));
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend([0, 0]);
        out.extend(b"PK\x03\x04\x14\x00");
        out.extend(&fields);
        out.extend(name.as_bytes());
        out.extend(data);
        table.extend(b"PK\x01\x02\x14\x00\x14\x00");
        table.extend(&fields);
        table.extend([0; 10]);
        table.extend(offset.to_le_bytes());
        table.extend(name.as_bytes());
    }
    let count = (members.len() as u16).to_le_bytes().repeat(2);
    let (start, size) = (out.len() as u32, table.len() as u32);
    out.extend(table);
    out.extend(b"PK\x05\x06\x00\x00\x00\x00");
    out.extend(count);
    out.extend(size.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// The stored members of a zip file, by its central directory.
pub fn members(bytes: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let number = |at: usize, width: usize| -> Option<usize> {
        Some(bytes.get(at..at + width)?.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    let end = bytes.windows(4).rposition(|window| window == b"PK\x05\x06")?;
    let (count, mut at) = (number(end + 10, 2)?, number(end + 16, 4)?);
    let mut found = Vec::new();
    for _ in 0..count {
        let (size, local) = (number(at + 20, 4)?, number(at + 42, 4)?);
        let (name, extra, comment) = (number(at + 28, 2)?, number(at + 30, 2)?, number(at + 32, 2)?);
        let text = String::from_utf8_lossy(bytes.get(at + 46..at + 46 + name)?).into_owned();
        let start = local + 30 + number(local + 26, 2)? + number(local + 28, 2)?;
        if number(at + 10, 2)? != 0 {
            return None;
        }
        found.push((text, bytes.get(start..start + size)?.to_vec()));
        at += 46 + name + extra + comment;
    }
    Some(found)
}

fn zip(draw: &mut Draw, seed: &[u8], words: &[&str]) -> Option<Vec<u8>> {
    let mut members = members(seed)?;
    let at = draw.below(members.len());
    match draw.below(8) {
        0 => drop(members.remove(at)),
        1 => members.push(members.get(at)?.clone()),
        2 => members.get_mut(at)?.0.push_str(draw.pick(values::ODD)),
        _ => {
            // The table of a torch file is the first of its members.
            let at = if draw.one_in(2) { 0 } else { at };
            let other = members.get(at)?.1.clone();
            bytes::mutate(draw, &mut members.get_mut(at)?.1, &other, words);
        }
    }
    Some(zip_of(&members))
}

/// Puts the sums of a PNG file's chunks right, as far as their lengths lead.
fn sum_chunks(data: &mut [u8]) {
    let sum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let mut at = 8;
    while let Some(length) = data.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes) {
        let end = at + 8 + length as usize;
        let Some(value) = data.get(at + 4..end).map(|chunk| sum.checksum(chunk)) else { return };
        let Some(place) = data.get_mut(end..end + 4) else { return };
        place.copy_from_slice(&value.to_be_bytes());
        at = end + 4;
    }
}

/// Puts the sum of every block of a tar file right that looks like a header.
fn sum_headers(data: &mut [u8]) {
    for block in data.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// Mutates the pages or the footer, and says the footer's length again.
fn parquet(draw: &mut Draw, seed: &[u8], other: &[u8], words: &[&str]) -> Option<Vec<u8>> {
    let tail = seed.len().checked_sub(8)?;
    let length = u32::from_le_bytes(seed[tail..tail + 4].try_into().ok()?) as usize;
    let start = tail.checked_sub(length)?;
    let (mut pages, mut footer) = (seed[..start].to_vec(), seed[start..tail].to_vec());
    if draw.one_in(2) {
        bytes::mutate(draw, &mut footer, other, words);
    } else {
        bytes::mutate(draw, &mut pages, other, words);
        // Of the same length, so that the footer's places still hold.
        pages.resize(start, 0);
    }
    Some([pages.as_slice(), &footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat())
}
