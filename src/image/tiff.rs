//! TIFF with exactly the pixels of Pillow 13.0.0 (`TiffImagePlugin.py`, the table `OPEN_INFO`): the library datasets stores
//! pictures of modes P, CMYK, I;16 and F as TIFF. The crate `tiff` decodes compression, predictors, strips and tiles; the
//! meaning of samples is decided here. That crate knows no palettes, so every picture is presented to it as plain samples.

use std::io::Cursor;

use ::tiff::decoder::{Decoder, Limits};

use super::foreign::CONVERT;
use super::jpeg::rgb_of_cmyk;
use crate::bail;
use crate::error;
use crate::error::{Error, Result};

/// The first bytes of a file: byte order, and whether it is BigTIFF.
const BEGINNINGS: [(&[u8], bool, bool); 4] =
    [(b"II\x2a\0", false, false), (b"MM\0\x2a", true, false), (b"II\x2b\0", false, true), (b"MM\0\x2b", true, true)];

/// Numbers of tags.
mod tag {
    pub(super) const WIDTH: u16 = 256;
    pub(super) const HEIGHT: u16 = 257;
    pub(super) const BITS: u16 = 258;
    pub(super) const COMPRESSION: u16 = 259;
    pub(super) const PHOTOMETRIC: u16 = 262;
    pub(super) const FILL_ORDER: u16 = 266;
    pub(super) const STRIP_OFFSETS: u16 = 273;
    pub(super) const ORIENTATION: u16 = 274;
    pub(super) const SAMPLES: u16 = 277;
    pub(super) const STRIP_COUNTS: u16 = 279;
    pub(super) const PLANAR: u16 = 284;
    pub(super) const PREDICTOR: u16 = 317;
    pub(super) const COLORS: u16 = 320;
    pub(super) const TILE_WIDTH: u16 = 322;
    pub(super) const TILE_HEIGHT: u16 = 323;
    pub(super) const TILE_OFFSETS: u16 = 324;
    pub(super) const TILE_COUNTS: u16 = 325;
    pub(super) const EXTRA: u16 = 338;
    pub(super) const FORMAT: u16 = 339;
}

/// The largest number of values read from a tag: three for each of 256 colors.
const MOST_VALUES: usize = 768;
/// The largest side of a tile.
const TILE_SIDE: u64 = 1 << 16;
/// Bytes of memory that the decoder takes for a byte of a list of numbers.
const LIST_BYTES: usize = 64;
/// Memory that any picture may take: tiles are larger than small pictures.
const ROOM: usize = 64 << 20;
/// Gray with zero as black: how every picture is presented to the decoder.
const PLAIN: u16 = 1;

const COMPRESSIONS: [(u64, &str); 12] = [
    (2, "CCITT compression"),
    (3, "CCITT (fax 3) compression"),
    (4, "CCITT (fax 4) compression"),
    (6, "old JPEG compression"),
    (7, "JPEG compression"),
    (32_771, "CCITT compression"),
    (32_809, "ThunderScan compression"),
    (34_676, "SGI log compression"),
    (34_677, "SGI log compression"),
    (34_925, "LZMA compression"),
    (50_000, "Zstandard compression"),
    (50_001, "WebP compression"),
];

/// Whether the bytes begin as a TIFF file.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    BEGINNINGS.iter().any(|(beginning, ..)| bytes.starts_with(beginning))
}

/// The fields of the first picture's directory.
pub(super) struct Header {
    width: usize,
    height: usize,
    bits: u64,
    samples: usize,
    /// The role of samples beyond those of the color.
    extra: Vec<u64>,
    /// 1: whole numbers, 2: with a sign, 3: floats.
    format: u64,
    photometric: u64,
    /// The position in the file of that number.
    photometric_at: usize,
    compression: u64,
    orientation: u64,
    is_planar: bool,
    is_big_endian: bool,
    colors: Vec<u64>,
}

/// The meaning of a pixel's samples.
enum Meaning {
    /// Up to 8 bits, scaled to 8; inverted where white is 0.
    Gray {
        inverted: bool,
    },
    /// Clipped to 0..255.
    Clipped,
    Palette,
    /// The first three samples are red, green and blue, `premultiplied` by the fourth or not.
    Rgb {
        premultiplied: bool,
    },
    Cmyk,
}

impl Header {
    /// Reads the directory; nothing is decoded.
    pub(super) fn read(bytes: &[u8], name: &str) -> Result<Self> {
        let directory = Directory::read(bytes).ok_or_else(|| damaged(name, "its directory is not whole"))?;
        let one = |tag: u16, default: u64| directory.values(tag).first().copied().unwrap_or(default);
        if one(tag::FILL_ORDER, 1) != 1 {
            return Err(unread(name, "reversed bits (FillOrder 2)"));
        }
        let samples = one(tag::SAMPLES, 1) as usize;
        let same = |tag: u16, default: u64| {
            let values = directory.values(tag);
            let first = values.first().copied().unwrap_or(default);
            (values.iter().all(|value| *value == first) && values.len() <= samples.max(1)).then_some(first)
        };
        let (Some(bits), Some(format)) = (same(tag::BITS, 1), same(tag::FORMAT, 1)) else {
            return Err(unread(name, "samples of several kinds in a pixel"));
        };
        let Some(photometric_at) = directory.short_at(tag::PHOTOMETRIC) else {
            return Err(unread(name, "no PhotometricInterpretation, which says what its samples mean"));
        };
        let photometric = one(tag::PHOTOMETRIC, 0);
        if [tag::TILE_WIDTH, tag::TILE_HEIGHT].iter().any(|tag| one(*tag, 1) > TILE_SIDE) {
            return Err(unread(name, "tiles of more than 65,536 pixels a side"));
        }
        let compression = one(tag::COMPRESSION, 1);
        if compression == 1 && one(tag::PREDICTOR, 1) != 1 {
            return Err(unread(name, "a predictor without compression"));
        }
        Ok(Header {
            width: one(tag::WIDTH, 0) as usize,
            height: one(tag::HEIGHT, 0) as usize,
            bits,
            samples,
            extra: directory.values(tag::EXTRA),
            format,
            photometric,
            photometric_at,
            compression,
            orientation: one(tag::ORIENTATION, 1),
            is_planar: one(tag::PLANAR, 1) == 2,
            is_big_endian: directory.is_big_endian,
            colors: directory.values(tag::COLORS),
        })
    }

    /// Width and height after the orientation is applied.
    pub(super) fn size(&self) -> (usize, usize) {
        if (5..=8).contains(&self.orientation) { (self.height, self.width) } else { (self.width, self.height) }
    }

    /// The RGB bytes of a picture; the caller has checked its size.
    pub(super) fn rgb(&self, bytes: &[u8], name: &str) -> Result<Vec<u8>> {
        let meaning = self.meaning(name)?;
        let samples = self.samples(bytes, name)?;
        let pixel = |x: usize, y: usize| -> [u8; 3] {
            let value = |channel: usize| samples.at(x, y, channel);
            let byte = |channel: usize| value(channel).clamp(0.0, 255.0) as u8;
            match meaning {
                Meaning::Gray { inverted } => {
                    let level = byte(0) as u32 * 255 / samples.most;
                    [if inverted { 255 - level as u8 } else { level as u8 }; 3]
                }
                Meaning::Clipped => [byte(0); 3],
                Meaning::Palette => {
                    let (index, count) = (byte(0) as usize, self.colors.len() / 3);
                    [0, 1, 2].map(|channel| self.color(channel * count + index, index < count))
                }
                Meaning::Rgb { premultiplied: false } => [byte(0), byte(1), byte(2)],
                Meaning::Rgb { premultiplied: true } => unmultiplied([byte(0), byte(1), byte(2), byte(3)]),
                Meaning::Cmyk => rgb_of_cmyk([0, 1, 2, 3].map(|channel| 255 - byte(channel))),
            }
        };
        let (width, height) = self.size();
        let mut out = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                let (x, y) = self.stored_at(x, y);
                out.extend(pixel(x, y));
            }
        }
        Ok(out)
    }

    /// The stored position of a pixel of the picture after the orientation is applied.
    fn stored_at(&self, x: usize, y: usize) -> (usize, usize) {
        let (right, bottom) = (|x: usize| self.width - 1 - x, |y: usize| self.height - 1 - y);
        match self.orientation {
            2 => (right(x), y),
            3 => (right(x), bottom(y)),
            4 => (x, bottom(y)),
            5 => (y, x),
            6 => (y, bottom(x)),
            7 => (right(y), bottom(x)),
            8 => (right(y), x),
            _ => (x, y),
        }
    }

    fn color(&self, at: usize, known: bool) -> u8 {
        self.colors.get(at).filter(|_| known).map_or(0, |value| (value >> 8) as u8)
    }

    /// The meaning of the samples in Pillow, or an error where Pillow refuses them.
    fn meaning(&self, name: &str) -> Result<Meaning> {
        if let Some((_, what)) = COMPRESSIONS.iter().find(|(number, _)| *number == self.compression) {
            return Err(unread(name, what));
        }
        if ![1, 5, 8, 32_773, 32_946].contains(&self.compression) {
            return Err(unread(name, &format!("compression {}", self.compression)));
        }
        let is_intel = !self.is_big_endian;
        let found = match (self.photometric, self.format, self.bits, self.samples, &self.extra[..]) {
            (photometric @ (0 | 1), 1, 1 | 2 | 4 | 8, 1, []) => Meaning::Gray { inverted: photometric == 0 },
            (1, 2, 8, 1, []) | (6, 1, 8, 1, []) | (1, 1, 8, 2, [0 | 2]) => Meaning::Gray { inverted: false },
            (1, 1 | 2, 16, 1, []) | (1, 2, 32, 1, []) | (0 | 1, 3, 32, 1, []) => Meaning::Clipped,
            (0, 1, 16, 1, []) | (1, 1, 32, 1, []) if is_intel => Meaning::Clipped,
            (3, 1, 1 | 2 | 4 | 8, 1, []) | (3, 1, 8, 2, [0 | 2]) => Meaning::Palette,
            (2, 1, 8 | 16, 3, []) | (2, 1, 8 | 16, 4, [] | [0 | 2]) | (2, 1, 8, 4, [999]) => {
                Meaning::Rgb { premultiplied: false }
            }
            (2, 1, 8, 5, [0 | 2, 0]) | (2, 1, 8, 6, [0 | 2, 0, 0]) => Meaning::Rgb { premultiplied: false },
            (2, 1, 8 | 16, 4, [1]) | (2, 1, 8, 5, [1, 0]) | (2, 1, 8, 6, [1, 0, 0]) if !self.is_planar => {
                Meaning::Rgb { premultiplied: true }
            }
            (5, 1, 8 | 16, 4, []) | (5, 1, 8, 5, [0]) | (5, 1, 8, 6, [0, 0]) => Meaning::Cmyk,
            (6, ..) => return Err(unread(name, "YCbCr samples")),
            (8..=10, ..) => return Err(unread(name, "Lab samples")),
            _ => {
                let Header { photometric, format, bits, samples, extra, .. } = self;
                let what = format!(
                    "{samples} samples of {bits} bits a pixel (PhotometricInterpretation {photometric}, SampleFormat \
                     {format}, ExtraSamples {extra:?})"
                );
                return Err(unread(name, &what));
            }
        };
        if matches!(found, Meaning::Palette) && self.colors.len() < 3 << self.bits {
            return Err(damaged(name, &format!("its palette ends after {} values", self.colors.len())));
        }
        if self.is_planar && self.bits != 8 && self.samples > 1 {
            return Err(unread(name, "16-bit samples in planes"));
        }
        Ok(found)
    }

    /// The most memory the decoder may take: for the samples, of up to 32 bits, and for the lists of a file of so many bytes.
    fn limits(&self, bytes: usize) -> Limits {
        let samples = self.width.saturating_mul(self.height).saturating_mul(self.samples).saturating_mul(4);
        let lists = bytes.saturating_mul(LIST_BYTES);
        let mut limits = Limits::unlimited();
        limits.decoding_buffer_size = samples.max(lists).saturating_add(ROOM);
        limits.intermediate_buffer_size = limits.decoding_buffer_size;
        limits.ifd_value_size = lists.saturating_add(ROOM);
        limits
    }

    fn samples(&self, bytes: &[u8], name: &str) -> Result<Samples> {
        let mut shown = bytes.to_vec();
        let plain = if self.is_big_endian { PLAIN.to_be_bytes() } else { PLAIN.to_le_bytes() };
        if let Some(place) = shown.get_mut(self.photometric_at..self.photometric_at + 2) {
            place.copy_from_slice(&plain);
        }
        // The end of a compressed stream may be missing though all its pixels are there; Pillow refuses such a file.
        if self.compression != 1 && Directory::read(bytes).is_none_or(|directory| directory.is_cut()) {
            return Err(damaged(name, "it is cut off"));
        }
        let failed = |error: ::tiff::TiffError| damaged(name, &error.to_string());
        let mut decoder = Decoder::new(Cursor::new(shown)).map_err(failed)?.with_limits(self.limits(bytes.len()));
        let layout = decoder.image_buffer_layout().map_err(failed)?;
        let mut data = vec![0; layout.complete_len];
        decoder.read_image_bytes(&mut data).map_err(failed)?;
        let per_pixel = if self.is_planar { 1 } else { self.samples };
        let row = layout.row_stride.map_or(0, |stride| stride.get());
        let plane = layout.plane_stride.map_or(0, |stride| stride.get());
        let planes = if self.is_planar { self.samples } else { 1 };
        if row * 8 < self.width * per_pixel * self.bits as usize
            || data.len() < plane * (planes - 1) + row * self.height
        {
            bail!(Decode, "`{name}` is a damaged TIFF file: its parts do not make up the picture");
        }
        // 16-bit colors keep their high byte.
        let high = self.bits == 16 && self.samples > 1;
        let kind = match (self.bits, self.format) {
            (16, 1) if high => Kind::High,
            (16, 1) => Kind::U16,
            (16, _) => Kind::I16,
            (32, 3) => Kind::F32,
            (32, _) => Kind::I32,
            (bits, _) => Kind::Bits(bits as usize),
        };
        let most = if self.bits < 8 { (1 << self.bits) - 1 } else { 255 };
        Ok(Samples { data, row, plane, per_pixel, is_planar: self.is_planar, kind, most })
    }
}

/// Decoded samples, in the byte order of this machine.
struct Samples {
    data: Vec<u8>,
    /// Bytes of a row and of a plane.
    row: usize,
    plane: usize,
    per_pixel: usize,
    is_planar: bool,
    kind: Kind,
    /// The largest value of a sample of up to 8 bits.
    most: u32,
}

enum Kind {
    /// Samples of up to 8 bits, the first one in the highest bits.
    Bits(usize),
    U16,
    /// The high byte of a 16-bit sample.
    High,
    I16,
    I32,
    F32,
}

impl Samples {
    fn at(&self, x: usize, y: usize, channel: usize) -> f64 {
        let (plane, place) = if self.is_planar { (channel, x) } else { (0, x * self.per_pixel + channel) };
        let row = &self.data[plane * self.plane + y * self.row..];
        let two = || [row[place * 2], row[place * 2 + 1]];
        let four = || [row[place * 4], row[place * 4 + 1], row[place * 4 + 2], row[place * 4 + 3]];
        match self.kind {
            Kind::Bits(8) => f64::from(row[place]),
            Kind::Bits(bits) => {
                let first = place * bits;
                f64::from(row[first / 8] >> (8 - bits - first % 8) & ((1 << bits) - 1))
            }
            Kind::U16 => f64::from(u16::from_ne_bytes(two())),
            Kind::High => f64::from(u16::from_ne_bytes(two()) >> 8),
            Kind::I16 => f64::from(i16::from_ne_bytes(two())),
            Kind::I32 => f64::from(i32::from_ne_bytes(four())),
            Kind::F32 => f64::from(f32::from_ne_bytes(four())),
        }
    }
}

/// Pillow's integer division by alpha; fully transparent pixels are black.
fn unmultiplied([red, green, blue, alpha]: [u8; 4]) -> [u8; 3] {
    let divided = |sample: u8| (u32::from(sample) * 255).checked_div(u32::from(alpha)).unwrap_or(0).min(255) as u8;
    [red, green, blue].map(divided)
}

/// The entries of a directory: tag, type, number of values, their position.
struct Directory<'a> {
    bytes: &'a [u8],
    is_big_endian: bool,
    entries: Vec<(u16, u16, usize, usize)>,
}

impl<'a> Directory<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (_, is_big_endian, is_large) = *BEGINNINGS.iter().find(|(beginning, ..)| bytes.starts_with(beginning))?;
        let mut directory = Directory { bytes, is_big_endian, entries: Vec::new() };
        let number = |at: usize, length: usize| directory.number(at, length);
        let (word, start) = if is_large { (8, number(8, 8)?) } else { (4, number(4, 4)?) };
        let start = usize::try_from(start).ok()?;
        let head = if is_large { 8 } else { 2 };
        let count = usize::try_from(number(start, head)?).ok()?.min(bytes.len());
        let mut entries = Vec::new();
        for index in 0..count {
            let at = start.checked_add(head + index * (4 + 2 * word))?;
            let (tag, kind) = (number(at, 2)? as u16, number(at + 2, 2)? as u16);
            let length = usize::try_from(number(at + 4, word)?).ok()?;
            let place = at + 4 + word;
            let inside = length.checked_mul(size_of(kind)).is_some_and(|total| total <= word);
            let place = if inside { place } else { usize::try_from(number(place, word)?).ok()? };
            entries.push((tag, kind, length, place));
        }
        directory.entries = entries;
        Some(directory)
    }

    fn number(&self, at: usize, length: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(length)?)?;
        let push = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if self.is_big_endian { bytes.iter().fold(0, push) } else { bytes.iter().rev().fold(0, push) })
    }

    /// The integers of a tag; none where it is absent or of another type.
    fn values(&self, tag: u16) -> Vec<u64> {
        let Some((_, kind, length, place)) = self.entries.iter().find(|entry| entry.0 == tag) else {
            return Vec::new();
        };
        let size = match kind {
            1 | 3 | 4 | 16 => size_of(*kind),
            _ => return Vec::new(),
        };
        (0..(*length).min(MOST_VALUES)).map_while(|index| self.number(place.checked_add(index * size)?, size)).collect()
    }

    /// Whether the last strip or tile ends behind the end of the file.
    fn is_cut(&self) -> bool {
        let last = |tag: u16| {
            let (_, kind, length, place) = self.entries.iter().find(|entry| entry.0 == tag)?;
            self.number(place.checked_add(length.checked_sub(1)? * size_of(*kind))?, size_of(*kind))
        };
        let end = |offsets: u16, counts: u16| last(offsets)?.checked_add(last(counts)?);
        let ends = [end(tag::STRIP_OFFSETS, tag::STRIP_COUNTS), end(tag::TILE_OFFSETS, tag::TILE_COUNTS)];
        ends.into_iter().flatten().any(|end| end > self.bytes.len() as u64)
    }

    /// The position of a tag's only value, if that has two bytes.
    fn short_at(&self, tag: u16) -> Option<usize> {
        self.entries.iter().find(|entry| (entry.0, entry.1, entry.2) == (tag, 3, 1)).map(|entry| entry.3)
    }
}

/// The number of bytes of a value of a type.
fn size_of(kind: u16) -> usize {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 1,
    }
}

fn damaged(name: &str, found: &str) -> Error {
    error!(Decode, "`{name}` is a damaged TIFF file: {found}").help("fetch it again or leave it out")
}

fn unread(name: &str, what: &str) -> Error {
    error!(Decode, "`{name}` is a TIFF file with {what}, which this program does not read").help(CONVERT)
}
