//! Benchmarks that nothing scores automatically: answers are kept for people to read.

use super::{Entry, Verdict};
use crate::eval::metrics::Metric;

pub(super) const SCORER: Entry = Entry {
    name: "unscored",
    metric: Metric::None,
    strict: None,
    score: |_, output, _| Verdict {
        extracted: Some(output.to_string()),
        score: 0.0,
        why: "nothing scores this".to_string(),
    },
    ..Entry::PLAIN
};
