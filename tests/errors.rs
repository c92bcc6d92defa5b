//! Errors as people see them: each case of the snapshot file is a script and the text it must print.
//! Regenerate with `LLMORE_SNAPSHOTS=write cargo test --release --test tests errors` and read the difference.

use std::fmt::Write as _;
use std::path::Path;

use super::scripting::{run, scratch};

/// (name, script). `FOLDER` is a scratch folder with a truncated checkpoint and a bad data set.
const CASES: &[(&str, &str)] = &[
    ("unknown preset", "let e = encoder(\"tiny-clip\");\nlet lm = llm(\"tiny-lama\");"),
    ("misspelled option key", "llm(\"tiny-llama\", #{ sed: 1 })"),
    (
        "misspelled trainer option",
        "let m = load(\"tests/fixtures/training/checkpoint\");\ntrainer(m, dataset(\"tiny-emoji\"), #{ train: #{ projector: 1e-3 }, bach: 4 })",
    ),
    ("misspelled study option", "study(#{ benchmark: \"tiny-vqa\" })"),
    (
        "wrong part",
        "let m = load(\"tests/fixtures/training/checkpoint\");\ntrainer(m, dataset(\"tiny-emoji\"), #{ train: #{ projektor: 1e-3 } })",
    ),
    ("wrong handle type", "vlm(projector(\"linear\"), encoder(\"tiny-clip\"), llm(\"tiny-llama\"))"),
    (
        "misspelled method",
        "let m = load(\"tests/fixtures/training/checkpoint\");\nm.aks(image(\"tests/fixtures/images/red-circle.png\"), \"What?\")",
    ),
    ("misspelled property", "encoder(\"tiny-clip\").tokes"),
    ("missing file", "image(\"no/such/picture.png\")"),
    ("corrupt PNG", "image(\"tests/fixtures/images/corrupt.png\")"),
    ("not an image", "image(\"tests/fixtures/images/not-an-image.png\")"),
    ("truncated safetensors", "load(\"FOLDER/truncated\")"),
    ("missing tensors", "encoder(\"FOLDER/partial\")"),
    (
        "shape mismatch",
        "let x = tensors(\"tests/fixtures/training/expected.safetensors\");\nmax_abs_diff(x[\"stage1.losses\"], x[\"stage1.first_gradient.model.mm_projector.0.weight\"])",
    ),
    (
        "widths that do not fit",
        "vlm(encoder(\"tiny-clip\"), projector(\"identity\"), load(\"tests/fixtures/training/checkpoint\").llm)",
    ),
    (
        "template without its tokens",
        "vlm(encoder(\"tiny-clip\"), projector(\"linear\"), llm(\"tiny-llama\"), #{ template: \"llama_3_1\" })",
    ),
    ("undefined variable", "let images = 3;\nprint(image_count);"),
    ("inside a function", "fn open(path) {\n    image(path)\n}\nopen(\"no.png\");"),
    ("syntax", "let x = ;"),
    ("thrown text", "throw \"the score is too low\""),
    ("broken data", "dataset(\"FOLDER/broken.json\")"),
    (
        "no image behind the mark",
        "let m = load(\"tests/fixtures/training/checkpoint\");\nlet d = dataset(\"FOLDER/text.json\");\ntrainer(m, d, #{ train: #{ projector: 1e-3 }, steps: 1 }).step()",
    ),
];

#[test]
fn errors_read_as_committed() {
    let folder = scratch("error-cases");
    let broken = folder.join("truncated");
    std::fs::create_dir_all(broken.join("clip-tower")).unwrap();
    let source = Path::new("tests/fixtures/training/checkpoint");
    for file in ["config.json", "tokenizer.json", "clip-tower/config.json", "clip-tower/preprocessor_config.json"] {
        std::fs::copy(source.join(file), broken.join(file)).unwrap();
    }
    let weights = std::fs::read(source.join("model.safetensors")).unwrap();
    std::fs::write(broken.join("model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    partial_tower(&folder.join("partial"));
    std::fs::write(folder.join("broken.json"), "[{\"id\": 1, \"conversations\": \"hello\"}]").unwrap();
    let text = r#"[{"id": "t", "conversations": [{"from": "human", "value": "<image>\nHi"}, {"from": "gpt", "value": "Yes"}]}]"#;
    std::fs::write(folder.join("text.json"), text).unwrap();

    let shown = folder.display().to_string();
    let mut got = String::new();
    for (name, script) in CASES {
        let error = match run("error-case", &script.replace("FOLDER", &shown)) {
            Ok(value) => panic!("{name}: no error, but {value}"),
            Err(error) => error.replace(&shown, "FOLDER"),
        };
        let _ = write!(got, "## {name}\n\n{error}\n\n");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/errors.txt");
    if option_env_is_write() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &got).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (got, expected) in got.split("\n## ").zip(expected.split("\n## ")) {
        assert_eq!(got, expected);
    }
    assert_eq!(got, expected);
}

/// A tower's folder that lacks two tensors and holds one too many.
fn partial_tower(folder: &Path) {
    use llmore::weights::{read_tensors, save_tensors};
    std::fs::create_dir_all(folder).unwrap();
    let checkpoint = Path::new("tests/fixtures/training/checkpoint");
    for file in ["config.json", "preprocessor_config.json"] {
        std::fs::copy(checkpoint.join("clip-tower").join(file), folder.join(file)).unwrap();
    }
    let all = read_tensors(&checkpoint.join("model.safetensors"), &candle_core::Device::Cpu).unwrap();
    let tower = all.into_iter().filter_map(|(name, tensor)| {
        let name = name.strip_prefix("model.vision_tower.vision_tower.")?.to_string();
        (!name.contains("layers.1.self_attn.q_proj")).then_some((name, tensor))
    });
    save_tensors(&tower.collect::<Vec<_>>(), &folder.join("model.safetensors")).unwrap();
}

fn option_env_is_write() -> bool {
    std::env::var("LLMORE_SNAPSHOTS").is_ok_and(|value| value == "write")
}
