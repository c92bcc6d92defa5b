//! Decoding by content to 8-bit RGB with Pillow's conversions: alpha is dropped, not blended; 16-bit gray is
//! clipped at 255, other 16-bit samples keep their high byte. Truncated files are errors, as in Pillow, which does not
//! check the end of a PNG once it has all the pixels.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, ImageReader, Limits};

use super::{Image, foreign, gif, jpeg, png, tiff};
use crate::error::{Error, Result};
use crate::{bail, error, guard};

/// Pillow refuses larger images too (twice its `MAX_IMAGE_PIXELS`).
const MAX_PIXELS: usize = 178_956_970;

/// The most memory of a decoder: the largest image in 16 bits with alpha, and room for what is beside it.
const MAX_BYTES: u64 = MAX_PIXELS as u64 * 8 + (64 << 20);

/// The formats, their names, and the libraries that read them.
const FORMATS: [(ImageFormat, &str, &str); 6] = [
    (ImageFormat::Png, "PNG", "png"),
    (ImageFormat::Jpeg, "JPEG", "libjpeg"),
    (ImageFormat::Gif, "GIF", "gif"),
    (ImageFormat::Bmp, "BMP", "image"),
    (ImageFormat::WebP, "WebP", "image-webp"),
    (ImageFormat::Tiff, "TIFF", "tiff"),
];

/// A format, and what it and its library are called.
struct Found {
    format: ImageFormat,
    kind: &'static str,
    library: &'static str,
}

pub(super) fn decode(bytes: &[u8], name: &str) -> Result<Image> {
    decode_by(decode_as, bytes, name)
}

type Reader = fn(&Found, &[u8], &str) -> Result<Image>;

/// Every library is called from here; a test puts another reader in their place.
fn decode_by(reader: Reader, bytes: &[u8], name: &str) -> Result<Image> {
    let found = format_of(bytes, name)?;
    guard::read(found.library, &name, || reader(&found, bytes, name))
}

fn decode_as(&Found { format, kind, .. }: &Found, bytes: &[u8], name: &str) -> Result<Image> {
    let damaged = |found: String| {
        error!(Decode, "`{name}` is a damaged {kind} file: {found}").help("fetch it again or leave it out")
    };
    if format == ImageFormat::Tiff {
        let header = tiff::Header::read(bytes, name)?;
        let (width, height) = header.size();
        check_size(name, width, height)?;
        return Ok(Image { width, height, pixels: header.rgb(bytes, name)?.into() });
    }
    let (width, height) = size_in(bytes, format).map_err(damaged)?;
    check_size(name, width, height)?;
    let pixels = match format {
        ImageFormat::Png => decoded(bytes, format)
            .or_else(|found| png::ended(bytes).and_then(|whole| decoded(&whole, format).ok()).ok_or(found)),
        ImageFormat::Jpeg => jpeg::rgb(bytes),
        ImageFormat::Gif => gif::rgb(bytes),
        _ => decoded(bytes, format),
    };
    let pixels = pixels.map_err(damaged)?;
    if pixels.len() != width * height * 3 {
        let (there, expected) = (pixels.len(), width * height * 3);
        return Err(damaged(format!("{there} bytes of pixels, {width} x {height} pixels have {expected}")));
    }
    Ok(Image { width, height, pixels: pixels.into() })
}

pub(super) fn size_of(bytes: &[u8]) -> Result<(usize, usize)> {
    let Found { format, kind, library } = format_of(bytes, "image")?;
    let (width, height) = guard::read(library, &"image", || match format {
        ImageFormat::Tiff => Ok(tiff::Header::read(bytes, "image")?.size()),
        _ => size_in(bytes, format).map_err(|found| error!(Decode, "damaged {kind} header: {found}")),
    })?;
    check_size("image", width, height)?;
    Ok((width, height))
}

/// Width and height from the header.
fn size_in(bytes: &[u8], format: ImageFormat) -> std::result::Result<(usize, usize), String> {
    match format {
        ImageFormat::Jpeg => jpeg::size(bytes),
        ImageFormat::Gif => gif::size(bytes),
        _ => {
            let (width, height) = reader(bytes, format).into_dimensions().map_err(|error| error.to_string())?;
            Ok((width as usize, height as usize))
        }
    }
}

/// The size is checked before anything is decoded; the limit is for what a file may hold beside its pixels, packed.
fn reader(bytes: &[u8], format: ImageFormat) -> ImageReader<Cursor<&[u8]>> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    reader
}

fn decoded(bytes: &[u8], format: ImageFormat) -> std::result::Result<Vec<u8>, String> {
    reader(bytes, format).decode().map(|decoded| rgb(decoded, format, bytes)).map_err(|error| error.to_string())
}

fn check_size(name: &str, width: usize, height: usize) -> Result<()> {
    if width == 0 || height == 0 {
        bail!(Decode, "`{name}` has no pixels: it says {width} x {height}");
    }
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(error!(Decode, "`{name}` says it has {width} x {height} pixels, more than {MAX_PIXELS}")
            .help("scale it down first"));
    }
    Ok(())
}

/// The format, or an error that names the format that was found instead.
fn format_of(bytes: &[u8], name: &str) -> Result<Found> {
    let guessed = if tiff::is_one(bytes) { Some(ImageFormat::Tiff) } else { image::guess_format(bytes).ok() };
    let known = guessed.and_then(|format| FORMATS.into_iter().find(|(known, ..)| *known == format));
    let Some((format, kind, library)) = known else { return Err(unusable(name, bytes)) };
    if let Some(coding) = (format == ImageFormat::Jpeg).then(|| jpeg::unread_coding(bytes)).flatten() {
        return Err(error!(Decode, "`{name}` is a JPEG file with {coding}, which this program does not read")
            .help(foreign::CONVERT));
    }
    Ok(Found { format, kind, library })
}

fn unusable(name: &str, bytes: &[u8]) -> Error {
    let not = |found: String| error!(Decode, "`{name}` is not a PNG, JPEG, GIF, BMP, WebP or TIFF file: {found}");
    if bytes.is_empty() {
        return not("it is empty".to_string());
    }
    if let Some((kind, help)) = foreign::named(bytes) {
        return not(format!("it is {kind}")).help(help);
    }
    let head = &bytes[..bytes.len().min(16)];
    match head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        true => not(format!("it begins with the text {:?}", String::from_utf8_lossy(head))),
        false => not(format!("it begins with the bytes {head:02x?}")),
    }
}

/// Converts the output of the `image` crate for a PNG, BMP or WebP file to Pillow's bytes.
fn rgb(decoded: DynamicImage, format: ImageFormat, bytes: &[u8]) -> Vec<u8> {
    // The PNG header has 16 bits of gray without alpha.
    let gray16 = format == ImageFormat::Png && bytes.get(24..26) == Some(&[16, 0]);
    let bmp16 = format == ImageFormat::Bmp && bytes.get(28..30) == Some(&[16, 0]);
    let clip = |sample: u16| sample.min(255) as u8;
    let high = |sample: u16| (sample >> 8) as u8;
    match decoded {
        DynamicImage::ImageRgb8(image) if bmp16 => {
            image.as_raw().as_chunks().0.iter().flat_map(|pixel| truncated(*pixel, green_bits(bytes))).collect()
        }
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageLuma16(image) => image.as_raw().iter().flat_map(|v| [clip(*v); 3]).collect(),
        // The crate adds an alpha channel to gray with one transparent level; it is not stored in the file.
        DynamicImage::ImageLumaA16(image) if gray16 => image.pixels().flat_map(|pixel| [clip(pixel.0[0]); 3]).collect(),
        DynamicImage::ImageLumaA16(image) => image.pixels().flat_map(|pixel| [high(pixel.0[0]); 3]).collect(),
        DynamicImage::ImageRgb16(image) => image.as_raw().iter().map(|v| high(*v)).collect(),
        DynamicImage::ImageRgba16(image) => {
            image.pixels().flat_map(|pixel| [pixel.0[0], pixel.0[1], pixel.0[2]].map(high)).collect()
        }
        DynamicImage::ImageRgba8(image) => without_alpha(image.into_raw()),
        // 8-bit samples: gray is repeated, alpha dropped.
        other => other.into_rgb8().into_raw(),
    }
}

/// RGB of RGBA, in the same memory: a large picture is not there twice.
fn without_alpha(mut bytes: Vec<u8>) -> Vec<u8> {
    let pixels = bytes.len() / 4;
    for pixel in 1..pixels {
        bytes.copy_within(4 * pixel..4 * pixel + 3, 3 * pixel);
    }
    bytes.truncate(3 * pixels);
    bytes.shrink_to_fit();
    bytes
}

/// Bits of green in a 16-bit pixel of a BMP file: 6 where color masks (compression 3) define it so, else 5.
fn green_bits(bytes: &[u8]) -> u32 {
    let has_masks = bytes.get(30) == Some(&3);
    if has_masks && bytes.get(58..62) == Some(&0x7e0u32.to_le_bytes()) { 6 } else { 5 }
}

/// Samples of 5 bits (green: `green_bits`) scaled to 8 bits, truncated, not rounded.
fn truncated(pixel: [u8; 3], green_bits: u32) -> [u8; 3] {
    let sample = |value: u8, bits: u32| (u32::from(value >> (8 - bits)) * 255 / ((1 << bits) - 1)) as u8;
    [sample(pixel[0], 5), sample(pixel[1], green_bits), sample(pixel[2], 5)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_goes_and_the_rest_stays_in_order() {
        assert_eq!(without_alpha(vec![1, 2, 3, 0, 4, 5, 6, 9, 7, 8, 9, 255]), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(without_alpha(Vec::new()).is_empty());
    }

    #[test]
    fn a_decoder_that_panics_is_an_error_with_the_names_of_file_and_library() {
        let png = Image::filled(2, 2, [9; 3]).to_png().unwrap();
        assert!(decode(&png, "x.png").is_ok());
        let error = decode_by(|_, _, _| panic!("attempt to divide by zero"), &png, "x.png").unwrap_err();
        let text = error.message();
        assert!(text.starts_with("`x.png`: the library png broke off (decode.rs:"), "{text}");
        assert!(text.ends_with("attempt to divide by zero"), "{text}");
    }
}
