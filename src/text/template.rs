//! Chat templates: TOML segments around the turns, each with or without loss. There is no code per template;
//! whitespace rules and special tokens are those of the reference (LLaVA-MORE 2460d39, `conversation.py` and
//! `train.py`; the fixtures in `tests/fixtures/templates` are its output).

use std::sync::Arc;

use serde::Deserialize;

use super::pieces::{Builder, Rendered};
use super::{IMAGE_MARKER, Role, Tokenizer, Turn, opened};
use crate::error::{Context, Error, Result};
use crate::preset::{PresetKind, Presets};
use crate::{bail, error};

/// A chat template; clones share everything.
#[derive(Clone, Debug)]
pub struct Template(Arc<TemplateParts>);

/// The end of a supervised answer: special tokens in order, and plain text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerEnd {
    pub tokens: Vec<String>,
    pub text: String,
}

#[derive(Clone, Debug)]
struct TemplateParts {
    name: String,
    preset: Preset,
    quirks: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Preset {
    #[serde(rename = "about")]
    _about: String,
    /// Whether white space around every turn is removed.
    #[serde(default)]
    trim: bool,
    /// Stage 1: one round, and training keeps only the image of its question.
    #[serde(default)]
    caption: bool,
    /// Written once, before everything.
    #[serde(default)]
    start: Vec<Segment>,
    /// Written around every question.
    question: Vec<Segment>,
    /// Written before an answer; generation starts after it.
    #[serde(default)]
    header: Vec<Segment>,
    /// The end of a prompt in the reference's released evaluation, where it differs from `header`.
    reference_header: Option<Vec<Segment>>,
    /// Written around every answer.
    answer: Vec<Segment>,
    /// Written once, after the last answer, in training only.
    #[serde(default)]
    end: Vec<Segment>,
    /// Special tokens that end an answer.
    #[serde(default)]
    stop_tokens: Vec<String>,
    /// Plain texts that end an answer.
    #[serde(default)]
    stop_texts: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawSegment")]
struct Segment {
    what: What,
    loss: bool,
}

#[derive(Clone, Debug)]
enum What {
    Text(String),
    Token(String),
    Turn,
    /// The system text, if the conversation has none.
    System(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSegment {
    text: Option<String>,
    token: Option<String>,
    #[serde(default)]
    turn: bool,
    /// Whether a conversation's own system text replaces `text`.
    #[serde(default)]
    system: bool,
    #[serde(default)]
    loss: bool,
}

impl TryFrom<RawSegment> for Segment {
    type Error = String;

    fn try_from(raw: RawSegment) -> std::result::Result<Self, String> {
        let what = match (raw.text, raw.token, raw.turn, raw.system) {
            (Some(text), None, false, false) => What::Text(text),
            (Some(text), None, false, true) => What::System(text),
            (None, Some(token), false, false) => What::Token(token),
            (None, None, true, false) => What::Turn,
            _ => return Err("a segment has exactly one of `text = \"..\"`, `token = \"..\"`, `turn = true`".into()),
        };
        Ok(Segment { what, loss: raw.loss })
    }
}

impl Template {
    /// The preset template with this name.
    ///
    /// # Errors
    /// `Missing` for an unknown name, `Option` or `Decode` for a preset that is not a template.
    pub fn load(presets: &Presets, name: &str) -> Result<Self> {
        let preset: Preset = presets.get(PresetKind::Templates, name)?;
        for (part, segments) in [("question", &preset.question), ("answer", &preset.answer)] {
            let turns = segments.iter().filter(|segment| matches!(segment.what, What::Turn)).count();
            if turns != 1 {
                bail!(Option, "template `{name}`: `{part}` has {turns} segments `turn = true`, not one");
            }
        }
        if !preset.answer.iter().any(|segment| segment.loss) {
            return Err(error!(Option, "template `{name}`: no segment of `answer` has `loss = true`")
                .help("nothing would be learned from it"));
        }
        Ok(Template(Arc::new(TemplateParts { name: name.to_string(), preset, quirks: false })))
    }

    /// The preset's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The same template with prompts that end as in the reference's released evaluation.
    pub fn with_reference_quirks(&self) -> Self {
        let mut parts = TemplateParts::clone(&self.0);
        parts.quirks = true;
        Template(Arc::new(parts))
    }

    /// Whether prompts end that way.
    pub fn has_reference_quirks(&self) -> bool {
        self.0.quirks
    }

    /// Whether it is for captions (stage 1): a picture and its caption, without a question.
    pub fn is_for_captions(&self) -> bool {
        self.0.preset.caption
    }

    /// Renders a conversation for training: text, ids and labels in one pass. Turns are normalized as in the reference
    /// (markers collapse into one at the front of their turn); a first turn from `gpt` and a last question
    /// without an answer are dropped. An answer that is not supervised has no labels.
    ///
    /// # Errors
    /// `Data` for roles that do not alternate, an empty answer, no answer at all, a system text that the template has no
    /// place for, or (with a caption template) other than one round with an image; `Option` for a special token the
    /// tokenizer lacks.
    pub fn render(&self, tokenizer: &Tokenizer, turns: &[Turn]) -> Result<Rendered> {
        self.render_about(tokenizer, turns, 1)
    }

    /// The same with the number of pictures. With several, a turn's markers keep their positions, as in LLaVA-NeXT
    /// (`train.py`, `preprocess_multimodal`): there they say which picture is meant.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_about(&self, tokenizer: &Tokenizer, turns: &[Turn], images: usize) -> Result<Rendered> {
        let (system, turns) = (opened(turns).0, numbered(turns)?);
        let rounds: Vec<_> = turns.chunks_exact(2).map(|round| (round[0], round[1])).collect();
        if rounds.is_empty() {
            bail!(Data, "no answered turn: a sample needs a question from `human` and an answer from `gpt`");
        }
        let preset = &self.0.preset;
        self.check_caption(&rounds)?;
        let mut builder = Builder::new(tokenizer);
        self.start(&mut builder, system)?;
        for ((_, question), (number, answer)) in rounds {
            if answer.value.is_empty() {
                return Err(error!(Data, "turn {number} is an empty answer")
                    .help("an answer needs at least one character; leave the sample out or answer it"));
            }
            let question = if preset.caption { IMAGE_MARKER.to_string() } else { normalized(&question.value, images) };
            self.put(&mut builder, &preset.question, &question, true)?;
            self.put(&mut builder, &preset.header, "", true)?;
            self.put(&mut builder, &preset.answer, &normalized(&answer.value, images), answer.supervised)?;
        }
        self.put(&mut builder, &preset.end, "", true)?;
        builder.finish()
    }

    /// The ids to generate from: the turns as they are, the last one a question, then the header of an answer.
    ///
    /// # Errors
    /// `Data` for roles that do not alternate or a last turn from `gpt`; `Option` for a special token the
    /// tokenizer lacks.
    pub fn prompt(&self, tokenizer: &Tokenizer, turns: &[Turn]) -> Result<Vec<i64>> {
        let (system, turns) = (opened(turns).0, numbered(turns)?);
        if turns.len() % 2 == 0 {
            return Err(
                error!(Data, "there is no question to answer").help("the last turn of a prompt is from `human`")
            );
        }
        let preset = &self.0.preset;
        let mut builder = Builder::new(tokenizer);
        self.start(&mut builder, system)?;
        for round in turns.chunks(2) {
            self.put(&mut builder, &preset.question, &round[0].1.value, true)?;
            let Some((_, answer)) = round.get(1) else { break };
            self.put(&mut builder, &preset.header, "", true)?;
            self.put(&mut builder, &preset.answer, &answer.value, true)?;
        }
        let header = preset.reference_header.as_ref().filter(|_| self.0.quirks).unwrap_or(&preset.header);
        self.put(&mut builder, header, "", true)?;
        Ok(builder.finish()?.ids)
    }

    /// The ids of an answer as they follow the prompt of its question, without the end of the answer: those that training
    /// would have there.
    ///
    /// # Errors
    /// As [`prompt`](Self::prompt), and `Data` for an answer without text.
    pub fn answer_ids(&self, tokenizer: &Tokenizer, question: &Turn, answer: &str) -> Result<Vec<u32>> {
        let prompt = self.prompt(tokenizer, std::slice::from_ref(question))?;
        let after = |answer: &str| -> Result<Vec<i64>> {
            let turns = [question.clone(), Turn::gpt(answer), Turn::human("")];
            let ids = self.prompt(tokenizer, &turns)?;
            let known = ids.iter().zip(&prompt).take_while(|(a, b)| a == b).count();
            Ok(ids[known..].to_vec())
        };
        // Two answers that end differently have only the end of an answer in common.
        let (ids, other) = (after(answer)?, after(if answer.ends_with('A') { "B" } else { "A" })?);
        let end = ids.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
        let ids: Vec<u32> = ids[..ids.len() - end].iter().filter_map(|id| u32::try_from(*id).ok()).collect();
        if ids.is_empty() {
            bail!(Data, "template `{}`: the answer {answer:?} has no tokens", self.name());
        }
        Ok(ids)
    }

    /// The special tokens that end an answer, as far as the tokenizer has them.
    pub fn stop_ids(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        self.0.preset.stop_tokens.iter().filter_map(|token| tokenizer.token_id(token)).collect()
    }

    /// The plain texts that end an answer.
    pub fn stop_texts(&self) -> &[String] {
        &self.0.preset.stop_texts
    }

    /// The tokens and text that follow every supervised answer and are supervised with it.
    pub fn answer_end(&self) -> AnswerEnd {
        let mut end = AnswerEnd::default();
        let after = self.0.preset.answer.iter().skip_while(|segment| !matches!(segment.what, What::Turn));
        for segment in after.filter(|segment| segment.loss) {
            match &segment.what {
                What::Token(token) => end.tokens.push(token.clone()),
                What::Text(text) => end.text.push_str(text),
                What::Turn | What::System(_) => {}
            }
        }
        end
    }

    /// Checks that the tokenizer has every special token of the template, and the embedding a row for it.
    ///
    /// # Errors
    /// `Option`, naming the template, the tokenizer and the tokens that are missing.
    pub fn check(&self, tokenizer: &Tokenizer) -> Result<()> {
        let preset = &self.0.preset;
        let parts = [&preset.start, &preset.question, &preset.header, &preset.answer, &preset.end];
        let mut missing: Vec<String> = Vec::new();
        let mut rowless = false;
        for segment in parts.into_iter().flatten() {
            if let What::Token(token) = &segment.what
                && !tokenizer.token_id(token).is_some_and(|id| tokenizer.has_row(id))
                && !missing.iter().any(|known| known.contains(token.as_str()))
            {
                missing.push(format!("`{token}`"));
                rowless |= tokenizer.token_id(token).is_some();
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.join(", ");
        let without = if rowless { " or the embedding has no row for" } else { "" };
        let of = format!("tokenizer `{}` lacks{without}", tokenizer.name());
        Err(error!(Option, "template `{}` needs {missing}, which {of}", self.name())
            .help("take the template the LLM was trained with, or `tiny`, which is plain text only"))
    }

    /// The segments before the turns, with the conversation's own system text where it has one.
    fn start(&self, builder: &mut Builder, system: Option<&str>) -> Result<()> {
        let start = &self.0.preset.start;
        let Some(system) = system else { return self.put(builder, start, "", true) };
        let own = if self.0.preset.trim { trimmed(system) } else { system };
        let Some(slot) = start.iter().position(|segment| matches!(segment.what, What::System(_))) else {
            return Err(error!(
                Data,
                "template `{}` has no place for a system text, and the conversation has one",
                self.name()
            )
            .help("leave `system` out, put it before the first question, or take another `template`"));
        };
        self.put(builder, &start[..slot], "", true)?;
        builder.text(own, start[slot].loss);
        self.put(builder, &start[slot + 1..], "", true)
    }

    /// Adds segments; those for which `supervised` is false have no labels.
    fn put(&self, builder: &mut Builder, segments: &[Segment], turn: &str, supervised: bool) -> Result<()> {
        for segment in segments {
            let loss = segment.loss && supervised;
            match &segment.what {
                What::Text(text) | What::System(text) => builder.text(text, loss),
                What::Token(token) => {
                    builder.token(token, loss).context(|| format!("template `{}`", self.name()))?;
                }
                What::Turn if self.0.preset.trim => builder.turn(trimmed(turn), loss)?,
                What::Turn => builder.turn(turn, loss)?,
            }
        }
        Ok(())
    }

    fn check_caption(&self, rounds: &[(Numbered, Numbered)]) -> Result<()> {
        let name = self.name();
        match rounds {
            _ if !self.0.preset.caption => Ok(()),
            [(_, _), _, ..] => {
                Err(error!(Data, "template `{name}` takes one question and one answer, not {} rounds", rounds.len())
                    .help("conversations are for stage 2 and its templates"))
            }
            [((number, question), _)] if !question.value.contains(IMAGE_MARKER) => {
                Err(error!(Data, "template `{name}` captions an image, but turn {number} has no {IMAGE_MARKER}"))
            }
            _ => Ok(()),
        }
    }
}

/// A turn and its number in the sample, from 1.
type Numbered<'a> = (usize, &'a Turn);

/// The turns from the first `human` one on, checked to alternate.
fn numbered(turns: &[Turn]) -> Result<Vec<Numbered<'_>>> {
    let before = turns.len() - opened(turns).1.len();
    let turns: Vec<Numbered> = turns.iter().enumerate().skip(before).map(|(index, turn)| (index + 1, turn)).collect();
    let expected = [Role::Human, Role::Gpt].into_iter().cycle();
    match turns.iter().zip(expected).find(|((_, turn), role)| turn.role != *role) {
        Some(((number, turn), role)) => Err(disorder(*number, turn.role, role)),
        None => Ok(turns),
    }
}

fn disorder(number: usize, found: Role, expected: Role) -> Error {
    error!(Data, "turn {number} is from `{}`, not from `{}`", found.name(), expected.name())
        .help("`human` and `gpt` take turns")
}

/// The reference's `preprocess_multimodal`: all markers of a turn become one, at its front, on a line of its own. In a
/// conversation about several pictures this applies only to a marker that is alone in its turn.
fn normalized(value: &str, images: usize) -> String {
    let markers = value.matches(IMAGE_MARKER).count();
    if markers == 0 || images > 1 && markers > 1 {
        return value.to_string();
    }
    let rest = value.replace(IMAGE_MARKER, "");
    trimmed(&format!("{IMAGE_MARKER}\n{}", trimmed(&rest))).to_string()
}

/// Python's `str.strip`, which also counts the separators U+001C to U+001F as white space.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}
