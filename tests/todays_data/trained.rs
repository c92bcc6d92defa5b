//! Today's data in training: what is cut, the order of samples, the plan.

use super::*;

/// Every answer lies beyond the limit: the sample is counted in `cut`, and as one of which nothing is learned.
#[test]
fn a_sample_cut_before_its_first_answer_is_counted_and_named() {
    let folder = scratch("cut-away");
    let record = |id: usize, question: &str| {
        format!(
            r#"{{"id": {id}, "conversations": [{{"from": "human", "value": "{question}"}}, {{"from": "gpt", "value": "red"}}]}}"#
        )
    };
    let long = "what color is the shape in the image? ".repeat(8);
    let text = format!("[{},{},{}]", record(1, &long), record(2, "a?"), record(3, &long));
    let d = open(&write(&folder, "cut.json", &text));
    let heard = std::sync::Arc::new(Heard::default());
    let setup = llmore::train::TrainerSetup {
        listeners: Listeners::default().with(heard.clone()),
        ..setup("tiny", Aspect::Pad, &folder.join("run"))
    };
    let table =
        "batch = 3\nmicro_batch = 1\nsteps = 2\nmax_length = 40\norder = \"sequential\"\ntrain = { llm = 1e-3 }";
    let mut trainer = Trainer::new(model(llm()), d, options(table), setup).unwrap();
    let step = trainer.step().unwrap();
    assert_eq!((step.cut, step.unsupervised, step.samples), (2, 2, 3), "{step:?}");
    let warned = heard.0.lock().unwrap().clone();
    assert!(
        matches!(&warned[..], [Event::Warning { text }] if text.contains("`1`, `3` lie beyond `max_length` 40")),
        "{warned:?}"
    );
    // Told once; steps go on counting.
    assert_eq!(trainer.step().unwrap().unsupervised, 2);
    assert_eq!(heard.0.lock().unwrap().len(), 1);
}

#[derive(Default)]
struct Heard(std::sync::Mutex<Vec<Event>>);

impl llmore::events::Listener for Heard {
    fn hear(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

fn trained(table: &str, folder: &Path) -> Trainer {
    let dataset = Dataset::preset(&Presets::default(), "tiny-instruct").unwrap().take(10);
    Trainer::new(model(llm()), dataset, options(table), setup("tiny", Aspect::Pad, folder)).unwrap()
}

#[test]
fn steps_before_fit_are_in_the_events() {
    let folder = scratch("steps-before-fit");
    let table = "batch = 4\nsteps = 4\ntrain = { projector = 1e-3 }";
    let mut trainer = trained(table, &folder);
    trainer.step().unwrap();
    trainer.fit(&mut |step| Ok(step.step < 3)).unwrap();
    let told = |folder: &Path| -> Vec<(u64, u64)> {
        Run::open(folder).unwrap().steps().unwrap().iter().map(|step| (step.step, step.loss.to_bits())).collect()
    };
    let expected: Vec<_> = trainer.history().iter().map(|step| (step.step, step.loss.to_bits())).collect();
    assert_eq!(told(&folder), expected);
    assert_eq!(expected.len(), 3);
    // Of a run whose events were lost, the checkpoint remembers them.
    std::fs::remove_file(folder.join("events.jsonl")).unwrap();
    let mut again = trained(table, &folder);
    again.resume(&folder).unwrap();
    again.fit(&mut |_| Ok(true)).unwrap();
    assert_eq!(told(&folder).iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(told(&folder)[..3], expected);
}

/// 10 samples in batches of 4: T = ceil(10 / 4) x 2 = 6 steps, in whatever order; no sample comes twice in an epoch.
#[test]
fn epochs_hold_every_sample_once_in_every_order() {
    for order in ["shuffle", "sequential"] {
        let table =
            format!("batch = 4\nmicro_batch = 2\nepochs = 2\norder = \"{order}\"\ntrain = {{ projector = 1e-3 }}");
        let mut trainer = trained(&table, &scratch("epochs"));
        assert_eq!(trainer.steps(), 6, "{order}");
        let samples: Vec<u64> = (0..6).map(|_| trainer.step().unwrap().samples).collect();
        assert_eq!(samples, [4, 4, 2, 4, 4, 2], "{order}");
    }
    let mut trainer =
        trained("batch = 4\nsteps = 3\norder = \"sequential\"\ntrain = { projector = 1e-3 }", &scratch("steps"));
    assert_eq!((0..3).map(|_| trainer.step().unwrap().samples).collect::<Vec<_>>(), [4, 4, 4]);
}

/// A text without spaces is one word, however long: the plan finds the micro-batch that holds it.
#[test]
fn a_plan_finds_the_longest_sample_among_texts_without_spaces() {
    let folder = scratch("no-spaces");
    let record = |answer: &str| {
        format!(r#"{{"conversations": [{{"from": "human", "value": "a?"}}, {{"from": "gpt", "value": "{answer}"}}]}}"#)
    };
    // Six words, or 300 letters and digits in one.
    let mut items = vec![record("the color of it is red"); 600];
    items[301] = record(&"x7q".repeat(100));
    let d = open(&write(&folder, "x.json", &format!("[{}]", items.join(","))));
    let table = "batch = 2\nepochs = 1\norder = \"sequential\"\ntrain = { llm = 1e-3 }";
    let mut trainer = Trainer::new(model(llm()), d, options(table), setup("tiny", Aspect::Pad, &folder)).unwrap();
    let plan = trainer.plan(llmore::train::Limits::default()).unwrap();
    let longest = (0..trainer.steps()).map(|_| trainer.step().unwrap().positions).max().unwrap();
    assert_eq!(plan.longest as u64, longest);
}
