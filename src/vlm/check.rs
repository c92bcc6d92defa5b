//! Check of a label mask: the text that a template supervises is decoded from the ids and compared with the answers. The
//! masks are built from the template's segments, so this check is independent of how they are built.

use super::Vlm;
use crate::error::Result;
use crate::text::{AnswerEnd, IGNORE, IMAGE_ID, IMAGE_MARKER, Rendered, Template, Tokenizer, Turn, opened};

/// The result of the check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskCheck {
    /// Positions after expansion of the images, before truncation.
    pub positions: usize,
    /// Supervised positions among the first `limit`.
    pub supervised: usize,
    /// Faults: a name by which they are counted, and the details.
    pub faults: Vec<(&'static str, String)>,
}

impl Vlm {
    /// The number of positions of a rendered conversation after its images are expanded to visual tokens.
    pub fn positions(&self, rendered: &Rendered) -> usize {
        let images = rendered.ids.iter().filter(|id| **id == IMAGE_ID).count();
        rendered.ids.len() - images + images * self.image_tokens()
    }

    /// Renders a conversation for training and checks its mask: supervised are, within `limit` positions, every answer that is
    /// to be learned with its end, and nothing else.
    ///
    /// # Errors
    /// The errors of rendering.
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

/// Contiguous runs of supervised ids.
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

/// The fault of a run that is not exactly the answer and its end.
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
        return Ok(Some(("end token not supervised", format!("expected `{names}`, found {} of them", found.len()))));
    }
    let text: Vec<u32> = run.iter().filter(|id| !wanted.contains(id)).copied().collect();
    let text = tokenizer.decode(&text)?;
    let Some(said) = text.strip_suffix(end.text.as_str()) else {
        return Ok(Some(("end token not supervised", format!("expected {:?} at the end of {text:?}", end.text))));
    };
    // A marker in an answer moves to its front; text that the vocabulary lacks is not decoded again.
    if answer.contains(IMAGE_MARKER) || said.trim() == answer.trim() {
        return Ok(None);
    }
    let again = tokenizer.decode(&tokenizer.encode(answer)?)?;
    Ok((said.trim() != again.trim()).then(|| ("supervised outside answers", format!("{said:?} for {answer:?}"))))
}
