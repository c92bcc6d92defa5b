//! Kinds of picture files beyond the everyday ones: read as Pillow 13.0.0 reads them, or named with the next step.

use std::path::Path;

use llmore::data::{Dataset, Format};
use llmore::image::Image;
use serde::Deserialize;
use sha2::{Digest, Sha256};

const TIFF: &str = "tests/fixtures/images/tiff";
const FILES: &str = "tests/fixtures/today/picture-files";

/// A file of `tiff/`; without a size it is one that Pillow refuses.
#[derive(Deserialize)]
struct Decoded {
    file: String,
    width: Option<usize>,
    height: Option<usize>,
    sha256: Option<String>,
}

/// Files that Pillow opens and this program refuses by name.
const UNREAD: [(&str, &str); 12] = [
    ("un-jpeg.tif", "JPEG compression"),
    ("un-zstd.tif", "Zstandard compression"),
    ("un-group4.tif", "CCITT (fax 4) compression"),
    ("un-group3.tif", "CCITT (fax 3) compression"),
    ("II-bits12.tif", "1 samples of 12 bits"),
    ("II-ycbcr.tif", "YCbCr"),
    ("MM-ycbcr.tif", "YCbCr"),
    ("II-lab.tif", "Lab"),
    ("MM-lab.tif", "Lab"),
    ("II-fill.tif", "reversed bits"),
    ("MM-fill.tif", "reversed bits"),
    ("II-double.tif", "64 bits"),
];

#[test]
fn tiff_has_the_pixels_of_pillow() {
    let text = std::fs::read_to_string(format!("{TIFF}/expected.json")).unwrap();
    let cases: Vec<Decoded> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() > 140);
    for case in cases {
        let bytes = std::fs::read(Path::new(TIFF).join(&case.file)).unwrap();
        let found = Image::decode(&bytes, &case.file);
        if let Some((_, what)) = UNREAD.iter().find(|(file, _)| *file == case.file) {
            let error = found.unwrap_err();
            assert!(error.message().contains(what), "{error}");
            assert!(error.help_text().unwrap().contains("convert it to PNG"), "{error}");
            continue;
        }
        let (Some(width), Some(height), Some(sha256)) = (case.width, case.height, case.sha256) else {
            assert!(found.is_err(), "{} is refused by Pillow", case.file);
            continue;
        };
        let image = found.unwrap();
        assert_eq!((image.width, image.height), (width, height), "{}", case.file);
        assert_eq!(Image::size_of(&bytes).unwrap(), (width, height), "{}", case.file);
        assert_eq!(format!("{:x}", Sha256::digest(image.pixels.as_slice())), sha256, "{}", case.file);
    }
}

#[test]
fn a_tiff_that_says_it_is_huge_is_refused_before_memory_is_taken() {
    let mut bytes = std::fs::read(Path::new(TIFF).join("II-white8.tif")).unwrap();
    // The values of the first two entries, ImageWidth and ImageLength, 16 bits each.
    for entry in [10, 22] {
        bytes[entry + 8..entry + 10].copy_from_slice(&60_000u16.to_le_bytes());
    }
    let error = Image::decode(&bytes, "x.tif").unwrap_err();
    assert!(error.message().contains("60000 x 60000 pixels, more than"), "{error}");
}

#[test]
fn kinds_that_are_not_read_are_named_with_the_next_step() {
    for (file, kind) in [
        ("x.heic", "it is HEIC"),
        ("x.jxl", "it is JPEG XL"),
        ("x.jp2", "it is JPEG 2000"),
        ("x.avif", "it is AVIF"),
        ("arith.jpg", "is a JPEG file with arithmetic coding"),
    ] {
        let error = Image::open(&Path::new(FILES).join(file)).unwrap_err();
        assert!(error.message().contains(kind) && !error.message().contains("damaged"), "{error}");
        assert!(error.help_text().unwrap().contains("convert it to PNG"), "{error}");
    }
}

/// Pillow's `convert("RGB")` of noiend.png and badcrc.png.
const WHOLE: &str = "f7066e315994c9f5";

fn short_hash(image: &Image) -> String {
    format!("{:x}", Sha256::digest(image.pixels.as_slice()))[..16].to_string()
}

/// What Pillow 13.0.0 does with each of these, by runs: up to 5 bytes of the pixel data may be gone, its own checksum and
/// the first byte of it included.
#[test]
fn a_png_needs_its_pixels_and_nothing_behind_them() {
    for file in ["noiend.png", "badcrc.png"] {
        assert_eq!(short_hash(&Image::open(&Path::new(FILES).join(file)).unwrap()), WHOLE, "{file}");
    }
    let cut = std::fs::read(Path::new(FILES).join("noiend.png")).unwrap();
    let opened = |bytes: &[u8]| Image::decode(bytes, "x.png").map(|image| short_hash(&image));
    for gone in 0..=9 {
        assert_eq!(opened(&cut[..cut.len() - gone]).unwrap(), WHOLE, "{gone} bytes less");
    }
    for gone in [10, 11, 12, 18, 28, 48, 100, 2000] {
        let error = opened(&cut[..cut.len() - gone]).unwrap_err();
        assert!(error.message().contains("damaged PNG"), "{error}");
    }
    for end in [&[0; 12][..], b"\0\0\0\0IEND\0\0\0\0", b"\0\0\0\x05junkjunkjunk"] {
        assert_eq!(opened(&[&cut[..], end].concat()).unwrap(), WHOLE);
    }
    // A wrong checksum before the pixels is damage, to Pillow too.
    let mut header = cut.clone();
    header[30] ^= 1;
    assert!(opened(&header).is_err());
}

/// Mode P, made in memory: datasets 5.2.0 stores TIFF. Pixels are Pillow's `convert("RGB")`.
#[test]
fn palette_pictures_that_datasets_stored_open_in_a_data_set() {
    let path = Path::new("tests/fixtures/today/parquet-tiff-pictures/palette.parquet");
    let dataset = Dataset::open(path, Format::of(path), None).unwrap();
    let hashes = ["969d865368e7a95d", "a0d8c3087d7a99f0", "0e219fea2d9cae22", "4becd1a06bc588b5"];
    for (index, hash) in hashes.into_iter().enumerate() {
        let image = dataset.get(index).unwrap().open_images().unwrap().remove(0);
        assert_eq!(((image.width, image.height), short_hash(&image).as_str()), ((8, 8), hash));
    }
}
