//! Pictures: decoded, and their size read without decoding. Which kind a file is decides its content.

use llmore::image::Image;

use crate::fuzz::frames::Frame;
use crate::fuzz::reader::{Input, Read, Reader, Seed, files, seeds};

/// The largest seed: the smallest pictures have every kind of coding as well.
const LARGEST: usize = 1400;

pub const PNG: Reader = Reader {
    name: "png",
    seeds: || of(&["decode"], ".png", Frame::Png),
    words: &["IHDR", "PLTE", "tRNS", "IDAT", "IEND", "acTL", "fcTL", "fdAT", "eXIf", "iCCP", "gAMA"],
    open: |_| decode(),
};

pub const JPEG: Reader = Reader {
    name: "jpeg",
    seeds: || of(&["decode"], ".jpg", Frame::Bytes),
    words: &["JFIF", "Exif", "Adobe"],
    open: |_| decode(),
};

pub const GIF: Reader = Reader {
    name: "gif",
    seeds: || of(&["decode"], ".gif", Frame::Bytes),
    words: &["GIF87a", "GIF89a", "NETSCAPE2.0", "!", ","],
    open: |_| decode(),
};

pub const WEBP: Reader = Reader {
    name: "webp",
    seeds: || of(&["decode"], ".webp", Frame::Bytes),
    words: &["RIFF", "WEBP", "VP8 ", "VP8L", "VP8X", "ALPH", "ANIM", "ANMF", "EXIF"],
    open: |_| decode(),
};

pub const TIFF: Reader = Reader {
    name: "tiff",
    seeds: || of(&["tiff"], ".tif", Frame::Bytes),
    words: &["II*\0", "MM\0*", "II+\0"],
    open: |_| decode(),
};

pub const BMP: Reader = Reader {
    name: "bmp",
    seeds: || of(&["decode"], ".bmp", Frame::Bytes),
    words: &["BM", "BGRs", "\0\0"],
    open: |_| decode(),
};

fn of(folders: &[&str], ending: &str, frame: Frame) -> Vec<Seed> {
    let all = folders.iter().flat_map(|folder| files(&format!("tests/fixtures/images/{folder}"), ending, LARGEST));
    seeds(ending, frame, all.collect())
}

/// The most pixels that are decoded here. A picture may have 178,956,970, as with Pillow, and takes seconds for all of them,
/// whatever its file's length: a mutated size is no hang.
const PIXELS: usize = 1 << 24;

fn decode() -> Read {
    Box::new(|input: &Input| {
        let size = Image::size_of(&input.bytes);
        if size.as_ref().is_ok_and(|(width, height)| width * height > PIXELS) {
            return false;
        }
        let image = Image::decode(&input.bytes, "picture");
        if let Ok(image) = &image {
            assert_eq!(image.pixels.len(), image.width * image.height * 3, "{size:?}");
        }
        image.is_ok()
    })
}
