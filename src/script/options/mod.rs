//! The options of every script function: an option is one entry of a table here, or of a trainer's ([`TRAINER`](crate::train::TRAINER)). Option maps
//! are checked by them, and help, completion and the reference page show them.

mod data;
mod models;
mod results;

pub(super) use data::*;
pub(super) use models::*;
pub(super) use results::*;

use crate::options::{Kind, OptionRow, OptionSpec, Unset, rows};
use crate::report::MAPS;

/// The options of a function.
pub struct OptionTable {
    /// Its name.
    pub function: &'static str,
    /// The type of its first parameter, which distinguishes functions of one name.
    pub first: &'static str,
    pub groups: &'static [&'static [OptionSpec]],
}

impl OptionTable {
    /// Its entries.
    pub fn specs(&self) -> impl Iterator<Item = &'static OptionSpec> {
        self.groups.iter().copied().flatten()
    }

    /// The entry of a key.
    pub fn spec(&self, key: &str) -> Option<&'static OptionSpec> {
        self.specs().find(|spec| spec.key == key)
    }

    /// The table as help shows it.
    pub fn rows(&self) -> Vec<OptionRow> {
        self.groups.iter().flat_map(|group| rows(group)).collect()
    }
}

const fn option(key: &'static str, kind: Kind, unset: Unset, help: &'static str) -> OptionSpec {
    OptionSpec::new(key, kind, unset, help)
}

const fn table(function: &'static str, first: &'static str, groups: &'static [&'static [OptionSpec]]) -> OptionTable {
    OptionTable { function, first, groups }
}

const NOT_SET: Unset = Unset::Words("not set");
/// Names of what [`Aspect::parse`](crate::image::Aspect::parse) reads.
const ASPECTS: Kind = Kind::Names(&["square", "pad"]);
/// Names of what [`Rules::parse`](crate::eval::Rules::parse) reads.
const RULES: Kind = Kind::Names(&["reference", "strict", "lmms-eval", "llava", "vlmevalkit"]);

const SEED: OptionSpec = option("seed", Kind::Count, Unset::Words("the session's"), "of all that is drawn");
const DTYPE: OptionSpec = option(
    "dtype",
    Kind::Text,
    Unset::Text("f32"),
    "the type of the weights and of the computation: \"f32\", \"bf16\" or \"f16\"",
);
const DEVICE: OptionSpec = option("device", Kind::Text, Unset::Text("cpu"), "where it computes");
const WEIGHTS: OptionSpec = option(
    "weights",
    Kind::Names(&["random", "none"]),
    Unset::Words("stored weights"),
    "\"none\" reads sizes and settings only, \"random\" draws them from the seed",
);
const QUANTIZE: OptionSpec = option(
    "quantize",
    Kind::Text,
    NOT_SET,
    "keeps the weights of linear layers in blocks of a few bits (\"q8_0\", \"q6_k\", \"q5_k\", \"q4_k\", ...), for the CPU and not for \
     training; \"keep\" leaves the blocks of a GGUF file as they are",
);
const QUIRKS: OptionSpec = option(
    "reference_quirks",
    Kind::Flag,
    Unset::Flag(false),
    "asks as the released inference does: no generation header for Gemma",
);
const TEMPLATE: OptionSpec =
    option("template", Kind::Text, Unset::Words("the model's"), "the template texts are rendered by");
const LIMIT: OptionSpec = option(
    "limit",
    Kind::Count,
    Unset::Words("all"),
    "the first n questions; of MMBench in all their orders, of MME whole pictures",
);
const LENGTH: OptionSpec = option(
    "max_length",
    Kind::Count,
    Unset::Words("the LLM's context, at most 4096"),
    "longest sequence, image tokens included",
);
/// Of what writes a file or a folder under a name that the script gives.
const OVERWRITE: OptionSpec = option(
    "overwrite",
    Kind::Flag,
    Unset::Flag(false),
    "replaces what is there even if llmore did not write it, or it was changed since",
)
.harmless();
const MAPS_SHOWN: OptionSpec = option(
    "maps",
    Kind::Count,
    Unset::Count(MAPS as u64),
    "how many questions of a gallery get a feature map and an attention map; 0 opens no model",
)
.harmless();
/// Questions of a benchmark that are decoded together.
const BATCH: OptionSpec =
    option("batch", Kind::Count, Unset::Count(64), "questions decoded together; answers do not depend on it")
        .harmless();

/// The tables of all functions that take options.
pub(super) const TABLES: &[&OptionTable] = &[
    &ENCODER,
    &LLM,
    &PROJECTOR,
    &COMPOSE,
    &COMPOSE_PRESET,
    &LOAD,
    &SAVE,
    &SAVE_ENCODER,
    &SAVE_TENSORS,
    &SAVE_FIGURE,
    &SAVE_RESULTS,
    &ASK,
    &SAY,
    &GENERATE,
    &ASK_ALL,
    &DATASET,
    &VERIFY,
    &CHECK_MASKS,
    &PREPROCESS,
    &MAP,
    &ATTENTION,
    &TRAINER_OPTIONS,
    &RECIPE,
    &PLAN,
    &BENCHMARK,
    &RUN,
    &RESCORE,
    &COMPARE,
    &REPORT_RUN,
    &REPORT_STUDY,
    &REPORT_RESULTS,
    &STUDY,
    &PLOT,
    &RADAR,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Format;
    use crate::eval::Rules;
    use crate::image::Aspect;
    use crate::vlm::Select;

    #[test]
    fn names_of_a_table_are_those_that_are_read() {
        let names = |kind: Kind| match kind {
            Kind::Names(names) => names,
            _ => &[],
        };
        let of = |table: &OptionTable, key: &str| names(table.spec(key).unwrap().kind);
        assert!(names(ASPECTS).iter().all(|name| Aspect::parse(name).is_ok_and(|aspect| aspect.name() == *name)));
        assert!(names(RULES).iter().all(|name| Rules::parse(name).is_ok()));
        assert!(of(&ENCODER, "select").iter().all(|name| Select::parse(name).is_ok()));
        assert_eq!(of(&DATASET, "format"), Format::NAMES.map(|(name, _)| name));
        let unknown = Rules::parse("no-such").unwrap_err();
        let listed = format!("{unknown} {}", unknown.help_text().unwrap_or_default());
        assert!(names(RULES).iter().all(|name| listed.contains(name)), "{listed}");
    }

    #[test]
    fn what_a_trainer_has_too_holds_the_same_where_it_is_left_out() {
        use crate::train::{TRAINER, usual_length};
        let length = TRAINER.iter().find(|spec| spec.key == LENGTH.key).unwrap();
        assert_eq!(LENGTH.unset.words(), length.unset.words());
        assert!(LENGTH.unset.words().ends_with(&format!("at most {}", usual_length(usize::MAX))));
    }

    #[test]
    fn a_key_has_one_kind_in_a_table_and_says_what_it_is() {
        for table in TABLES {
            for spec in table.specs() {
                // Kinds of projectors may share a key, with defaults of their own.
                let known = table.spec(spec.key).map(|first| first.kind.words());
                assert_eq!(known, Some(spec.kind.words()), "{}: {}", table.function, spec.key);
                let again = table.specs().filter(|other| other.key == spec.key && other.help == spec.help);
                assert_eq!(again.count(), 1, "{}: {}", table.function, spec.key);
            }
            for row in table.rows() {
                let filled = [&row.help, &row.kind, &row.default].iter().all(|text| !text.is_empty());
                assert!(filled && row.help.is_ascii(), "{}: {row:?}", table.function);
            }
        }
    }
}
