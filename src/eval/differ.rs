//! What two results files differ in: answers, likelihoods and scores, question by question.

use std::collections::HashMap;
use std::fmt;

use super::results::Results;
use super::row::Row;

/// Two sets of answers side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerDiff {
    /// Questions that both answer.
    pub common: usize,
    /// Questions each answers.
    pub questions: [usize; 2],
    /// Ids of those with another answer, likelihood or score.
    pub different: Vec<String>,
    /// The headline of each.
    pub scores: [f64; 2],
}

impl AnswerDiff {
    /// Compares two sets of answers by the ids of their questions.
    pub fn new(a: &Results, b: &Results) -> Self {
        let others: HashMap<&str, &Row> = b.rows.iter().map(|row| (row.id.as_str(), row)).collect();
        let common: Vec<(&Row, &Row)> =
            a.rows.iter().filter_map(|row| Some((row, *others.get(row.id.as_str())?))).collect();
        AnswerDiff {
            common: common.len(),
            questions: [a.rows.len(), b.rows.len()],
            different: common.iter().filter(|(x, y)| !is_same(x, y)).map(|(x, _)| x.id.clone()).collect(),
            scores: [a.score(), b.score()],
        }
    }

    /// Whether there is something to compare, and it is the same.
    pub fn same(&self) -> bool {
        self.common > 0 && self.different.is_empty()
    }
}

fn is_same(a: &Row, b: &Row) -> bool {
    let of = |row: &Row| (row.prompt.clone(), row.output.clone(), row.extracted.clone(), row.gold.clone());
    of(a) == of(b) && a.likelihoods == b.likelihoods && a.score.to_bits() == b.score.to_bits()
}

impl fmt::Display for AnswerDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, after] = self.questions;
        match self.different.first() {
            None if self.common == 0 => f.write_str("no question in common")?,
            None => write!(f, "answers agree over {} questions", self.common)?,
            Some(first) => {
                let ([x, y], n) = (self.scores, self.different.len());
                write!(f, "{n} of {} answers differ, the first is `{first}`; scores {x:.4} and {y:.4}", self.common)?;
            }
        }
        if before != after {
            write!(f, " (one answers {before}, the other {after})")?;
        }
        Ok(())
    }
}
