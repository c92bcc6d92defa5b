//! Image processors as files say them: which file counts, what its keys mean. Pixels are those of transformers 5.24.0.

use std::path::{Path, PathBuf};

use llmore::hub::{Hub, HubSettings};
use llmore::image::{Aspect, Image, Preprocessing};
use llmore::models::registry::Target;
use llmore::preset::Presets;
use llmore::vlm::{Encoder, EncoderOptions, Vlm, Weights, checkpoint};
use llmore::weights::read_tensors;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::scratch::scratch;

const IMAGES: &str = "tests/fixtures/images";
const TODAY: &str = "tests/fixtures/today";

#[derive(Deserialize)]
struct Case {
    config: Value,
    image: String,
    shape: [usize; 3],
    sha256: Option<String>,
    /// Every so many of the values, where another order of sums moves last bits.
    near: Option<Vec<f32>>,
}

/// `processors.json`: what the `*Pil` classes make of a picture, to the bit. DINOv3 has none; there torch's
/// `interpolate(antialias=True)`, which its class calls, says what is right.
#[test]
fn pixels_are_those_of_transformers() {
    let text = std::fs::read_to_string(format!("{IMAGES}/processors.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() > 120);
    for Case { config, image, shape, sha256, near } in cases {
        let Preprocessing { processor, aspect } = Preprocessing::from_json(&config, "case", None).unwrap();
        let picture = Image::open(&Path::new(IMAGES).join(&image)).unwrap();
        let aspect = aspect.unwrap_or(Aspect::Square);
        let pixels = processor.preprocess(&picture, aspect).unwrap();
        assert_eq!(pixels.len(), shape.iter().product::<usize>(), "{config} {image}");
        if aspect == Aspect::Square {
            assert_eq!([shape[1], shape[2]], <[usize; 2]>::from(processor.output_size(picture.width, picture.height)));
        }
        let bytes: Vec<u8> = pixels.iter().flat_map(|value| value.to_le_bytes()).collect();
        if let Some(sha256) = sha256 {
            assert_eq!(format!("{:x}", Sha256::digest(bytes)), sha256, "{config} {image}");
        }
        for (index, value) in near.into_iter().flatten().enumerate() {
            let found = pixels[index * (pixels.len() / 40).max(1)];
            assert!((found - value).abs() < 1e-4, "{config} {image}: {found}, not {value}");
        }
    }
}

/// A copy of a folder of `today`.
fn copy(name: &str, scratch_name: &str) -> PathBuf {
    let (source, target) = (Path::new(TODAY).join(name), scratch(scratch_name));
    for entry in std::fs::read_dir(source).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
    }
    target
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
}

fn load(folder: &Path) -> Vlm {
    checkpoint::load(&Presets::default(), folder, Some("v1"), &Target::cpu()).unwrap()
}

fn options(weights: Weights) -> EncoderOptions {
    EncoderOptions { select_layer: None, select: None, s2: None, weights, seed: 0, target: Target::cpu() }
}

fn encoder(folder: &Path) -> llmore::error::Result<Encoder> {
    Encoder::open(&Presets::default(), &folder.display().to_string(), options(Weights::None))
}

#[test]
fn processor_config_wins_over_an_older_preprocessor_config_and_says_so() {
    let folder = Path::new(TODAY).join("processor-config-wins");
    let vlm = load(&folder.join("model"));
    let picture = Image::open(&folder.join("picture.png")).unwrap();
    let pixels = vlm.encoder.preprocess(&picture, Aspect::Square).unwrap();
    let expected = read_tensors(&folder.join("expected.safetensors"), &candle_core::Device::Cpu).unwrap();
    let expected = expected.into_iter().find(|(name, _)| name == "pixels").unwrap().1;
    let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(pixels.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
    let notes = vlm.notes.list();
    assert!(
        notes.iter().any(|note| note.contains("processor_config.json") && note.contains("differently")),
        "{notes:?}"
    );
}

#[test]
fn files_that_say_the_same_are_not_remarked_upon() {
    let folder = copy("processor-config-wins/model", "same");
    edit(&folder.join("preprocessor_config.json"), |json| {
        json["image_mean"] = json!([0.48145466, 0.4578275, 0.40821073]);
        json["processor_class"] = json!("LlavaProcessor");
    });
    assert_eq!(load(&folder).notes.list(), Vec::<String>::new());
    std::fs::remove_file(folder.join("processor_config.json")).unwrap();
    assert_eq!(load(&folder).notes.list(), Vec::<String>::new());
}

#[test]
fn an_encoder_is_opened_with_either_file_and_refused_without() {
    let model = Path::new(TODAY).join("clip-processor-only/model");
    let clip = encoder(&model).unwrap();
    assert_eq!(clip.image_size(), 28);
    assert_eq!(clip.origin.config.notes().list(), Vec::<String>::new());
    let folder = copy("clip-processor-only/model", "either");
    // The file of 4.x beside a processor_config.json that has no image processor.
    edit(&folder.join("processor_config.json"), |json| {
        let processor = json["image_processor"].take();
        std::fs::write(folder.join("preprocessor_config.json"), processor.to_string()).unwrap();
    });
    assert_eq!(encoder(&folder).unwrap().processor, clip.processor);
    std::fs::remove_file(folder.join("preprocessor_config.json")).unwrap();
    let error = encoder(&folder).err().unwrap();
    assert!(error.message().contains("preprocessor_config.json") && error.message().contains("processor_config.json"));
    assert!(error.help_text().unwrap().contains("save_pretrained"), "{error}");
}

#[test]
fn a_snapshot_in_the_hubs_cache_is_whole_with_either_file() {
    let cache = scratch("cache");
    let settings =
        HubSettings { cache: cache.clone(), endpoint: "http://127.0.0.1:9".into(), token: None, offline: true };
    let presets = Presets::default().with_hub(Hub::new(settings, llmore::events::Listeners::default()));
    let repo = cache.join("models--org--clip");
    let snapshot = repo.join("snapshots/0123456789012345678901234567890123456789");
    std::fs::create_dir_all(repo.join("refs")).unwrap();
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(repo.join("refs/main"), "0123456789012345678901234567890123456789").unwrap();
    let model = Path::new(TODAY).join("clip-processor-only/model");
    std::fs::copy(model.join("config.json"), snapshot.join("config.json")).unwrap();
    let error = Encoder::open(&presets, "org/clip", options(Weights::None)).err().unwrap();
    assert!(error.message().contains("lacks preprocessor_config.json or processor_config.json"), "{error}");
    std::fs::copy(model.join("processor_config.json"), snapshot.join("processor_config.json")).unwrap();
    assert_eq!(Encoder::open(&presets, "org/clip", options(Weights::None)).unwrap().image_size(), 28);
}

#[test]
fn center_crop_of_siglip_is_honored() {
    let folder = Path::new(TODAY).join("siglip-center-crop");
    let picture = Image::open(&folder.join("picture.png")).unwrap();
    let pixels = encoder(&folder).unwrap().preprocess(&picture, Aspect::Square).unwrap();
    assert_eq!(pixels.dims(), [3, 28, 28]);
}

#[test]
fn llavas_processor_sets_the_aspect_and_a_contradiction_is_said() {
    let vlm = load(&Path::new(TODAY).join("llava-image-processor/model"));
    assert_eq!((vlm.aspect(), vlm.notes.list()), (Aspect::Pad, Vec::new()));
    let folder = copy("llava-image-processor/model", "aspect");
    let ratio = |ratio: &str| edit(&folder.join("config.json"), |json| json["image_aspect_ratio"] = json!(ratio));
    ratio("pad");
    assert_eq!(load(&folder).notes.list(), Vec::<String>::new());
    ratio("square");
    let vlm = load(&folder);
    assert_eq!(vlm.aspect(), Aspect::Pad);
    assert!(matches!(&vlm.notes.list()[..], [note] if note.contains("`image_aspect_ratio` \"square\"")));
    ratio("anyres");
    let error = checkpoint::load(&Presets::default(), &folder, Some("v1"), &Target::cpu()).err().unwrap();
    assert!(error.to_string().contains("`image_aspect_ratio` is `anyres`"), "{error}");
    // CLIP's name with the same steps leaves it to the config.
    ratio("pad");
    edit(&folder.join("processor_config.json"), |json| {
        json["image_processor"]["image_processor_type"] = json!("CLIPImageProcessorFast");
    });
    assert_eq!(load(&folder).aspect(), Aspect::Pad);
    // Without a name it is LLaVA's own: transformers 5.24.0, `AutoImageProcessor`.
    ratio("square");
    edit(&folder.join("processor_config.json"), |json| json["image_processor"]["image_processor_type"] = Value::Null);
    assert_eq!(load(&folder).aspect(), Aspect::Pad);
}

#[test]
fn what_was_opened_padding_pads_again_after_saving_in_both_layouts() {
    let vlm = load(&Path::new(TODAY).join("llava-image-processor/model"));
    let folder = scratch("saved");
    vlm.save_transformers(&folder.join("hf")).unwrap();
    vlm.save(&folder.join("more")).unwrap();
    for layout in ["hf", "more"] {
        let again = load(&folder.join(layout));
        assert_eq!((again.aspect(), again.encoder.processor.clone()), (Aspect::Pad, vlm.encoder.processor.clone()));
        assert!(!again.notes.list().iter().any(|note| note.contains("do_pad")), "{:?}", again.notes.list());
    }
    let written = std::fs::read_to_string(folder.join("hf/preprocessor_config.json")).unwrap();
    assert!(written.contains("LlavaImageProcessor") && written.contains("\"do_pad\": true"), "{written}");
    // Saved over a folder of transformers 5, its image processor does not overrule the one that is saved.
    let clip = Path::new(TODAY).join("clip-processor-only/model/processor_config.json");
    std::fs::create_dir_all(folder.join("tower")).unwrap();
    std::fs::copy(clip, folder.join("tower/processor_config.json")).unwrap();
    vlm.encoder.save(&folder.join("tower")).unwrap();
    assert_eq!(encoder(&folder.join("tower")).unwrap().own_aspect(), Aspect::Pad);
}
