//! Configurations of models and of image processors: what is read is built without weights, and used on a small picture.

use std::collections::BTreeMap;
use std::sync::Arc;

use llmore::assets::Folder;
use llmore::image::{Aspect, Image, Preprocessing, Resize};
use llmore::models::config::Config;
use llmore::models::projectors::ProjectorChoice;
use llmore::models::registry::{self, Target};
use llmore::notes::Notes;
use llmore::weights::Source;

use crate::fuzz::frames::Frame;
use crate::fuzz::reader::{Input, Reader, Seed, file};

pub const CONFIG: Reader = Reader {
    name: "config",
    seeds: configs,
    words: &[
        "model_type",
        "llama",
        "gemma2",
        "gemma3_text",
        "phi3",
        "qwen2",
        "mistral",
        "clip_vision_model",
        "siglip_vision_model",
        "dinov2",
        "vit",
        "ijepa",
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "rope_scaling",
        "rope_parameters",
        "rope_type",
        "llama3",
        "longrope",
        "linear",
        "short_factor",
        "long_factor",
        "factor",
        "original_max_position_embeddings",
        "layer_types",
        "full_attention",
        "sliding_attention",
        "sliding_window",
        "vision_config",
        "text_config",
        "mm_projector_type",
        "mlp2x_gelu",
        "resampler",
        "mm_projector_config",
        "pool",
        "image_size",
        "patch_size",
        "hidden_act",
        "gelu",
        "tie_word_embeddings",
        "partial_rotary_factor",
        "attention_bias",
        "quantization_config",
        "quant_method",
        "fp8",
        "num_hidden_layers",
        "intermediate_size",
        "vocab_size",
    ],
    open: |_| Box::new(read),
};

pub const PROCESSOR: Reader = Reader {
    name: "processor",
    seeds: processors,
    words: &[
        "image_processor",
        "image_processor_type",
        "CLIPImageProcessor",
        "SiglipImageProcessor",
        "BitImageProcessor",
        "ViTImageProcessor",
        "DINOv3ViTImageProcessor",
        "LlavaImageProcessor",
        "size",
        "crop_size",
        "shortest_edge",
        "longest_edge",
        "height",
        "width",
        "do_resize",
        "do_pad",
        "resample",
        "image_mean",
        "image_std",
        "rescale_factor",
        "do_normalize",
        "do_center_crop",
        "do_rescale",
        "use_square_size",
        "offset",
    ],
    open: |_| Box::new(prepare),
};

/// Configurations of all families, as published and with the keys that transformers 5 writes.
fn configs() -> Vec<Seed> {
    let fixtures = "tests/fixtures/parity";
    let llms =
        ["gemma2", "gemma3", "gemma3-listed", "llama-3.1", "llama-3.1-v5", "llama-biases", "mistral", "phi3-long"];
    let more = ["phi3-v5", "qwen2", "qwen2-window-v5"];
    let towers = [
        "clip",
        "clip_two_tower",
        "clip_v5",
        "dinov2",
        "dinov2_giant",
        "dinov2_with_registers",
        "ijepa",
        "siglip",
        "vit",
    ];
    let named = |part: &str, name: &str| (part.to_string(), format!("{fixtures}/{part}/{name}/config.json"));
    let llms = llms.into_iter().chain(more).map(|name| named("llms", name));
    let towers = towers.into_iter().map(|name| named("encoders", name));
    let whole = [("llms".to_string(), format!("{fixtures}/models/clip-llama-v5/config.json"))];
    let all = llms.chain(towers).chain(whole);
    all.map(|(kind, path)| Seed { kind, bytes: file(&path), frame: Frame::Json }).collect()
}

fn read(input: &Input) -> bool {
    let Ok(value) = serde_json::from_slice(&input.bytes) else { return false };
    let config = Config::new(value, "config.json");
    let _ = ProjectorChoice::from_config(&config);
    match input.kind.as_str() {
        "llms" => registry::llm(&config, Source::Shapes, &Target::cpu()).is_ok(),
        _ => registry::encoder(&config, Source::Shapes, &Target::cpu()).is_ok(),
    }
}

fn processors() -> Vec<Seed> {
    let fixtures = "tests/fixtures/parity";
    let encoders = ["clip", "clip_v5", "dinov2", "siglip", "vit", "ijepa"];
    let paths = encoders.map(|name| format!("{fixtures}/encoders/{name}/preprocessor_config.json"));
    let whole = ["families/dinov2/processor_config.json", "models/clip-llama-v5/processor_config.json"];
    let whole = whole.map(|name| format!("{fixtures}/{name}"));
    let kind = |path: &str| path.rsplit('/').next().unwrap().to_string();
    let seed = |path: String| Seed { kind: kind(&path), bytes: file(&path), frame: Frame::Json };
    paths.into_iter().chain(whole).map(seed).collect()
}

/// The largest side that a picture is brought to here: larger ones are what the file asks for.
const SIDE: usize = 256;

fn prepare(input: &Input) -> bool {
    let files = BTreeMap::from([(input.kind.clone(), input.bytes.clone())]);
    let folder = Folder::Memory("the input".to_string(), Arc::new(files));
    let Ok(Preprocessing { processor, aspect }) = Preprocessing::open(&folder, None, &Notes::default()) else {
        return false;
    };
    let sides = match processor.resize {
        Resize::ShortestEdge(side) => [side, side],
        Resize::Exact { height, width } | Resize::Within { height, width } => [height, width],
        Resize::Between { shortest, longest } => [shortest, longest],
        Resize::Keep => [0, 0],
    };
    let (height, width) = processor.crop.unwrap_or_default();
    if sides.into_iter().chain([height, width]).any(|side| side > SIDE) {
        return true;
    }
    let image = Image::filled(3, 2, [200, 10, 20]);
    let _ = processor.output_size(3, 2);
    processor.preprocess(&image, aspect.unwrap_or(Aspect::Pad)).is_ok()
}
