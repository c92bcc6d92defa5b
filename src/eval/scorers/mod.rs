//! Scorers: raw output -> extracted answer -> score. One file each. `reference` rules are those of LLaVA-MORE's fork of
//! lmms-eval; where other tools read the same output differently, their rules are here as well. A new scorer is a file
//! with its `SCORER`, a `mod` line and a line in `ALL`.

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
mod unscored;
mod vqa;
mod vqa_text;
mod vqa_v2;
mod yes_no;

use serde::{Deserialize, Deserializer};

use super::gold::Gold;
use super::metrics::Metric;
use super::rules::Rules;
use crate::error::{Error, Kind, Result};

/// The scorers presets can name, in the order in which messages list them.
const ALL: [&Entry; 13] = [
    &exact_match::SCORER,
    &science_qa::SCORER,
    &vqa::SCORER,
    &vqa_v2::SCORER,
    &yes_no::SCORER,
    &mme::SCORER,
    &mmbench::SCORER,
    &seed::SCORER,
    &mmmu::SCORER,
    &relaxed::SCORER,
    &anls::SCORER,
    &realworld::SCORER,
    &unscored::SCORER,
];
const NAMES: [&str; ALL.len()] = {
    let mut names = [""; ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = ALL[at].name;
        at += 1;
    }
    names
};

/// All there is to say of a scorer; one a file.
struct Entry {
    /// What presets and result files call it.
    name: &'static str,
    /// Goes up when its scores change.
    version: u32,
    /// The rules it knows, the default first.
    rules: &'static [Rules],
    /// How its rows add up.
    metric: Metric,
    /// What rules leave out of the tool they are named after, for a table's note.
    differs: &'static [(Rules, &'static str)],
    /// What `Rules::Strict` is; `None` where `score` knows these rules itself.
    strict: Option<fn(&str, &Gold) -> Verdict>,
    /// Whether what was read can be an answer at all, a wrong one or a right one.
    is_answer: fn(&str, &Gold) -> bool,
    /// The score of an output without white space around it.
    score: fn(Rules, &str, &Gold) -> Verdict,
}

impl Entry {
    /// What most scorers have in common.
    const PLAIN: Entry = Entry {
        name: "",
        version: 1,
        rules: &[Rules::Reference, Rules::Strict, Rules::LmmsEval],
        metric: Metric::Mean("exact_match"),
        differs: &[],
        strict: Some(strict),
        is_answer: |_, _| true,
        score: |_, output, gold| strict(output, gold),
    };
}

/// One of the scorers presets can name.
#[derive(Clone, Copy)]
pub struct Scorer(&'static Entry);

/// How one output was scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What was read out of the output; `None` when no answer could be.
    pub extracted: Option<String>,
    pub score: f64,
    /// Extraction -> comparison, in words.
    pub why: String,
}

impl Scorer {
    /// A scorer by name.
    ///
    /// # Errors
    /// `Option`, listing what there is.
    fn named(name: &str) -> Result<Self> {
        let known = ALL.iter().find(|entry| entry.name == name);
        known.map(|entry| Scorer(entry)).ok_or_else(|| Error::unknown("scorer", name, &NAMES, ""))
    }

    /// Name and version, as result files record it.
    pub fn version(self) -> String {
        format!("{}/{}", self.0.name, self.0.version)
    }

    /// The scorer that wrote a result file, whatever its version was.
    pub fn of_version(version: &str) -> Result<Self> {
        Scorer::named(version.split('/').next().unwrap_or(version))
    }

    /// The rules this scorer knows, the default first. lmms-eval 0.7.3 reads as the reference does what `yes_no`, `vqa`,
    /// `vqa_v2`, `mme`, `relaxed` and `anls` score.
    pub fn rules(self) -> &'static [Rules] {
        self.0.rules
    }

    /// What these rules leave out of the tool they are named after, for a table's note.
    pub(super) fn differs(self, rules: Rules) -> &'static str {
        self.0.differs.iter().find(|(of, _)| *of == rules).map_or("", |(_, what)| what)
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
        self.0.metric
    }

    /// Scores one raw output, white space around it taken away.
    pub fn score(self, rules: Rules, output: &str, gold: &Gold) -> Verdict {
        let output = super::python::strip(output);
        let mut verdict = match self.0.strict.filter(|_| rules == Rules::Strict) {
            Some(strict) => strict(output, gold),
            None => (self.0.score)(rules, output, gold),
        };
        let is_answer = |text: &String| (self.0.is_answer)(super::python::strip(text), gold);
        if verdict.score <= 0.0 && verdict.extracted.as_ref().is_some_and(|text| !is_answer(text)) {
            verdict.extracted = None;
            verdict.why += ", no answer could be read";
        }
        verdict
    }
}

impl PartialEq for Scorer {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Scorer {}

impl std::fmt::Debug for Scorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for Scorer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Scorer::named(&name).map_err(|_| serde::de::Error::unknown_variant(&name, &NAMES))
    }
}

/// Whether a text says yes or no.
fn is_yes_or_no(text: &str, _: &Gold) -> bool {
    ["yes", "no"].contains(&text)
}

/// Whether a text is the letter of a choice, where there are any.
fn is_letter(text: &str, gold: &Gold) -> bool {
    let is = |letter: char| text.to_lowercase() == letter.to_lowercase().to_string();
    gold.choices.is_empty() || gold.choices.iter().any(|choice| is(choice.letter))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_what_result_files_hold() {
        let mut names = NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len(), "two scorers of one name");
        for entry in ALL {
            let scorer = Scorer::of_version(&format!("{}/0", entry.name)).unwrap();
            assert_eq!(scorer.version(), format!("{}/{}", entry.name, entry.version));
            assert_eq!(scorer.rules().first(), Some(&Rules::Reference), "{scorer:?}: the default is the reference");
        }
        let error = Scorer::of_version("exact/1").unwrap_err();
        assert!(error.help_text().is_some_and(|help| help.contains("exact_match")), "{error}");
    }

    #[test]
    fn what_is_no_mean_has_its_metric() {
        let metric = |name: &str| Scorer::named(name).unwrap().metric();
        assert_eq!(metric("yes_no"), Metric::YesNo);
        assert_eq!((metric("mme"), metric("mmbench")), (Metric::Mme, Metric::Circular));
        assert_eq!((metric("seed"), metric("mmmu")), (Metric::Seed, Metric::Mmmu));
        assert_eq!((metric("unscored"), metric("exact_match")), (Metric::None, Metric::Mean("exact_match")));
    }
}
