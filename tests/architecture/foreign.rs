//! Libraries that read what is in people's files are called in a few files only, and behind `src/guard.rs`: every file that names
//! one is listed here with the file that puts the guard around it, or with the reason why it needs none.

use super::source::{self, Source, root};

/// Libraries by the first name of their paths.
const LIBRARIES: [&str; 9] =
    ["tokenizers", "parquet", "mozjpeg", "gif", "tiff", "image", "flate2", "safetensors", "fancy_regex"];
/// A file that names a library, and the file that guards its calls.
const GUARDED: &[(&str, &str)] = &[
    ("data/containers/parquet.rs", "data/containers/parquet.rs"),
    ("data/containers/zip.rs", "data/archive.rs"),
    ("data/table/columns.rs", "data/containers/parquet.rs"),
    ("data/table/pages.rs", "data/table/pages.rs"),
    ("data/table/pictures.rs", "data/table/pictures.rs"),
    ("image/decode.rs", "image/decode.rs"),
    ("image/gif.rs", "image/decode.rs"),
    ("image/jpeg.rs", "image/jpeg.rs"),
    ("image/tiff.rs", "image/decode.rs"),
    ("show/picture.rs", "show/picture.rs"),
    ("text/inner.rs", "text/inner.rs"),
    ("train/identity.rs", "train/identity.rs"),
    ("vlm/peft.rs", "vlm/peft.rs"),
    ("weights/files.rs", "weights/files.rs"),
];
/// A file that names a library and needs no guard.
const UNGUARDED: &[(&str, &str)] = &[
    ("data/pack.rs", "packs are embedded in the program"),
    ("eval/scorers/mmmu_open.rs", "patterns of the program"),
    ("image/mod.rs", "writes"),
    ("weights/scaled.rs", "names types"),
];

/// Lines that name a library, outside tests.
fn named(file: &Source) -> Vec<(usize, String)> {
    let paths = file.paths().into_iter().filter(|path| !path.in_test && path.names.len() > 1);
    let of = |names: &[String]| match names {
        [first, second, ..] if first == "candle_core" => Some(second.clone()),
        names => names.first().cloned(),
    };
    let known = paths.filter_map(|path| Some((path.line, of(&path.names)?)));
    // A module of the program may be called as a library is; `use super::x` and `mod x` show that it is meant.
    let paths = file.paths();
    let above =
        paths.iter().filter(|path| path.names.first().is_some_and(|first| first == "super" || first == "crate"));
    let own: Vec<&str> = above.filter_map(|path| path.import.as_deref()).chain(file.modules()).collect();
    known.filter(|(_, name)| LIBRARIES.contains(&name.as_str()) && !own.contains(&name.as_str())).collect()
}

/// Whether it calls the guard.
fn guards(file: &Source) -> bool {
    file.paths().iter().any(|path| !path.in_test && path.names.iter().any(|name| name == "guard" || name == "guarded"))
}

/// What is wrong in these files.
fn violations(files: &[Source], guarded: &[(&str, &str)], unguarded: &[(&str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !file.is_test()) {
        let listed = guarded.iter().find(|(path, _)| *path == file.path).map(|(_, by)| *by);
        let free = unguarded.iter().any(|(path, _)| *path == file.path);
        let names = named(file);
        let Some((line, name)) = names.first() else {
            if listed.is_some() || free {
                found.push(format!("{} names no library any more: take it off the list", file.path));
            }
            continue;
        };
        let by = listed.and_then(|by| files.iter().find(|file| file.path == by));
        match by {
            _ if free => {}
            None => {
                found.push(format!("{}:{line} names `{name}`, which is called behind src/guard.rs: list it", file.path))
            }
            Some(by) if !guards(by) => found.push(format!("{}:{line}: {} does not call the guard", file.path, by.path)),
            Some(_) => {}
        }
    }
    found
}

#[test]
fn foreign_libraries_are_called_behind_the_guard() {
    let files = source::files(&root().join("src"));
    let found = violations(&files, GUARDED, UNGUARDED);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_call_without_a_guard_is_found() {
    let source = |path: &str, text: &str| Source::new(std::path::Path::new(path), text);
    let files = |text: &str| [source("a.rs", text), source("b.rs", "use crate::guard;\nfn f() { guard::catch() }\n")];
    let call = "fn f() { gif::decode() }\n";
    assert_eq!(
        violations(&files(call), &[], &[]),
        ["a.rs:1 names `gif`, which is called behind src/guard.rs: list it"]
    );
    assert_eq!(violations(&files(call), &[("a.rs", "a.rs")], &[]), ["a.rs:1: a.rs does not call the guard"]);
    assert_eq!(violations(&files(call), &[("a.rs", "b.rs")], &[]), [""; 0]);
    assert_eq!(violations(&files(call), &[], &[("a.rs", "writes")]), [""; 0]);
    let none = "use super::gif;\nfn f() { gif::ours() }\n#[cfg(test)]\nmod tests { use tiff::X; }\n";
    assert_eq!(violations(&files(none), &[], &[]), [""; 0]);
    assert_eq!(
        violations(&files(none), &[("a.rs", "b.rs")], &[]),
        ["a.rs names no library any more: take it off the list"]
    );
}
