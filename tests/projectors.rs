//! A projector that sees one picture as a whole, from a script to a checkpoint: the resampler is planned, audited, trained,
//! saved, opened, looked into and studied as the projectors of the reference are.

use super::scripting::scratch;
use super::smoke::smoke;

const BEGIN: &str = r#"
    fn positions(plan) { for row in plan.table().rows { if row["what"] == "positions per sample" { return row[""]; } } }
    let pic = image("tests/fixtures/images/red-circle.png");
    let turns = [#{ from: "human", value: "<image>\nIs it red?" }, #{ from: "gpt", value: "Yes" }];
    let d = dataset("tiny-instruct").take(8);
    let p = projector("resampler", #{ tokens: 6, layers: 2, heads: 2 });
    let m = vlm(encoder("tiny-clip"), p, llm("tiny-llama"));
"#;

fn run(name: &str, text: &str) -> Result<String, String> {
    let folder = scratch(&format!("{name}-files")).display().to_string();
    super::scripting::run(name, &format!("{BEGIN}{}", text.replace("FOLDER", &folder)))
}

#[test]
fn a_resampler_is_planned_audited_trained_and_saved() {
    let text = r#"
        let t = trainer(m, d, #{ train: #{ projector: 1e-3, llm: 1e-3 }, batch: 4, steps: 3, out: "FOLDER/run" });
        let whole = trainer(vlm(m.encoder, projector("linear"), llm("tiny-llama")), d, #{ train: #{ projector: 1e-3 }, batch: 4, steps: 3 });
        let fewer = positions(whole.plan()) - positions(t.plan());
        print(`${m.encoder.tokens - 6} tokens fewer for each picture, ${fewer} positions for each sample`);
        if fewer > m.encoder.tokens - 6 || fewer <= 0 { throw `${fewer}`; }
        t.audit();
        let run = t.fit();
        print(t.gradient("model.mm_projector.latents").shape);
        let o = load(run.checkpoint);
        if o.loss(pic, turns) != m.loss(pic, turns) { throw "another loss"; }
        if o.ask(pic, "Is it red?", #{ max_new_tokens: 4 }) != m.ask(pic, "Is it red?", #{ max_new_tokens: 4 }) { throw "another answer"; }
        m.save("FOLDER/model");
        print(load("FOLDER/model").projector);
        let config = json(read("FOLDER/model/config.json"));
        print(`${config.mm_projector_type} ${config.mm_projector_config.tokens} ${config.mm_projector_config.layers} ${config.mm_projector_config.heads}`);
        let first = trainer(vlm(m.encoder, p, llm("tiny-llama")), d, #{ train: #{ projector: 1e-3 }, batch: 4, steps: 1, out: "FOLDER/first" });
        let checkpoint = first.fit().checkpoint;
        print(load(checkpoint).projector.to_string() == load("FOLDER/model").projector.to_string());
    "#;
    let got = run("projectors-trained", text).unwrap();
    assert!(got.contains("58 tokens fewer for each picture"), "{got}");
    assert!(got.contains("[6, 96]") || got.contains("[6, 64]"), "{got}");
    assert!(got.contains("Projector(resampler (6 tokens, 2 layers, 2 heads), "), "{got}");
    assert!(got.contains("resampler 6 2 2\n") && got.ends_with("true\n"), "{got}");
}

#[test]
fn what_a_resampler_cannot_is_said_with_the_next_step() {
    let error = |text: &str| run("projectors-refused", text).unwrap_err();
    let layout = error(r#"m.save("FOLDER/theirs", #{ layout: "transformers" });"#);
    assert!(layout.contains("projector `resampler`") && layout.contains("layout: \"llava-more\""), "{layout}");
    let map = error(r#"m.attention(pic, "Is it red?");"#);
    assert!(map.contains("6 visual tokens of this model stand for no places") && map.contains("mlp2x_gelu"), "{map}");
    let pooled = error(r#"projector("resampler", #{ pool: "average", tokens: 4 });"#);
    assert!(pooled.contains("leave out `pool`: `tokens` alone"), "{pooled}");
    let none = error(r#"projector("resampler", #{ layers: 0 });"#);
    assert!(none.contains("`layers` of projector `resampler` is 0") && none.contains("from 1 to 64"), "{none}");
    let many = error(r#"vlm(m.encoder, projector("resampler", #{ tokens: 5000 }), llm("tiny-llama"));"#);
    assert!(many.contains("an image takes 5000 tokens"), "{many}");
}

#[test]
fn a_study_names_a_resampler_and_a_smoke_run_takes_what_fits() {
    let got = run(
        "projectors-study",
        r#"let s = study(#{ projector: p, limit: 4, stage: #{ steps: 2, batch: 4 }, out: "FOLDER/study" });
        s.run();
        print(read("FOLDER/study/study.toml"));"#,
    );
    let got = got.unwrap();
    assert!(got.contains("projector = \"resampler (6 tokens, 2 layers, 2 heads)\""), "{got}");

    let text = r#"let m = vlm(encoder("clip-vit-l-336"), projector("resampler", #{ tokens: 144 }), llm("phi-4-mini-instruct"));
        trainer(m, dataset("data/llava_v1_5_mix665k.json"), #{ train: #{ projector: 1e-3 }, batch: 64, steps: 100 }).fit();
        print(m.projector);"#;
    let got = smoke(&scratch("projectors-smoke"), text).unwrap();
    assert!(got.contains("resampler (64 tokens, 2 layers, 8 heads)"), "{got}");
}
