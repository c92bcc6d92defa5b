//! The hub, played by a local server: downloads, the cache, tokens, transfers that break off or do not hold together.

mod data_sets;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use llmore::error::{Error, Kind};
use llmore::eval::{Benchmark, BenchmarkOptions};
use llmore::events::{Event, Listener, Listeners};
use llmore::hub::{Hub, HubSettings};
use llmore::models::registry::Target;
use llmore::preset::Presets;
use llmore::vlm::{Llm, LlmOptions, Weights, checkpoint};

use super::scratch::scratch;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the server misbehaves.
#[derive(Default)]
struct Behavior {
    /// Wanted in every request.
    token: Option<&'static str>,
    /// So many answers to a request for a whole file stop in the middle.
    cut: AtomicUsize,
    /// Answers from the first byte on, whatever was asked for.
    ignores_ranges: bool,
    /// Says that files have so many bytes more than they have.
    lies_by: usize,
    /// Instead of the etag that belongs to a file.
    etag: Option<&'static str>,
}

struct Server {
    endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves a folder as the repository `org/name`.
    fn start(folder: &Path, behavior: Behavior) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let mut files = BTreeMap::new();
        collect(folder, "", &mut files);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that hangs up early is part of the tests.
                let _ = answer(stream.unwrap(), &files, &behavior, &log);
            }
        });
        Server { endpoint, requests }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.path().is_dir() {
            true => collect(&entry.path(), &format!("{name}/"), files),
            false => drop(files.insert(name, std::fs::read(entry.path()).unwrap())),
        }
    }
}

fn answer(
    stream: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    behavior: &Behavior,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = request.split(' ').nth(1).unwrap_or_default().to_string();
    let headers: Vec<String> = lines.map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
    let header = |name: &str| {
        headers.iter().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)))
    };
    let range = header("range").and_then(|(_, range)| range.strip_prefix("bytes=")?.split_once('-'));
    log.lock().unwrap().push(format!("{path} {}", range.map_or("", |(from, _)| from)));
    let mut out = &stream;
    let plain = |status: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(body))
    };
    if let Some(token) = behavior.token
        && header("authorization").is_none_or(|(_, given)| given != format!("Bearer {token}"))
    {
        return plain("401 Unauthorized", b"");
    }
    if ["/api/models/", "/api/datasets/"].iter().any(|kind| path.starts_with(&format!("{kind}org/name/revision/"))) {
        let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let info = serde_json::json!({ "siblings": siblings, "sha": COMMIT });
        return plain("200 OK", info.to_string().as_bytes());
    }
    let path = path.strip_prefix("/datasets").unwrap_or(&path);
    let name = path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/")).unwrap_or_default();
    let Some(body) = files.get(name) else { return plain("404 Not Found", b"") };
    let (from, to) = range.unwrap_or(("0", ""));
    let probe = to == "0";
    let from = if behavior.ignores_ranges && !probe { 0 } else { from.parse::<usize>().unwrap() };
    if from >= body.len() {
        return plain("416 Range Not Satisfiable", b"");
    }
    let part = if probe { &body[..1] } else { &body[from..] };
    let etag = behavior.etag.map_or_else(|| name.replace(['.', '/'], "-"), str::to_string);
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\netag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\n\
         content-range: bytes {from}-{}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        from + part.len() - 1,
        body.len() + behavior.lies_by,
        part.len(),
    );
    out.write_all(head.as_bytes())?;
    let large = !probe && part.len() > 10_000;
    let cut = large && behavior.cut.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
    out.write_all(if cut { &part[..part.len() / 2] } else { part })
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn settings(server: &Server, cache: &Path) -> HubSettings {
    HubSettings { cache: cache.to_path_buf(), endpoint: server.endpoint.clone(), token: None, offline: false }
}

fn hub(settings: HubSettings) -> Hub {
    Hub::new(settings, Listeners::default())
}

fn fetch(hub: &Hub) -> Result<PathBuf, Error> {
    hub.folder("org/name", &["config.json"], true)
}

fn same(folder: &Path, source: &Path, file: &str) {
    assert_eq!(std::fs::read(folder.join(file)).unwrap(), std::fs::read(source.join(file)).unwrap(), "{file}");
}

#[test]
fn a_model_is_downloaded_once_into_the_layout_of_python() {
    let (cache, source) = (scratch("once"), fixture("training/checkpoint"));
    let server = Server::start(&source, Behavior::default());
    let presets = Presets::default().with_hub(hub(settings(&server, &cache)));
    let ours = checkpoint::open(&presets, "org/name", None, &Target::cpu()).unwrap();
    assert_eq!(ours.template().name(), "llama_3_1");
    assert!(!server.take().is_empty());
    let snapshot = cache.join("models--org--name/snapshots").join(COMMIT);
    for file in ["config.json", "tokenizer.json", "model.safetensors", "clip-tower/preprocessor_config.json"] {
        same(&snapshot, &source, file);
    }
    let commit = std::fs::read_to_string(cache.join("models--org--name/refs/main")).unwrap();
    assert_eq!(commit, COMMIT);
    assert!(cache.join("models--org--name/blobs/model-safetensors").is_file());

    checkpoint::open(&presets, "org/name", None, &Target::cpu()).unwrap();
    checkpoint::open(&presets, &format!("org/name@{COMMIT}"), None, &Target::cpu()).unwrap();
    assert_eq!(server.take(), Vec::<String>::new());

    let offline = hub(HubSettings { offline: true, ..settings(&server, &cache) });
    assert_eq!(fetch(&offline).unwrap(), snapshot);
}

#[test]
fn parts_of_the_weights_come_with_their_index_and_nothing_else() {
    let (cache, source) = (scratch("parts"), scratch("parts-source"));
    let vlm = checkpoint::load(&Presets::default(), &fixture("training/checkpoint"), None, &Target::cpu()).unwrap();
    vlm.save(&source).unwrap();
    let single = source.join("model.safetensors");
    llmore::weights::save_shards(&vlm.tensors(&llmore::vlm::Part::ALL).unwrap(), &source, 200_000).unwrap();
    std::fs::rename(&single, source.join("flax_model.msgpack")).unwrap();
    let server = Server::start(&source, Behavior::default());
    let folder = fetch(&hub(settings(&server, &cache))).unwrap();
    same(&folder, &source, "model-00002-of-00002.safetensors");
    assert!(!folder.join("flax_model.msgpack").exists());
    // A part that is lost is fetched again, and only that one.
    server.take();
    std::fs::remove_file(folder.join("model-00001-of-00002.safetensors")).unwrap();
    fetch(&hub(settings(&server, &cache))).unwrap();
    assert!(server.take().iter().all(|request| request.contains("/api/") || request.contains("00001-of-00002")));
}

#[test]
fn a_tokenizer_does_not_cost_the_weights() {
    let cache = scratch("tokenizer");
    let server = Server::start(&fixture("parity/models/stage-1/llm"), Behavior::default());
    let presets = Presets::default().with_hub(hub(settings(&server, &cache)));
    assert_eq!(Llm::tokenizer_of(&presets, "org/name").unwrap().vocab(), 288);
    assert!(!server.take().iter().any(|request| request.contains("safetensors")));
    let options = LlmOptions { weights: Weights::Stored, seed: 0, target: Target::cpu() };
    assert_eq!(Llm::open(&presets, "org/name", options).unwrap().width(), 24);
    assert!(server.take().iter().any(|request| request.contains("model.safetensors")));
}

#[test]
fn a_tower_whose_weights_are_in_the_checkpoint_costs_its_config_only() {
    let (cache, folder) = (scratch("tower"), scratch("tower-checkpoint"));
    let source = fixture("training/checkpoint");
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    std::fs::write(folder.join("config.json"), config.replace("clip-tower", "org/name")).unwrap();
    // The server has no weights at all.
    let server = Server::start(&source.join("clip-tower"), Behavior::default());
    let presets = Presets::default().with_hub(hub(settings(&server, &cache)));
    let vlm = checkpoint::load(&presets, &folder, None, &Target::cpu()).unwrap();
    assert_eq!((vlm.encoder.id.as_str(), vlm.encoder.weights()), ("org/name", Weights::Stored));
}

#[test]
fn offline_says_what_is_missing_where_and_what_to_do() {
    let cache = scratch("offline");
    let server = Server::start(&fixture("training/checkpoint"), Behavior::default());
    let offline = hub(HubSettings { offline: true, ..settings(&server, &cache) });
    let error = fetch(&offline).unwrap_err();
    assert_eq!(error.kind(), Kind::Missing);
    assert!(
        error.message().contains(&cache.display().to_string()) && error.message().contains("config.json"),
        "{error}"
    );
    assert!(error.help_text().unwrap().contains("HF_HUB_OFFLINE"), "{error}");
    assert_eq!(server.take(), Vec::<String>::new());
}

#[test]
fn a_gated_model_asks_for_a_token() {
    let cache = scratch("token");
    let server =
        Server::start(&fixture("training/checkpoint"), Behavior { token: Some("hf_x"), ..Behavior::default() });
    let error = fetch(&hub(settings(&server, &cache))).unwrap_err();
    assert!(error.message().contains("401") && error.help_text().unwrap().contains("HF_TOKEN"), "{error}");
    fetch(&hub(HubSettings { token: Some("hf_x".to_string()), ..settings(&server, &cache) })).unwrap();
}

#[test]
fn a_name_that_does_not_exist_is_told_from_a_hub_that_cannot_be_reached() {
    let cache = scratch("absent");
    let server = Server::start(&fixture("training/checkpoint"), Behavior::default());
    let error = hub(settings(&server, &cache)).folder("org/other", &["config.json"], true).unwrap_err();
    assert!(error.message().contains("has no `org/other`"), "{error}");
    let nowhere = HubSettings { endpoint: "http://127.0.0.1:9".to_string(), ..settings(&server, &cache) };
    let error = fetch(&hub(nowhere)).unwrap_err();
    assert_eq!(error.kind(), Kind::File);
    assert!(error.message().contains("127.0.0.1:9") && error.help_text().unwrap().contains("connection"), "{error}");
}

#[test]
fn what_broke_off_is_taken_up_where_it_ended() {
    let (cache, source) = (scratch("cut"), fixture("training/checkpoint"));
    let server = Server::start(&source, Behavior { cut: AtomicUsize::new(2), ..Behavior::default() });
    same(&fetch(&hub(settings(&server, &cache))).unwrap(), &source, "model.safetensors");
    let size = std::fs::metadata(source.join("model.safetensors")).unwrap().len();
    let resumed = server.take().iter().any(|request| request.ends_with(&format!("model.safetensors {}", size / 2)));
    assert!(resumed);
    std::fs::remove_dir_all(&cache).unwrap();

    // More often than is tried at once: an error, and the next call goes on.
    let server = Server::start(&source, Behavior { cut: AtomicUsize::new(4), ..Behavior::default() });
    let hub = hub(settings(&server, &cache));
    assert_eq!(fetch(&hub).unwrap_err().kind(), Kind::File);
    assert!(!cache.join("models--org--name/refs/main").exists());
    same(&fetch(&hub).unwrap(), &source, "model.safetensors");
}

#[test]
fn a_server_without_ranges_starts_again() {
    let (cache, source) = (scratch("ranges"), fixture("training/checkpoint"));
    let behavior = Behavior { cut: AtomicUsize::new(1), ignores_ranges: true, ..Behavior::default() };
    let server = Server::start(&source, behavior);
    same(&fetch(&hub(settings(&server, &cache))).unwrap(), &source, "model.safetensors");
    same(&fetch(&hub(settings(&server, &cache))).unwrap(), &source, "tokenizer.json");
}

#[test]
fn a_file_of_the_wrong_size_is_not_kept() {
    let cache = scratch("size");
    let server = Server::start(&fixture("training/checkpoint"), Behavior { lies_by: 5, ..Behavior::default() });
    let error = fetch(&hub(settings(&server, &cache))).unwrap_err();
    assert!(error.message().contains("clip-tower/config.json") && error.message().contains("485"), "{error}");
    assert!(!cache.join("models--org--name/snapshots").join(COMMIT).join("clip-tower/config.json").exists());
}

#[test]
fn a_server_cannot_choose_where_files_go() {
    let cache = scratch("etag");
    let behavior = Behavior { etag: Some("../../../../outside"), ..Behavior::default() };
    let server = Server::start(&fixture("training/checkpoint"), behavior);
    let error = fetch(&hub(settings(&server, &cache))).unwrap_err();
    assert!(error.message().contains("outside"), "{error}");
    assert!(!cache.parent().unwrap().join("outside").exists());
}

#[derive(Default)]
struct Heard(Mutex<Vec<Event>>);

impl Listener for Heard {
    fn hear(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

#[test]
fn large_files_tell_how_far_they_are() {
    let (cache, source) = (scratch("progress"), scratch("progress-source"));
    std::fs::write(source.join("config.json"), "{}").unwrap();
    std::fs::write(source.join("model.safetensors"), vec![7u8; 6_500_000]).unwrap();
    let server = Server::start(&source, Behavior::default());
    let heard = Arc::new(Heard::default());
    let hub = Hub::new(settings(&server, &cache), Listeners::default().with(heard.clone()));
    hub.folder("org/name", &["config.json"], true).unwrap();
    let events = heard.0.lock().unwrap();
    assert!(matches!(&events[0], Event::Start { task, done: 0, total: 6, .. } if task.contains("model.safetensors")));
    let fetched = events.iter().filter(|event| matches!(event, Event::Progress { total: 6, .. })).count();
    assert!((3..=7).contains(&fetched), "{fetched}");
    assert!(matches!(events.last(), Some(Event::End { done: 6, total: 6, .. })));
}

/// GQA's rows of a benchmark and of its pictures, beside other configurations.
fn gqa(name: &str) -> PathBuf {
    let source = scratch(name);
    let rows = |from: usize| {
        let row = |n| format!("{{\"id\": {n}, \"imageId\": \"n{n}\", \"question\": \"q\", \"answer\": \"a\"}}\n");
        (from..from + 3).map(row).collect::<String>()
    };
    for (configuration, split, text) in [
        ("testdev_balanced_instructions", "testdev", rows(0)),
        ("testdev_all_instructions", "testdev", rows(5)),
        ("val_balanced_instructions", "val", rows(9)),
        ("testdev_balanced_images", "testdev", "{\"id\": \"n1\", \"image\": \"x.png\"}\n".to_string()),
        ("testdev_all_images", "testdev", "{}\n".to_string()),
    ] {
        std::fs::create_dir_all(source.join(configuration)).unwrap();
        std::fs::write(source.join(configuration).join(format!("{split}-00000-of-00001.jsonl")), text).unwrap();
    }
    std::fs::write(source.join("README.md"), "x").unwrap();
    source
}

#[test]
fn of_a_benchmarks_data_set_only_its_configuration_and_split_are_fetched() {
    let (cache, source) = (scratch("data-set"), gqa("data-set-source"));
    let server = Server::start(&source, Behavior::default());
    let open = |settings: HubSettings, id: &str, data: &str| {
        let options = BenchmarkOptions { data: Some(data.into()), ..BenchmarkOptions::default() };
        Benchmark::open(&Presets::default().with_hub(hub(settings)), id, &options)
    };
    let b = open(settings(&server, &cache), "gqa", "org/name").unwrap();
    assert_eq!((b.items.len(), b.left_out.len()), (1, 2));
    let files = |requests: Vec<String>| -> Vec<String> {
        let mut names: Vec<String> = requests
            .iter()
            .filter_map(|r| r.split_once(&format!("{COMMIT}/"))?.1.split(' ').next().map(str::to_string))
            .collect();
        names.dedup();
        names
    };
    let fetched = files(server.take());
    let wanted = ["testdev_balanced_instructions", "testdev_balanced_images"]
        .map(|c| format!("{c}/testdev-00000-of-00001.jsonl"));
    assert_eq!(fetched, wanted);
    let snapshot = cache.join("datasets--org--name/snapshots").join(COMMIT);
    same(&snapshot, &source, &wanted[0]);
    assert_eq!(std::fs::read_to_string(cache.join("datasets--org--name/refs/main")).unwrap(), COMMIT);
    // Again: the list is asked for, and nothing is fetched; without a network the cache is enough.
    open(settings(&server, &cache), "gqa", "org/name").unwrap();
    assert_eq!(files(server.take()), Vec::<String>::new());
    let offline = HubSettings { offline: true, ..settings(&server, &cache) };
    assert_eq!(open(offline.clone(), "gqa", "org/name").unwrap().items.len(), 1);
    let nowhere = HubSettings { endpoint: "http://127.0.0.1:9".to_string(), ..settings(&server, &cache) };
    assert_eq!(open(nowhere, "gqa", "org/name@main").unwrap().items.len(), 1);
    assert_eq!(server.take(), Vec::<String>::new());

    // What is not there, and what is another benchmark's.
    let error = open(settings(&server, &cache), "scienceqa_img", "org/name").err().unwrap();
    assert!(error.to_string().contains("`testdev`") && error.help_text().is_some(), "{error}");
    let error = open(offline.clone(), "gqa", "org/other").err().unwrap();
    assert!(
        error.message().contains("datasets--org--other") && error.help_text().unwrap().contains("HF_HUB_OFFLINE"),
        "{error}"
    );
    let error = open(settings(&server, &cache), "gqa", "org/other").err().unwrap();
    assert!(error.message().contains("has no data set `org/other`"), "{error}");
    for home in ["lmms-lab/POPE", "lmms-lab-encoder/POPE"] {
        let error = open(offline.clone(), "gqa", home).err().unwrap();
        assert!(error.message().contains("the data set of benchmark `pope`, not of `gqa`"), "{error}");
        let error = open(offline.clone(), "pope", home).err().unwrap();
        assert!(error.message().contains("neither"), "{error}");
    }
}
