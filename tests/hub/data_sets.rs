//! Data sets for training, by split and configuration.

use super::*;

/// Conversations without pictures in two configurations and two splits, one of them in two files.
fn conversations(name: &str) -> PathBuf {
    let source = scratch(name);
    let rows = |from: usize, count: usize| {
        let row = |n: usize| {
            let turns = [("human", format!("{n}?")), ("gpt", "yes".to_string())]
                .map(|(from, value)| serde_json::json!({ "from": from, "value": value }));
            format!("{}\n", serde_json::json!({ "id": n.to_string(), "conversations": turns }))
        };
        (from..from + count).map(row).collect::<String>()
    };
    for (file, text) in [
        ("chat/train-00000-of-00002.jsonl", rows(0, 3)),
        ("chat/train-00001-of-00002.jsonl", rows(3, 2)),
        ("chat/test-00000-of-00001.jsonl", rows(10, 4)),
        ("math/train-00000-of-00001.jsonl", rows(20, 6)),
    ] {
        std::fs::create_dir_all(source.join(file).parent().unwrap()).unwrap();
        std::fs::write(source.join(file), text).unwrap();
    }
    source
}

/// What a script prints where the hub is this one.
fn script(settings: HubSettings, text: &str) -> Result<String, String> {
    use llmore::script::{Outcome, Overrides, Session, SessionOptions};
    let output = Arc::new(crate::scripting::Captured::default());
    let folder = scratch("script");
    let mut session = Session::new(SessionOptions {
        presets: Presets::default().with_hub(hub(settings)),
        output: output.clone(),
        listeners: Listeners::default(),
        interrupt: llmore::events::Interrupt::default(),
        overrides: Overrides::default(),
        args: Vec::new(),
        repeats: None,
        runs: folder.join("runs"),
        cache: folder.join("cache"),
    });
    match session.run("test.rhai", text) {
        Ok(Outcome::Value(_)) => Ok(output.0.lock().unwrap().clone()),
        Ok(Outcome::Exit(code)) => Err(format!("exit {code}")),
        Err(report) => Err(report.to_string()),
    }
}

#[test]
fn a_data_set_for_training_comes_by_split_and_configuration() {
    let (cache, source) = (scratch("training"), conversations("training-source"));
    let server = Server::start(&source, Behavior::default());
    let text = r#"
        let d = dataset("org/name", #{ config: "chat" });
        print(`${d.len} ${d[0].id} ${d[4].id}`);
        print(dataset("org/name", #{ config: "chat", split: "test" })[0].id);
        print(dataset("org/name@main", #{ config: "math" }).len);
    "#;
    assert_eq!(script(settings(&server, &cache), text).unwrap(), "5 0 4\n10\n6\n");
    let fetched = |requests: Vec<String>| requests.iter().filter(|r| r.contains(".jsonl")).count();
    assert!(fetched(server.take()) >= 4);
    // Nothing is fetched twice, and without the network the cache is enough.
    assert_eq!(script(settings(&server, &cache), text).unwrap(), "5 0 4\n10\n6\n");
    assert_eq!(fetched(server.take()), 0);
    let offline = HubSettings { offline: true, ..settings(&server, &cache) };
    assert_eq!(script(offline.clone(), text).unwrap(), "5 0 4\n10\n6\n");

    let cases = [
        (r#"dataset("org/name")"#, ["`org/name` holds the folders `chat`, `math`", "config: "]),
        (r#"dataset("org/name", #{ config: "code" })"#, ["`org/name`", "`chat/train-00000-of-00002.jsonl`"]),
        (r#"dataset("org/name", #{ config: "chat", split: "val" })"#, ["the splits `test`, `train`", "split: "]),
        (r#"dataset("org/name", #{ config: "math", split: "test" })"#, ["`org/name`", "help: "]),
        (r#"dataset("org/other")"#, ["no file or folder `org/other`", "has no data set `org/other`"]),
        // What is called like a file is one.
        (r#"dataset("org/name.json")"#, ["no file or folder `org/name.json`", "-->"]),
        (r#"dataset("tests/fixtures/training/stage2.json", #{ split: "train" })"#, ["is no folder", "help: "]),
    ];
    for (text, expected) in cases {
        let told = script(settings(&server, &cache), text).unwrap_err();
        assert!(expected.iter().all(|part| told.contains(part)), "{text}: {told}");
    }
    assert!(fetched(server.take()) == 0);
    let told = script(offline, r#"dataset("org/other")"#).unwrap_err();
    assert!(told.contains("HF_HUB_OFFLINE"), "{told}");

    // The same of a folder that was downloaded.
    let text =
        r#"print(dataset("SOURCE", #{ config: "chat" }).len); print(dataset("SOURCE/math", #{ split: "train" }).len);"#;
    let text = text.replace("SOURCE", &source.display().to_string());
    assert_eq!(script(settings(&server, &cache), &text).unwrap(), "5\n6\n");
}
