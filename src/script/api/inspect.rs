//! Looking at data sets before training on them: counts, faults, label masks, single samples.

use rhai::plugin::*;
use rhai::{Array, Map, NativeCallContext};

use super::Fallible;
use super::data::position;
use super::findings::{Rendering, lengths_of, masks_of, stats_of, verify_of, walk};
use crate::data::Sample;
use crate::error::Result;
use crate::image::Image;
use crate::script::convert::Options;
use crate::script::handles::{DatasetHandle, TableHandle, VlmHandle};
use crate::script::options::{CHECK_MASKS, VERIFY};
use crate::script::state::State;
use crate::show::{Caption, Figure, Mark, Painted, Picture, Span, Tone};
use crate::text::{IGNORE, IMAGE_ID};
use crate::vlm::Vlm;

/// The picture of a sample, and its conversation token by token.
fn sample_shown(sample: &Sample, m: &Vlm) -> Result<(Option<Figure>, Painted)> {
    let rendered = m.template().render_about(m.tokenizer()?, &sample.turns, sample.images.len())?;
    let mut painted = Painted::default();
    // Tokens that are part of a character wait for the rest; the one before shows where spaces go.
    let (mut before, mut waiting): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
    for (index, (&id, &label)) in rendered.ids.iter().zip(&rendered.labels).enumerate() {
        if id == IMAGE_ID {
            let hint = format!("{} positions", m.image_tokens());
            painted.spans.push(Span { text: "<image>".to_string(), tone: Tone::Mark, hint });
            (before, waiting) = (Vec::new(), Vec::new());
            continue;
        }
        let Ok(token) = u32::try_from(id) else { continue };
        waiting.push(token);
        let text = token_text(m, &before, &waiting)?;
        let last = rendered.labels.get(index + 1).is_none_or(|next| (*next == IGNORE) != (label == IGNORE));
        if text.ends_with('\u{fffd}') && waiting.len() < 4 && !last {
            continue;
        }
        let tone = if label == IGNORE { Tone::Quiet } else { Tone::Strong };
        let hint = waiting.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        painted.spans.push(Span { text, tone, hint });
        before = std::mem::take(&mut waiting);
    }
    let supervised = rendered.labels.iter().filter(|label| **label != IGNORE).count();
    painted.note = format!("sample {}: {supervised} of {} positions supervised", sample.id, m.positions(&rendered));
    let figure = match sample.open_images() {
        Ok(images) if images.is_empty() => None,
        Ok(images) => {
            let picture = |image: &Image| Picture::new(image.width, image.height, image.pixels.to_vec());
            let pictures = images.iter().map(picture).collect::<Result<Vec<_>>>()?;
            let captions = vec![Caption { text: sample.id.clone(), mark: Mark::None }; pictures.len()];
            Some(Figure::gallery(&pictures, &captions, "")?)
        }
        // The rest of the sample is worth seeing then more than ever.
        Err(error) => {
            painted.note.push_str(&format!("\n{}", error.message()));
            None
        }
    };
    Ok((figure, painted))
}

/// What tokens add to the text of those before them; special tokens as they are spelled.
fn token_text(m: &Vlm, before: &[u32], tokens: &[u32]) -> Result<String> {
    let tokenizer = m.tokenizer()?;
    let known = tokenizer.decode(before)?;
    let all = tokenizer.decode(&[before, tokens].concat())?;
    match all.strip_prefix(&known) {
        Some("") => Ok(tokens.iter().filter_map(|id| tokenizer.token(*id)).collect()),
        Some(text) => Ok(text.to_string()),
        None => tokenizer.decode(tokens),
    }
}

#[export_module]
pub mod inspect {
    /// Counts: samples, pictures, turns, words, and how long samples are.
    ///
    /// ```rhai
    /// show(dataset("tiny-instruct").take(100).stats());
    /// ```
    #[rhai_fn(name = "stats", return_raw)]
    pub fn stats(context: NativeCallContext, d: DatasetHandle) -> Fallible<TableHandle> {
        Ok(TableHandle(stats_of(&State::of(&context)?, &d)?))
    }

    /// Words of every sample, negative for those without a picture: what `group_by_modality` sorts by.
    ///
    /// ```rhai
    /// hist(dataset("tiny-instruct").take(100).lengths()).save("target/example-lengths.png");
    /// ```
    #[rhai_fn(name = "lengths", return_raw)]
    pub fn lengths(context: NativeCallContext, d: DatasetHandle) -> Fallible<Array> {
        Ok(lengths_of(&d.0, None, &walk(&State::of(&context)?, "lengths"))?)
    }

    /// Positions of every sample in a model: its tokens, and those of its picture.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// print(dataset("tiny-instruct").take(3).lengths(m));
    /// ```
    #[rhai_fn(name = "lengths", return_raw)]
    pub fn lengths_in(context: NativeCallContext, d: DatasetHandle, m: VlmHandle) -> Fallible<Array> {
        Ok(lengths_of(&d.0, Some(&m.0), &walk(&State::of(&context)?, "lengths"))?)
    }

    /// Decodes every picture and reads every turn: a row for each kind of fault, with counts and the first ids.
    ///
    /// ```rhai
    /// let found = dataset("tiny-emoji").take(20).verify();
    /// show(found);
    /// print(found.rows.len());  // 0
    /// ```
    #[rhai_fn(name = "verify", return_raw)]
    pub fn verify(context: NativeCallContext, d: DatasetHandle) -> Fallible<TableHandle> {
        Ok(TableHandle(verify_of(&State::of(&context)?, &d, None)?))
    }

    /// The same, and what a model finds: samples its template refuses, samples longer than `max_length`.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// show(dataset("tiny-instruct").take(20).verify(m));
    /// ```
    #[rhai_fn(name = "verify", return_raw)]
    pub fn verify_in(context: NativeCallContext, d: DatasetHandle, m: VlmHandle) -> Fallible<TableHandle> {
        verify_with(context, d, m, Map::new())
    }

    /// The same with options, as a trainer would have them.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// let found = dataset("tiny-instruct").take(20).verify(m, #{ template: "tiny", max_length: 30 });
    /// print(found.rows[0].found);  // longer than max_length
    /// ```
    #[rhai_fn(name = "verify", return_raw)]
    pub fn verify_with(
        context: NativeCallContext,
        d: DatasetHandle,
        m: VlmHandle,
        options: Map,
    ) -> Fallible<TableHandle> {
        let state = State::of(&context)?;
        let rendering = Rendering::new(&state, m, &Options::new(options, &VERIFY)?)?;
        Ok(TableHandle(verify_of(&state, &d, Some(&rendering))?))
    }

    /// Proves the label masks of the whole set: in every sample something is supervised, every answer with what ends it, and
    /// nothing else. What is supervised is read back from the ids and compared with the answers.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// show(dataset("tiny-instruct").take(20).check_masks(m));
    /// ```
    #[rhai_fn(name = "check_masks", return_raw)]
    pub fn check_masks(context: NativeCallContext, d: DatasetHandle, m: VlmHandle) -> Fallible<TableHandle> {
        check_masks_with(context, d, m, Map::new())
    }

    /// The same with options, as a trainer would have them.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// show(dataset("tiny-emoji").take(20).check_masks(m, #{ template: "plain" }));
    /// ```
    #[rhai_fn(name = "check_masks", return_raw)]
    pub fn check_masks_with(
        context: NativeCallContext,
        d: DatasetHandle,
        m: VlmHandle,
        options: Map,
    ) -> Fallible<TableHandle> {
        let state = State::of(&context)?;
        let rendering = Rendering::new(&state, m, &Options::new(options, &CHECK_MASKS)?)?;
        Ok(TableHandle(masks_of(&state, &d, &rendering)?))
    }

    /// Shows a sample, by position or id: its picture, and its text with what is supervised in color, or in [brackets].
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// dataset("tiny-instruct").show(0, m);
    /// ```
    #[rhai_fn(name = "show", return_raw)]
    pub fn show(context: NativeCallContext, d: DatasetHandle, which: Dynamic, m: VlmHandle) -> Fallible<()> {
        let state = State::of(&context)?;
        let sample = d.0.get(position(&d, &which)?)?;
        let (figure, painted) = sample_shown(&sample, &m.0)?;
        if let Some(figure) = figure {
            state.output().figure(&figure, &sample.id);
        }
        state.output().painted(&painted);
        Ok(())
    }
}
