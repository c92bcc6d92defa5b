//! Embeds `stdlib/presets/<kind>/<id>.toml` and `stdlib/*.rhai` as const tables.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join("stdlib");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    println!("cargo::rerun-if-changed=stdlib");
    println!("cargo::rerun-if-changed=build.rs");

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

    let mut modules = String::from("/// (module, Rhai text)\npub(super) const MODULES: &[(&str, &str)] = &[\n");
    for file in sorted(&root)?.iter().filter(|path| path.extension().is_some_and(|e| e == "rhai")) {
        writeln!(modules, "    ({:?}, include_str!({file:?})),", stem(file)).map_err(io::Error::other)?;
    }
    modules.push_str("];\n");
    fs::write(out.join("stdlib.rs"), modules)
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<_> = fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
