//! The house rules that a machine can check, over every file of `src/`: layers point down, Rhai and printing stay
//! where they belong, files stay short. `ARCHITECTURE.md` says why; the table below is the rule.

mod circles;
mod docs;
mod files;
mod foreign;
mod script_paths;
mod source;

use std::path::Path;

use source::{Source, root};

/// The modules of `src/lib.rs` by layer, lowest first. A layer uses the layers before it.
const LAYERS: &[&[&str]] = &[
    &[
        "error", "guard", "build", "settings", "sandbox", "fs", "process", "memory", "device", "files", "ledger",
        "preset", "weights", "events", "show", "assets", "rng", "hub", "notes", "options", "writer", "scratch",
    ],
    &["nn"],
    &["text", "image", "models"],
    &["data", "vlm"],
    &["train", "eval", "chat"],
    &["study"],
    &["report"],
    &["script"],
    &["cli"],
];
/// Macros at the root of the crate, and the module they belong to.
const MACROS: &[(&str, &str)] = &[("error", "error"), ("bail", "error")];
const PRINTS: [&str; 4] = ["println", "eprintln", "print", "eprint"];
/// Files that may be longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];
const LONGEST: usize = 500;
const LONG: usize = 250;
/// The most lines of a function.
const LONGEST_FUNCTION: usize = 80;
/// Functions that may be longer, as `file::function`, each with its reason.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];
/// Folders whose files may still form circles, each with its reason.
const CIRCLES: &[(&str, &str)] = &[];
/// Pages whose paths have to exist.
const PAGES: [&str; 4] = ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "docs/upstream.md"];

/// What is wrong, where, and what to do.
#[derive(Debug, PartialEq)]
struct Violation {
    file: String,
    line: usize,
    rule: String,
    todo: &'static str,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "src/{}:{}: {}\n    {}", self.file, self.line, self.rule, self.todo)
    }
}

#[test]
fn every_file_keeps_the_rules() {
    let files = source::files(&root().join("src"));
    assert!(files.len() > 50, "only {} files were read", files.len());
    let mut violations: Vec<Violation> = files.iter().flat_map(check).collect();
    violations.extend(files.iter().filter(|file| file.path == "lib.rs").flat_map(unknown_layers));
    let long: Vec<String> = files
        .iter()
        .filter(|file| file.lines.len() > LONG)
        .map(|file| format!("{} ({})", file.path, file.lines.len()))
        .collect();
    println!("{} of {} files are over {LONG} lines: {}", long.len(), files.len(), long.join(", "));
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} violations\n{}", list.len(), list.join("\n"));
}

#[test]
fn every_layer_is_a_module() {
    let lib = Source::read(&root().join("src"), &root().join("src/lib.rs"));
    let missing: Vec<&str> = LAYERS.concat().into_iter().filter(|layer| !lib.modules().contains(layer)).collect();
    assert_eq!(missing, [""; 0], "the table names modules that src/lib.rs does not have");
    let files = source::files(&root().join("src"));
    for (path, _) in LONG_FILES {
        let needed = files.iter().any(|file| file.path == *path && file.lines.len() > LONGEST);
        assert!(needed, "LONG_FILES: {path} is no longer over {LONGEST} lines; remove it");
    }
    for (function, _) in LONG_FUNCTIONS {
        let is_long = |file: &Source| {
            let mut functions = file.functions().into_iter();
            functions.any(|(_, name, lines)| lines > LONGEST_FUNCTION && *function == format!("{}::{name}", file.path))
        };
        let needed = files.iter().any(is_long);
        assert!(needed, "LONG_FUNCTIONS: {function} is no longer over {LONGEST_FUNCTION} lines; remove it");
    }
}

#[test]
fn files_form_no_circles() {
    let files = source::files(&root().join("src"));
    let uses = circles::uses(&files);
    assert!(uses.len() > 500, "only {} uses were found", uses.len());
    let found = circles::circles(&uses);
    let is_allowed =
        |circle: &&Vec<String>| CIRCLES.iter().any(|(folder, _)| circle.iter().all(|file| file.starts_with(folder)));
    let told: Vec<String> =
        found.iter().filter(|circle| !is_allowed(circle)).map(|circle| circles::told(circle, &uses)).collect();
    let todo = "move what both need into a file below both, or what uses them into one above";
    assert!(told.is_empty(), "{}\n{todo}", told.join("\n"));
    for (folder, _) in CIRCLES {
        let needed = found.iter().any(|circle| circle.iter().all(|file| file.starts_with(folder)));
        assert!(needed, "CIRCLES: no files of {folder} form one any more; remove it");
    }
}

#[test]
fn a_circle_is_found_through_super_aliases_and_re_exports() {
    let found = |files: &[(&str, &str)]| {
        let files: Vec<Source> = files.iter().map(|(path, text)| Source::new(Path::new(path), text)).collect();
        circles::circles(&circles::uses(&files))
    };
    let lib = ("lib.rs", "pub mod a;\npub mod b;\n");
    let a = ("a/mod.rs", "mod x;\nmod y;\npub use x::X;\npub use self::y::{Y as Z, f};\n");
    let no: Vec<Vec<String>> = Vec::new();
    // A re-export is not a use, and what stands in tests counts not.
    let tests = "use super::y::Y;\npub struct X(Y);\n";
    let y = ("a/y.rs", "pub struct Y;\npub fn f() {}\n#[cfg(test)]\nmod tests { use super::super::x::X; }\n");
    assert_eq!(found(&[lib, a, ("a/x.rs", tests), y]), no);
    // Through the parent's re-export, a module's alias, a path without `use`.
    for back in ["use super::X;\n", "use crate::a as other;\nfn g() -> other::X {}\n", "fn g() -> crate::a::X {}\n"] {
        let y = format!("{back}pub struct Y;\npub fn f() {{}}\n");
        for way in ["use super::Z;\n", "use super::y;\nfn h() { y::f() }\n", "use crate::a::*;\nfn h() -> f::T {}\n"] {
            let x = format!("{way}pub struct X;\n");
            let circles = found(&[lib, a, ("a/x.rs", &x), ("a/y.rs", &y)]);
            assert_eq!(circles, [["a/x.rs", "a/y.rs"]], "{way} {back}");
        }
    }
    // Three files, the last of them in another folder.
    let b = ("b.rs", "use crate::a::X;\npub struct B;\n");
    let through =
        [lib, a, ("a/x.rs", "use super::Z;\npub struct X;\n"), ("a/y.rs", "use crate::b::B;\npub struct Y;\n"), b];
    assert_eq!(found(&through), [["a/x.rs", "a/y.rs", "b.rs"]]);
    // Parent and child may; a grandchild is no child.
    let parent = ("a/mod.rs", "mod x;\nuse x::X;\npub struct P(X);\n");
    assert_eq!(found(&[lib, parent, ("a/x.rs", "use super::P;\npub struct X;\n")]), no);
    // What a module only hands on it does not use.
    let handing = ("a/mod.rs", "mod x;\npub use x::X;\npub struct P;\n");
    let child = ("a/x/mod.rs", "mod z;\nuse z::Z;\npub struct X;\n");
    assert_eq!(found(&[lib, handing, child, ("a/x/z.rs", "use super::super::P;\npub struct Z;\n")]), no);
    let deep = ("a/x/mod.rs", "mod z;\nuse z::Z;\npub struct X;\n");
    let grandchild = ("a/x/z.rs", "use super::super::P;\npub struct Z;\n");
    assert_eq!(found(&[lib, parent, deep, grandchild]), [["a/mod.rs", "a/x/mod.rs", "a/x/z.rs"]]);
}

#[test]
fn pages_name_what_exists() {
    let missing = |page: &'static str| {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        docs::missing(root(), &text).into_iter().map(move |(line, path)| format!("{page}:{line}: {path}"))
    };
    let list: Vec<String> = PAGES.into_iter().flat_map(missing).collect();
    assert!(list.is_empty(), "these do not exist:\n{}", list.join("\n"));
    let text = "| `nn/rope.rs`, `cache.rs`, `gone.rs` | [x](docs/none.md) `config.json` `a / b` |\n`cache.rs`\n";
    let expected = [(1, "gone.rs"), (1, "docs/none.md")].map(|(line, path)| (line, path.to_string()));
    assert_eq!(
        docs::missing(root(), &format!("\n{text}")).iter().map(|(l, p)| (l - 1, p.clone())).collect::<Vec<_>>(),
        expected
    );
}

/// Two runs of the tests at once must not meet in a folder: `scratch` names it by process and thread, and removes it.
#[test]
fn tests_write_where_scratch_says() {
    const PLACES: [&str; 3] = ["temp_dir()", "CARGO_TARGET_TMPDIR", "target/test-scratch"];
    let files: Vec<Source> =
        ["src", "tests"].into_iter().flat_map(|folder| source::files(&root().join(folder))).collect();
    assert!(files.iter().any(|file| file.path == "scratch.rs") && files.iter().any(|file| file.path == "saves.rs"));
    // The mutator writes where it is fast: in memory, in folders with the number of its process.
    let own = ["scratch.rs", "architecture.rs", "fuzz/parent.rs"];
    let others = files.iter().filter(|file| !own.contains(&file.path.as_str()));
    let found: Vec<String> = others
        .flat_map(|file| file.lines.iter().enumerate().map(|(number, line)| (&file.path, number + 1, line)))
        .filter(|(_, _, line)| PLACES.iter().any(|place| line.contains(place)))
        .map(|(path, number, line)| format!("{path}:{number}: {}", line.trim()))
        .collect();
    assert!(found.is_empty(), "take a folder of `scratch` (src/scratch.rs):\n{}", found.join("\n"));
}

/// Every rule on one file.
fn check(file: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut add = |line: usize, rule: String, todo| found.push(Violation { file: file.path.clone(), line, rule, todo });
    let layer = file.layer();
    for path in file.paths() {
        let Some(first) = path.names.first() else { continue };
        if let Some(used) = path.in_crate(file).and_then(|name| module_of(&name))
            && let Err(rule) = may_use(layer, used)
        {
            add(path.line, rule, "move the code down, pass a value or a callback in, or join the two in a layer above");
        }
        if first == "rhai" && !["script", "cli"].contains(&layer) {
            add(
                path.line,
                "rhai is used outside src/script and src/cli".to_string(),
                "take and return plain Rust types",
            );
        }
        let env = path.names.iter().take(2).map(String::as_str).eq(["std", "env"]);
        if env && !path.in_test && !["cli", "main", "settings", "process"].contains(&layer) {
            let todo = "read it in src/settings.rs and hand it down in a Settings value";
            add(path.line, "std::env outside src/cli and src/settings.rs".to_string(), todo);
        }
    }
    for (line, name, in_test) in file.macros() {
        if PRINTS.contains(&name) && !in_test && !["cli", "main", "show"].contains(&layer) {
            let todo = "return a value, tell an event (src/events.rs), or write to the session's Output";
            add(line, format!("{name}! outside src/cli, src/main.rs and src/show"), todo);
        }
    }
    if file.lines.len() > LONGEST && !LONG_FILES.iter().any(|(path, _)| *path == file.path) {
        let rule = format!("{} lines, the limit is {LONGEST}", file.lines.len());
        add(LONGEST + 1, rule, "split it by purpose, or state a reason in LONG_FILES of tests/architecture.rs");
    }
    for (line, name, lines) in file.functions().into_iter().filter(|(.., lines)| *lines > LONGEST_FUNCTION) {
        if LONG_FUNCTIONS.iter().any(|(function, _)| *function == format!("{}::{name}", file.path)) {
            continue;
        }
        let rule = format!("`{name}` has {lines} lines, the limit is {LONGEST_FUNCTION}");
        add(line, rule, "give its steps names: functions, or a struct for what they share");
    }
    if !file.lines.first().is_some_and(|line| line.starts_with("//! ")) {
        add(1, "no `//!` header".to_string(), "begin with 2-6 lines: what it is for, and what a reader must know");
    }
    for (number, line) in file.lines.iter().enumerate().filter(|(_, line)| !line.is_ascii()) {
        let character = line.chars().find(|c| !c.is_ascii()).unwrap_or_default();
        add(number + 1, format!("{character:?} is not ASCII"), "spell it in ASCII; in strings write the escape");
    }
    found
}

/// A module of src/lib.rs that no layer holds.
fn unknown_layers(lib: &Source) -> Vec<Violation> {
    let unknown = |name: &&str| !LAYERS.iter().any(|layer| layer.contains(name));
    let violation = |name: &str| Violation {
        file: lib.path.clone(),
        line: lib.lines.iter().position(|line| line.contains(&format!("mod {name};"))).map_or(1, |line| line + 1),
        rule: format!("module `{name}` is in no layer"),
        todo: "give it a place in LAYERS of tests/architecture.rs and in ARCHITECTURE.md",
    };
    lib.modules().into_iter().filter(unknown).map(violation).collect()
}

/// The module a name at the root of the crate belongs to; `None` for what is no module (a re-export).
fn module_of(name: &str) -> Option<&'static str> {
    let named = LAYERS.iter().copied().flatten().find(|module| **module == name).copied();
    named.or_else(|| MACROS.iter().find(|(macro_name, _)| *macro_name == name).map(|(_, module)| *module))
}

/// Whether code in `from` may use the module `to`.
fn may_use(from: &str, to: &str) -> Result<(), String> {
    let level = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    let (Some(here), Some(there)) = (level(from), level(to)) else { return Ok(()) };
    if from == to || there < here || (here == 0 && there == 0) {
        return Ok(());
    }
    let why = if here == there { "its sibling" } else { "a layer above" };
    Err(format!("`{from}` (L{here}) uses `{to}` (L{there}), {why}"))
}

/// The rules that a made-up file breaks, as `line: start of the rule`.
fn broken(path: &str, text: &str) -> Vec<String> {
    let rules = check(&Source::new(Path::new(path), text));
    rules.iter().map(|v| format!("{}: {}", v.line, v.rule.split(',').next().unwrap_or_default())).collect()
}

#[test]
fn a_path_upward_or_to_a_sibling_is_found() {
    let up = "//! T.\nuse std::fmt;\nuse crate::{\n    bail, error::Result,\n    vlm::{Vlm, generate},\n};\n";
    assert_eq!(broken("nn/rope.rs", up), ["5: `nn` (L1) uses `vlm` (L3)", "5: `nn` (L1) uses `vlm` (L3)"]);
    assert_eq!(broken("vlm/mod.rs", "//! T.\nfn f() -> crate::data::Dataset {}\n"), ["2: `vlm` (L3) uses `data` (L3)"]);
    assert_eq!(broken("data/pack.rs", "//! T.\nuse crate::text::Turn;\nuse crate::data::order;\n"), [""; 0]);
    assert_eq!(broken("preset.rs", "//! T.\nuse crate::weights::Param;\n"), [""; 0]);
    assert_eq!(broken("error.rs", "//! T.\nmacro_rules! m { () => { $crate::train::f() } }\n").len(), 1);
}

#[test]
fn super_reaches_the_root_too() {
    let text = "//! T.\nuse super::super::train::Trainer;\nuse super::super::vlm::Vlm;\n";
    assert_eq!(broken("vlm/mod.rs", "//! T.\nuse super::train::Trainer;\n"), ["2: `vlm` (L3) uses `train` (L4)"]);
    assert_eq!(broken("vlm/parts.rs", text), ["2: `vlm` (L3) uses `train` (L4)"]);
    let nested =
        "//! T.\n#[cfg(test)]\nmod tests {\n    use super::super::train;\n    use super::super::super::train;\n}\n";
    assert_eq!(broken("vlm/parts.rs", nested), ["5: `vlm` (L3) uses `train` (L4)"]);
}

#[test]
fn rhai_printing_and_the_environment_have_their_places() {
    let text =
        "//! T.\nfn f() {\n    println!(\"x\");\n    let v = std::env::var(\"HOME\");\n    rhai::Engine::new();\n}\n";
    let expected = [
        "4: std::env outside src/cli and src/settings.rs",
        "5: rhai is used outside src/script and src/cli",
        "3: println! outside src/cli",
    ];
    assert_eq!(broken("data/mod.rs", text), expected);
    assert_eq!(broken("cli/mod.rs", text), [""; 0]);
    assert_eq!(
        broken("text/mod.rs", "//! T.\nuse std::{env, fs};\n"),
        ["2: std::env outside src/cli and src/settings.rs"]
    );
    assert_eq!(
        broken("script/api.rs", "//! T.\nuse rhai as r;\nconst V: &str = env!(\"CARGO_PKG_VERSION\");\n"),
        [""; 0]
    );
}

#[test]
fn comments_strings_and_tests_are_not_code() {
    let text = r####"//! T.
// println!("x"); use crate::cli::repl;
/* std::env /* nested */ rhai::Engine */
/// See [`x`](crate::train::Trainer).
const A: &str = "println!(\"x\") // crate::cli::run";
const B: &str = r##"rhai::Engine "# eprintln!("##;
const C: (char, char) = ('"', '\'');
fn f<'a>(x: &'a str) -> &'a str { x }
#[cfg(test)]
mod tests {
    fn g() { println!("{}", std::env::temp_dir().display()); }
}
fn after() { eprint!("y"); }
"####;
    assert_eq!(broken("nn/norm.rs", text), ["13: eprint! outside src/cli"]);
    assert_eq!(broken("nn/ops/testing.rs", "#![cfg(test)]\nfn g() { println!(); }\n"), ["1: no `//!` header"]);
}

#[test]
fn length_header_and_ascii_are_checked() {
    assert_eq!(broken("rng.rs", "use std::fmt;\n"), ["1: no `//!` header"]);
    assert_eq!(broken("rng.rs", "//! T.\nconst X: &str = \"\u{3bb}\";\n"), ["2: '\u{3bb}' is not ASCII"]);
    let long = |lines: usize| format!("//! T.\n{}", "// x\n".repeat(lines - 1));
    assert_eq!(broken("rng.rs", &long(LONGEST)), [""; 0]);
    assert_eq!(broken("rng.rs", &long(LONGEST + 1)), ["501: 501 lines"]);
    let function =
        |lines: usize| format!("//! T.\nfn f(x: [u8; 2]) {{\n{}}}\nfn g() {{}}\n", "g();\n".repeat(lines - 2));
    assert_eq!(broken("rng.rs", &function(LONGEST_FUNCTION)), [""; 0]);
    assert_eq!(broken("rng.rs", &function(LONGEST_FUNCTION + 1)), ["2: `f` has 81 lines"]);
}

#[test]
fn a_new_module_needs_a_layer() {
    let lib = Source::new(Path::new("lib.rs"), "//! T.\npub mod nn;\npub mod utils;\nmod vlm;\n");
    let found: Vec<String> = unknown_layers(&lib).iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("src/lib.rs:3: module `utils` is in no layer"), "{}", found[0]);
}
