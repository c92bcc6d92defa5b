//! Proof of a label mask: what a template supervises is read back from the ids and compared with the answers. The masks
//! are built from the template's segments, so this goes the other way round.

use super::Vlm;
use crate::error::Result;
use crate::text::{AnswerEnd, IGNORE, IMAGE_ID, IMAGE_MARKER, Rendered, Template, Tokenizer, Turn, opened};

/// What a mask was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskCheck {
    /// Positions after expansion, before any cut.
    pub positions: usize,
    /// Supervised positions among the first `limit`.
    pub supervised: usize,
    /// What is wrong: a name for counts, and the particulars.
    pub faults: Vec<(&'static str, String)>,
}

impl Vlm {
    /// Positions of a rendered conversation when its pictures have taken their places.
    pub fn positions(&self, rendered: &Rendered) -> usize {
        let images = rendered.ids.iter().filter(|id| **id == IMAGE_ID).count();
        rendered.ids.len() - images + images * self.image_tokens()
    }

    /// Renders a conversation for training and checks its mask: something is supervised within `limit` positions, every
    /// answer that is to be learned and what ends it, and nothing else.
    ///
    /// # Errors
    /// What the template refuses.
    pub fn check_mask(&self, template: &Template, turns: &[Turn], images: usize, limit: usize) -> Result<MaskCheck> {
        let rendered = template.render_about(self.tokenizer()?, turns, images)?;
        let positions = self.positions(&rendered);
        let mut faults = Vec::new();
        let answers = opened(turns).1.iter().skip(1).step_by(2).filter(|turn| turn.supervised);
        let answers: Vec<&str> = answers.map(|turn| turn.value.as_str()).collect();
        let runs = runs(&rendered);
        if runs.len() != answers.len() {
            let found = format!("{} supervised stretches for {} answers", runs.len(), answers.len());
            faults.push(("supervised outside answers", found));
        }
        for (number, (run, answer)) in runs.iter().zip(&answers).enumerate() {
            if let Some((what, found)) = run_fault(self.tokenizer()?, template, run, answer)? {
                faults.push((what, format!("answer {}: {found}", number + 1)));
            }
        }
        let supervised = self.supervised_within(&rendered, limit);
        if supervised == 0 {
            faults.push(("nothing supervised", format!("none of {positions} positions, cut at {limit}")));
        }
        Ok(MaskCheck { positions, supervised, faults })
    }

    /// Supervised positions among the first `limit`.
    pub fn supervised_within(&self, rendered: &Rendered, limit: usize) -> usize {
        let mut position = 0;
        let mut supervised = 0;
        for (&id, &label) in rendered.ids.iter().zip(&rendered.labels) {
            supervised += usize::from(label != IGNORE && position < limit);
            position += if id == IMAGE_ID { self.image_tokens() } else { 1 };
        }
        supervised
    }
}

/// Unbroken stretches of supervised ids.
fn runs(rendered: &Rendered) -> Vec<Vec<u32>> {
    let mut runs: Vec<Vec<u32>> = Vec::new();
    let mut inside = false;
    for &label in &rendered.labels {
        if let Ok(id) = u32::try_from(label) {
            if !inside {
                runs.push(Vec::new());
            }
            if let Some(run) = runs.last_mut() {
                run.push(id);
            }
        }
        inside = label != IGNORE;
    }
    runs
}

/// Whether a stretch is the answer and what ends it.
fn run_fault(
    tokenizer: &Tokenizer,
    template: &Template,
    run: &[u32],
    answer: &str,
) -> Result<Option<(&'static str, String)>> {
    let end = template.answer_end();
    if end == AnswerEnd::default() {
        return Ok(Some((
            "end token not supervised",
            format!("template `{}` has nothing after an answer", template.name()),
        )));
    }
    let wanted: Vec<u32> = end.tokens.iter().filter_map(|token| tokenizer.token_id(token)).collect();
    let found: Vec<u32> = run.iter().filter(|id| wanted.contains(id)).copied().collect();
    if found != wanted {
        let names = end.tokens.join(" ");
        return Ok(Some((
            "end token not supervised",
            format!("`{names}` was expected, {} of them stand there", found.len()),
        )));
    }
    let text: Vec<u32> = run.iter().filter(|id| !wanted.contains(id)).copied().collect();
    let text = tokenizer.decode(&text)?;
    let Some(said) = text.strip_suffix(end.text.as_str()) else {
        return Ok(Some(("end token not supervised", format!("{:?} was expected at the end of {text:?}", end.text))));
    };
    // A marker in an answer moves to its front; what is unknown to the vocabulary does not come back.
    if answer.contains(IMAGE_MARKER) || said.trim() == answer.trim() {
        return Ok(None);
    }
    let again = tokenizer.decode(&tokenizer.encode(answer)?)?;
    Ok((said.trim() != again.trim()).then(|| ("supervised outside answers", format!("{said:?} for {answer:?}"))))
}
