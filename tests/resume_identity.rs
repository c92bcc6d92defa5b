//! What decides a run's numbers is in its run.lock: a run goes on with the pictures, preprocessing, config and tokenizer it
//! began with, or says which of them is another one; where they lie and what they are called is no difference.

use std::path::Path;

use serde_json::{Value, json};

use super::scripting::{copy, run, scratch};

/// Trains to a step in `run`, or goes on; the data, the model and the step are given.
fn script(folder: &Path, data: &str, model: &str, stop: u64) -> String {
    format!(
        r#"let d = dataset("{0}/{data}/stage2.json", #{{ images: "{0}/{data}/images" }});
        let t = trainer(load("{0}/{model}"), d, #{{ train: #{{ projector: 1e-3 }}, batch: 4, steps: 3, out: "{0}/run" }});
        if begun("{0}/run") {{ t.resume("{0}/run"); }}
        t.fit(|s| s.step < {stop});
        print(t.losses.len());"#,
        folder.display()
    )
}

fn edit(path: &Path, change: impl Fn(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

#[test]
fn what_changed_between_pause_and_resume_is_named() {
    let folder = scratch("resume-identity-files");
    let training = Path::new("tests/fixtures/training");
    for data in ["a", "moved", "one"] {
        copy(&training.join("images"), &folder.join(data).join("images"));
        std::fs::copy(training.join("stage2.json"), folder.join(data).join("stage2.json")).unwrap();
    }
    std::fs::copy("tests/fixtures/images/rgb-137x191.png", folder.join("one/images/stage2_04.png")).unwrap();
    run("resume-identity-model", &format!(r#"vlm("tiny-llava").save("{}/model");"#, folder.display())).unwrap();
    for name in ["renamed", "mean", "theta", "eps", "tokens"] {
        copy(&folder.join("model"), &folder.join(name));
    }
    let mean = |value: &mut Value| value["image_mean"] = json!([0.1, 0.1, 0.1]);
    edit(&folder.join("mean/vision-tower/preprocessor_config.json"), mean);
    edit(&folder.join("theta/config.json"), |value| value["rope_theta"] = json!(50.0));
    edit(&folder.join("eps/config.json"), |value| value["rms_norm_eps"] = json!(0.5));
    edit(&folder.join("tokens/tokenizer.json"), |value| {
        let vocabulary = &mut value["model"]["vocab"];
        let (a, b) = (vocabulary["mage"].clone(), vocabulary["Ġthe"].clone());
        (vocabulary["mage"], vocabulary["Ġthe"]) = (b, a);
    });

    assert_eq!(run("resume-identity", &script(&folder, "a", "model", 1)).unwrap().trim(), "1");
    for (data, model, named) in [
        ("one", "model", "1 of 18 pictures changed"),
        ("one", "model", "one/images/stage2_04.png`"),
        ("a", "mean", "`encoder.processor.mean` was [0.5,0.5,0.5], is [0.1,0.1,0.1]"),
        ("a", "theta", "`llm.rope.base` was 10000.0, is 50.0"),
        ("a", "eps", "`llm.norm_eps` was 0.00001, is 0.5"),
        ("a", "tokens", "`llm.tokenizer` was "),
    ] {
        let said = run("resume-identity", &script(&folder, data, model, 2)).unwrap_err();
        assert!(said.contains("this trainer is not the one of run.lock") && said.contains(named), "{model}: {said}");
    }
    // Another name and another place are no difference.
    assert_eq!(run("resume-identity", &script(&folder, "moved", "renamed", 2)).unwrap().trim(), "2");
}

#[test]
fn pictures_in_archives_and_rows_are_looked_at_as_well() {
    let folder = scratch("resume-prints-files");
    let text = |image: &str| {
        json!([{ "id": "1", "image": image, "conversations": [
            { "from": "human", "value": "<image>\nIs it red?" }, { "from": "gpt", "value": "Yes" }
        ] }])
        .to_string()
    };
    std::fs::write(folder.join("d.json"), text("a.png")).unwrap();
    let tar = |picture: &str| {
        let bytes = std::fs::read(format!("tests/fixtures/images/{picture}")).unwrap();
        let mut header = [0u8; 512];
        header[..5].copy_from_slice(b"a.png");
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
        header[257..263].copy_from_slice(b"ustar\0");
        header[156] = b'0';
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let padding = bytes.len().next_multiple_of(512) - bytes.len() + 1024;
        let archive = [&header[..], &bytes, &vec![0; padding]].concat();
        std::fs::write(folder.join("pictures.tar"), archive).unwrap();
    };
    let script = format!(
        r#"let d = dataset("{0}/d.json", #{{ images: "{0}/pictures.tar" }});
        let t = trainer(vlm("tiny-llava"), d, #{{ train: #{{ projector: 1e-3 }}, steps: 3, out: "{0}/run" }});
        if begun("{0}/run") {{ t.resume("{0}/run"); }}
        t.fit(|s| false);"#,
        folder.display()
    );
    tar("red-circle.png");
    run("resume-prints", &script).unwrap();
    run("resume-prints", &script).unwrap();
    tar("rgb-137x191.png");
    let said = run("resume-prints", &script).unwrap_err();
    assert!(said.contains("1 of 1 pictures changed") && said.contains("pictures.tar#a.png`"), "{said}");
}
