//! The findings of a study in plain sentences, one per comparison.

use super::effects::{Axis, Effect};
use super::folder::Folder;
use super::grid::Grid;
use super::table::shown;
use crate::error::Result;
use crate::show::{count, p_value};

/// With more values than this only comparisons with the best one are reported.
const ALL_PAIRS: usize = 3;

impl Folder {
    /// The conclusion: which is better than which by how much, which cannot be told apart, and what remains unknown.
    ///
    /// # Errors
    /// `Data` when results cannot be pooled.
    pub fn conclusion(&self) -> Result<String> {
        let (record, grid) = (self.record(), Grid::new(self));
        let effects = grid.headline_effects()?;
        if effects.is_empty() {
            let (done, cells) = (record.finished(), record.cells.len());
            let axes = record.encoders.len().max(record.llms.len());
            return Ok(match axes {
                1 => format!("one encoder with one LLM: nothing to compare ({done} of {cells} cells are done)"),
                _ => format!("nothing can be compared yet: {done} of {cells} cells are done"),
            });
        }
        let points = matches!(grid.scored[..], [only] if self.in_points(only));
        let mut sentences: Vec<String> = Vec::new();
        for (axis, values) in [(Axis::Encoder, record.encoders.len()), (Axis::Llm, record.llms.len())] {
            let all: Vec<&Effect> = effects.iter().filter(|effect| effect.axis == axis).collect();
            let reported = |effect: &&&Effect| values <= ALL_PAIRS || best(&all).is_none_or(|b| effect.is_about(b));
            sentences.extend(all.iter().filter(reported).map(|effect| sentence(effect, points)));
        }
        let mut text = format!("{}.", sentences.join("; "));
        text += &self.caveat(&grid, &effects);
        Ok(text)
    }

    /// What the intervals do not cover.
    fn caveat(&self, grid: &Grid, effects: &[Effect]) -> String {
        let record = self.record();
        let over = match grid.scored.len() {
            1 => String::new(),
            n => format!(" Scores are the mean of {n} benchmarks."),
        };
        let partly = match (record.finished(), record.cells.len()) {
            (done, cells) if done < cells => format!(" Only {done} of {cells} cells are done."),
            _ => String::new(),
        };
        let seeds = match effects.iter().any(|effect| effect.contrast.seeds.is_some()) {
            true => String::new(),
            false => " The intervals are over questions: with one seed, how much another training run would change is \
                      not known."
                .to_string(),
        };
        format!("{over}{partly}{seeds}")
    }
}

impl Effect {
    fn is_about(&self, value: &str) -> bool {
        self.first == value || self.second == value
    }
}

/// The value that is ahead of most others.
fn best<'a>(effects: &[&'a Effect]) -> Option<&'a str> {
    let ahead = |effect: &&'a Effect| match effect.contrast.paired.difference >= 0.0 {
        true => effect.first.as_str(),
        false => effect.second.as_str(),
    };
    let wins = |value: &str| effects.iter().filter(|effect| ahead(effect) == value).count();
    effects.iter().map(ahead).max_by_key(|value| wins(value))
}

fn sentence(effect: &Effect, points: bool) -> String {
    let (contrast, paired) = (&effect.contrast, &effect.contrast.paired);
    let forward = paired.difference >= 0.0;
    let (ahead, behind) = if forward { (&effect.first, &effect.second) } else { (&effect.second, &effect.first) };
    let ends = paired.interval.map_or(String::new(), |ends| {
        let (low, high) = if forward { (ends.low, ends.high) } else { (-ends.high, -ends.low) };
        let text = |value: f64| shown(value, points).replace('-', "\u{2212}");
        format!("95 % interval {} to {}, ", text(low), text(high))
    });
    let p = match p_value(effect.p) {
        text if text.starts_with('<') => format!("p {text}"),
        text => format!("p = {text}"),
    };
    let holm = if effect.corrected { " after Holm" } else { "" };
    let by = format!("{} points", shown(paired.difference.abs(), points));
    let questions = count(contrast.questions);
    if !effect.is_found() {
        let power = match effect.detectable(points) {
            Some(least) => format!("{} would be found in 80 % of cases", shown(least, points)),
            None => {
                "how large a difference would be found is not known, as nothing varies between questions".to_string()
            }
        };
        return format!(
            "{ahead} and {behind} cannot be told apart with {questions} questions: {by} between them ({ends}{p}{holm}), {power}"
        );
    }
    match contrast.seeds.filter(|_| effect.is_within_seeds()) {
        Some(seeds) => format!(
            "{ahead} is {by} ahead of {behind} on these models ({ends}{p}{holm}), but other seeds alone move that by \
             \u{b1}{}: more seeds are needed",
            shown(seeds.margin, points)
        ),
        None => format!("{ahead} beats {behind} by {by} ({ends}{p}{holm})"),
    }
}
