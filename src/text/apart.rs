//! Independent rounds of a conversation: each question follows the picture directly, as in an evaluation. The tokens up to
//! and including the picture are there once; the rounds behind them are branches that do not attend to each other.

use super::{IMAGE_ID, IMAGE_MARKER, Rendered, Role, Template, Tokenizer, Turn, opened};
use crate::error;
use crate::error::Result;

impl Template {
    /// A conversation for training whose rounds are independent conversations, all about the pictures of the first round: the
    /// result of [`render`](Template::render) for each round, with their common beginning once.
    ///
    /// # Errors
    /// As `render`; `Data` when a later round has a picture of its own, or when there are several pictures.
    pub fn render_apart(&self, tokenizer: &Tokenizer, turns: &[Turn], images: usize) -> Result<Rendered> {
        let whole = self.render_about(tokenizer, turns, images)?;
        let (system, turns) = opened(turns);
        let rounds: Vec<&[Turn]> = turns.chunks_exact(2).collect();
        let [first, later @ ..] = rounds.as_slice() else { return Ok(whole) };
        if later.is_empty() {
            return Ok(whole);
        }
        if images > 1 {
            return Err(error!(Data, "{} rounds about {images} pictures cannot be trained apart", rounds.len())
                .help("`turns: \"together\"` takes conversations about several pictures"));
        }
        let told: Vec<Turn> = system.map(|system| Turn::of(Role::System, system)).into_iter().collect();
        let mut all = self.render(tokenizer, &[told.as_slice(), first].concat())?;
        let common = all.ids.iter().rposition(|&id| id == IMAGE_ID).map_or(0, |position| position + 1);
        all.branches.push(common);
        for (number, round) in later.iter().enumerate() {
            if round[0].value.contains(IMAGE_MARKER) {
                return Err(error!(Data, "round {} has a picture of its own", number + 2)
                    .help("`turns: \"apart\"` is for questions about the picture of the first round"));
            }
            let mut round = round.to_vec();
            if common > 0 {
                round[0].value = format!("{IMAGE_MARKER}\n{}", round[0].value);
            }
            let next = self.render(tokenizer, &[told.as_slice(), &round].concat())?;
            all.branches.push(all.ids.len());
            all.text.push_str(&next.text);
            all.ids.extend_from_slice(&next.ids[common..]);
            all.labels.extend_from_slice(&next.labels[common..]);
        }
        Ok(all)
    }
}
