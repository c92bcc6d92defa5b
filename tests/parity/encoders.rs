//! Parity of `fixtures/parity/encoders`: hidden states at every recorded size, features after selection (S2
//! included), gradients; and that no architecture of the registry is without a fixture.

use std::collections::BTreeSet;

use candle_core::Tensor;
use llmore::error::Kind;
use llmore::image::{Aspect, Image};
use llmore::models::config::Config;
use llmore::models::encoders::{self, s2};
use llmore::models::registry::{self, Target};
use llmore::nn::ops::Gelu;
use llmore::nn::vit::Mlp;
use llmore::preset::Presets;
use llmore::vlm::{Encoder, EncoderOptions, Weights};
use serde_json::Value;

use super::*;

/// Largest difference of a gradient, relative to the largest value of its tensor.
const GRADIENT: f64 = 1e-4;

fn config(case: &Path) -> Config {
    let text = std::fs::read_to_string(case.join("config.json")).unwrap();
    Config::new(serde_json::from_str(&text).unwrap(), name(case))
}

fn options() -> EncoderOptions {
    EncoderOptions {
        select_layer: None,
        select: None,
        s2: None,
        weights: Weights::Stored,
        seed: 0,
        target: Target::cpu(),
    }
}

fn open(case: &Path) -> Encoder {
    let options = EncoderOptions { s2: s2::from_config(&config(case)).unwrap(), ..options() };
    Encoder::open(&Presets::default(), case.to_str().unwrap(), options).unwrap()
}

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity/encoders").join(name)
}

#[test]
fn hidden_states_and_features_are_the_reference_s() {
    for case in cases("encoders") {
        let (encoder, expected, name) = (open(&case), Expected::open(&case), name(&case));
        let mut worst = (0f64, 0f64);
        let mut note = |(max, mean): (f64, f64)| worst = (worst.0.max(max), worst.1.max(mean));
        let mut sizes = 0;
        for prefix in ["", "full.", "small.", "wide.", "tile."] {
            if !expected.has(&format!("{prefix}hidden.0")) {
                continue;
            }
            sizes += 1;
            let pixels = expected.tensor(&format!("{prefix}pixels")).unsqueeze(0).unwrap();
            let states = encoder.hidden_states(&pixels).unwrap();
            assert_eq!(states.len(), encoder.tower.spec().layers + 1);
            for (index, state) in states.iter().enumerate() {
                let what = format!("{prefix}hidden.{index}");
                note(assert_close(&format!("{name} {what}"), &state.get(0).unwrap(), &expected.tensor(&what)));
            }
            assert!(!expected.has(&format!("{prefix}hidden.{}", states.len())));
        }
        assert!(sizes > 0, "{name} has no hidden states");
        let pixels = expected.tensor("pixels");
        assert_eq!(pixels.dims(), [3, encoder.image_size(), encoder.image_size()], "{name}");
        let picture = encoder.pixels(&Image::filled(31, 20, [200, 10, 90]), Aspect::Pad).unwrap();
        assert_eq!(picture.dims(), pixels.dims(), "{name}");
        let features = encoder.encode(&Tensor::stack(&[&picture, &pixels], 0).unwrap()).unwrap();
        assert_eq!(features.dims(), [2, encoder.tokens(), encoder.width()], "{name}");
        note(assert_close(&format!("{name} encode"), &features.get(1).unwrap(), &expected.tensor("encode")));
        // With S2 a picture's hidden states are those of one scale.
        let states = encoder.hidden_states(
            &encoder.tower_pixels(&Image::filled(9, 9, [1, 2, 3]), Aspect::Square).unwrap().unsqueeze(0).unwrap(),
        );
        assert_eq!(states.unwrap()[0].dim(2).unwrap(), encoder.tower.spec().width, "{name}");
        println!("{name}: max {:.1e}, mean {:.1e} over {sizes} sizes", worst.0, worst.1);
    }
}

#[test]
fn gradients_are_the_reference_s() {
    for case in cases("encoders") {
        let (encoder, expected, name) = (open(&case), Expected::open(&case), name(&case));
        encoder.params.set_trainable(true).unwrap();
        let features = encoder.encode(&expected.tensor("pixels").unsqueeze(0).unwrap()).unwrap().get(0).unwrap();
        let loss = (features * expected.tensor("weights")).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        let (mut worst, mut compared) = (0f64, 0);
        for param in encoder.params.iter() {
            let gradient = gradients.get(&param.tensor().unwrap());
            assert_eq!(gradient.is_some(), encoder.is_used(param.name()), "{name} {}", param.name());
            let key = format!("gradient.{}", param.name());
            let Some(gradient) = gradient.filter(|_| expected.has(&key)) else { continue };
            let reference = expected.tensor(&key);
            let largest = reference.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
            let relative = differences(gradient, &reference).0 / f64::from(largest.to_scalar::<f32>().unwrap());
            assert!(relative <= GRADIENT, "{name} {key}: differs by {relative:.2e} of its largest value");
            worst = worst.max(relative);
            compared += 1;
        }
        // Embeddings and block 0: 4 and 13 tensors at least, without biases of query, key and value.
        assert!(compared >= 15, "{name}: only {compared} gradients were compared");
        println!("{name}: {worst:.1e} relative over {compared} gradients");
    }
}

#[test]
fn every_architecture_has_a_fixture() {
    let model_type = |case: &PathBuf| config(case).string("model_type", "").unwrap();
    let found: BTreeSet<String> = cases("encoders").iter().map(model_type).collect();
    for model_type in registry::model_types(encoders::ALL) {
        assert!(found.contains(model_type), "no folder of fixtures/parity/encoders has model_type {model_type}");
    }
}

/// The configs' defaults in transformers 4.49.0, unchanged in 5.23.0: image and patch size, eps, activation, and
/// tokens beside the patches. The base sizes are the same for all.
#[test]
fn absent_keys_have_the_reference_s_defaults() {
    let (erf, tanh, quick) = (Mlp::Gelu(Gelu::Erf), Mlp::Gelu(Gelu::Tanh), Mlp::Gelu(Gelu::Quick));
    for (model_type, patch_size, norm_eps, mlp, extra) in [
        ("clip_vision_model", 32, 1e-5, quick, 1),
        ("clip", 32, 1e-5, quick, 1),
        ("siglip_vision_model", 16, 1e-6, tanh, 0),
        ("siglip", 16, 1e-6, tanh, 0),
        ("dinov2", 14, 1e-6, erf, 1),
        ("dinov2_with_registers", 16, 1e-6, erf, 5),
        ("vit", 16, 1e-12, erf, 1),
        ("ijepa", 16, 1e-12, erf, 0),
    ] {
        let config = Config::new(serde_json::json!({ "model_type": model_type }), "config.json");
        let spec = registry::encoder_spec(&config).unwrap();
        assert_eq!((spec.image_size, spec.patch_size, spec.channels), (224, patch_size, 3), "{model_type}");
        let sizes = (spec.width, spec.layers, spec.heads, spec.intermediate);
        assert_eq!(sizes, (768, 12, 12, 3072), "{model_type}");
        assert_eq!((spec.norm_eps, spec.mlp, spec.extra_tokens()), (norm_eps, mlp, extra), "{model_type}");
        assert_eq!((spec.qkv_bias, spec.layer_scale), (true, 1.0), "{model_type}");
    }
}

/// Tokens and widths of the towers of LLaVA-MORE, with S2 and without.
#[test]
fn published_towers_have_their_tokens() {
    for (id, s2, tokens, width, image_size) in [
        ("clip-vit-l-336", None, 576, 1024, 336),
        ("clip-vit-l-336", Some(vec![336, 672, 1008]), 576, 3072, 1008),
        ("siglip-so400m-384", None, 729, 1152, 384),
        ("siglip-so400m-384", Some(vec![384, 768, 1152]), 729, 3456, 1152),
        ("siglip2-so400m-384", None, 729, 1152, 384),
        ("dinov2-large", None, 256, 1024, 224),
        ("dinov2-registers-large", None, 256, 1024, 224),
        ("vit-large-224", None, 196, 1024, 224),
        ("ijepa-huge-224", None, 256, 1280, 224),
    ] {
        let options = EncoderOptions { s2, weights: Weights::None, ..options() };
        let encoder = Encoder::open(&Presets::default(), id, options).unwrap();
        assert_eq!((encoder.tokens(), encoder.width(), encoder.image_size()), (tokens, width, image_size), "{id}");
        let pixels = encoder.pixels(&Image::filled(40, 30, [1, 2, 3]), Aspect::Square).unwrap();
        assert_eq!(pixels.dims(), [3, image_size, image_size], "{id}");
    }
}

#[test]
fn tensors_no_layer_uses_are_kept() {
    for case in cases("encoders") {
        let encoder = open(&case);
        let stored: BTreeSet<String> =
            TensorFiles::open(&case.join("model.safetensors")).unwrap().names().into_iter().collect();
        let used = encoder.params.iter().map(|param| param.name().to_string());
        let kept: BTreeSet<String> = used.chain(encoder.unused.iter().map(|(name, _)| name.clone())).collect();
        assert_eq!(kept, stored, "{}", name(&case));
        assert!(!encoder.unused.is_empty(), "{}: its final norm has to be unused", name(&case));
    }
}

/// Rounding to bf16 moves features by less than a twentieth of what they vary by; positions and maps are resized in
/// f32 all the same.
#[test]
fn bf16_features_are_close() {
    for name in ["dinov2_with_registers", "dinov2_giant", "s2_dinov2", "s2_siglip"] {
        let (case, target) = (case(name), Target { dtype: DType::BF16, ..Target::cpu() });
        let options = EncoderOptions { s2: s2::from_config(&config(&case)).unwrap(), target, ..options() };
        let encoder = Encoder::open(&Presets::default(), case.to_str().unwrap(), options).unwrap();
        let expected = Expected::open(&case);
        let features = encoder.encode(&expected.tensor("pixels").unsqueeze(0).unwrap()).unwrap().get(0).unwrap();
        assert_eq!(features.dtype(), DType::BF16);
        let reference = expected.tensor("encode");
        let varies = reference.abs().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
        let mean = differences(&features, &reference).1 / f64::from(varies);
        assert!(mean > 1e-4 && mean < 0.05, "{name}: {mean:.1e} of the mean feature");
    }
}

/// A frozen table's interpolation is kept; other values must not meet it.
#[test]
fn interpolated_positions_follow_their_table() {
    let case = case("dinov2");
    let (encoder, pixels) = (open(&case), Expected::open(&case).tensor("pixels").unsqueeze(0).unwrap());
    let embeddings = || encoder.hidden_states(&pixels).unwrap().remove(0);
    let before = embeddings();
    assert_eq!(differences(&before, &embeddings()), (0.0, 0.0));
    let table = encoder.params.iter().find(|param| param.name().ends_with("position_embeddings")).unwrap();
    let values = table.tensor().unwrap();
    let raised = (&values + 1.0).unwrap();
    table.assign(&raised).unwrap();
    let difference = differences(&embeddings(), &(&before + 1.0).unwrap()).0;
    assert!(difference < 1e-5, "{difference:.1e}");
    table.set_trainable(true).unwrap();
    table.assign(&values).unwrap();
    table.set_trainable(false).unwrap();
    assert_eq!(differences(&before, &embeddings()), (0.0, 0.0));
    table.assign(&raised).unwrap();
    assert!(differences(&before, &embeddings()).0 > 0.5);
}

#[test]
fn sizes_a_tower_does_not_take_are_named() {
    let clip = open(&case("clip"));
    let error = clip.hidden_states(&Tensor::zeros((1, 3, 40, 32), DType::F32, &Device::Cpu).unwrap()).unwrap_err();
    assert_eq!(error.kind(), Kind::Shape);
    assert!(error.to_string().contains("the pixels are 32 x 40, the tower takes 32 x 32"), "{error}");
    let dinov2 = open(&case("dinov2"));
    let error = dinov2.hidden_states(&Tensor::zeros((1, 3, 40, 3), DType::F32, &Device::Cpu).unwrap()).unwrap_err();
    assert!(error.to_string().contains("less than one patch of 4 x 4"), "{error}");
    assert!(clip.hidden_states(&Tensor::zeros((1, 1, 32, 32), DType::F32, &Device::Cpu).unwrap()).is_err());

    // Larger than the tower is for, by one scale or by the processor.
    let s2 = |sides: &[usize]| {
        let options = EncoderOptions { s2: Some(sides.to_vec()), ..options() };
        Encoder::open(&Presets::default(), case("clip").to_str().unwrap(), options).map(|_| ()).unwrap_err()
    };
    assert!(s2(&[]).to_string().contains("s2 has no scales"));
    assert!(s2(&[32, 70]).to_string().contains("the s2 scale 70 is not a multiple of the smallest, 32"));

    let naflex = Config::new(serde_json::json!({ "model_type": "siglip2" }), "config.json");
    let error = registry::encoder_spec(&naflex).unwrap_err();
    assert!(error.help_text().unwrap().contains("NaFlex"), "{error}");
}

/// Sizes that would need absurd memory or divide by zero are refused before anything is built.
#[test]
fn hostile_configs_are_refused() {
    let sound: Value = config(&case("dinov2")).value().clone();
    for (key, value) in [
        ("patch_size", 0u64),
        ("patch_size", 100),
        ("hidden_size", 1 << 40),
        ("hidden_size", 33),
        ("num_attention_heads", 0),
        ("num_hidden_layers", 0),
        ("image_size", u64::MAX),
        ("mlp_ratio", 1 << 50),
    ] {
        let mut hostile = sound.clone();
        hostile[key] = value.into();
        let error = registry::encoder_spec(&Config::new(hostile, "config.json")).unwrap_err();
        assert_eq!(error.kind(), Kind::Decode, "{key} = {value}");
    }
}
