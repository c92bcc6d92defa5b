//! Checks whether cells may be pooled: parts, data and program of the same name have to be the same in all of them. They are
//! recorded in the run.lock of each run; questions are recorded in the files of answers.

use std::collections::BTreeSet;

use super::Study;
use super::cells::{StudyCell, below};
use super::parts::rate;
use crate::error;
use crate::error::Result;
use crate::eval::{Changes, Contents, Results};
use crate::train::{Lock, Run, Trainer};
use crate::vlm::{Part, Weights};

const OTHER: &str = "give it what it had, or choose another `out` for another study";

impl Study {
    /// Refuses a new run of a stage when the run of another cell used other data, or started from another encoder or LLM
    /// under the same name, or was made by another build of the program.
    pub(super) fn refuse_others(&self, (cell, stage): (&StudyCell, usize), trainer: &Trainer) -> Result<()> {
        let now = trainer.lock()?;
        for other in self.record.cells.iter().filter(|other| other.stages[stage] != cell.stages[stage]) {
            let Ok(run) = Run::open(&self.run_folder(other, stage)?) else { continue };
            let then = run.lock()?;
            if then.dataset_sha256 != now.dataset_sha256 {
                return Err(error!(Data, "the data are not those that {} was trained on", other.id)
                    .help("give `data` what it had, or choose another `out` for another study"));
            }
            let differences = self.differences((other, &then), (cell, &now), stage, trainer);
            if !differences.is_empty() {
                let (id, what) = (&other.id, differences.join("; "));
                let pictures = |lock: &Lock| lock.identity.get("data.pictures").cloned();
                let which = if pictures(&then) == pictures(&now) { None } else { trainer.other_pictures(&run)? };
                let which = which.map_or(String::new(), |which| format!("; {which}"));
                return Err(error!(Data, "this is not what {id} was trained with: {what}{which}").help(OTHER));
            }
        }
        Ok(())
    }

    /// What differs between the runs of a stage in two cells although their names say it is the same.
    fn differences(
        &self,
        (other, then): (&StudyCell, &Lock),
        (cell, now): (&StudyCell, &Lock),
        stage: usize,
        trainer: &Trainer,
    ) -> Vec<String> {
        let mut found = Vec::new();
        for (key, then, now) in [
            ("llmore", &then.llmore, &now.llmore),
            ("build of llmore", &then.build, &now.build),
            ("device", &then.device, &now.device),
        ] {
            if !then.is_empty() && !now.is_empty() && then != now {
                found.push(format!("`{key}` was {then}, is {now}"));
            }
        }
        if then.identity.is_empty() {
            // A lock of an older version records no more.
            return found;
        }
        let vlm = trainer.vlm();
        let parts = [
            (Part::Encoder, other.encoder == cell.encoder, vlm.encoder.weights()),
            (Part::Llm, other.llm == cell.llm, vlm.llm.weights()),
        ];
        let mut keys: BTreeSet<&String> = then.identity.keys().chain(now.identity.keys()).collect();
        keys.retain(|key| {
            let part = parts.iter().find(|(part, ..)| key.starts_with(&format!("{}.", part.name())));
            let Some((part, same, weights)) = part else { return key.starts_with("data.") || *key == "projector.kind" };
            // Weights that are drawn at random, or trained by earlier stages, differ between seeds.
            let begun = self.stages[..stage].iter().all(|options| rate(options, *part) == 0.0);
            let comparable = begun && (*weights == Weights::Stored || other.seed == cell.seed);
            *same && (comparable || !key.ends_with(".weights"))
        });
        let differ = keys.into_iter().filter(|key| then.identity.get(*key) != now.identity.get(*key));
        found.extend(differ.flat_map(|key| then.identity_differences(now, key)));
        found.dedup();
        found
    }

    /// Refuses questions whose text, right answers or pictures differ from those that other cells have answered; called before
    /// anything is trained.
    pub(super) fn check_questions(&self) -> Result<()> {
        for benchmark in &self.options.benchmarks {
            let of = |cell: &StudyCell| cell.results.iter().position(|result| result.benchmark == benchmark.id);
            let to_do = |cell: &&StudyCell| of(cell).is_some_and(|place| self.record.left(cell).contains(&place));
            if !self.record.cells.iter().any(|cell| to_do(&cell)) {
                continue;
            }
            // A complete file has all the questions.
            let mut cells: Vec<&StudyCell> = self.record.cells.iter().collect();
            cells.sort_by_key(|cell| to_do(cell));
            for cell in cells {
                let Some(place) = of(cell) else { continue };
                let file = below(&self.options.out, &cell.results[place].file)?;
                // A file that cannot be read will be written anew.
                let Ok(results) = Results::open(&file) else { continue };
                let changes = Changes::new(&results.rows, benchmark.items.iter(), &mut Contents::default());
                let whose = format!("benchmark `{}`, answered by {}", benchmark.id, cell.id);
                let check = changes.refuse_asked(&whose).and_then(|()| changes.refuse_golds(&whose));
                check.map_err(|error| {
                    error.help(format!(
                        "give it the data it had; or remove `{}` of every cell to have all asked again, or choose another `out`",
                        file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
                    ))
                })?;
                break;
            }
        }
        Ok(())
    }
}
