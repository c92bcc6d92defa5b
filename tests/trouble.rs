//! What goes wrong in training is told, with the samples, and takes nothing with it.

use std::sync::{Arc, Mutex};

use llmore::data::Dataset;
use llmore::error::Kind;
use llmore::events::{Event, Listener, Listeners};
use llmore::image::Aspect;
use llmore::preset::Presets;
use llmore::train::{Run, Status, Trainer, TrainerSetup};

use super::resume::{llm, model, trainer};
use super::scripting::scratch;
use super::training::{options, setup};

const OPTIONS: &str =
    "batch = 4\nsteps = 6\nsave_every_steps = 2\nseed = 5\ntrain = { projector = 1e-3, llm = 1e-3 }\n";

#[derive(Default)]
struct Heard(Mutex<Vec<Event>>);

impl Listener for Heard {
    fn hear(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

fn heard_by(table: &str, folder: &std::path::Path) -> (Trainer, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let setup =
        TrainerSetup { listeners: Listeners::default().with(heard.clone()), ..setup("tiny", Aspect::Pad, folder) };
    let dataset = Dataset::preset(&Presets::default(), "tiny-instruct").unwrap().take(20);
    (Trainer::new(model(llm()), dataset, options(table), setup).unwrap(), heard)
}

#[test]
fn a_loss_that_is_not_finite_names_its_samples() {
    let folder = scratch("not-finite");
    let mut trainer = trainer(&model(llm()), &OPTIONS.replace("1e-3", "1e30"), &folder);
    let error = (0..6).find_map(|_| trainer.step().err()).unwrap();
    assert!(error.message().contains("samples `"), "{error}");
    assert!(error.message().contains("loss "), "{error}");
    assert!(error.help_text().unwrap().contains("d.show(\""), "{error}");
}

#[test]
fn a_spike_is_an_event_with_its_samples() {
    let folder = scratch("spike");
    // Every loss is above a hundredth of the median.
    let (mut trainer, heard) = heard_by(&OPTIONS.replace("steps = 6", "steps = 10\nspike = 0.01"), &folder);
    trainer.fit(&mut |_| Ok(true)).unwrap();
    let spikes: Vec<(u64, usize)> = heard
        .0
        .lock()
        .unwrap()
        .iter()
        .filter_map(|event| match event {
            Event::Spike { step, samples, .. } => Some((*step, samples.len())),
            _ => None,
        })
        .collect();
    assert_eq!(spikes, [(9, 4), (10, 4)]);
}

#[test]
fn answers_beyond_the_limit_are_counted() {
    let folder = scratch("cut");
    let whole = trainer(&model(llm()), OPTIONS, &folder).step().unwrap();
    assert_eq!(whole.cut, 0);
    let limit = whole.positions / 4 - 3;
    let cut = trainer(&model(llm()), &format!("max_length = {limit}\n{OPTIONS}"), &folder).step().unwrap();
    assert!(cut.cut > 0 && cut.cut <= 4 && cut.tokens < whole.tokens, "{cut:?}");
}

#[test]
fn a_file_in_the_place_of_the_folder_is_named() {
    let folder = scratch("in-the-way");
    std::fs::write(folder.join("file"), "").unwrap();
    let mut trainer = trainer(&model(llm()), OPTIONS, &folder.join("file"));
    let error = trainer.fit(&mut |_| Ok(true)).unwrap_err();
    assert!(error.message().contains("the run folder cannot be made: ") && error.message().contains("file"), "{error}");
    assert_eq!(error.help_text(), Some("choose another `out`"));
}

#[cfg(unix)]
#[test]
fn events_that_cannot_be_written_are_told_once_and_end_nothing() {
    let folder = scratch("full-events");
    let (mut trainer, heard) = heard_by(OPTIONS, &folder);
    std::os::unix::fs::symlink("/dev/full", folder.join("events.jsonl")).unwrap();
    assert_eq!(trainer.fit(&mut |_| Ok(true)).unwrap(), Status::Done);
    let heard = heard.0.lock().unwrap();
    let warnings: Vec<&String> = heard
        .iter()
        .filter_map(|event| match event {
            Event::Warning { text } => Some(text),
            _ => None,
        })
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("no space left on the disk"), "{warnings:?}");
    assert!(folder.join("checkpoint-6").is_dir());
}

#[test]
fn a_checkpoint_that_cannot_be_written_takes_nothing_with_it() {
    let folder = scratch("no-room");
    let (plain, failing) = (folder.join("plain"), folder.join("failing"));
    trainer(&model(llm()), OPTIONS, &plain).fit(&mut |_| Ok(true)).unwrap();

    let (mut trainer, heard) = heard_by(OPTIONS, &failing);
    let blocked = failing.join(".checkpoint-4.part");
    let error = trainer.fit(&mut |step| {
        if step.step == 3 {
            // Nobody can make a folder where a file is.
            std::fs::write(&blocked, "").unwrap();
        }
        Ok(true)
    });
    let error = error.unwrap_err();
    assert_eq!(error.kind(), Kind::File, "{error}");
    assert!(error.message().contains("the checkpoint of step 4 could not be written"), "{error}");
    assert!(error.help_text().unwrap().contains("checkpoint-2` is whole"), "{error}");
    assert!(matches!(heard.0.lock().unwrap().last(), Some(Event::End { status, .. }) if status == "failed"));
    assert!(Run::open(&failing).unwrap().checkpoint().unwrap().unwrap().ends_with("checkpoint-2"));

    // There is room again: the same trainer goes on and ends where an undisturbed run ends.
    std::fs::remove_file(&blocked).unwrap();
    assert_eq!(trainer.fit(&mut |_| Ok(true)).unwrap(), Status::Done);
    let weights = |run| super::resume::bytes(run, "model.safetensors");
    assert!(weights(&plain) == weights(&failing));
}
