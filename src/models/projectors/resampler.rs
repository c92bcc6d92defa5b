//! `resampler`: learned queries look at all features of a picture and become its visual tokens, however many features there
//! are. Source: the perceiver resampler of Flamingo (arXiv 2204.14198, appendix A.1.1) as OpenFlamingo 2.0.1 has it
//! (`helpers.py`), with its names of tensors; the encoder's width throughout, keys and values from the features and the
//! queries together, heads of 64, no biases but those of the norms. `output`, a Linear with bias, leads to the LLM's width.
//! Weights of OpenFlamingo fit where `heads`, `layers` and widths agree and `output` is added.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::{Features, Kind, Number, Projector, ProjectorChoice, TOKENS, VisualTokens};
use crate::error;
use crate::nn::linear::Linear;
use crate::nn::norm::LayerNorm;
use crate::nn::ops::{self, Attention, Gelu, Segment};
use crate::weights::{Builder, Init, Param};

/// The entry of the table.
pub(super) const RESAMPLER: Kind = Kind {
    shown: "`resampler`",
    is: |name| name == "resampler",
    numbers: &[
        Number::new(TOKENS, 64, 65_536, "of a resampler: its learned queries, the visual tokens of a picture"),
        Number::new(LAYERS, 2, 64, "of a resampler: blocks of cross-attention and MLP"),
        Number::new(HEADS, 8, 256, "of a resampler: attention heads of 64 values each"),
    ],
    build: resampler,
};

const LAYERS: &str = "layers";
const HEADS: &str = "heads";
/// Width of a head, and how much wider the MLP is than what goes in: OpenFlamingo's `dim_head` and `ff_mult`.
const HEAD_DIM: usize = 64;
const MLP_FACTOR: usize = 4;
/// That of torch's LayerNorm.
const EPS: f64 = 1e-5;

struct Resampler {
    /// (tokens, width)
    latents: Arc<Param>,
    layers: Vec<Layer>,
    norm: LayerNorm,
    output: Linear,
    tokens: usize,
    attention: Attention,
}

/// Cross-attention and an MLP, each added to the latents.
struct Layer {
    features_norm: LayerNorm,
    latents_norm: LayerNorm,
    q: Linear,
    kv: Linear,
    o: Linear,
    mlp_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

fn resampler(
    choice: &ProjectorChoice,
    features: Features,
    output: usize,
    builder: &Builder,
) -> error::Result<Box<dyn Projector>> {
    let (tokens, heads, width) = (choice.number(TOKENS), choice.number(HEADS), features.width);
    let layers = (0..choice.number(LAYERS))
        .map(|layer| Layer::new(&builder.pp("layers").pp(layer), width, heads * HEAD_DIM))
        .collect::<error::Result<_>>()?;
    Ok(Box::new(Resampler {
        latents: builder.param("latents", &[tokens, width], Init::Normal(1.0))?,
        layers,
        norm: LayerNorm::new(&builder.pp("norm"), width, EPS)?,
        output: linear(&builder.pp("output"), width, output, true)?,
        tokens,
        attention: Attention {
            heads,
            kv_heads: heads,
            head_dim: HEAD_DIM,
            scale: (HEAD_DIM as f64).powf(-0.5),
            causal: false,
            softcap: None,
            window: None,
        },
    }))
}

fn linear(builder: &Builder, input: usize, output: usize, bias: bool) -> error::Result<Linear> {
    Linear::new(builder, input, output, bias, Init::Uniform((input as f64).powf(-0.5)))
}

impl Layer {
    /// `inner` is the width of all heads together.
    fn new(builder: &Builder, width: usize, inner: usize) -> error::Result<Self> {
        let (attention, mlp) = (builder.pp(0), builder.pp(1));
        Ok(Layer {
            features_norm: LayerNorm::new(&attention.pp("norm_media"), width, EPS)?,
            latents_norm: LayerNorm::new(&attention.pp("norm_latents"), width, EPS)?,
            q: linear(&attention.pp("to_q"), width, inner, false)?,
            kv: linear(&attention.pp("to_kv"), width, 2 * inner, false)?,
            o: linear(&attention.pp("to_out"), inner, width, false)?,
            mlp_norm: LayerNorm::new(&mlp.pp(0), width, EPS)?,
            fc1: linear(&mlp.pp(1), width, MLP_FACTOR * width, false)?,
            fc2: linear(&mlp.pp(3), MLP_FACTOR * width, width, false)?,
        })
    }

    /// features (images, features, width) and latents (images, tokens, width) -> latents of the same shape
    fn forward(
        &self,
        features: &Tensor,
        latents: &Tensor,
        attention: &Attention,
        segments: &Arc<[Segment]>,
    ) -> Result<Tensor> {
        let inner = attention.heads * attention.head_dim;
        let x = self.latents_norm.forward(latents)?;
        let seen = Tensor::cat(&[&self.features_norm.forward(features)?, &x], 1)?; // (images, features + tokens, width)
        let q = self.q.forward(&x.flatten_to(1)?)?; // (images * tokens, inner)
        let kv = self.kv.forward(&seen.flatten_to(1)?)?; // (images * (features + tokens), 2 * inner)
        let (k, v) = (kv.narrow(1, 0, inner)?, kv.narrow(1, inner, inner)?);
        let mixed = ops::attention(&q, &k, &v, attention, segments)?;
        let latents = (latents + self.o.forward(&mixed)?.reshape(latents.shape())?)?;
        let x = self.fc1.forward(&self.mlp_norm.forward(&latents)?)?; // (images, tokens, 4 * width)
        &latents + self.fc2.forward(&ops::gelu(&x, Gelu::Erf)?)?
    }
}

impl Projector for Resampler {
    fn project(&self, features: &Tensor) -> Result<Tensor> {
        let (images, count, width) = features.dims3()?;
        let (tokens, seen) = (self.tokens, count + self.tokens);
        let segments: Arc<[Segment]> = (0..images)
            .map(|image| Segment {
                q: image * tokens..(image + 1) * tokens,
                prefix: 0..0,
                k: image * seen..(image + 1) * seen,
            })
            .collect();
        // (images, tokens, width)
        let mut latents = self.latents.tensor()?.unsqueeze(0)?.broadcast_as((images, tokens, width))?.contiguous()?;
        for layer in &self.layers {
            latents = layer.forward(features, &latents, &self.attention, &segments)?;
        }
        self.output.forward(&self.norm.forward(&latents)?)
    }

    fn tokens(&self) -> VisualTokens {
        VisualTokens::Free(self.tokens)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::models::projectors::projector;
    use crate::models::registry::{Built, Target};
    use crate::rng::Rng;
    use crate::weights::Source;

    const IMAGES: usize = 2;
    const COUNT: usize = 5;
    const WIDTH: usize = 6;
    const OUTPUT: usize = 4;

    fn built(dtype: DType) -> Built<dyn Projector> {
        let choice = ProjectorChoice::new("resampler").unwrap();
        let choice = [(TOKENS, 3), (LAYERS, 2), (HEADS, 2)].iter().fold(choice, |c, (k, v)| c.with(k, *v).unwrap());
        let features = Features { tokens: VisualTokens::Free(COUNT), width: WIDTH };
        let target = Target { dtype, device: Device::Cpu, quantize: None };
        projector(&choice, features, OUTPUT, Source::Random { seed: 3 }, &target).unwrap()
    }

    fn values(name: &str, shape: (usize, usize, usize), dtype: DType) -> Tensor {
        let rng = Rng::new(7, name);
        let values: Vec<f64> = (0..shape.0 * shape.1 * shape.2).map(|i| rng.normal(i as u64)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
    }

    /// A fixed random weighting of what comes out.
    fn loss(built: &Built<dyn Projector>, dtype: DType) -> Tensor {
        let result = built.model.project(&values("features", (IMAGES, COUNT, WIDTH), dtype)).unwrap();
        (result * values("weights", (IMAGES, 3, OUTPUT), dtype)).unwrap().sum_all().unwrap()
    }

    fn flat(tensor: &Tensor) -> Vec<f64> {
        tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn gradients_of_every_parameter_are_its_slopes() {
        let (exact, ours) = (built(DType::F64), built(DType::F32));
        for built in [&exact, &ours] {
            built.params.set_trainable(true).unwrap();
        }
        let stores = [&exact, &ours].map(|built| {
            let dtype = built.params.iter().next().unwrap().dtype();
            loss(built, dtype).backward().unwrap()
        });
        let value = || loss(&exact, DType::F64).to_scalar::<f64>().unwrap();
        for (param, single) in exact.params.iter().zip(ours.params.iter()) {
            let name = param.name();
            let gradient = flat(stores[0].get(&param.tensor().unwrap()).unwrap());
            let largest = gradient.iter().fold(0f64, |most, value| most.max(value.abs()));
            assert!(largest > 1e-4, "{name}: {largest:e}");
            let fused = flat(stores[1].get(&single.tensor().unwrap()).unwrap());
            let worst = gradient.iter().zip(&fused).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 2e-5 * largest.max(1.0), "{name}: f32 is off by {worst:e} of {largest:e}");
            let (before, shape) = (flat(&param.tensor().unwrap()), param.tensor().unwrap().shape().clone());
            for place in (0..gradient.len()).step_by((gradient.len() / 4).max(1)) {
                let at = |step: f64| {
                    let mut moved = before.clone();
                    moved[place] += step;
                    param.assign(&Tensor::from_vec(moved, &shape, &Device::Cpu).unwrap()).unwrap();
                    value()
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                at(0.0);
                let off = (slope - gradient[place]).abs();
                assert!(off < 1e-6 * largest.max(1.0), "{name}[{place}]: slope {slope}, gradient {}", gradient[place]);
            }
        }
    }

    #[test]
    fn a_picture_is_seen_alone_and_whole() {
        let built = built(DType::F32);
        let features = values("features", (IMAGES, COUNT, WIDTH), DType::F32);
        let both = built.model.project(&features).unwrap();
        assert_eq!((both.dims(), built.model.tokens()), (&[IMAGES, 3, OUTPUT][..], VisualTokens::Free(3)));
        for image in 0..IMAGES {
            let alone = built.model.project(&features.narrow(0, image, 1).unwrap()).unwrap();
            assert_eq!(flat(&alone), flat(&both.narrow(0, image, 1).unwrap()), "picture {image}");
        }
        // A set of features: their order says nothing, each of them something.
        let turned = features.index_select(&Tensor::new(&[4u32, 2, 0, 1, 3], &Device::Cpu).unwrap(), 1).unwrap();
        let same = flat(&built.model.project(&turned).unwrap());
        assert!(flat(&both).iter().zip(&same).all(|(a, b)| (a - b).abs() < 1e-5));
        let fewer = flat(&built.model.project(&features.narrow(1, 0, COUNT - 1).unwrap()).unwrap());
        assert!(flat(&both).iter().zip(&fewer).any(|(a, b)| (a - b).abs() > 1e-3));
    }
}
