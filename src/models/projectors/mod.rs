//! Projectors: they turn the visual features of each picture into visual tokens of the LLM's width. A kind is a file here and
//! its line in [`KINDS`]; what scripts choose and what config.json says of it is a [`ProjectorChoice`]. The option `pool`
//! stands in front of every kind that does not choose the number of its tokens itself.

mod choice;
mod identity;
mod mlp;
pub mod pool;
mod resampler;

use candle_core::{Result, Tensor};

pub use choice::{CONFIG, POOL, POOL_TOKENS, ProjectorChoice};

use self::pool::Pool;
use super::registry::{Built, Target};
use super::unused;
use crate::error;
use crate::options::{self, OptionSpec, Unset};
use crate::weights::{Builder, Finished, Source};

/// The kinds of projectors, in the order in which help names them.
pub const KINDS: &[Kind] = &[mlp::LINEAR, mlp::MLP, identity::IDENTITY, resampler::RESAMPLER];

/// A projector: the visual features of pictures to visual tokens of the LLM's width.
pub trait Projector: Send + Sync {
    /// (images, tokens, encoder width) -> (images, tokens of [`tokens`](Self::tokens), LLM width). A picture's tokens depend
    /// on no other picture.
    fn project(&self, features: &Tensor) -> Result<Tensor>;
    /// The visual tokens it gives for one picture.
    fn tokens(&self) -> VisualTokens;
}

/// How many visual tokens one picture has, and which places of the picture they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisualTokens {
    /// `extra` tokens (a class token), then one for every place of a grid, row by row.
    Grid { extra: usize, rows: usize, columns: usize },
    /// This many tokens, none of which stands for one place.
    Free(usize),
}

impl VisualTokens {
    /// Their number.
    pub fn count(self) -> usize {
        match self {
            VisualTokens::Grid { extra, rows, columns } => extra + rows * columns,
            VisualTokens::Free(count) => count,
        }
    }
}

/// The features of one picture: what a projector is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    pub tokens: VisualTokens,
    pub width: usize,
}

/// A kind of projector.
pub struct Kind {
    /// Its name in scripts and in `mm_projector_type`, as an error lists it.
    pub shown: &'static str,
    /// Whether a name is one of this kind's.
    pub is: fn(&str) -> bool,
    /// The options it has beside `pool`.
    pub numbers: &'static [Number],
    /// Makes one between features and an LLM of a width; its parameters come from the builder.
    pub build: Build,
}

type Build = fn(&ProjectorChoice, Features, usize, &Builder) -> error::Result<Box<dyn Projector>>;

/// An option of a kind: a whole number from 1.
pub struct Number {
    pub spec: OptionSpec,
    pub default: usize,
    /// The largest that is allowed, so that a damaged config.json cannot ask for all memory.
    pub most: usize,
}

impl Number {
    const fn new(key: &'static str, default: usize, most: usize, help: &'static str) -> Self {
        let spec = OptionSpec::new(key, options::Kind::Count, Unset::Count(default as u64), help);
        Number { spec, default, most }
    }
}

/// The option that puts a reduction in front of kinds that do not choose the number of visual tokens themselves.
pub const POOLING: &str = "pool";
/// The number of visual tokens: of kinds that choose it themselves, and beside `pool`.
pub const TOKENS: &str = "tokens";

const POOLED: [OptionSpec; 2] = [
    OptionSpec::new(
        POOLING,
        options::Kind::Text,
        Unset::Words("no pooling"),
        "reduces the visual tokens first: \"average\" or \"pixel_shuffle\"; goes together with `tokens`",
    ),
    OptionSpec::new(
        TOKENS,
        options::Kind::Count,
        Unset::Words("the encoder's"),
        "visual tokens after `pool`, a square number",
    ),
];

/// The options of all kinds, those of pooling first.
pub const OPTIONS: [OptionSpec; count()] = {
    let mut all = [POOLED[0]; count()];
    all[1] = POOLED[1];
    let (mut kind, mut place) = (0, POOLED.len());
    while kind < KINDS.len() {
        let mut number = 0;
        while number < KINDS[kind].numbers.len() {
            all[place] = KINDS[kind].numbers[number].spec;
            (number, place) = (number + 1, place + 1);
        }
        kind += 1;
    }
    all
};

const fn count() -> usize {
    let (mut kind, mut count) = (0, POOLED.len());
    while kind < KINDS.len() {
        count += KINDS[kind].numbers.len();
        kind += 1;
    }
    count
}

impl Kind {
    /// The kind that a name stands for.
    ///
    /// # Errors
    /// `Missing`, with the names there are.
    pub fn of(name: &str) -> error::Result<&'static Kind> {
        KINDS.iter().find(|kind| (kind.is)(name)).ok_or_else(|| {
            let shown: Vec<&str> = KINDS.iter().map(|kind| kind.shown).collect();
            error!(Missing, "no projector `{name}`").help(format!("projectors: {}", shown.join(", ")))
        })
    }

    /// Whether it has an option of this name.
    pub fn takes(&self, key: &str) -> bool {
        self.numbers.iter().any(|number| number.spec.key == key) || self.pools() && [POOLING, TOKENS].contains(&key)
    }

    /// Whether the option `pool` can stand in front of it.
    pub fn pools(&self) -> bool {
        self.numbers.iter().all(|number| number.spec.key != TOKENS)
    }
}

/// Builds the projector that was chosen between `features` and an LLM of width `output`.
///
/// # Errors
/// `Missing` for a name that no kind has, `Shape` for sizes that do not fit, `Weights` for tensors the source lacks.
pub fn projector(
    choice: &ProjectorChoice,
    features: Features,
    output: usize,
    source: Source,
    target: &Target,
) -> error::Result<Built<dyn Projector>> {
    let kind = Kind::of(&choice.name)?;
    let pool = choice.pool.map(|(kind, tokens)| Pool::new(kind, features.tokens, tokens)).transpose()?;
    let builder = Builder::new(source.clone(), target.dtype, &target.device);
    let pooled = pool.map_or(features, |pool| pool.pooled(features));
    let model = (kind.build)(choice, pooled, output, &builder)?;
    let Finished { params, unused: spare, .. } = builder.finish()?;
    if let Source::Files { files, prefix } = &source {
        let names: Vec<String> = spare.iter().map(|(name, _)| format!("{prefix}{name}")).collect();
        let note = unused::told(files.name(), names.iter().map(String::as_str), 0, |_| None);
        note.into_iter().for_each(|note| files.notes().add(note));
    }
    let model = match pool {
        Some(pool) => pool.before(model),
        None => model,
    };
    Ok(Built { model, params, unused: spare })
}
