//! Decoding by content to 8-bit RGB with Pillow's conversions: alpha is dropped, not blended; 16-bit gray is
//! clipped at 255, other 16-bit samples keep their high byte. Truncated files are errors, as in Pillow.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use super::Image;
use crate::error::{Error, Result};
use crate::{bail, error};

/// Pillow refuses larger images too (twice its `MAX_IMAGE_PIXELS`).
const MAX_PIXELS: u64 = 178_956_970;

const FORMATS: [(ImageFormat, &str); 5] = [
    (ImageFormat::Png, "PNG"),
    (ImageFormat::Jpeg, "JPEG"),
    (ImageFormat::Gif, "GIF"),
    (ImageFormat::Bmp, "BMP"),
    (ImageFormat::WebP, "WebP"),
];

pub(super) fn decode(bytes: &[u8], name: &str) -> Result<Image> {
    let (format, kind) = format_of(bytes).map_err(|found| unusable(name, &found))?;
    let damaged = |found: &dyn std::fmt::Display| {
        error!(Decode, "`{name}` is a damaged {kind} file: {found}").help("fetch it again or leave it out")
    };
    if format == ImageFormat::Jpeg && !jpeg_is_complete(bytes) {
        return Err(damaged(&format!("it ends after {} bytes, before the image does", bytes.len())));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.no_limits();
    let decoder = reader.into_decoder().map_err(|error| damaged(&error))?;
    let (width, height) = decoder.dimensions();
    check_size(name, u64::from(width), u64::from(height))?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(|error| damaged(&error))?;
    let (width, height) = (width as usize, height as usize);
    Ok(Image { width, height, pixels: rgb(decoded, is_gray16(format, bytes)).into() })
}

pub(super) fn size_of(bytes: &[u8]) -> Result<(usize, usize)> {
    let (format, kind) = format_of(bytes).map_err(|found| unusable("image", &found))?;
    let (width, height) = ImageReader::with_format(Cursor::new(bytes), format)
        .into_dimensions()
        .map_err(|error| error!(Decode, "damaged {kind} header: {error}"))?;
    check_size("image", u64::from(width), u64::from(height))?;
    Ok((width as usize, height as usize))
}

fn check_size(name: &str, width: u64, height: u64) -> Result<()> {
    if width == 0 || height == 0 {
        bail!(Decode, "`{name}` has no pixels: it says {width} x {height}");
    }
    if width * height > MAX_PIXELS {
        return Err(error!(Decode, "`{name}` says it has {width} x {height} pixels, more than {MAX_PIXELS}")
            .help("scale it down first"));
    }
    Ok(())
}

/// The format, or what the bytes are instead.
fn format_of(bytes: &[u8]) -> std::result::Result<(ImageFormat, &'static str), String> {
    match image::guess_format(bytes) {
        Ok(format) => match FORMATS.into_iter().find(|(known, _)| *known == format) {
            Some(found) => Ok(found),
            None => Err(format!("it is {}", format.to_mime_type())),
        },
        Err(_) if bytes.is_empty() => Err("it is empty".to_string()),
        Err(_) => {
            let head = &bytes[..bytes.len().min(16)];
            let printable = head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
            match printable {
                true => Err(format!("it begins with the text {:?}", String::from_utf8_lossy(head))),
                false => Err(format!("it begins with the bytes {head:02x?}")),
            }
        }
    }
}

fn unusable(name: &str, found: &str) -> Error {
    error!(Decode, "`{name}` is not a PNG, JPEG, GIF, BMP or WebP file: {found}")
}

/// Whether a PNG header says 16 bits of gray without alpha.
fn is_gray16(format: ImageFormat, bytes: &[u8]) -> bool {
    format == ImageFormat::Png && bytes.get(24..26) == Some(&[16, 0])
}

fn rgb(decoded: DynamicImage, gray16: bool) -> Vec<u8> {
    let clip = |sample: u16| sample.min(255) as u8;
    let high = |sample: u16| (sample >> 8) as u8;
    match decoded {
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageLuma16(image) => image.as_raw().iter().flat_map(|v| [clip(*v); 3]).collect(),
        // Gray with one transparent level comes with an alpha channel that is not stored.
        DynamicImage::ImageLumaA16(image) if gray16 => image.pixels().flat_map(|pixel| [clip(pixel.0[0]); 3]).collect(),
        DynamicImage::ImageLumaA16(image) => image.pixels().flat_map(|pixel| [high(pixel.0[0]); 3]).collect(),
        DynamicImage::ImageRgb16(image) => image.as_raw().iter().map(|v| high(*v)).collect(),
        DynamicImage::ImageRgba16(image) => {
            image.pixels().flat_map(|pixel| [pixel.0[0], pixel.0[1], pixel.0[2]].map(high)).collect()
        }
        // 8-bit samples: gray is repeated, alpha dropped.
        other => other.into_rgb8().into_raw(),
    }
}

/// Whether the scans of a JPEG file run to their end marker; decoders fill in what is missing without a word.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    let mut in_scan = false;
    while let Some(&byte) = bytes.get(at) {
        let marker = bytes.get(at + 1).copied().unwrap_or(0);
        match (byte, marker) {
            (0xff, 0xd9) => return true,
            (0xff, 0xff) => at += 1,
            // Inside a scan: an escaped byte or a restart marker.
            (0xff, 0x00 | 0xd0..=0xd7) if in_scan => at += 2,
            (0xff, _) => {
                let length = match bytes.get(at + 2..at + 4) {
                    Some(length) => usize::from(length[0]) << 8 | usize::from(length[1]),
                    None => return false,
                };
                in_scan = marker == 0xda;
                at += 2 + length.max(2);
            }
            _ => at += 1,
        }
    }
    false
}
