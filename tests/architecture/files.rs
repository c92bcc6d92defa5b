//! Nothing below `src/` opens, makes or removes a file but through `src/fs.rs`, which asks the sandbox; nothing fetches but
//! `src/hub/`, and nothing starts a program but the prompt. A path that comes out of a data file or a config is asked about as well.

use std::path::Path;

use super::source::{self, Source, root};

/// Where files are opened: by the sandbox's own rules, before it is entered, and while tests look at sources.
const OPENERS: [&str; 2] = ["fs.rs", "settings.rs"];
/// What of `std::fs` opens nothing.
const HARMLESS: [&str; 7] =
    ["File", "Metadata", "TryLockError", "metadata", "symlink_metadata", "canonicalize", "Permissions"];
/// Crates and types of the network, and the folder that has it.
const NETWORK: [&str; 6] = ["hf_hub", "ureq", "TcpStream", "TcpListener", "UdpSocket", "UnixStream"];
/// Files of other crates' openers, each with the question it has to ask before.
const ASKED: [(&str, &str, &str); 2] = [
    ("MmapedSafetensors", "weights/files.rs", "sandbox::readable("),
    ("Command", "cli/repl.rs", "sandbox::may_start("),
];

/// What a file opens past the sandbox, as `file:line: rule`.
fn check(file: &Source) -> Vec<String> {
    let is_exempt = OPENERS.contains(&file.path.as_str()) || file.path.starts_with("sandbox/");
    let mut found = Vec::new();
    let mut add = |line: usize, rule: String| found.push(format!("src/{}:{line}: {rule}", file.path));
    for path in file.paths().iter().filter(|path| !path.in_test && !is_exempt) {
        let names: Vec<&str> = path.names.iter().map(String::as_str).collect();
        let opens = match names[..] {
            ["std", "fs"] => true,
            ["std", "fs", "File", ..] => names.len() > 3,
            ["std", "fs", name, ..] => !HARMLESS.contains(&name),
            ["File", name, ..] => ["open", "create", "create_new", "options"].contains(&name),
            _ => names.contains(&"OpenOptions") || names.last() == Some(&"from_file"),
        };
        if opens {
            add(path.line, format!("`{}`: take the function of crate::fs, which asks the sandbox", names.join("::")));
        }
        if names.iter().any(|name| NETWORK.contains(name)) && file.layer() != "hub" {
            add(path.line, format!("`{}` outside of src/hub: the sandbox has no network", names.join("::")));
        }
        for (name, place, question) in ASKED {
            let process = name != "Command" || names.contains(&"process");
            let is_asked = file.path == place && file.lines.iter().any(|line| line.contains(question));
            if names.contains(&name) && process && !is_asked {
                add(path.line, format!("`{name}` is for src/{place}, which asks `{question}..)` before"));
            }
        }
    }
    found
}

#[test]
fn every_file_is_opened_where_the_sandbox_is_asked() {
    let files = source::files(&root().join("src"));
    let found: Vec<String> = files.iter().flat_map(check).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    for (_, place, question) in ASKED {
        let file = files.iter().find(|file| file.path == place);
        assert!(file.is_some_and(|file| file.lines.iter().any(|line| line.contains(question))), "{place}: {question}");
    }
}

#[test]
fn what_opens_a_file_past_the_sandbox_is_found() {
    let rules = |path: &str, code: &str| check(&Source::new(Path::new(path), &format!("//! T.\n{code}\n"))).len();
    for code in [
        "use std::fs;",
        "use std::fs::{File, read};",
        "fn f() { std::fs::read_to_string(path) }",
        "fn f() { std::fs::File::open(path) }",
        "use std::fs::File;\nfn f() { File::open(path) }",
        "use std::fs::OpenOptions;",
        "fn f() { Tokenizer::from_file(path) }",
        "fn f() { MmapedSafetensors::new(path) }",
        "fn f() { std::process::Command::new(path) }",
        "fn f() { ureq::get(url) }",
        "use std::net::TcpStream;",
    ] {
        assert!(rules("data/new.rs", code) > 0, "{code}");
    }
    for code in [
        "use std::fs::File;\nfn f(file: File) {}",
        "fn f() { crate::fs::read(path) }",
        "use crate::fs;\nfn f() { fs::read(path) }",
        "#[cfg(test)]\nmod tests { fn f() { std::fs::read(path) } }",
    ] {
        assert_eq!(rules("data/new.rs", code), 0, "{code}");
    }
    assert_eq!(rules("fs.rs", "fn f() { std::fs::read(path) }"), 0);
}
