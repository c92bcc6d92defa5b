//! Embeds `stdlib/presets/<kind>/<id>.toml`, `stdlib/{models,data}/**` and `stdlib/*.rhai` as const tables, and what tells
//! builds apart: a hash of the sources, and the commit.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join("stdlib");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    println!("cargo::rerun-if-changed=stdlib");
    println!("cargo::rerun-if-changed=build.rs");
    let sources = format!("{:016x}", build(&root.join(".."))?);
    let commit = commit(&root.join("..")).unwrap_or("unknown".to_string());
    let version = env::var("CARGO_PKG_VERSION").map_err(io::Error::other)?;
    let (hash, changed) = commit.split_at(commit.find('-').unwrap_or(commit.len()));
    println!("cargo::rustc-env=LLMORE_BUILD={sources}");
    println!("cargo::rustc-env=LLMORE_COMMIT={commit}");
    println!(
        "cargo::rustc-env=LLMORE_ABOUT={version}, commit {}{changed}, sources {sources}",
        &hash[..hash.len().min(12)]
    );

    let mut presets = String::from("/// (kind, id, TOML text)\nconst EMBEDDED: &[(&str, &str, &str)] = &[\n");
    for folder in sorted(&root.join("presets"))? {
        println!("cargo::rerun-if-changed={}", folder.display());
        for file in sorted(&folder)?.iter().filter(|path| path.extension().is_some_and(|e| e == "toml")) {
            writeln!(presets, "    ({:?}, {:?}, include_str!({file:?})),", name(&folder), stem(file))
                .map_err(io::Error::other)?;
        }
    }
    presets.push_str("];\n");
    fs::write(out.join("embedded.rs"), presets)?;

    let mut assets = String::from("/// (path below `stdlib/`, bytes)\nconst ASSETS: &[(&str, &[u8])] = &[\n");
    for folder in ["models", "data"] {
        for file in files_below(&root.join(folder))? {
            println!("cargo::rerun-if-changed={}", file.display());
            let path = file.strip_prefix(&root).map_err(io::Error::other)?;
            writeln!(assets, "    ({path:?}, include_bytes!({file:?})),").map_err(io::Error::other)?;
        }
    }
    assets.push_str("];\n");
    fs::write(out.join("assets.rs"), assets)?;

    let mut modules = String::from("/// (module, Rhai text)\npub(super) const MODULES: &[(&str, &str)] = &[\n");
    for file in sorted(&root)?.iter().filter(|path| path.extension().is_some_and(|e| e == "rhai")) {
        writeln!(modules, "    ({:?}, include_str!({file:?})),", stem(file)).map_err(io::Error::other)?;
    }
    modules.push_str("];\n");
    fs::write(out.join("stdlib.rs"), modules)
}

/// FNV-1a over the sources and the versions of what they use: two builds that may compute otherwise have two of them.
fn build(root: &Path) -> io::Result<u64> {
    println!("cargo::rerun-if-changed=src");
    let mut files = files_below(&root.join("src"))?;
    files.extend(["Cargo.toml", "Cargo.lock"].map(|file| root.join(file)).into_iter().filter(|file| file.is_file()));
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        for byte in name.into_bytes().into_iter().chain(fs::read(&file)?) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(hash)
}

/// The commit that is checked out, and `-dirty` where what is built differs from it; `None` outside git.
fn commit(root: &Path) -> Option<String> {
    let root = root.canonicalize().ok()?;
    let git = |arguments: &[&str]| {
        // Without locks: a look must not rewrite the index.
        let output = Command::new("git").arg("--no-optional-locks").args(arguments).current_dir(&root).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_string())
    };
    // Sources that were unpacked within the repository of something else are not that commit's.
    if Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()? != root {
        return None;
    }
    // Every commit and checkout adds a line to it; a file that is not there would make every build begin anew.
    let log = root.join(git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    if log.is_file() {
        println!("cargo::rerun-if-changed={}", log.display());
    }
    // What makes this script run again, and so what it can tell of.
    let made_of = ["src", "stdlib", "build.rs", "Cargo.toml", "Cargo.lock"];
    let changed = !git(&[&["status", "--porcelain", "--"], made_of.as_slice()].concat())?.is_empty();
    Some(git(&["rev-parse", "HEAD"])? + if changed { "-dirty" } else { "" })
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<_> = fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}

fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in sorted(folder)? {
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else if path.extension().is_none_or(|extension| extension != "md") {
            files.push(path);
        }
    }
    Ok(files)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
