//! Image processors against the reference's pixels (transformers and Pillow), and decoding of odd files.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device};
use llmore::error::Kind;
use llmore::image::{Aspect, Image, ImageProcessor, Resample, Resize};
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
    rows: Vec<usize>,
    tolerance_levels: Tolerance,
    mean: f64,
    sha256_u8: String,
    check: String,
}

#[derive(Deserialize)]
struct Tolerance {
    max: f64,
    mean: f64,
}

fn processor(tower: &str) -> ImageProcessor {
    let half = [0.5; 3];
    let exact = Resize::Exact { height: 384, width: 384 };
    let siglip =
        |resample| ImageProcessor { resize: exact, crop: None, resample, rescale: 1.0 / 255.0, mean: half, std: half };
    match tower {
        "openai/clip-vit-large-patch14-336" => ImageProcessor {
            resize: Resize::ShortestEdge(336),
            crop: Some((336, 336)),
            resample: Resample::Bicubic,
            rescale: 1.0 / 255.0,
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
    let stored = candle_core::safetensors::load(format!("{FOLDER}/expected.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(cases.len(), 96);
    // Per image: cases with the reference's exact bytes, all cases, the worst level difference, of the mean.
    let mut found: BTreeMap<&str, (usize, usize, f64, f64)> = BTreeMap::new();
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
        if case.check == "shape" {
            continue;
        }
        let expected = stored[&case.key].to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let mut worst = 0f64;
        for channel in 0..3 {
            for (index, row) in case.rows.iter().enumerate() {
                let first = (channel * height + row) * width;
                let theirs = &expected[(channel * case.rows.len() + index) * width..][..width];
                for (a, b) in pixels[first..first + width].iter().zip(theirs) {
                    worst = worst.max(f64::from((a - b).abs()) * processor.std[channel] * 255.0);
                }
            }
        }
        let mean = pixels.iter().map(|v| f64::from(*v)).sum::<f64>() / pixels.len() as f64;
        let mean = (mean - case.mean).abs() * processor.std[0] * 255.0;
        let entry = found.entry(&case.image).or_default();
        let exact = sha256_u8(&pixels, &processor, height * width) == case.sha256_u8;
        *entry = (entry.0 + usize::from(exact), entry.1 + 1, entry.2.max(worst), entry.3.max(mean));
        assert!(exact || case.image.ends_with(".jpg"), "{} is not the reference's to the bit", case.key);
        assert!(worst <= case.tolerance_levels.max, "{}: {worst} levels", case.key);
        assert!(mean <= case.tolerance_levels.mean, "{}: mean off by {mean} levels", case.key);
    }
    for (image, (exact, total, worst, mean)) in found {
        println!("{image}: {exact}/{total} exact, worst {worst:.3} levels, mean {mean:.4}");
    }
}
