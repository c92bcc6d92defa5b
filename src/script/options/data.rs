//! Options of data sets and of training on them.

use super::{LENGTH, OptionTable, TEMPLATE, option, table};
use crate::options::{Kind, OptionSpec, Unset};
use crate::train::TRAINER;

pub(in crate::script) const DATASET: OptionTable = table(
    "dataset",
    "string",
    &[&[
        option(
            "images",
            Kind::Other("a path, or a map from the beginning of names to a path"),
            Unset::Words("beside the file"),
            "the folder, `.zip` or `.tar` its pictures are in, or a map from the beginning of their names to one",
        ),
        option(
            "format",
            Kind::Names(&["llava", "jsonl", "parquet"]),
            Unset::Words("by the file's name"),
            "\"llava\" and \"jsonl\" read JSON, as a list or one sample a line",
        ),
        option(
            "split",
            Kind::Text,
            Unset::Words("train"),
            "the split of a data set of the hub, or of a folder as it was downloaded",
        ),
        option("config", Kind::Text, Unset::Words("the only one"), "the configuration of such a data set"),
    ]],
);
const RENDERING: &[OptionSpec] = &[TEMPLATE, LENGTH];
pub(in crate::script) const VERIFY: OptionTable = table("verify", "Dataset", &[RENDERING]);
pub(in crate::script) const CHECK_MASKS: OptionTable = table("check_masks", "Dataset", &[RENDERING]);
const OF_TRAINER: &[&[OptionSpec]] = &[TRAINER];
pub(in crate::script) const TRAINER_OPTIONS: OptionTable = table("trainer", "Vlm", OF_TRAINER);
pub(in crate::script) const RECIPE: OptionTable = table("recipe", "string", OF_TRAINER);
pub(in crate::script) const PLAN: OptionTable = table(
    "plan",
    "Trainer",
    &[&[
        option(
            "memory",
            Kind::Number,
            Unset::Words("this machine's"),
            "bytes of memory of the machine that is planned for",
        )
        .harmless(),
        option("disk", Kind::Number, Unset::Words("what is free"), "bytes of disk of that machine").harmless(),
    ]],
);
