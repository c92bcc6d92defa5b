//! The config.json of layout llava-more against those of the released models: the keys that LLaVA-MORE's own builder decides
//! by, where it finds the tower, and folders that were written before it found one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llmore::image::{Aspect, Image};
use llmore::models::registry::Target;
use llmore::preset::Presets;
use llmore::text::{Template, Turn};
use llmore::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, ProjectorChoice, Vlm, Weights, checkpoint};
use serde_json::{Value, json};

use super::scripting::{copy, scratch};

/// Towers of the hub in small: the released config has this `mm_vision_tower` and this `siglip`.
const TOWERS: [(&str, &str, &str, bool); 3] = [
    ("a-clip", "openai/clip-vit-large-patch14-336", "clip_vision_model", false),
    ("a-siglip", "google/siglip-so400m-patch14-384", "siglip_vision_model", true),
    ("a-siglip2", "google/siglip2-so400m-patch14-384", "siglip_vision_model", true),
];
/// The keys of LLaVA in the released siglip-finetuning config and their values there, sizes aside.
const RELEASED: [(&str, Value); 15] = [
    ("freeze_mm_mlp_adapter", Value::Bool(false)),
    ("mm_projector_lr", Value::Null),
    ("mm_use_im_patch_token", Value::Bool(false)),
    ("mm_use_im_start_end", Value::Bool(false)),
    ("tune_mm_mlp_adapter", Value::Bool(false)),
    ("use_mm_proj", Value::Bool(true)),
    // Strings and numbers stand below.
    ("architectures", Value::Null),
    ("image_aspect_ratio", Value::Null),
    ("mm_hidden_size", Value::Null),
    ("mm_patch_merge_type", Value::Null),
    ("mm_projector_type", Value::Null),
    ("mm_vision_select_feature", Value::Null),
    ("mm_vision_select_layer", Value::Null),
    ("tokenizer_model_max_length", Value::Null),
    ("tokenizer_padding_side", Value::Null),
];

/// Presets of small towers that stand for those of the hub.
fn presets(folder: &Path) -> Presets {
    std::fs::create_dir_all(folder.join("encoders")).unwrap();
    for (id, hub, model_type, siglip) in TOWERS {
        let (class, size) = match siglip {
            true => ("SiglipImageProcessor", "{ height = 24, width = 24 }"),
            false => ("CLIPImageProcessor", "{ shortest_edge = 24 }"),
        };
        let text = format!(
            "about = \"{hub} in small\"\nsource = \"{hub}\"\n[config]\nmodel_type = \"{model_type}\"\nhidden_size = 16\n\
             intermediate_size = 32\nnum_hidden_layers = 3\nnum_attention_heads = 2\nimage_size = 24\npatch_size = 8\n\
             [processor]\nimage_processor_type = \"{class}\"\nsize = {size}\ncrop_size = {{ height = 24, width = 24 }}\n"
        );
        std::fs::write(folder.join(format!("encoders/{id}.toml")), text).unwrap();
    }
    Presets::new(vec![folder.to_path_buf()])
}

fn model(presets: &Presets, tower: &str) -> Vlm {
    let target = Target::cpu();
    // Nothing is fetched for the presets above; a folder holds its weights.
    let drawn = if tower.contains('/') { Weights::Stored } else { Weights::Random };
    let (weights, seed, s2) = (Weights::Stored, 0, None);
    let options = EncoderOptions { select_layer: None, select: None, s2, weights: drawn, seed, target: target.clone() };
    let encoder = Arc::new(Encoder::open(presets, tower, options).unwrap());
    let llm = Arc::new(Llm::open(presets, "tiny-llama", LlmOptions { weights, seed, target }).unwrap());
    let choice = ProjectorChoice::new("mlp2x_gelu").unwrap();
    Vlm::compose(encoder, &choice, llm, Template::load(presets, "tiny").unwrap(), Aspect::Pad, 0).unwrap()
}

fn load(presets: &Presets, folder: &Path) -> Vlm {
    checkpoint::load(presets, folder, None, &Target::cpu()).unwrap()
}

fn logits(vlm: &Vlm) -> Vec<f32> {
    let picture = Image::open(Path::new("tests/fixtures/images/red-circle.png")).unwrap();
    let turns = [Turn::human("<image>\nwhat color is the shape?"), Turn::gpt("red")];
    vlm.logits(&[picture], &turns).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn config(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap()
}

fn edit(folder: &Path, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let mut config = config(folder);
    change(config.as_object_mut().unwrap());
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn a_saved_config_says_what_the_released_ones_do() {
    let folder = scratch("layout-keys");
    let presets = presets(&folder.join("presets"));
    for (id, hub, _, siglip) in TOWERS {
        let place = folder.join(id);
        model(&presets, id).save(&place).unwrap();
        let config = config(&place);
        assert_eq!((&config["mm_vision_tower"], &config["siglip"]), (&json!(hub), &json!(siglip)), "{id}");
        let parts = json!({ "tower": "vision-tower", "encoder": id, "projector": "mlp2x_gelu", "llm": "tiny-llama" });
        assert_eq!(config["llmore"], parts);
        // Its weights are random, so the hub's are others: the reference is told to take those of the folder.
        assert_eq!(config["unfreeze_mm_vision_tower"], json!(true));
        let keys = config.as_object().unwrap();
        for (key, value) in RELEASED {
            let found = keys.get(key).unwrap_or_else(|| panic!("{id}: no `{key}`"));
            assert!(value.is_null() || *found == value, "{id}: `{key}` is {found}");
        }
        let said = json!([
            config["model_type"],
            config["architectures"],
            config["mm_hidden_size"],
            config["mm_projector_type"],
            config["mm_patch_merge_type"],
            config["mm_vision_select_feature"],
            config["mm_vision_select_layer"],
            config["mm_projector_lr"],
            config["tokenizer_padding_side"],
            config["s2"],
        ]);
        let released = json!([
            "llava_llama",
            ["LlavaLlamaForCausalLM"],
            16,
            "mlp2x_gelu",
            "flat",
            "patch",
            -2,
            null,
            "right",
            false
        ]);
        assert_eq!(said, released, "{id}");
    }
}

/// A model in a folder, and what it computes.
fn written(name: &str, tower: &str) -> (Presets, PathBuf, Vec<f32>) {
    let folder = scratch(name);
    let presets = presets(&folder.join("presets"));
    let vlm = model(&presets, tower);
    vlm.save(&folder.join("model")).unwrap();
    (presets, folder, logits(&vlm))
}

#[test]
fn the_tower_beside_is_found_after_a_move_and_named_again() {
    let (presets, folder, expected) = written("layout-moved", "a-siglip");
    let moved = folder.join("elsewhere/model");
    std::fs::create_dir_all(folder.join("elsewhere")).unwrap();
    std::fs::rename(folder.join("model"), &moved).unwrap();
    // Nothing but the folder is needed: these presets know no tower of the hub's name.
    let vlm = load(&Presets::default(), &moved);
    assert_eq!(logits(&vlm), expected);
    vlm.save(&folder.join("again")).unwrap();
    assert_eq!(config(&folder.join("again")), {
        let mut config = config(&moved);
        config["_name_or_path"] = json!("model");
        config
    });
    // What the hub has is not marked as trained; then it is trained.
    edit(&moved, |config| drop(config.remove("unfreeze_mm_vision_tower")));
    let vlm = load(&presets, &moved);
    vlm.save(&folder.join("stored")).unwrap();
    assert_eq!(config(&folder.join("stored")).get("unfreeze_mm_vision_tower"), None);
    let param = vlm.encoder.params.iter().next().unwrap();
    param.assign(&(param.tensor().unwrap() * 2.0).unwrap()).unwrap();
    vlm.save(&folder.join("trained")).unwrap();
    assert_eq!(config(&folder.join("trained"))["unfreeze_mm_vision_tower"], json!(true));
    // Without the sub-folder, what the hub's id stands for prepares the pictures.
    std::fs::remove_dir_all(moved.join("vision-tower")).unwrap();
    assert_eq!(logits(&load(&presets, &moved)), expected);
}

#[test]
fn folders_written_before_are_read() {
    let (_, folder, expected) = written("layout-before", "a-siglip2");
    let before = folder.join("before");
    copy(&folder.join("model"), &before);
    // As it was written until now, and as the reference's first uploads were.
    edit(&before, |config| {
        for key in
            ["llmore", "mm_projector_lr", "freeze_mm_mlp_adapter", "tune_mm_mlp_adapter", "tokenizer_padding_side"]
        {
            config.remove(key);
        }
        config.remove("unfreeze_mm_vision_tower");
        config.insert("mm_vision_tower".to_string(), json!("vision-tower"));
        config.insert("siglip".to_string(), json!(false));
    });
    let vlm = load(&Presets::default(), &before);
    assert_eq!((logits(&vlm), vlm.encoder.id.as_str()), (expected, "vision-tower"));
    // Saved again it says what is known of it: no id on the hub, and the kind of its tower.
    vlm.save(&folder.join("again")).unwrap();
    let again = config(&folder.join("again"));
    assert_eq!((&again["mm_vision_tower"], &again["siglip"]), (&json!("vision-tower"), &json!(true)));
    assert_eq!(again["llmore"]["tower"], json!("vision-tower"));
}

#[test]
fn a_folder_without_a_tower_names_it_for_both() {
    let folder = scratch("layout-stage-1");
    let presets = presets(&folder.join("presets"));
    let vlm = model(&presets, "a-clip");
    // A random tower has no name that leads to it, and is written as well.
    assert!(vlm.save_projector(&folder.join("random")).unwrap().is_none());
    assert_eq!(config(&folder.join("random"))["llmore"]["tower"], json!("vision-tower"));
    assert_eq!(logits(&load(&presets, &folder.join("random"))), logits(&vlm));
    // One in a folder is named by its place.
    vlm.encoder.save(&folder.join("tower")).unwrap();
    let stored = model(&presets, &folder.join("tower").display().to_string());
    assert!(stored.save_projector(&folder.join("first")).unwrap().is_none());
    let config = config(&folder.join("first"));
    let place = std::fs::canonicalize(folder.join("tower")).unwrap().display().to_string();
    assert_eq!((&config["mm_vision_tower"], &config["llmore"]["tower"]), (&json!(place), &json!(place)));
    assert_eq!(logits(&load(&presets, &folder.join("first"))), logits(&stored));
}
