//! Scripts, which are parsed and never run, and what the prompt does with a line while it is typed.

use llmore::cli::complete::{Words, open_string};
use llmore::cli::tokens::{name_results, paint};
use llmore::events::{Interrupt, Listeners};
use llmore::preset::Presets;
use llmore::script::{Overrides, Session, SessionOptions};

use crate::fuzz::frames::Frame;
use crate::fuzz::reader::{Reader, Seed, file, files, seeds};
use crate::scripting::Captured;

const CODE: &[&str] = &[
    "let ",
    "const ",
    "fn f(x) { x }",
    "if ",
    "else ",
    "while true {",
    "for x in 0..9 {",
    "loop {",
    "switch ",
    "=> ",
    "|x| x",
    "||",
    "#{",
    "#{ a: 1 }",
    "[1, 2]",
    "(",
    ")",
    "{",
    "}",
    "]",
    "`${",
    "`",
    "\"",
    "'",
    "\\u{e9}",
    "//",
    "/*",
    "*/",
    "import \"a\" as b;",
    "export ",
    "try {",
    "} catch (e) {",
    "throw ",
    "return ",
    "this",
    "?.",
    "??",
    "::",
    "..=",
    "0x",
    "1_000",
    "1e-3",
    "_",
    "_1",
    ".",
    ";",
    ",",
    "trainer(m, d, #{ ",
    "lora: #{ ",
    "encoder(\"",
    "m.encoder.",
    "model",
    "\u{1f600}",
    "private ",
    "do {",
    "until ",
    "!",
];

pub const SCRIPT: Reader = Reader {
    name: "script",
    seeds: || {
        let mut all = files("scripts", ".rhai", 1000);
        all.extend(files("stdlib", ".rhai", 2000));
        all.push(SYNTAX.into());
        seeds("script.rhai", Frame::Bytes, all)
    },
    words: CODE,
    open: |_| {
        let session = session();
        Box::new(move |input| {
            let text = input.text();
            session.is_unfinished(&text);
            session.check("script.rhai", &text).is_ok()
        })
    },
};

pub const COMPLETE: Reader = Reader {
    name: "complete",
    seeds: || {
        let mut all = seeds("line", Frame::Bytes, LINES.iter().map(|line| line.as_bytes().to_vec()).collect());
        all.push(Seed { kind: "line".to_string(), bytes: file("stdlib/format.rhai"), frame: Frame::Bytes });
        all.extend(seeds(
            "set",
            Frame::Bytes,
            ["lora.r=8", "train.llm=1e-3", "smoke=true", "limit=3"].map(Into::into).to_vec(),
        ));
        all
    },
    words: CODE,
    open: |_| {
        let mut session = session();
        session.run("before", "let m = \"a\"; let d = #{ a: [1] };").unwrap();
        let words = Words::of(&session);
        Box::new(move |input| {
            let text = input.text();
            if input.kind == "set" {
                return Overrides::parse(&[text.into_owned()]).is_ok();
            }
            let (start, _) = words.complete(&text);
            assert!(text.is_char_boundary(start), "completions begin within a character, at {start}");
            let _ = (open_string(&text), name_results(&text));
            paint(&text).len() >= text.len()
        })
    },
};

fn session() -> Session {
    Session::new(SessionOptions {
        presets: Presets::default(),
        output: std::sync::Arc::new(Captured::default()),
        listeners: Listeners::default(),
        interrupt: Interrupt::default(),
        overrides: Overrides::default(),
        args: Vec::new(),
        runs: "runs".into(),
        cache: "cache".into(),
        repeats: None,
    })
}

const LINES: [&str; 7] = [
    "trainer(m, d, #{ train: #{ llm: 1e-3 }, ba",
    "benchmark(\"tiny-vqa\").run(m).sc",
    "encoder(\"tiny",
    "let x = `a ${m.en",
    "m.ask(image(\"a,{\"), \"b\", #{",
    "d.a[0].le",
    "_.s + _1",
];

const SYNTAX: &str = "import \"m\" as m;\nconst A = 0x1f_u;\nfn f(x, y) { if x > y { return x; } else { y } }\nlet s = `a ${f(1, 2)} b`;\nfor (x, i) in 0..=3 { while x < 2 { x += 1; break; } }\nlet o = #{ a: [1, 2.5e-3, 'c', \"d\\n\"], \"b c\": || 1 };\nswitch o.a[0] { 1 | 2 => 3, x if x > 3 => 4, _ => 5 }\ntry { throw 1; } catch (e) { print(e); }\ndo { o.a.push(1); } until o.a.len() > 5;\n";
