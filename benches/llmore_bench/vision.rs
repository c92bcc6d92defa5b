//! The vision side: a tower's forward pass, and images to pixels.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use llmore::error::Result;
use llmore::image::{Aspect, Image, Preprocessing};
use llmore::models::config::Config;
use llmore::models::encoders::clip;
use llmore::nn::vit::Vit;
use llmore::weights::{Builder, Source};

use crate::{Options, models, report};

/// All 24 blocks of ViT-L/14-336 on one image.
pub fn encoder(options: &Options) -> Result<()> {
    let spec = clip::spec(&Config::new(models::vit_l(), "the bench's config"))?;
    let (layers, size) = (spec.layers, spec.image_size);
    let tower = Vit::new(&Builder::new(Source::Random { seed: 0 }, DType::F32, &Device::Cpu), spec)?;
    let pixels = Tensor::rand(-1f32, 1f32, (1, 3, size, size), &Device::Cpu)?;
    let (seconds, _) = report::time(1, options.rounds, || Ok(tower.hidden_states(&pixels, layers)?))?;
    report::print("encoder", "image", &seconds, &[]);
    Ok(())
}

/// CLIP-336 preprocessing on one thread: of decoded 640 x 480 pixels, and of a small JPEG.
pub fn preprocess(options: &Options) -> Result<()> {
    const IMAGES: usize = 20;
    let config = r#"{ "image_processor_type": "CLIPImageProcessor", "size": { "shortest_edge": 336 },
        "crop_size": { "height": 336, "width": 336 }, "resample": 3, "do_resize": true, "do_center_crop": true,
        "do_rescale": true, "do_normalize": true, "rescale_factor": 0.00392156862745098,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711] }"#;
    let config =
        serde_json::from_str(config).map_err(|error| llmore::error!(Decode, "the bench's processor: {error}"))?;
    let processor = Preprocessing::from_json(&config, "the bench's processor", None)?.processor;
    let (width, height) = (640, 480);
    let pixel = |i: usize| (((i / 3) % width * 7 + (i / 3) / width * 13 + i % 3 * 29) % 256) as u8;
    let image = Image { width, height, pixels: (0..width * height * 3).map(pixel).collect::<Vec<u8>>().into() };
    let jpeg = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images/jpeg420-230x151.jpg");
    let per_image = |seconds: Vec<f64>| seconds.into_iter().map(|s| s / IMAGES as f64).collect::<Vec<_>>();

    let (seconds, _) = report::time(1, options.rounds, || {
        (0..IMAGES).try_for_each(|_| processor.preprocess(&image, Aspect::Square).map(drop))
    })?;
    report::print("preprocess", "image", &per_image(seconds), &[]);
    let (seconds, _) = report::time(1, options.rounds, || {
        (0..IMAGES).try_for_each(|_| processor.preprocess(&Image::open(&jpeg)?, Aspect::Square).map(drop))
    })?;
    report::print("preprocess-jpeg", "image", &per_image(seconds), &[]);
    Ok(())
}
