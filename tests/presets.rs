//! Presets at full size, over a source of weights that records shapes only: sizes and counts are those of
//! LLaVA-MORE's released models (LLaVA-MORE 2460d39 and the pages of its models and their parts).

use std::path::Path;

use llmore::models::registry::Target;
use llmore::preset::{PresetKind, Presets};
use llmore::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, ModelPreset, Vlm, Weights};
use serde::Deserialize;

use super::scripting::run;

fn encoder(id: &str) -> Encoder {
    let (weights, seed, target) = (Weights::None, 0, Target::cpu());
    let options = EncoderOptions { select_layer: None, select: None, s2: None, weights, seed, target };
    Encoder::open(&Presets::default(), id, options).unwrap()
}

fn llm(id: &str) -> Llm {
    let options = LlmOptions { weights: Weights::None, seed: 0, target: Target::cpu() };
    Llm::open(&Presets::default(), id, options).unwrap()
}

fn outline(id: &str) -> Vlm {
    ModelPreset::outline(&Presets::default(), id).unwrap()
}

#[test]
fn parts_have_their_published_numbers_of_parameters() {
    for (id, parameters) in [
        ("llama-3.1-8b-instruct", 8_030_261_248),
        ("llama-3-8b-instruct", 8_030_261_248),
        ("deepseek-r1-distill-llama-8b", 8_030_261_248),
        ("phi-4-mini-instruct", 3_836_021_760),
        ("gemma-2-2b-it", 2_614_341_888),
        ("gemma-2-9b-it", 9_241_705_984),
        ("vicuna-7b-v1.5", 6_738_415_616),
        ("mistral-7b-instruct-v0.2", 7_241_732_096),
        ("qwen2.5-0.5b-instruct", 494_032_768),
    ] {
        assert_eq!(llm(id).params.count(), parameters, "{id}");
    }
    for (id, parameters, tokens, width) in [
        ("clip-vit-l-336", 303_507_456, 576, 1024),
        ("siglip-so400m-384", 428_225_600, 729, 1152),
        ("siglip2-so400m-384", 428_225_600, 729, 1152),
        ("dinov2-large", 304_368_640, 256, 1024),
        ("dinov2-registers-large", 304_372_736, 256, 1024),
    ] {
        let encoder = encoder(id);
        assert_eq!((encoder.count(), encoder.tokens(), encoder.width()), (parameters, tokens, width), "{id}");
    }
}

/// Billions with two decimals, as the hub's pages say, the projector's parameters, and the visual tokens.
#[test]
fn every_published_row_builds_at_full_size() {
    for (id, billions, projector, tokens) in [
        ("llava-more-llama-3.1-8b-clip", "8.35", 20_979_712, 576),
        ("llava-more-llama-3.1-8b-clip-s2", "8.36", 29_368_320, 576),
        ("llava-more-llama-3.1-8b-siglip", "8.48", 21_504_000, 729),
        ("llava-more-llama-3.1-8b-siglip-s2", "8.49", 30_941_184, 729),
        ("llava-more-deepseek-r1-8b-clip", "8.35", 20_979_712, 576),
        ("llava-more-phi-4-mini-clip", "4.15", 12_589_056, 576),
        ("llava-more-phi-4-mini-dinov2", "4.15", 12_589_056, 256),
        ("llava-more-phi-4-mini-dinov2-registers", "4.15", 12_589_056, 256),
        ("llava-more-phi-4-mini-siglip", "4.28", 12_982_272, 729),
        ("llava-more-phi-4-mini-siglip2", "4.28", 12_982_272, 729),
        ("llava-more-gemma-2-2b-clip", "2.93", 7_672_320, 576),
        ("llava-more-gemma-2-9b-clip", "9.56", 16_522_240, 576),
        ("llava-more-gemma-2-9b-dinov2", "9.56", 16_522_240, 256),
        ("llava-more-gemma-2-9b-dinov2-registers", "9.56", 16_522_240, 256),
        ("llava-more-gemma-2-9b-siglip", "9.69", 16_980_992, 729),
        ("llava-more-gemma-2-9b-siglip2", "9.69", 16_980_992, 729),
        ("llava-1.5-7b", "7.06", 20_979_712, 576),
        ("llava-1.5-llama-3-8b", "8.35", 20_979_712, 576),
    ] {
        let model = outline(id);
        assert_eq!(format!("{:.2}", model.params() as f64 / 1e9), billions, "{id}");
        assert_eq!((model.projector.params.count(), model.image_tokens()), (projector, tokens), "{id}");
    }
}

#[test]
fn every_model_preset_has_an_outline_and_a_template() {
    let presets = Presets::default();
    let ids = presets.ids(PresetKind::Models);
    assert!(ids.len() >= 18);
    for id in ids {
        let model = outline(&id);
        assert!(model.image_tokens() < model.llm.context(), "{id}");
    }
}

#[test]
fn what_has_no_weights_says_so() {
    let model = outline("llava-more-phi-4-mini-clip");
    let image = llmore::image::Image::filled(8, 8, [1, 2, 3]);
    let error = model.encoder.encode(&model.encoder.preprocess(&image, model.aspect()).unwrap().unsqueeze(0).unwrap());
    assert!(error.unwrap_err().to_string().contains("opened without weights"));
    assert!(model.loss(&[image], &[]).unwrap_err().to_string().contains("opened without weights"));
}

#[derive(Deserialize)]
struct Row {
    script: Option<String>,
    model: Option<String>,
    template: String,
    micro_batch: [i64; 2],
    max_length: i64,
    encoder: String,
    s2: Option<Vec<usize>>,
}

/// `fixtures/published/how.md`: what the training scripts of LLaVA-MORE say, against ours.
#[test]
fn scripts_train_with_the_published_settings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("tests/fixtures/published/scripts.json")).unwrap();
    let rows: Vec<Row> = serde_json::from_str(&text).unwrap();
    let all = std::fs::read_dir(root.join("scripts")).unwrap().flatten();
    let all = all.filter(|entry| entry.file_name().to_string_lossy().starts_with("llava_more_")).count();
    assert_eq!(rows.iter().filter(|row| row.script.is_some()).count(), all, "every script has its row");
    for row in rows {
        let (model, recipe) = match &row.script {
            None => (row.model.clone().unwrap(), "recipe(\"llava-more\")".to_string()),
            Some(name) => {
                let script = std::fs::read_to_string(root.join(format!("scripts/{name}.rhai"))).unwrap();
                let between = |start: &str, end: &str| {
                    let from = script.find(start).unwrap() + start.len();
                    script[from..from + script[from..].find(end).unwrap()].to_string()
                };
                let call = between("train_stages(m, ", ");\n");
                let (id, rest) = call.split_once(", ").unwrap();
                let overrides = rest.find("#{").map_or("#{}", |at| &rest[at..]);
                (between("vlm(\"", "\""), format!("recipe({id}, {overrides})"))
            }
        };
        let vlm = outline(&model);
        assert_eq!(
            (vlm.template().name(), vlm.encoder.id.as_str()),
            (row.template.as_str(), row.encoder.as_str()),
            "{model}"
        );
        let preset = std::fs::read_to_string(root.join(format!("stdlib/presets/models/{model}.toml"))).unwrap();
        let scales = preset.parse::<toml::Table>().unwrap().get("s2").cloned();
        assert_eq!(scales.map(|scales| scales.try_into::<Vec<usize>>().unwrap()), row.s2, "{model}");
        let script = format!(
            r#"fn of(map, key) {{ if key in map {{ map[key] }} else {{ () }} }}
            for s in {recipe}.stages {{
                let rates = s.train.projector == 1e-3 && of(s.train, "llm") == () || s.train.projector == 2e-5 && s.train.llm == 2e-5;
                print(`${{s.batch}} ${{s.micro_batch}} ${{s.max_length}} ${{s.epochs}} ${{s.schedule}} ${{s.warmup_ratio == 0.03}} ${{rates}}`);
                print(`${{s.image}} ${{of(s, "template")}} ${{of(s, "group_by_modality")}} ${{of(s, "weight_decay")}} ${{of(s, "order")}}`);
            }}"#
        );
        let [first, second] = row.micro_batch;
        let length = row.max_length;
        let expected = format!(
            "256 {first} {length} 1 cosine true true\nsquare plain   \n128 {second} {length} 1 cosine true true\npad  true  \n"
        );
        assert_eq!(run("published-scripts", &script).unwrap(), expected, "{model}");
    }
}
