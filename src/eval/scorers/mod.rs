//! Scorers: raw output -> extracted answer -> score. One file each. `reference` rules are those of LLaVA-MORE's fork of
//! lmms-eval; where other tools read the same output differently, their rules are here as well. A scorer's version
//! changes when its scores do.

mod anls;
mod exact_match;
mod letters;
mod mmbench;
mod mme;
mod mmmu;
mod mmmu_open;
mod realworld;
mod relaxed;
mod science_qa;
mod seed;
mod vqa;
mod vqa_text;
mod yes_no;

use serde::{Deserialize, Serialize};

use super::gold::Gold;
use super::metrics::Metric;
use crate::error::{Error, Kind, Result};

/// The scorers presets can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scorer {
    /// Lower case, no punctuation, equal.
    ExactMatch,
    /// A choice's letter, alone or before a full stop.
    ScienceQa,
    /// Agreement with ten people, answers normalized.
    Vqa,
    /// The same as VQAv2 normalizes: without taking possessives apart.
    VqaV2,
    /// POPE.
    YesNo,
    /// Yes or no in the first four letters.
    Mme,
    /// A letter or a choice's text somewhere in the output.
    Mmbench,
    /// The first character.
    Seed,
    /// MMMU's own reading of choices and of open answers.
    Mmmu,
    /// Numbers within 5 %, texts equal.
    Relaxed,
    /// Edit distance relative to length.
    Anls,
    /// A letter by any of many forms, or equal texts.
    Realworld,
    /// Nothing scores this automatically.
    Unscored,
}

/// Whose reading of an output counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rules {
    /// LLaVA-MORE 2460d39.
    #[default]
    Reference,
    /// The answer and nothing else; case and white space around do not matter.
    Strict,
    /// lmms-eval 0.7.3.
    LmmsEval,
    /// The scripts of LLaVA 1.2.2.
    Llava,
    /// VLMEvalKit (nvidia-vlmeval 26.3), its deterministic part.
    #[serde(rename = "vlmevalkit")]
    VlmEvalKit,
}

/// How one output was scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What was read out of the output; `None` when no answer could be.
    pub extracted: Option<String>,
    pub score: f64,
    /// Extraction -> comparison, in words.
    pub why: String,
}

impl Rules {
    const ALL: [Rules; 5] = [Rules::Reference, Rules::Strict, Rules::LmmsEval, Rules::Llava, Rules::VlmEvalKit];

    /// The word scripts use.
    pub fn name(self) -> &'static str {
        match self {
            Rules::Reference => "reference",
            Rules::Strict => "strict",
            Rules::LmmsEval => "lmms-eval",
            Rules::Llava => "llava",
            Rules::VlmEvalKit => "vlmevalkit",
        }
    }

    /// Rules by name.
    pub fn parse(name: &str) -> Result<Self> {
        let known = Rules::ALL.map(Rules::name);
        let rules = Rules::ALL.into_iter().find(|rules| rules.name() == name);
        rules.ok_or_else(|| Error::unknown("set of rules", name, &known, ""))
    }
}

impl Scorer {
    const ALL: [(Scorer, &'static str, u32); 13] = [
        (Scorer::ExactMatch, "exact_match", 2),
        (Scorer::ScienceQa, "science_qa", 1),
        (Scorer::Vqa, "vqa", 1),
        (Scorer::VqaV2, "vqa_v2", 1),
        (Scorer::YesNo, "yes_no", 1),
        (Scorer::Mme, "mme", 1),
        (Scorer::Mmbench, "mmbench", 1),
        (Scorer::Seed, "seed", 1),
        (Scorer::Mmmu, "mmmu", 1),
        (Scorer::Relaxed, "relaxed", 1),
        (Scorer::Anls, "anls", 1),
        (Scorer::Realworld, "realworld", 2),
        (Scorer::Unscored, "unscored", 1),
    ];

    /// Name and version, as result files record it.
    pub fn version(self) -> String {
        let known = Scorer::ALL.iter().find(|(scorer, _, _)| *scorer == self);
        known.map_or(String::new(), |(_, name, version)| format!("{name}/{version}"))
    }

    /// The scorer that wrote a result file, whatever its version was.
    pub fn of_version(version: &str) -> Result<Self> {
        let name = version.split('/').next().unwrap_or(version);
        let known: Vec<_> = Scorer::ALL.iter().map(|(_, name, _)| *name).collect();
        let found = Scorer::ALL.iter().find(|(_, known, _)| *known == name);
        found.map(|(scorer, _, _)| *scorer).ok_or_else(|| Error::unknown("scorer", name, &known, ""))
    }

    /// The rules this scorer knows, the default first. lmms-eval 0.7.3 reads as the reference does what `yes_no`, `vqa`,
    /// `vqa_v2`, `mme`, `relaxed` and `anls` score.
    pub fn rules(self) -> &'static [Rules] {
        use Rules::{Llava, LmmsEval, Reference, Strict, VlmEvalKit};
        match self {
            Scorer::YesNo | Scorer::ScienceQa => &[Reference, Strict, LmmsEval, Llava, VlmEvalKit],
            Scorer::ExactMatch | Scorer::Seed | Scorer::Realworld | Scorer::Mmbench | Scorer::Mmmu | Scorer::Mme => {
                &[Reference, Strict, LmmsEval, VlmEvalKit]
            }
            Scorer::Vqa | Scorer::VqaV2 | Scorer::Relaxed | Scorer::Anls | Scorer::Unscored => {
                &[Reference, Strict, LmmsEval]
            }
        }
    }

    /// What these rules leave out of the tool they are named after, for a table's note.
    pub(super) fn differs(self, rules: Rules) -> &'static str {
        match (self, rules) {
            (Scorer::Mmbench, Rules::LmmsEval) => {
                " (as its task `mmbench_en_dev_static`: no judge is asked, no letter is drawn at random)"
            }
            (Scorer::Mmmu, Rules::LmmsEval) => {
                " (where no letter can be read, it draws one at random; here that counts as wrong)"
            }
            _ => "",
        }
    }

    /// Whether a question may have several right answers, or those of several people.
    pub(super) fn has_several_answers(self) -> bool {
        matches!(self, Scorer::Vqa | Scorer::VqaV2 | Scorer::Anls | Scorer::Mmmu)
    }

    /// An error that lists what there is, unless the scorer knows the rules.
    pub fn check(self, rules: Rules) -> Result<()> {
        if self.rules().contains(&rules) {
            return Ok(());
        }
        let known: Vec<_> = self.rules().iter().map(|rules| format!("`{}`", rules.name())).collect();
        let message = format!("scorer `{}` has no rules `{}`", self.version(), rules.name());
        Err(Error::new(Kind::Option, message).help(format!("known: {}", known.join(", "))))
    }

    /// How its rows add up.
    pub fn metric(self) -> Metric {
        match self {
            Scorer::YesNo => Metric::YesNo,
            Scorer::Mme => Metric::Mme,
            Scorer::Mmbench => Metric::Circular,
            Scorer::Seed => Metric::Seed,
            Scorer::Mmmu => Metric::Mmmu,
            Scorer::Relaxed => Metric::Mean("relaxed_overall"),
            Scorer::Anls => Metric::Mean("anls"),
            Scorer::Unscored => Metric::None,
            Scorer::ExactMatch | Scorer::ScienceQa | Scorer::Vqa | Scorer::VqaV2 | Scorer::Realworld => {
                Metric::Mean("exact_match")
            }
        }
    }

    /// Scores one raw output, white space around it taken away.
    pub fn score(self, rules: Rules, output: &str, gold: &Gold) -> Verdict {
        let mut verdict = self.verdict(rules, super::python::strip(output), gold);
        if verdict.score <= 0.0 && verdict.extracted.as_ref().is_some_and(|text| !self.is_answer(text, gold)) {
            verdict.extracted = None;
            verdict.why += ", no answer could be read";
        }
        verdict
    }

    /// Whether what was read can be an answer at all, a wrong one or a right one.
    fn is_answer(self, extracted: &str, gold: &Gold) -> bool {
        let extracted = super::python::strip(extracted);
        match self {
            Scorer::YesNo | Scorer::Mme => ["yes", "no"].contains(&extracted),
            Scorer::ExactMatch | Scorer::ScienceQa | Scorer::Seed if !gold.choices.is_empty() => {
                let is = |letter: char| extracted.to_lowercase() == letter.to_lowercase().to_string();
                gold.choices.iter().any(|choice| is(choice.letter))
            }
            _ => true,
        }
    }

    fn verdict(self, rules: Rules, output: &str, gold: &Gold) -> Verdict {
        if rules == Rules::Strict && !matches!(self, Scorer::Vqa | Scorer::VqaV2 | Scorer::Unscored) {
            return strict(output, gold);
        }
        match self {
            Scorer::ExactMatch => exact_match::score(rules, output, gold),
            Scorer::ScienceQa => science_qa::score(rules, output, gold),
            Scorer::Vqa => vqa::score(rules, output, gold, vqa_text::normalized),
            Scorer::VqaV2 => vqa::score(rules, output, gold, vqa_text::normalized_v2),
            Scorer::YesNo => yes_no::score(rules, output, gold),
            Scorer::Mme => mme::score(rules, output, gold),
            Scorer::Mmbench => mmbench::score(rules, output, gold),
            Scorer::Seed => seed::score(rules, output, gold),
            Scorer::Mmmu if gold.open => mmmu_open::score(output, gold),
            Scorer::Mmmu => mmmu::score(rules, output, gold),
            Scorer::Relaxed => relaxed::score(output, gold),
            Scorer::Anls => anls::score(output, gold),
            Scorer::Realworld => realworld::score(rules, output, gold),
            Scorer::Unscored => {
                Verdict { extracted: Some(output.to_string()), score: 0.0, why: "nothing scores this".to_string() }
            }
        }
    }
}

impl Verdict {
    /// 1 when what was extracted equals the answer.
    fn equal(extracted: String, answer: &str, how: &str) -> Verdict {
        let score = f64::from(u8::from(extracted == answer));
        let sign = if extracted == answer { "==" } else { "!=" };
        let why = format!("{how} {extracted:?} {sign} {answer:?} -> {score}");
        Verdict { extracted: Some(extracted), score, why }
    }

    /// A letter, or none.
    fn letter(letter: Option<char>, answer: &str, how: &str) -> Verdict {
        match letter {
            Some(letter) => Verdict::equal(letter.to_string(), answer, how),
            None => Verdict { extracted: None, score: 0.0, why: "no choice could be read out of it -> 0".to_string() },
        }
    }
}

/// The answer and nothing else.
fn strict(output: &str, gold: &Gold) -> Verdict {
    let extracted = output.to_lowercase();
    let answers = gold.answer.all().iter().map(|answer| super::python::strip(answer).to_lowercase());
    let answer = answers.into_iter().reduce(|first, other| if other == extracted { other } else { first });
    // What is a choice's letter counts as read, anything else does not.
    let choice = |text: &str| gold.choices.iter().any(|choice| text == choice.letter.to_lowercase().to_string());
    let mut verdict = Verdict::equal(extracted, &answer.unwrap_or_default(), "strictly");
    verdict.extracted = match gold.choices.is_empty() {
        true => verdict.extracted,
        false => verdict.extracted.filter(|text| choice(text)).map(|text| text.to_uppercase()),
    };
    verdict
}
