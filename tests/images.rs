//! Image processors against the reference's pixels (transformers and Pillow), and decoding of odd files.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use llmore::error::Kind;
use llmore::image::{Aspect, Image, ImageProcessor, Order, Resample, Resize};
use serde::Deserialize;
use sha2::{Digest, Sha256};

const FOLDER: &str = "tests/fixtures/images";

#[derive(Deserialize)]
struct Expected {
    image: String,
    width: usize,
    height: usize,
    tower: String,
    aspect: Aspect,
    key: String,
    shape: [usize; 3],
    sha256_u8: String,
    check: String,
}

/// A file of `decode/`; without a size it is one that Pillow refuses.
#[derive(Deserialize)]
struct Decoded {
    file: String,
    width: Option<usize>,
    height: Option<usize>,
    sha256: Option<String>,
}

fn processor(tower: &str) -> ImageProcessor {
    let half = [0.5; 3];
    let exact = Resize::Exact { height: 384, width: 384 };
    let siglip = |resample| ImageProcessor {
        resize: exact,
        crop: None,
        resample,
        rescale: 1.0 / 255.0,
        normalize: true,
        mean: half,
        std: half,
        order: Order::ResizeFirst,
    };
    match tower {
        "openai/clip-vit-large-patch14-336" => ImageProcessor {
            resize: Resize::ShortestEdge(336),
            crop: Some((336, 336)),
            resample: Resample::Bicubic,
            rescale: 1.0 / 255.0,
            normalize: true,
            order: Order::ResizeFirst,
            mean: [0.48145466, 0.4578275, 0.40821073],
            std: [0.26862954, 0.26130258, 0.27577711],
        },
        "google/siglip-so400m-patch14-384" => siglip(Resample::Bicubic),
        "google/siglip2-so400m-patch14-384" => siglip(Resample::Bilinear),
        "facebook/dinov2-large" => ImageProcessor {
            resize: Resize::ShortestEdge(256),
            crop: Some((224, 224)),
            resample: Resample::Bicubic,
            rescale: 1.0 / 255.0,
            normalize: true,
            order: Order::ResizeFirst,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        },
        other => panic!("no processor for {other}"),
    }
}

/// The pixels as bytes again, hashed as the fixture does.
fn sha256_u8(pixels: &[f32], processor: &ImageProcessor, plane: usize) -> String {
    let byte = |(index, value): (usize, &f32)| {
        let channel = index / plane;
        ((f64::from(*value) * processor.std[channel] + processor.mean[channel]) * 255.0).round() as u8
    };
    let bytes: Vec<u8> = pixels.iter().enumerate().map(byte).collect();
    format!("{:x}", Sha256::digest(bytes))
}

#[test]
fn processors_give_the_reference_pixels() {
    let text = std::fs::read_to_string(format!("{FOLDER}/expected.json")).unwrap();
    let cases: Vec<Expected> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 96);
    for case in &cases {
        let image = Image::open(&Path::new(FOLDER).join(&case.image)).unwrap();
        assert_eq!((image.width, image.height), (case.width, case.height));
        let processor = processor(&case.tower);
        let pixels = processor.preprocess(&image, case.aspect).unwrap();
        let [_, height, width] = case.shape;
        assert_eq!(pixels.len(), 3 * height * width, "{}", case.key);
        let side = image.width.max(image.height);
        let (w, h) = if case.aspect == Aspect::Pad { (side, side) } else { (image.width, image.height) };
        assert_eq!(processor.output_size(w, h), (height, width));
        if case.check != "shape" {
            let found = sha256_u8(&pixels, &processor, height * width);
            assert_eq!(found, case.sha256_u8, "{} is not the reference's to the bit", case.key);
        }
    }
}

#[test]
fn decoding_is_pillow_s_to_the_bit() {
    let folder = Path::new(FOLDER).join("decode");
    let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let cases: Vec<Decoded> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() > 120);
    let mut wrong = Vec::new();
    for case in &cases {
        let bytes = std::fs::read(folder.join(&case.file)).unwrap();
        let found = Image::decode(&bytes, &case.file).map_err(|error| error.to_string());
        let as_pillow = match (&found, &case.sha256) {
            (Ok(image), Some(sha256)) => {
                let size = (image.width, image.height);
                assert_eq!(Image::size_of(&bytes).unwrap(), size);
                (Some(size.0), Some(size.1)) == (case.width, case.height)
                    && format!("{:x}", Sha256::digest(image.pixels.as_slice())) == *sha256
            }
            (Err(error), None) => error.contains(&case.file) && error.contains("damaged"),
            _ => false,
        };
        if !as_pillow {
            wrong.push(format!("{}: {found:?}", case.file));
        }
    }
    assert!(wrong.is_empty(), "{} of {} files:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Pillow 13.0.0: `Image.fromarray(a).resize((w, h), f)` of a = ((7x + 3y) % 256, 5y % 256, 11xy % 256); the
/// first 16 digits of the sha256 of the (3, h, w) bytes. The first and third case go vertically first.
#[test]
fn resizing_is_pillow_s_to_the_bit() {
    let cases = [
        ([50, 76, 42, 40], Resample::Bilinear, "e27e0d760972a5d2"),
        ([61, 40, 23, 57], Resample::Bicubic, "af944a88ed6417f8"),
        ([9, 200, 30, 31], Resample::Bicubic, "9c57c126bef82fd7"),
        ([33, 21, 97, 64], Resample::Bilinear, "5ae717152d3e1346"),
        ([120, 90, 120, 17], Resample::Bicubic, "12063b16fde39f20"),
        ([64, 48, 5, 48], Resample::Bilinear, "ccfe047ff787515d"),
        ([1, 1, 7, 5], Resample::Bicubic, "523c41464ee47d61"),
    ];
    for ([width, height, to_width, to_height], resample, expected) in cases {
        let pixel = |i: usize| (i % width, i / width);
        let bytes =
            (0..width * height).map(pixel).flat_map(|(x, y)| [7 * x + 3 * y, 5 * y, 11 * x * y].map(|v| v as u8));
        let image = Image { width, height, pixels: bytes.collect::<Vec<u8>>().into() };
        let processor = ImageProcessor {
            resize: Resize::Exact { height: to_height, width: to_width },
            crop: None,
            resample,
            rescale: 1.0,
            normalize: true,
            order: Order::ResizeFirst,
            mean: [0.0; 3],
            std: [1.0; 3],
        };
        let values = processor.preprocess(&image, Aspect::Square).unwrap();
        let bytes: Vec<u8> = values.iter().map(|value| *value as u8).collect();
        let found = format!("{:x}", Sha256::digest(bytes));
        assert_eq!(&found[..16], expected, "{width}x{height} to {to_width}x{to_height}");
    }
}

#[test]
fn a_crop_larger_than_the_image_is_filled_with_black() {
    let base = processor("facebook/dinov2-large");
    let processor = ImageProcessor { resize: Resize::Keep, crop: Some((4, 2)), rescale: 1.0, mean: [1.0; 3], ..base };
    let processor = ImageProcessor { std: [1.0; 3], ..processor };
    let image = Image::filled(3, 1, [9, 8, 7]);
    let values = processor.preprocess(&image, Aspect::Square).unwrap();
    // Three rows are missing: two above, one below.
    assert_eq!(values[..8], [-1.0, -1.0, -1.0, -1.0, 8.0, 8.0, -1.0, -1.0]);
}

#[test]
fn extreme_shapes_are_refused_before_memory_is_taken() {
    let clip = processor("openai/clip-vit-large-patch14-336");
    let thin = Image::filled(1, 100_000, [1, 2, 3]);
    // Only the crop of the 336 x 33,600,000 pixels is computed.
    assert_eq!(clip.preprocess(&thin, Aspect::Square).unwrap().len(), 3 * 336 * 336);
    let error = clip.preprocess(&thin, Aspect::Pad).unwrap_err();
    assert!(error.message().contains("1 x 100000 would become 100000 x 100000"), "{error}");
    let uncropped = ImageProcessor { crop: None, ..clip };
    assert_eq!(uncropped.preprocess(&thin, Aspect::Square).unwrap_err().kind(), Kind::Data);
    assert_eq!(uncropped.preprocess(&Image::filled(0, 3, [0; 3]), Aspect::Square).unwrap_err().kind(), Kind::Data);
}

#[test]
fn files_that_are_no_images_are_named() {
    let png = std::fs::read(format!("{FOLDER}/noise-14x9.png")).unwrap();
    let jpeg = std::fs::read(format!("{FOLDER}/jpeg420-230x151.jpg")).unwrap();
    let mut huge = [&b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0"[..], &[0; 36]].concat();
    huge[18..30].copy_from_slice(&[0x60, 0xea, 0, 0, 0x60, 0xea, 0, 0, 1, 0, 24, 0]);
    let mut huge_jpeg = jpeg.clone();
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    huge_jpeg[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    let mut huge_gif = std::fs::read(format!("{FOLDER}/decode/part.gif")).unwrap();
    huge_gif[6..10].copy_from_slice(&[0x60, 0xea, 0x60, 0xea]);
    let cases: [(&[u8], &str); 8] = [
        (b"", "`x.png` is not a PNG, JPEG, GIF, BMP, WebP or TIFF file: it is empty"),
        (b"<!DOCTYPE html>\n<html>", "it begins with the text \"<!DOCTYPE html>"),
        (b"II*\0\x08\0\0\0", "`x.png` is a damaged TIFF file: its directory is not whole"),
        (&png[..png.len() / 2], "`x.png` is a damaged PNG file"),
        (&jpeg[..jpeg.len() - 400], "`x.png` is a damaged JPEG file: it ends after"),
        (&huge, "`x.png` says it has 60000 x 60000 pixels, more than 178956970"),
        (&huge_jpeg, "`x.png` says it has 60000 x 60000 pixels, more than 178956970"),
        (&huge_gif, "`x.png` says it has 60000 x 60000 pixels, more than 178956970"),
    ];
    for (bytes, message) in cases {
        let error = Image::decode(bytes, "x.png").unwrap_err();
        assert_eq!(error.kind(), Kind::Decode);
        assert!(error.message().contains(message), "{error}");
    }
    // Content counts, not the name.
    assert_eq!(Image::decode(&jpeg, "x.png").unwrap().width, 230);
    assert_eq!(Image::size_of(&jpeg).unwrap(), (230, 151));
    assert_eq!(Image::open(Path::new("no-such.png")).unwrap_err().kind(), Kind::Missing);
}

#[test]
fn damaged_bytes_never_panic() {
    let mut state = 1u64;
    let names = [
        "noise-14x9.png",
        "palette-149x100.png",
        "jpeg420-230x151.jpg",
        "cmyk-120x91.jpg",
        "decode/420-progressive.jpg",
        "decode/422-restart.jpg",
        "decode/part-local.gif",
        "decode/run-lengths-8.bmp",
        "decode/lossy-alpha.webp",
        "tiff/P-lzw.tif",
        "tiff/F-adobe_deflate.tif",
        "tiff/MM-tiles16.tif",
        "tiff/II-planar-strips.tif",
    ];
    for name in names {
        let bytes = std::fs::read(format!("{FOLDER}/{name}")).unwrap();
        let mut refused = 0;
        for _ in 0..200 {
            let mut damaged = bytes.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (state >> 33) as usize % damaged.len();
                damaged[at] = (state >> 25) as u8;
            }
            refused += usize::from(Image::decode(&damaged, name).is_err());
        }
        assert!(refused > 0, "no damage to {name} was noticed");
    }
}

#[test]
fn odd_pixel_formats_are_pillow_s() {
    // 16-bit gray is clipped, not scaled.
    let gray16 = Image::open(&Path::new(FOLDER).join("gray16-53x67.png")).unwrap();
    assert!(gray16.pixels.iter().filter(|value| **value == 255).count() > gray16.pixels.len() / 2);
    // What is written is read back.
    let image = Image::open(&Path::new(FOLDER).join("rgba-123x89.png")).unwrap();
    assert_eq!(Image::decode(&image.to_png().unwrap(), "again").unwrap(), image);
}
