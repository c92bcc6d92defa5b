//! Where two features meet. Each row of `FEATURES` is something people do with a model; every one is done after every other,
//! and after itself, and then the model must still be what it is: saved and opened again it has the loss, the answers and
//! the template that it had, and so have the checkpoints of its runs. `REFUSED` lists the pairs that cannot be, with what is
//! said. A study and a rerun are made of each feature as well. A new feature is a row, and meets all others.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use llmore::script::Session;

use super::scripting::{Captured, scratch, session};

/// Something people do with a model `m`.
struct Feature {
    name: &'static str,
    /// A script that changes `m` or looks at it; `FOLDER` is a folder of the pair, `N` the number of the act, `OPEN` the
    /// options that a folder is opened with so that it is `m`, `ALONE` those that keep an adapter out of the weights.
    act: &'static str,
    /// Whether `m` computes as before, but for the width of its numbers.
    keeps: bool,
    /// The same as options of a study; why there is none, otherwise.
    study: Result<&'static str, &'static str>,
}

const FEATURES: &[Feature] = &[
    Feature {
        name: "train",
        act: r#"let t = trainer(m, d, #{ train: #{ projector: 1e-3, llm: 1e-3 }, batch: 4, steps: 3, out: "FOLDER/train-N" });
            let r = t.fit();
            same("its checkpoint", load(r.checkpoint, OPEN), m, pic, turns, EPS);"#,
        keeps: false,
        study: Ok("stage: #{ steps: 2, batch: 4 }"),
    },
    Feature {
        name: "lora",
        act: r#"let t = trainer(m, d, #{ train: #{ projector: 1e-3, llm: 1e-3 }, lora: #{ r: 2 }, batch: 4, steps: 3, out: "FOLDER/lora-N" });
            let r = t.fit();
            same("its checkpoint", load(r.checkpoint, OPEN), m, pic, turns, EPS);"#,
        keeps: false,
        study: Ok("stage: #{ steps: 2, batch: 4, lora: #{ r: 2 } }"),
    },
    Feature {
        name: "template",
        act: r#"trainer(m, d, #{ train: #{ projector: 1e-3 }, template: "v1", image: "square", batch: 4, steps: 2, out: "FOLDER/template-N" }).fit();
            if m.template.name != "v1" { throw `asked by ${m.template.name}`; }"#,
        keeps: false,
        study: Ok(r#"stage: #{ steps: 2, batch: 4, template: "v1", image: "square" }"#),
    },
    Feature {
        name: "resume",
        act: r#"m.save("FOLDER/resume-N");
            let options = #{ train: #{ projector: 1e-3 }, batch: 4, steps: 4 };
            let whole = trainer(load("FOLDER/resume-N"), d, options, #{ out: "FOLDER/resume-N-whole" });
            whole.fit();
            trainer(load("FOLDER/resume-N"), d, options, #{ out: "FOLDER/resume-N-part" }).fit(|s| s.step < 2);
            m = load("FOLDER/resume-N");
            let rest = trainer(m, d, options, #{ out: "FOLDER/resume-N-part" });
            rest.resume("FOLDER/resume-N-part");
            rest.fit();
            if rest.losses != whole.losses { throw `resumed ${rest.losses}, whole ${whole.losses}`; }"#,
        keeps: false,
        study: Err("a study goes on by itself: tests/study.rs stops one"),
    },
    Feature {
        name: "leaves",
        act: r#"let options = #{ train: #{ projector: 1e-3 }, batch: 4, micro_batch: 1, steps: 2, out: "FOLDER/leaves-N" };
            trainer(m, d, options, #{ leaves: 4 }).fit();
            let other = trainer(m, d, options, #{ leaves: 2 });
            let said = "";
            try { other.resume("FOLDER/leaves-N"); } catch (error) { said = `${error}`; }
            if !said.contains("leaves") { throw `other leaves: ${said}`; }"#,
        keeps: false,
        study: Ok("stage: #{ steps: 2, batch: 4, micro_batch: 1, leaves: 2 }"),
    },
    Feature { name: "move", act: "", keeps: true, study: Err("a study's folder is moved in tests/study.rs") },
    Feature {
        name: "save",
        act: r#"m.save("FOLDER/save-N", #{ layout: "transformers" });
            m.save("FOLDER/save-N");
            m.save("FOLDER/save-N", ALONE);
            let before = m;
            m = load("FOLDER/save-N", OPEN);
            same("the last save", m, before, pic, turns, EPS);"#,
        keeps: true,
        study: Err("a study saves by itself"),
    },
    Feature {
        name: "transformers",
        act: r#"m.save("FOLDER/transformers-N", #{ layout: "transformers" }); m = load("FOLDER/transformers-N", OPEN);"#,
        // The picture's mark becomes a token of the vocabulary, and every probability a little smaller.
        keeps: false,
        study: Err("a study has no layout"),
    },
    Feature {
        name: "quantize",
        act: r#"m.save("FOLDER/quantize-N"); m = load("FOLDER/quantize-N", #{ quantize: "q8_0" });"#,
        keeps: false,
        study: Err("a study does not quantize"),
    },
    Feature {
        name: "dtype",
        act: r#"m.save("FOLDER/dtype-N"); m = load("FOLDER/dtype-N", #{ dtype: "bf16" });"#,
        keeps: false,
        study: Ok(r#"dtype: "bf16", stage: #{ steps: 2, batch: 4 }"#),
    },
    Feature {
        name: "resampler",
        act: r#"m = vlm(m.encoder, projector("resampler", #{ tokens: 4, layers: 1, heads: 1 }), m.llm);"#,
        keeps: false,
        study: Ok(
            r#"projector: projector("resampler", #{ tokens: 4, layers: 1, heads: 1 }), stage: #{ steps: 2, batch: 4 }"#,
        ),
    },
    Feature {
        name: "limit",
        act: r#"for n in [6, 3, 6] {
                let b = benchmark("tiny-vqa", #{ limit: n });
                let kept = b.run(m, #{ out: "FOLDER/limit-N.jsonl" });
                let fresh = b.run(m, #{ cache: "off" });
                if kept.rows.len() != n { throw `${kept.rows.len()} rows for ${n}`; }
                for i in 0..n { if kept.rows[i].output != fresh.rows[i].output { throw `row ${i}: ${kept.rows[i].output}, ${fresh.rows[i].output}`; } }
            }"#,
        keeps: true,
        study: Ok("limit: 2, stage: #{ steps: 2, batch: 4 }"),
    },
];

/// Pairs that cannot be: what is said when the second comes after the first.
const REFUSED: &[(&str, &str, &str)] = &[
    ("lora", "train", "carries an adapter, and option `lora` is not given"),
    ("quantize", "train", "quantized"),
    ("resampler", "save", "no counterpart for projector `resampler`"),
    ("resampler", "transformers", "no counterpart for projector `resampler`"),
];

const BEGIN: &str = r#"
    fn same(what, a, b, pic, turns, eps) {
        if a.template.name != b.template.name { throw `${what}: asked by ${a.template.name}, not ${b.template.name}`; }
        let x = a.loss(pic, turns);
        let y = b.loss(pic, turns);
        if !(abs(x - y) <= eps) { throw `${what}: loss ${x}, not ${y}`; }
    }
    let pic = image("tests/fixtures/images/red-circle.png");
    let turns = [#{ from: "human", value: "<image>\nIs it red?" }, #{ from: "gpt", value: "Yes" }];
    let d = dataset("tiny-instruct").take(8);
    let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
"#;

/// A model and where it is written.
struct Lab {
    session: Session,
    folder: PathBuf,
    acts: usize,
    /// Options that a folder is opened with, and how far a loss may be off.
    open: &'static str,
    eps: &'static str,
    /// Options that save the adapter alone, where there is one.
    alone: &'static str,
}

impl Lab {
    fn new(name: &str) -> Self {
        let (session, _): (Session, Arc<Captured>) = session(name);
        let mut lab =
            Lab { session, folder: scratch(&format!("{name}-files")), acts: 0, open: "#{}", eps: "1e-5", alone: "#{}" };
        lab.run(BEGIN).unwrap();
        lab
    }

    fn run(&mut self, text: &str) -> Result<(), String> {
        let folder = self.folder.display().to_string();
        let text = text.replace("FOLDER", &folder).replace("-N", &format!("-{}", self.acts));
        let text = text.replace("OPEN", self.open).replace("EPS", self.eps).replace("ALONE", self.alone);
        self.session.run("test.rhai", &text).map(|_| ()).map_err(|report| report.to_string())
    }

    fn act(&mut self, feature: &Feature) -> Result<(), String> {
        self.acts += 1;
        self.run("let was = m.loss(pic, turns); let asked = m.template.name;")?;
        if feature.name == "move" {
            self.run(r#"m.save("FOLDER/from-N", ALONE);"#)?;
            let place = |name: &str| self.folder.join(format!("{name}-{}", self.acts));
            std::fs::rename(place("from"), place("to")).unwrap();
            self.run(r#"m = load("FOLDER/to-N", OPEN);"#)?;
        } else {
            self.run(&format!("{{ {} }}", feature.act))?;
        }
        if feature.keeps {
            self.run(
                r#"if m.template.name != asked { throw `asked by ${m.template.name}, not ${asked}`; }
                if !(abs(m.loss(pic, turns) - was) <= EPS) { throw `loss ${m.loss(pic, turns)}, was ${was}`; }"#,
            )?;
        }
        match feature.name {
            // An adapter that is added to bf16 weights is rounded with them.
            "lora" if self.open.contains("bf16") => (self.alone, self.eps) = ("#{ merge: false }", "1e-2"),
            "lora" => self.alone = "#{ merge: false }",
            // They save the model whole and open it again.
            "transformers" => self.alone = "#{}",
            "resume" => (self.open, self.alone) = ("#{}", "#{}"),
            // The values are saved as they are computed with, not in blocks.
            "quantize" => (self.open, self.eps, self.alone) = ("#{}", "5e-3", "#{}"),
            "dtype" => (self.open, self.eps, self.alone) = (r#"#{ dtype: "bf16" }"#, "1e-5", "#{}"),
            _ => {}
        }
        Ok(())
    }

    /// Saved and opened again it is the same.
    fn check(&mut self) -> Result<(), String> {
        self.acts += 1;
        self.run(
            r#"m.save("FOLDER/check-N");
            { let o = load("FOLDER/check-N", OPEN);
              same("saved and opened", o, m, pic, turns, EPS);
              let ask = #{ max_new_tokens: 4 };
              let x = m.ask(pic, "Is it red?", ask); let y = o.ask(pic, "Is it red?", ask);
              if x != y { throw `answers ${y}, not ${x}`; } }"#,
        )
    }
}

/// Does every feature after this one.
fn meets(first: &str) {
    let first = FEATURES.iter().find(|feature| feature.name == first).unwrap();
    let mut wrong = Vec::new();
    for second in FEATURES {
        let pair = format!("{} x {}", first.name, second.name);
        let mut lab = Lab::new(&format!("meetings-{}-{}", first.name, second.name));
        let ended = lab.act(first).and_then(|()| lab.act(second)).and_then(|()| lab.check());
        let refused = REFUSED.iter().find(|(a, b, _)| (*a, *b) == (first.name, second.name));
        match (refused, ended) {
            (None, Ok(())) => {}
            (Some((_, _, said)), Err(error)) if error.contains(said) => {}
            (Some((_, _, said)), ended) => wrong.push(format!("{pair}: expected `{said}`, not {ended:?}")),
            (None, Err(error)) => wrong.push(format!("{pair}: {error}")),
        }
        let _ = std::fs::remove_dir_all(&lab.folder);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

macro_rules! rows {
    ($($test:ident $name:literal),*) => {
        $(#[test]
        fn $test() {
            meets($name);
        })*

        #[test]
        fn every_row_has_its_test() {
            let tested = [$($name),*];
            let names: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
            assert_eq!(tested[..], names[..], "add a line to `rows!`");
            for (a, b, _) in REFUSED {
                assert!(names.contains(a) && names.contains(b), "{a} x {b}");
            }
            println!(
                "{} pairs in order, {} of them refused; {} features in studies, {} in reruns",
                names.len() * names.len(),
                REFUSED.len(),
                FEATURES.iter().filter(|feature| feature.study.is_ok()).count(),
                names.len()
            );
        }
    };
}

rows! {
    after_training "train", after_lora "lora", after_another_template "template", after_a_resume "resume", after_leaves "leaves", after_a_move "move",
    after_a_save "save", after_transformers "transformers", after_quantizing "quantize", after_another_dtype "dtype",
    after_a_resampler "resampler", after_a_limit "limit"
}

/// The table of a study is what its last checkpoints answer when they are asked.
#[test]
fn studies_meet_what_they_can_be_told() {
    for feature in FEATURES {
        let options = match feature.study {
            Ok(options) => options,
            Err(why) => {
                assert!(!why.is_empty());
                continue;
            }
        };
        let folder = scratch(&format!("meetings-study-{}-files", feature.name));
        let (mut session, _) = session(&format!("meetings-study-{}", feature.name));
        let limit = if options.contains("limit") { "" } else { "limit: 4, " };
        let pooled = r#"projector: projector("mlp2x_gelu", #{ pool: "average", tokens: 4 }), "#;
        let projector = if options.contains("projector:") { "" } else { pooled };
        let script = format!(
            r#"let s = study(#{{ {projector}recipe: "llava-more-tiny-short",
                {limit}{options}, out: "{0}/s" }});
            s.run();
            let c = s.cells[0];
            let m = load(run(`${{s.dir}}/${{c.folder}}/stage-2`).checkpoint{1});
            let kept = results(`${{s.dir}}/${{c.folder}}/tiny-vqa.jsonl`);
            let fresh = benchmark("tiny-vqa", #{{ limit: kept.rows.len() }}).run(m, #{{ cache: "off" }});
            for i in 0..kept.rows.len() {{
                if kept.rows[i].output != fresh.rows[i].output {{ throw `row ${{i}}: ${{kept.rows[i].output}}, ${{fresh.rows[i].output}}`; }}
            }}"#,
            folder.display(),
            if feature.name == "dtype" { r#", #{ dtype: "bf16" }"# } else { "" }
        );
        if let Err(report) = session.run("test.rhai", &script) {
            panic!("study x {}: {report}", feature.name);
        }
    }
}

fn bytes_below(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(bytes_below(&path))
        } else {
            all.push((path.clone(), std::fs::read(&path).unwrap()))
        }
    }
    all.sort();
    all
}

/// A run that comes after a feature is made again to the last bit, and the first one's bytes stay.
#[test]
fn reruns_meet_what_came_before() {
    for feature in FEATURES.iter().filter(|feature| feature.name != "move" && feature.name != "quantize") {
        let folder = scratch(&format!("meetings-rerun-{}", feature.name));
        std::os::unix::fs::symlink(std::env::current_dir().unwrap().join("tests"), folder.join("tests")).unwrap();
        let lora = if feature.name == "lora" { "lora: #{ r: 2 }, " } else { "" };
        let script = format!(
            "{BEGIN}\n{{ {} }}\ntrainer(m, d, #{{ train: #{{ projector: 1e-3, llm: 1e-3 }}, {lora}batch: 4, steps: 2, out: \"last\" }}).fit();",
            feature.act
        );
        let script =
            script.replace("FOLDER/", "made/").replace("-N", "-1").replace("OPEN", "#{}").replace("EPS", "1e-5");
        let script = script.replace("ALONE", "#{}");
        std::fs::write(folder.join("x.rhai"), script).unwrap();
        let llmore = |arguments: &[&str]| {
            let output =
                Command::new(env!("CARGO_BIN_EXE_llmore")).args(arguments).current_dir(&folder).output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        };
        let (code, said) = llmore(&["run", "x.rhai", "--quiet"]);
        assert_eq!(code, Some(0), "{}: {said}", feature.name);
        let before: Vec<_> = ["last", "made"]
            .iter()
            .filter(|name| folder.join(name).exists())
            .map(|name| (name, bytes_below(&folder.join(name))))
            .collect();
        let (code, said) = llmore(&["rerun", "last"]);
        assert_eq!(code, Some(0), "{}: {said}", feature.name);
        assert!(said.contains("to the last bit"), "{}: {said}", feature.name);
        for (name, bytes) in before {
            assert!(bytes == bytes_below(&folder.join(name)), "{}: `{name}` was touched", feature.name);
        }
        let (code, said) = llmore(&["verify", "last"]);
        assert_eq!(code, Some(0), "{}: {said}", feature.name);
    }
}
