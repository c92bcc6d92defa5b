//! What a script tries in the sandbox, and a part of the error it gets.

/// Of a path that is not read.
const READS: &str = "outside of what the sandbox reads";
/// Of a path that is not written.
const WRITES: &str = "the sandbox writes nowhere else";
const NETWORK: &str = "the sandbox has no network";
const TIME: &str = "ran longer than the sandbox lets it: 1 s";
const MEMORY: &str = "took more memory than the sandbox gives it: 200 MiB";
const MODEL: &str = r#"vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"))"#;

/// A script, in which `SECRET` stands for the folder's path and `MODEL` for a small model, and a part of its error.
pub const ATTEMPTS: &[(&str, &str)] = &[
    // Paths up, absolute, beside, through links.
    (r#"print(read("../secret/key.txt"))"#, READS),
    (r#"print(read("SECRET/key.txt"))"#, READS),
    (r#"print(read("/etc/passwd"))"#, READS),
    (r#"print(read("given/../../secret/key.txt"))"#, READS),
    (r#"print(read("given/./../notes.txt"))"#, READS),
    (r#"print(read("notes.txt"))"#, READS),
    (r#"print(read("given2/key.txt"))"#, READS),
    (r#"print(read("runs/../notes.txt"))"#, READS),
    (r#"print(read("given/link.txt"))"#, READS),
    (r#"print(read("given/out/key.txt"))"#, READS),
    (r#"print(read("runs/out/key.txt"))"#, READS),
    (r#"print(read("../home/key.txt"))"#, READS),
    (r#"print(read("../secret/nothing-is-there"))"#, READS),
    (r#"print(read("/proc/self/environ"))"#, READS),
    (r#"print(read("/proc/self/cwd/notes.txt"))"#, READS),
    (r#"print(read("/dev/zero"))"#, READS),
    (r#"eval("print(read(\"../secret/key.txt\"))")"#, READS),
    (r#"["../secret/key.txt"].map(|path| print(read(path)))"#, READS),
    (r#"show(image("../secret/pic.png"))"#, READS),
    (r#"show(image("given/pic-link.png"))"#, READS),
    // Everything that is opened by a path.
    (r#"print(dataset("../secret/data.json").len)"#, READS),
    (r#"print(dataset("given/data-link.json").len)"#, READS),
    (r#"print(dataset("given/ok.json", #{ images: "../secret" }).len)"#, READS),
    (r#"print(dataset("given/ok.json", #{ images: #{ a: "SECRET" } }).len)"#, READS),
    (r#"print(dataset("given/ok.json", #{ images: "given/zip-link.zip" }).len)"#, READS),
    (r#"print(tensors("../secret/tower/model.safetensors").len())"#, READS),
    (r#"print(tokenizer("../secret/llm"))"#, READS),
    (r#"print(encoder("SECRET/tower"))"#, READS),
    (r#"print(llm("../secret/llm"))"#, READS),
    (r#"print(load("../secret/model"))"#, READS),
    (r#"print(load("given/model", #{ base: "../secret/llm" }))"#, READS),
    (r#"print(benchmark("pope", #{ data: "../secret" }))"#, READS),
    (r#"print(benchmark("gqa", #{ data: "given", images: "SECRET" }))"#, READS),
    (r#"print(results("../secret/key.txt"))"#, READS),
    (r#"print(results(["../secret/key.txt"]))"#, READS),
    (r#"print(run("../secret/run").status)"#, READS),
    (
        r#"trainer(MODEL, dataset("tiny-emoji"), #{ train: #{ projector: 1e-3 }, steps: 1 }).resume("../secret/run")"#,
        READS,
    ),
    (r#"study(#{ data: "../secret" })"#, READS),
    // Other scripts.
    (r#"import "../secret/lib" as l; print(l::KEY)"#, READS),
    (r#"import "SECRET/lib" as l; print(l::KEY)"#, READS),
    (r#"import "given/lib-link" as l; print(l::KEY)"#, READS),
    (r#"let path = "../secret/lib"; import path as l; print(l::KEY)"#, READS),
    // Paths in data, archives, configs and checkpoints that may be read.
    (r#"show(dataset("given/up.json")[0].image)"#, "leads out of given"),
    (r#"show(dataset("given/up.jsonl")[0].image)"#, "leads out of given"),
    (r#"show(dataset("given/member.json", #{ images: "given/up.zip" })[0].image)"#, "leads out of"),
    (r#"show(dataset("given/member.json", #{ images: "given/up.tar" })[0].image)"#, "leads out of"),
    (r#"print(dataset("given/absolute.json")[0].image.width)"#, READS),
    (r#"print(dataset("given/absolute.jsonl")[0].image.width)"#, READS),
    (r#"print(dataset("given/link.json")[0].image.width)"#, READS),
    (r#"print(dataset("given/folder-link.json")[0].image.width)"#, READS),
    (r#"print(load("given/named-tower"))"#, READS),
    (r#"print(encoder("given/linked-weights"))"#, READS),
    (r#"print(encoder("given/linked-config"))"#, READS),
    (r#"print(tokenizer("given/linked-tokenizer"))"#, READS),
    (r#"print(encoder("given/indexed"))"#, "which is no safetensors file of this folder"),
    (r#"print(encoder("mine"))"#, "no encoder preset `mine`"),
    // Writing.
    (r#"plot([1, 2]).save("x.png")"#, WRITES),
    (r#"plot([1, 2]).save("../x.png")"#, WRITES),
    (r#"plot([1, 2]).save("SECRET/x.png")"#, WRITES),
    (r#"plot([1, 2]).save("given/x.svg")"#, WRITES),
    (r#"plot([1, 2]).save("given/ok.png", #{ overwrite: true })"#, WRITES),
    (r#"plot([1, 2]).save("runs/../x.png")"#, WRITES),
    (r#"plot([1, 2]).save("runs/out/x.png")"#, WRITES),
    (r#"plot([1, 2]).save("runs/dangling.png")"#, WRITES),
    (r#"plot([1, 2]).save("runs/out/pic.png", #{ overwrite: true })"#, WRITES),
    (r#"save_tensors(#{}, "x.safetensors")"#, WRITES),
    (r#"encoder("tiny-clip").save("../secret/tower", #{ overwrite: true })"#, WRITES),
    (r#"encoder("tiny-clip").save("runs/new")"#, WRITES),
    (r#"MODEL.save("model")"#, WRITES),
    (
        r#"trainer(MODEL, dataset("tiny-emoji"), #{ train: #{ projector: 1e-3 }, steps: 1, out: "../elsewhere" }).fit()"#,
        WRITES,
    ),
    (r#"study(#{ out: "study" }).run()"#, WRITES),
    (r#"benchmark("tiny-vqa", #{ limit: 2 }).score(["yes", "no"]).save("x.jsonl")"#, WRITES),
    (r#"benchmark("tiny-vqa", #{ limit: 2 }).score(["yes", "no"]).report("x.html")"#, WRITES),
    (r#"benchmark("tiny-vqa", #{ limit: 2 }).run(MODEL, #{ out: "x.jsonl" })"#, WRITES),
    (r#"benchmark("tiny-vqa", #{ limit: 2 }).run(MODEL, #{ cache: "./answers" })"#, WRITES),
    // The network, and what it left in the cache.
    (r#"print(llm("org/name"))"#, NETWORK),
    (r#"print(encoder("org/name"))"#, NETWORK),
    (r#"print(load("org/name"))"#, NETWORK),
    (r#"print(dataset("org/name").len)"#, NETWORK),
    (r#"print(benchmark("pope", #{ data: "lmms-lab/POPE" }))"#, NETWORK),
    (r#"print(encoder("org/cached"))"#, NETWORK),
    // Processes and the environment: scripts have no function for them.
    (r#"system("ls")"#, "no function `system`"),
    (r#"exec("ls")"#, "no function `exec`"),
    (r#"print(env("HOME"))"#, "no function `env`"),
    // Loops, recursion, sizes.
    ("loop {}", "more operations than the sandbox gives it: 3000000"),
    ("while true { try { throw 1 } catch (e) {} }", "more operations than the sandbox gives it: 3000000"),
    ("[1].map(|x| { loop {} })", "more operations than the sandbox gives it: 3000000"),
    ("fn f(n) { f(n + 1) } f(0)", "stack overflow"),
    (r#"let s = "x"; loop { s += s }"#, "too large"),
    ("let a = [1]; loop { a += a }", "too large"),
    (r#"let s = ""; s.pad(8000000, "x"); let a = []; loop { let t = s; t += "y"; a.push(t) }"#, "too large"),
    (r#"let m = #{}; let i = 0; loop { m["k" + i] = i; i += 1 }"#, "sandbox"),
];

/// Those that end by the clock or by what memory they take.
pub const SLOW: &[(&str, &str)] = &[
    ("sleep(1000000)", TIME),
    ("loop { try { sleep(0.2) } catch (e) {} }", TIME),
    (r#"let m = MODEL; let b = benchmark("tiny-vqa"); loop { b.run(m, #{ cache: "off" }) }"#, TIME),
    (r#"let a = []; loop { a.push(tensors("given/model")) }"#, MEMORY),
];

/// A script with the world's path and a model in it.
pub fn filled(script: &str, secret: &std::path::Path) -> String {
    script.replace("SECRET", &secret.display().to_string()).replace("MODEL", MODEL)
}
