//! Mutations of any bytes: bits, blocks, lengths, numbers as binary formats and as texts write them, words of the format.

use super::draw::Draw;

/// What a mutated input may grow by.
const GROWTH: usize = 64 << 10;

/// Numbers in texts at the ends of what types can hold.
pub const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1",
    "2",
    "3",
    "255",
    "65535",
    "65536",
    "1000000",
    "2147483647",
    "-2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "0.5",
    "-0.0",
    "1e-9",
    "1e30",
    "1e308",
    "1e400",
    "NaN",
];

/// The same as bytes hold them.
const EXTREMES: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fff8,
    0xffff_ffff_ffff_ffff,
];

/// Mutates bytes; `other` is another seed, `words` are what the format is written in.
pub fn mutate(draw: &mut Draw, data: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    let most = data.len() + GROWTH;
    for _ in 0..draw.mutations() {
        once(draw, data, other, words);
        data.truncate(most);
    }
}

fn once(draw: &mut Draw, data: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    let at = place(draw, data.len());
    match draw.below(14) {
        0 | 1 => {
            if let Some(byte) = data.get_mut(at) {
                *byte ^= 1 << draw.below(8);
            }
        }
        2 | 3 => {
            let value = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'"', draw.bits() as u8][draw.below(8)];
            if let Some(byte) = data.get_mut(at) {
                *byte = value;
            }
        }
        4 => drop(data.drain(at..at + length(draw, data.len() - at))),
        5 => {
            let from = draw.below(data.len());
            let count = length(draw, data.len() - from.max(at));
            data.copy_within(from..from + count, at);
        }
        6 => {
            let from = draw.below(data.len());
            let count = length(draw, data.len() - from);
            let block = data[from..from + count].to_vec();
            let times = [1, 1, 2, 16, 300][draw.below(5)];
            insert(data, at, &block.repeat(if count * times > GROWTH { 1 } else { times }));
        }
        7 => data.truncate(draw.below(data.len() + 1)),
        8 | 9 => number(draw, data, at),
        10 => decimal(draw, data, at),
        11 if !words.is_empty() => {
            let word = draw.pick(words).as_bytes();
            if draw.one_in(2) {
                insert(data, at, word);
            } else {
                let count = word.len().min(data.len() - at);
                data[at..at + count].copy_from_slice(&word[..count]);
            }
        }
        12 if !other.is_empty() => {
            data.truncate(at);
            data.extend_from_slice(&other[draw.below(other.len())..]);
        }
        _ => {
            let from = draw.below(other.len());
            let count = length(draw, other.len() - from);
            insert(data, at, &other[from..from + count]);
        }
    }
}

/// A place: half of them near an end, where headers and tables are.
fn place(draw: &mut Draw, length: usize) -> usize {
    match draw.below(4) {
        0 => draw.below(length.min(64)),
        1 => length - length.min(1 + draw.below(length.min(64))),
        _ => draw.below(length),
    }
}

/// How many bytes a block has, of those there are; mostly few.
fn length(draw: &mut Draw, most: usize) -> usize {
    let most = most.min([1, 4, 16, 64, 1024, most][draw.below(6)]);
    draw.below(most + 1)
}

fn insert(data: &mut Vec<u8>, at: usize, block: &[u8]) {
    data.splice(at..at, block.iter().copied());
}

/// Overwrites a number of 2, 4 or 8 bytes in either order of bytes, or changes it by little.
fn number(draw: &mut Draw, data: &mut [u8], at: usize) {
    let width = [2, 4, 4, 8, 8][draw.below(5)];
    let Some(bytes) = data.get_mut(at..at + width) else { return };
    let big = draw.one_in(3);
    let old = bytes.iter().enumerate().fold(0u64, |sum, (i, byte)| {
        let place = if big { width - 1 - i } else { i };
        sum | u64::from(*byte) << (8 * place)
    });
    let value = match draw.below(4) {
        0 => old.wrapping_add(1 + draw.below(16) as u64),
        1 => old.wrapping_sub(1 + draw.below(16) as u64),
        _ => EXTREMES[draw.below(EXTREMES.len())].wrapping_add(draw.below(2) as u64),
    };
    for (i, byte) in bytes.iter_mut().enumerate() {
        let place = if big { width - 1 - i } else { i };
        *byte = (value >> (8 * place)) as u8;
    }
}

/// Replaces the number that is written next after `at`.
fn decimal(draw: &mut Draw, data: &mut Vec<u8>, at: usize) {
    let digit = |from: usize| data[from..].iter().position(u8::is_ascii_digit).map(|found| from + found);
    let Some(start) = digit(at).or_else(|| digit(0)) else { return };
    let count = data[start..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    data.splice(start..start + count, draw.pick(NUMBERS).bytes());
}
