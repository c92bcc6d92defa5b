//! Options of what opens, joins, saves, asks and looks at models.

use super::{ASPECTS, BATCH, DEVICE, DTYPE, OVERWRITE, OptionTable, QUANTIZE, QUIRKS, SEED, WEIGHTS, option, table};
use crate::models::projectors;
use crate::options::{Kind, OptionSpec, Unset, value_of};
use crate::vlm::generate::Sampling;

const SAMPLING: &[OptionSpec] = &[
    option(
        "max_new_tokens",
        Kind::Count,
        Unset::Value(|| value_of(&Sampling::default().max_new_tokens)),
        "the most tokens of an answer",
    ),
    option(
        "temperature",
        Kind::Number,
        Unset::Value(|| value_of(&Sampling::default().temperature)),
        "divides the logits; 0 always takes the most likely token",
    ),
    option(
        "top_k",
        Kind::Count,
        Unset::Value(|| value_of(&Sampling::default().top_k)),
        "draws among the k most likely tokens; 0 is all",
    ),
    option(
        "top_p",
        Kind::Number,
        Unset::Value(|| value_of(&Sampling::default().top_p)),
        "draws among the fewest tokens that together have this probability",
    ),
    SEED,
];
const STREAM: &[OptionSpec] = &[option(
    "stream",
    Kind::Other("true, false or a function"),
    Unset::Flag(false),
    "prints the answer while it is generated, or calls a function with each piece, which stops it by returning `false`",
)
.harmless()];

pub(in crate::script) const ENCODER: OptionTable = table(
    "encoder",
    "string",
    &[&[
        option(
            "select_layer",
            Kind::Whole,
            Unset::Words("the preset's"),
            "the hidden state that is the feature: -2 is the output of the last block but one",
        ),
        option(
            "select",
            Kind::Names(&["patch", "cls_patch"]),
            Unset::Words("the preset's"),
            "which tokens are features",
        ),
        option(
            "s2",
            Kind::Counts,
            Unset::Words("one scale"),
            "sides in pixels of several scales; their features stand side by side in the channels",
        ),
        WEIGHTS,
        SEED,
        DTYPE,
        DEVICE,
    ]],
);
pub(in crate::script) const LLM: OptionTable = table("llm", "string", &[&[WEIGHTS, SEED, DTYPE, DEVICE, QUANTIZE]]);
pub(in crate::script) const PROJECTOR: OptionTable = table("projector", "string", &[&projectors::OPTIONS]);
pub(in crate::script) const COMPOSE: OptionTable = table(
    "vlm",
    "Encoder",
    &[&[
        SEED,
        option("image", ASPECTS, Unset::Text("pad"), "how pictures become square"),
        option("template", Kind::Text, Unset::Words("the LLM's"), "the template it is asked and trained by"),
        QUIRKS,
    ]],
);
pub(in crate::script) const COMPOSE_PRESET: OptionTable = table(
    "vlm",
    "string",
    &[&[
        SEED,
        option("template", Kind::Text, Unset::Words("the preset's"), "the template it is asked and trained by"),
        WEIGHTS,
        DTYPE,
        DEVICE,
        QUIRKS,
    ]],
);
pub(in crate::script) const LOAD: OptionTable = table(
    "load",
    "string",
    &[&[
        option("template", Kind::Text, Unset::Words("what the folder was trained by"), "the template it is asked by"),
        option(
            "base",
            Kind::Text,
            Unset::Words("where the folder says"),
            "where the LLM is that a folder with a projector or an adapter goes with",
        ),
        DTYPE,
        DEVICE,
        QUANTIZE,
        OptionSpec {
            help: "of a model preset: \"none\" reads sizes and settings only, \"random\" draws them from the seed",
            ..WEIGHTS
        },
        SEED,
        QUIRKS,
    ]],
);
pub(in crate::script) const SAVE: OptionTable = table(
    "save",
    "Vlm",
    &[&[
        option(
            "layout",
            Kind::Names(&["llava-more", "transformers"]),
            Unset::Text("llava-more"),
            "\"transformers\" is what `LlavaForConditionalGeneration` loads",
        ),
        option(
            "merge",
            Kind::Flag,
            Unset::Flag(true),
            "adds an adapter to the weights; false writes it alone, as PEFT does",
        ),
        OVERWRITE,
    ]],
);
pub(in crate::script) const SAVE_ENCODER: OptionTable = table("save", "Encoder", &[&[OVERWRITE]]);
pub(in crate::script) const SAVE_TENSORS: OptionTable = table("save_tensors", "map", &[&[OVERWRITE]]);

pub(in crate::script) const ASK: OptionTable = table("ask", "Vlm", &[SAMPLING, STREAM]);
pub(in crate::script) const SAY: OptionTable = table("say", "Chat", &[SAMPLING, STREAM]);
pub(in crate::script) const GENERATE: OptionTable = table("generate", "Llm", &[SAMPLING, STREAM]);
pub(in crate::script) const ASK_ALL: OptionTable =
    table("ask_all", "Vlm", &[SAMPLING, &[OptionSpec { unset: Unset::Count(8), ..BATCH }]]);

const OWN_ASPECT: &[OptionSpec] = &[option(
    "image",
    ASPECTS,
    Unset::Words("the encoder's"),
    "\"pad\" pastes the picture on a square of the mean color first",
)];
pub(in crate::script) const PREPROCESS: OptionTable = table("preprocess", "Encoder", &[OWN_ASPECT]);
pub(in crate::script) const MAP: OptionTable = table("map", "Encoder", &[OWN_ASPECT]);
pub(in crate::script) const ATTENTION: OptionTable = table(
    "attention",
    "Vlm",
    &[&[
        option("layer", Kind::Whole, Unset::Words("the mean over layers"), "one layer, from 0; -1 is the last"),
        option("token", Kind::Count, Unset::Count(0), "which token of the greedy answer looks, from 0"),
    ]],
);
