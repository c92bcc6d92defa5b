//! A folder with what must not be read beside what may: `secret/`, and `work/` in which scripts run, with `given/` (allowed) and
//! `runs/`. Links, archives, data, configs and checkpoints in `given/` lead to `secret/`.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

/// What nothing a script does may show.
pub const SECRET: &str = "IN-THE-SECRET-FOLDER";

pub struct World(pub PathBuf);

impl World {
    pub fn new(name: &str) -> Self {
        let root = crate::scratch::scratch(name);
        for folder in ["secret/run", "work/given", "work/given2", "work/runs", "home/.config/llmore/presets/encoders"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let world = World(root.canonicalize().unwrap());
        world.secrets();
        world.links();
        world.data();
        world.models();
        world
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.at(path), content).unwrap();
    }

    fn secrets(&self) {
        self.write("secret/key.txt", SECRET);
        self.write("secret/lib.rhai", format!("export const KEY = \"{SECRET}\";"));
        self.write("secret/run/run.lock", SECRET);
        self.write("work/notes.txt", SECRET);
        self.write("work/given2/key.txt", SECRET);
        self.write("home/key.txt", SECRET);
        copy(&fixture("tests/fixtures/images/red-circle.png"), &self.at("secret/pic.png"));
        self.write("secret/data.json", sample("pic.png"));
        self.write("secret/archive.zip", zip("pic.png", b"not a picture"));
        copy(&fixture("stdlib/models/tiny-llama"), &self.at("secret/llm"));
        copy(&fixture("stdlib/models/tiny-clip"), &self.at("secret/tower"));
        copy(&fixture("tests/fixtures/training/checkpoint"), &self.at("secret/model"));
        // As huggingface_hub keeps a model that was fetched before.
        let commit = "0123456789012345678901234567890123456789";
        let cached = format!("home/.cache/huggingface/hub/models--org--cached/snapshots/{commit}");
        copy(&fixture("stdlib/models/tiny-clip"), &self.at(&cached));
        let refs = "home/.cache/huggingface/hub/models--org--cached/refs";
        std::fs::create_dir_all(self.at(refs)).unwrap();
        self.write(&format!("{refs}/main"), commit);
        let preset = format!("about = \"mine\"\nsource = \"{}\"\n", self.at("secret/tower").display());
        self.write("home/.config/llmore/presets/encoders/mine.toml", preset);
    }

    fn links(&self) {
        for (to, name) in [
            ("secret/key.txt", "work/given/link.txt"),
            ("secret", "work/given/out"),
            ("secret/pic.png", "work/given/pic-link.png"),
            ("secret/archive.zip", "work/given/zip-link.zip"),
            ("secret/lib.rhai", "work/given/lib-link.rhai"),
            ("secret/data.json", "work/given/data-link.json"),
            ("secret", "work/runs/out"),
            ("secret/new.png", "work/runs/dangling.png"),
            ("secret/new", "work/runs/new"),
        ] {
            symlink(self.at(to), self.at(name)).unwrap();
        }
    }

    fn data(&self) {
        let picture = self.at("secret/pic.png").display().to_string();
        copy(&self.at("secret/pic.png"), &self.at("work/given/ok.png"));
        for (name, image) in [
            ("ok.json", "ok.png"),
            ("up.json", "../../secret/pic.png"),
            ("round.json", "../given/ok.png"),
            ("link.json", "pic-link.png"),
            ("folder-link.json", "out/pic.png"),
            ("absolute.json", &picture),
        ] {
            self.write(&format!("work/given/{name}"), sample(image));
        }
        let row = |image: &str| sample(image).trim_matches(['[', ']']).to_string() + "\n";
        self.write("work/given/up.jsonl", row("../../secret/pic.png"));
        self.write("work/given/absolute.jsonl", row(&picture));
        self.write("work/given/member.json", sample("../../secret/pic.png"));
        self.write(
            "work/given/up.zip",
            zip("../../secret/pic.png", &std::fs::read(self.at("secret/pic.png")).unwrap()),
        );
        self.write(
            "work/given/up.tar",
            tar("../../secret/pic.png", &std::fs::read(self.at("secret/pic.png")).unwrap()),
        );
    }

    fn models(&self) {
        let checkpoint = fixture("tests/fixtures/training/checkpoint");
        let tower = self.at("secret/model/clip-tower").display().to_string();
        copy(&checkpoint, &self.at("work/given/named-tower"));
        let config = self.at("work/given/named-tower/config.json");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("\"clip-tower\"", &format!("\"{tower}\""))).unwrap();
        copy(&checkpoint, &self.at("work/given/model"));
        // Weights, config and tokenizer behind links; an index that leads out.
        for (folder, of, file) in [
            ("linked-weights", "tower", "model.safetensors"),
            ("linked-config", "tower", "config.json"),
            ("linked-tokenizer", "llm", "tokenizer.json"),
        ] {
            copy(&self.at(&format!("secret/{of}")), &self.at(&format!("work/given/{folder}")));
            let name = self.at(&format!("work/given/{folder}/{file}"));
            std::fs::remove_file(&name).unwrap();
            symlink(self.at(&format!("secret/{of}/{file}")), name).unwrap();
        }
        copy(&self.at("secret/tower"), &self.at("work/given/indexed"));
        std::fs::remove_file(self.at("work/given/indexed/model.safetensors")).unwrap();
        let index =
            r#"{ "weight_map": { "vision_model.pre_layrnorm.weight": "../../../secret/tower/model.safetensors" } }"#;
        self.write("work/given/indexed/model.safetensors.index.json", index);
    }

    /// Runs a script in `work/`.
    pub fn run(&self, script: &str, arguments: &[&str]) -> Output {
        self.write("work/x.rhai", script);
        self.llmore(&[&["run", "x.rhai"], arguments].concat()).output().unwrap()
    }

    /// The program in `work/`, as somebody whose home is `home/`.
    pub fn llmore(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llmore"));
        command.args(arguments).arg("--quiet").current_dir(self.at("work")).env("HOME", self.at("home"));
        for name in ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE"]
        {
            command.env_remove(name);
        }
        // Nobody answers there: outside of the sandbox nothing is fetched either.
        command.env("HF_ENDPOINT", "http://127.0.0.1:9");
        command
    }

    /// Every file, folder and link with its content, but for the script itself.
    pub fn listing(&self) -> BTreeMap<String, String> {
        let (mut found, mut folders) = (BTreeMap::new(), vec![self.0.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&self.0).unwrap().display().to_string();
                let what = match std::fs::read_link(&path) {
                    Ok(link) => format!("-> {}", link.display()),
                    Err(_) if path.is_dir() => {
                        folders.push(path);
                        "folder".to_string()
                    }
                    Err(_) => format!("{:x}", Sha256::digest(std::fs::read(&path).unwrap())),
                };
                found.insert(name, what);
            }
        }
        found.remove("work/x.rhai");
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Copies a file, or a folder with its folders.
fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        std::fs::copy(from, to).unwrap();
        return;
    }
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        copy(&path, &to.join(path.file_name().unwrap()));
    }
}

/// Training data of one sample.
fn sample(image: &str) -> String {
    let turns =
        serde_json::json!([{ "from": "human", "value": "<image>\nIs it red?" }, { "from": "gpt", "value": "yes" }]);
    serde_json::json!([{ "id": "the-sample", "image": image, "conversations": turns }]).to_string()
}

/// A zip file of one member that is not packed. PKWARE, APPNOTE.TXT 6.3.9, 4.3.7, 4.3.12 and 4.3.16.
fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(content);
    let size = (content.len() as u32).to_le_bytes();
    let length = (name.len() as u16).to_le_bytes();
    // Version, flags, method, time, date, sum, sizes, length of the name, no extra field.
    let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
    common.extend(sum.sum().to_le_bytes());
    common.extend([size, size].concat());
    common.extend(length);
    common.extend([0, 0]);
    let member = [b"PK\x03\x04".as_slice(), &common, name.as_bytes(), content].concat();
    let table = [b"PK\x01\x02\x14\x00".as_slice(), &common, &[0; 14], name.as_bytes()].concat();
    let place = [(table.len() as u32).to_le_bytes(), (member.len() as u32).to_le_bytes()].concat();
    let end = [b"PK\x05\x06".as_slice(), &[0, 0, 0, 0, 1, 0, 1, 0], &place, &[0, 0]].concat();
    [member, table, end].concat()
}

/// A tar file of one member. POSIX.1-1988: name, mode, owner, group, size, time, sum, kind.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut file = [header, content.to_vec()].concat();
    file.resize(file.len().div_ceil(512) * 512 + 1024, 0);
    file
}
