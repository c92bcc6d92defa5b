//! Where a model looks: the attention of one position of a prompt on the visual tokens. The fused pass keeps no
//! probabilities, so those of the one row are computed anew from the queries and keys of each layer.

use candle_core::{D, DType};

use super::Vlm;
use super::generate::{Piece, Stops, pieces};
use super::splice::embed;
use crate::error::Result;
use crate::image::Image;
use crate::models::projectors::VisualTokens;
use crate::nn::packing::Packing;
use crate::show::Picture;
use crate::text::{Turn, with_image_marks};
use crate::{bail, error};

/// From where, and in which layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looking {
    /// From 0, or from -1 backwards; without one, the mean over all layers.
    pub layer: Option<i64>,
    /// Which token of the greedy answer: the position that predicts it looks. 0 is the last position of the prompt.
    pub token: usize,
}

/// What one position looks at, the mean over heads.
pub struct AttentionMap {
    /// Rows and columns of the places that `values` are of; none where the visual tokens stand for no places.
    pub grid: Option<(usize, usize)>,
    /// The share of each visual token: of those of the grid, row by row, where there is one.
    pub values: Vec<f32>,
    /// The share of every position up to the one that looks; they sum to 1.
    pub positions: Vec<f32>,
    /// What the tower saw of the picture: resized, cropped or padded.
    pub picture: Picture,
}

impl AttentionMap {
    /// How much of the attention is on the picture; the rest is on the text.
    pub fn share(&self) -> f64 {
        self.values.iter().map(|value| f64::from(*value)).sum()
    }

    /// The picture under the map.
    ///
    /// # Errors
    /// `Option` where the visual tokens stand for no places in the picture.
    pub fn overlay(&self) -> Result<Picture> {
        match self.grid {
            Some(grid) => self.picture.under_heat(grid, &self.values),
            None => Err(error!(
                Option,
                "the {} visual tokens of this model stand for no places in the picture, so attention on them is no map",
                self.values.len()
            )
            .help("a projector that keeps the grid of patches has a map, pooled or not: `projector(\"mlp2x_gelu\")`")),
        }
    }
}

impl Vlm {
    /// What the LLM looks at in a picture when it is asked a question.
    ///
    /// # Errors
    /// `Option` for a layer that is not there or a token after the end of the answer; `Data` when the question has other
    /// marks than one or does not fit the context.
    pub fn attention(&self, image: &Image, question: &str, looking: Looking) -> Result<AttentionMap> {
        self.llm.ready()?;
        self.freeze()?;
        let layers = self.layers(looking.layer)?;
        let ids = self.template().prompt(self.tokenizer()?, &[Turn::human(with_image_marks(question, 1))])?;
        let pixels = self.encoder.pixels(image, self.aspect())?; // (3, height, width)
        let visual = self.projector.project(&self.encoder.encode(&pixels.unsqueeze(0)?)?)?.squeeze(0)?; // (tokens, LLM width)
        let mut prompt = pieces(&ids, &[visual])?;
        self.go_on(&mut prompt, looking.token)?;
        let positions = self.looked_at(&prompt, layers)?;
        let before = prompt.iter().take_while(|piece| !matches!(piece, Piece::Image(_))).count();
        let (grid, extra) = match self.projector.visual_tokens() {
            VisualTokens::Grid { extra, rows, columns } => (Some((rows, columns)), extra),
            VisualTokens::Free(_) => (None, 0),
        };
        let values = positions[before + extra..before + self.image_tokens()].to_vec();
        Ok(AttentionMap { grid, values, positions, picture: self.encoder.seen(&pixels)? })
    }

    /// The layers that are meant.
    fn layers(&self, layer: Option<i64>) -> Result<std::ops::Range<usize>> {
        let all = self.llm.model.spec().layers;
        let Some(layer) = layer else { return Ok(0..all) };
        let place = if layer < 0 { layer + all as i64 } else { layer };
        match usize::try_from(place) {
            Ok(place) if place < all => Ok(place..place + 1),
            _ => Err(error!(Option, "LLM `{}` has no layer {layer}, it has {all}", self.llm.id)
                .help(format!("layers are 0 to {}, or -1 for the last", all - 1))),
        }
    }

    /// Adds the first `tokens` tokens of the greedy answer to a prompt.
    fn go_on(&self, prompt: &mut Vec<Piece>, tokens: usize) -> Result<()> {
        let (length, context) = (rows(prompt), self.llm.context());
        if length + tokens > context {
            bail!(
                Data,
                "a prompt of {length} positions and {tokens} of the answer do not fit the context of {context}"
            );
        }
        let stops = Stops::new(&self.template(), self.tokenizer()?, &self.llm.end_ids);
        let mut made = Vec::new();
        while made.len() < tokens {
            let packing = Packing::whole(&[rows(prompt)]).with_rows(vec![rows(prompt) as u32 - 1]);
            let hidden = self.llm.model.hidden(&embed(&self.llm, &[prompt])?, &packing, None)?; // (1, width)
            let id = self.llm.model.logits(&hidden)?.argmax(D::Minus1)?.to_vec1::<u32>()?[0];
            made.push(id);
            let text = self.tokenizer()?.decode(&made)?;
            if stops.ids.contains(&id) || stops.texts.iter().any(|stop| text.contains(stop)) {
                let last = made.len() - 1;
                return Err(error!(Option, "the answer ends with token {last}, there is no token {tokens}")
                    .help(format!("`token` is 0 to {last}")));
            }
            prompt.push(Piece::Token(id));
        }
        Ok(())
    }

    /// Shares of all positions of a prompt, seen from its last one: the mean over layers and heads.
    fn looked_at(&self, prompt: &[Piece], layers: std::ops::Range<usize>) -> Result<Vec<f32>> {
        let packing = Packing::whole(&[rows(prompt)]);
        let forward = self.llm.model.forward(&packing, None)?;
        let mut hidden = forward.enter(&embed(&self.llm, &[prompt])?)?; // (positions, width)
        let mut sums = vec![0f32; packing.tokens()];
        for layer in 0..layers.end {
            if layers.contains(&layer) {
                let heads = forward.attention(layer, &hidden, packing.tokens() - 1)?; // (heads, positions)
                let mean = heads.to_dtype(DType::F32)?.mean(0)?.to_vec1::<f32>()?;
                sums.iter_mut().zip(mean).for_each(|(sum, share)| *sum += share / layers.len() as f32);
            }
            if layer + 1 < layers.end {
                hidden = forward.block(layer, &hidden)?;
            }
        }
        Ok(sums)
    }
}

fn rows(prompt: &[Piece]) -> usize {
    prompt.iter().map(Piece::rows).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::registry::Target;
    use crate::preset::Presets;

    fn model() -> Vlm {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/training/checkpoint");
        super::super::checkpoint::load(&Presets::default(), &folder, None, &Target::cpu()).unwrap()
    }

    fn picture() -> Image {
        Image::filled(40, 40, [200, 30, 30])
    }

    #[test]
    fn shares_sum_to_one_and_the_mean_is_over_layers() {
        let vlm = model();
        let ask = |layer, token| vlm.attention(&picture(), "Is it red?", Looking { layer, token }).unwrap();
        let mean = ask(None, 0);
        assert!((mean.positions.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(mean.grid.is_some_and(|(rows, columns)| rows * columns == mean.values.len()));
        assert!(mean.share() > 0.0 && mean.share() < 1.0);
        let layers = vlm.llm.model.spec().layers;
        let each: Vec<AttentionMap> = (0..layers).map(|layer| ask(Some(layer as i64), 0)).collect();
        for (place, share) in mean.positions.iter().enumerate() {
            let of_layers = each.iter().map(|map| map.positions[place]).sum::<f32>() / layers as f32;
            assert!((share - of_layers).abs() < 1e-6);
        }
        assert_eq!(ask(Some(-1), 0).positions, each[layers - 1].positions);
        assert_eq!(mean.overlay().unwrap().width, mean.picture.width);
        let error = vlm.attention(&picture(), "Is it red?", Looking { layer: Some(99), token: 0 }).err().unwrap();
        assert!(error.help_text().is_some_and(|help| help.contains("-1 for the last")), "{error}");
    }

    #[test]
    fn a_later_token_sees_the_tokens_before_it() {
        let vlm = model();
        let ask = |token| vlm.attention(&picture(), "Is it red?", Looking { layer: None, token });
        let (first, second) = (ask(0).unwrap(), ask(1).unwrap());
        assert_eq!(second.positions.len(), first.positions.len() + 1);
        // An answer ends at some time, or fills the context.
        assert!(ask(100_000).is_err());
    }
}
