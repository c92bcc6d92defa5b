//! VQA accuracy as VQAv2 normalizes: without taking possessives apart. Source: LLaVA-MORE 2460d39, `vqav2/utils.py`.

use super::vqa_text::normalized_v2;
use super::{Entry, vqa};

pub(super) const SCORER: Entry = Entry {
    name: "vqa_v2",
    strict: None,
    score: |rules, output, gold| vqa::score(rules, output, gold, normalized_v2),
    ..Entry::PLAIN
};
