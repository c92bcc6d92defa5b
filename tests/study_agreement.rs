//! What has one name is one thing in all cells of a study: towers, LLMs, data, pictures and the program itself.

use std::path::{Path, PathBuf};

use candle_core::Device;
use llmore::study::StudyOptions;
use llmore::weights::{read_tensors, save_tensors};

use super::scripting::{run, scratch};
use super::study::{benchmark, options, strings, study};

/// A folder with a tower, an LLM and data that can be changed.
fn parts(name: &str) -> PathBuf {
    let folder = scratch(name);
    run(&format!("{name}-tower"), &format!(r#"encoder("tiny-clip").save("{}")"#, folder.join("tower").display()))
        .unwrap();
    let (llm, stored) = (folder.join("llm"), Path::new(env!("CARGO_MANIFEST_DIR")).join("stdlib/models/tiny-llama"));
    std::fs::create_dir_all(&llm).unwrap();
    for entry in std::fs::read_dir(stored).unwrap().flatten() {
        std::fs::copy(entry.path(), llm.join(entry.file_name())).unwrap();
    }
    let presets = folder.join("presets/llms");
    std::fs::create_dir_all(&presets).unwrap();
    let preset =
        format!("about = \"a copy\"\nsource = {:?}\ntemplate = \"tiny\"\nrandom = true\n", llm.display().to_string());
    std::fs::write(presets.join("tiny-copy.toml"), preset).unwrap();
    let images = folder.join("data/images");
    std::fs::create_dir_all(&images).unwrap();
    let mut samples = Vec::new();
    for (number, picture) in ["rgb-137x191.png", "gray-101x113.png", "red-circle.png"].into_iter().enumerate() {
        std::fs::copy(Path::new("tests/fixtures/images").join(picture), images.join(format!("{number}.png"))).unwrap();
        samples
            .push(serde_json::json!({ "id": number.to_string(), "image": format!("{number}.png"), "conversations": [
            { "from": "human", "value": "<image>\nwhat is it?" }, { "from": "gpt", "value": "a shape" }] }));
    }
    std::fs::write(folder.join("data/few.json"), serde_json::to_vec(&samples).unwrap()).unwrap();
    folder
}

fn small(folder: &Path, seeds: &[u64]) -> StudyOptions {
    StudyOptions {
        encoders: strings(&[&folder.join("tower").display().to_string()]),
        llms: strings(&["tiny-copy"]),
        benchmarks: vec![benchmark("tiny-vqa")],
        stage: "steps = 1\nbatch = 2\ndata = \"few.json\"".parse().unwrap(),
        data: Some(folder.join("data")),
        seeds: seeds.to_vec(),
        limit: Some(4),
        ..options(&folder.join("out"))
    }
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from} is not in {}: {text}", file.display());
    std::fs::write(file, text.replacen(from, to, 1)).unwrap();
}

/// The state of the second cell after a study of one seed has grown by another.
fn grown(folder: &Path) -> String {
    let (mut study, _) = study(folder, small(folder, &[0, 1])).unwrap();
    let summary = study.run().unwrap();
    assert_eq!(summary.rows[0][1].text, "done");
    let table = study.folder().unwrap().table().unwrap().note.unwrap();
    let state = summary.rows[1][1].text.clone();
    assert!(state == "done" || table.contains("mean over 1 of 2 seeds"), "{table}");
    state
}

#[test]
fn a_tower_that_is_another_one_is_not_pooled() {
    let folder = parts("agreement-tower");
    study(&folder, small(&folder, &[0])).unwrap().0.run().unwrap();
    let weights = folder.join("tower/model.safetensors");
    let tensors = read_tensors(&weights, &Device::Cpu).unwrap();
    let flipped: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.neg().unwrap())).collect();
    save_tensors(&flipped, &weights).unwrap();
    let state = grown(&folder);
    assert!(state.starts_with("failed: ") && state.contains("--tiny-copy--s0 was trained with"), "{state}");
    assert!(state.contains("`encoder.weights` was "), "{state}");
    save_tensors(&tensors, &weights).unwrap();

    let processor = ["processor_config.json", "preprocessor_config.json"].map(|name| folder.join("tower").join(name));
    let processor = processor.into_iter().find(|file| file.is_file()).unwrap();
    let text = std::fs::read_to_string(&processor).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["image_mean"][0] = 0.25.into();
    std::fs::write(&processor, serde_json::to_vec(&json).unwrap()).unwrap();
    let state = grown(&folder);
    assert!(state.contains("encoder.processor") && state.contains("mean"), "{state}");
    std::fs::write(&processor, text).unwrap();

    let config = folder.join("tower/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    edit(&config, "\"layer_norm_eps\": 0.00001", "\"layer_norm_eps\": 0.00002");
    let state = grown(&folder);
    assert!(state.contains("`encoder.") && state.contains("eps` was"), "{state}");
    std::fs::write(&config, text).unwrap();
    assert_eq!(grown(&folder), "done");
}

#[test]
fn other_pictures_another_llm_and_another_program_are_not_pooled() {
    let folder = parts("agreement-data");
    study(&folder, small(&folder, &[0])).unwrap().0.run().unwrap();
    let picture = folder.join("data/images/1.png");
    let bytes = std::fs::read(&picture).unwrap();
    std::fs::copy("tests/fixtures/images/rgb-336x336.png", &picture).unwrap();
    let state = grown(&folder);
    assert!(state.contains("`data.pictures` was") && state.contains("1.png"), "{state}");
    std::fs::write(&picture, bytes).unwrap();

    let config = folder.join("llm/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    edit(&config, "\"rms_norm_eps\": 1e-", "\"rms_norm_eps\": 2e-");
    let state = grown(&folder);
    assert!(state.contains("`llm.") && state.contains("eps` was"), "{state}");
    std::fs::write(&config, &text).unwrap();

    let cells = std::fs::read_dir(folder.join("out/cells")).unwrap().flatten().map(|entry| entry.path());
    let first = cells.into_iter().find(|cell| cell.display().to_string().ends_with("--s0")).unwrap();
    let lock = first.join("stage-1/run.lock");
    let text = std::fs::read_to_string(&lock).unwrap();
    let line = text.lines().find(|line| line.starts_with("llmore = ")).unwrap().to_string();
    edit(&lock, &line, "llmore = \"0.0.1\"");
    let state = grown(&folder);
    assert!(state.contains("`llmore` was 0.0.1, is "), "{state}");
    std::fs::write(&lock, text).unwrap();
    assert_eq!(grown(&folder), "done");
}
