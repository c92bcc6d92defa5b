//! `turns: "apart"`: the rounds of a conversation as branches behind one picture give the loss and the gradients of
//! as many conversations of one round.

use candle_core::Tensor;
use llmore::data::Dataset;
use llmore::preset::Presets;
use llmore::text::{IMAGE_ID, Rendered, Role, Template, Turn};
use llmore::vlm::{Sequence, Vlm, batch};

use super::checkpointing::gemma;
use super::resume::{llm, model, trainer};
use super::scripting::scratch;

const ROUNDS: [(&str, &str); 3] =
    [("<image>\nwhat color is it?", "red"), ("is there a circle?", "no"), ("what shape is in the image?", "square")];

fn turns(rounds: &[(&str, &str)]) -> Vec<Turn> {
    let turn = |role, value: &str| Turn::of(role, value);
    rounds.iter().flat_map(|(question, answer)| [turn(Role::Human, question), turn(Role::Gpt, answer)]).collect()
}

fn asked_first((question, answer): (&str, &str)) -> Vec<Turn> {
    turns(&[(&format!("<image>\n{}", question.trim_start_matches("<image>\n")), answer)])
}

/// The summed loss and the gradients of projector and LLM.
fn loss_and_gradients(vlm: &Vlm, sequences: &[Sequence], features: &Tensor, limit: usize) -> (f64, Vec<Tensor>, usize) {
    vlm.projector.params.set_trainable(true).unwrap();
    vlm.llm.params.set_trainable(true).unwrap();
    let batch = batch(vlm, sequences, Some(features), limit).unwrap();
    let loss = batch.loss_sum(vlm).unwrap();
    let store = loss.backward().unwrap();
    let params = vlm.projector.params.iter().chain(vlm.llm.params.iter());
    let gradients = params.map(|param| store.get(&param.tensor().unwrap()).unwrap().clone()).collect();
    vlm.freeze().unwrap();
    (f64::from(loss.to_scalar::<f32>().unwrap()), gradients, batch.positions())
}

fn largest(tensor: &Tensor) -> f64 {
    f64::from(tensor.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap())
}

#[test]
fn branches_are_conversations_of_their_own() {
    let data = Dataset::preset(&Presets::default(), "tiny-instruct").unwrap();
    let image = data.get(0).unwrap().images[0].open().unwrap();
    for open in [llm, gemma] {
        let vlm = model(open());
        let (tokenizer, template) = (vlm.tokenizer().unwrap(), vlm.template());
        let features = vlm.features(&[&image], vlm.aspect()).unwrap();
        let apart = template.render_apart(tokenizer, &turns(&ROUNDS), 1).unwrap();
        let alone: Vec<Rendered> =
            ROUNDS.iter().map(|round| template.render(tokenizer, &asked_first(*round)).unwrap()).collect();
        let sequence = |rendered| Sequence { rendered, images: vec![0] };
        let (ours, gradients, rows) = loss_and_gradients(&vlm, &[sequence(&apart)], &features, 1024);
        let each: Vec<Sequence> = alone.iter().map(sequence).collect();
        let (wanted, expected, all_rows) = loss_and_gradients(&vlm, &each, &features, 1024);
        let shared = alone[0].ids.iter().position(|id| *id == IMAGE_ID).unwrap() + vlm.image_tokens();
        assert_eq!(rows + 2 * shared, all_rows, "the picture is there once");
        assert!((ours - wanted).abs() <= 1e-5 * wanted, "loss {ours}, alone {wanted}");
        for (ours, wanted) in gradients.iter().zip(&expected) {
            let difference = largest(&(ours - wanted).unwrap());
            assert!(difference <= 1e-5 * largest(wanted), "{difference} of {}", largest(wanted));
        }
        // A limit cuts the last branch and leaves the others.
        let (cut, _, rows) = loss_and_gradients(&vlm, &[sequence(&apart)], &features, rows - 6);
        assert!(rows < all_rows && cut < ours);
    }
}

#[test]
fn rounds_are_rendered_as_they_are_alone() {
    let vlm = model(llm());
    let (tokenizer, template) = (vlm.tokenizer().unwrap(), Template::load(&Presets::default(), "tiny").unwrap());
    // An opening `gpt` turn and an unanswered question do not count.
    let mut talk = turns(&ROUNDS);
    talk.insert(0, Turn::gpt("hello"));
    talk.push(Turn::human("and?"));
    let apart = template.render_apart(tokenizer, &talk, 1).unwrap();
    let head = &apart.ids[..apart.branches[0]];
    assert_eq!((apart.branches.len(), head.last()), (3, Some(&IMAGE_ID)));
    let ends = apart.branches[1..].iter().copied().chain([apart.ids.len()]);
    for ((&start, end), round) in apart.branches.iter().zip(ends).zip(ROUNDS) {
        let alone = template.render(tokenizer, &asked_first(round)).unwrap();
        assert_eq!([head, &apart.ids[start..end]].concat(), alone.ids);
        assert_eq!([&apart.labels[..head.len()], &apart.labels[start..end]].concat(), alone.labels);
    }
    let one = turns(&ROUNDS[..1]);
    assert_eq!(template.render_apart(tokenizer, &one, 1).unwrap(), template.render(tokenizer, &one).unwrap());
    let two = turns(&[ROUNDS[0], ("<image>\nand this?", "blue")]);
    let error = template.render_apart(tokenizer, &two, 1).unwrap_err();
    assert!(error.to_string().contains("round 2 has a picture of its own"), "{error}");
}

#[test]
fn a_trainer_takes_rounds_apart_with_and_without_checkpointing() {
    let run = |more: &str| {
        let table =
            format!("turns = \"apart\"\nbatch = 6\nmicro_batch = 3\nsteps = 2\ntrain = {{ llm = 1e-3 }}\n{more}");
        let mut trainer = trainer(&model(llm()), &table, &scratch("apart"));
        assert!(trainer.audit().unwrap().passed());
        [trainer.step().unwrap(), trainer.step().unwrap()].map(|step| (step.loss, step.tokens, step.positions))
    };
    let (plain, checkpointed) = (run(""), run("checkpointing = true"));
    for ((loss, tokens, rows), (same, ..)) in plain.iter().zip(&checkpointed) {
        assert!((loss - same).abs() < 1e-5, "{loss} and {same}");
        assert!(tokens > &0 && rows > tokens);
    }
}
