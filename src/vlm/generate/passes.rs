//! Which prompts go through the LLM together. A matrix product computes few rows by another code path than many, but
//! within a code path a row's sums do not depend on the other rows (`nn/ops/cpu/matrix.rs`). So prompts share a pass where each
//! alone would take the same code path, and no bit of their logits changes.

use crate::nn::ops::{FEW_QUANTIZED_ROWS, FEW_ROWS, PASS_ROWS};
use crate::vlm::Llm;

/// The code paths of an LLM's matrix products, told apart by the number of rows.
pub(super) struct Passes {
    /// The most rows that each code path takes, ascending. The last code path takes any number and is not in it.
    limits: &'static [usize],
}

impl Passes {
    pub(super) fn new(llm: &Llm) -> Self {
        let quantized = llm.params.iter().any(|param| param.blocks().is_some());
        Passes { limits: if quantized { &[FEW_QUANTIZED_ROWS, FEW_ROWS] } else { &[FEW_ROWS] } }
    }

    /// The most sequences in a pass. Each gives one row of logits, so all of these are computed by the first code path, as
    /// is everything of sequences that go on by one token.
    pub(super) fn decoded(&self) -> usize {
        self.limits[0]
    }

    /// Orders prompts so that those which share a pass stand side by side, and gives the size of each pass.
    pub(super) fn split<T>(&self, prompts: &mut [T], rows: impl Fn(&T) -> usize) -> Vec<usize> {
        let path = |rows: usize| self.limits.iter().filter(|limit| rows > **limit).count();
        prompts.sort_by_key(|prompt| path(rows(prompt)));
        let mut sizes: Vec<usize> = Vec::new();
        let (mut last, mut total) = (0, 0);
        for rows in prompts.iter().map(rows) {
            let room = self.limits.get(path(rows)).copied().unwrap_or(PASS_ROWS);
            total += rows;
            match sizes.last_mut() {
                Some(size) if path(rows) == last && total <= room && *size < self.decoded() => *size += 1,
                _ => {
                    sizes.push(1);
                    total = rows;
                }
            }
            last = path(rows);
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_share_a_pass_where_each_alone_takes_the_same_code_path() {
        let split = |limits: &'static [usize], mut lengths: Vec<usize>| {
            let sizes = Passes { limits }.split(&mut lengths, |length| *length);
            (lengths, sizes)
        };
        assert_eq!(split(&[16], vec![40, 5, 50, 60, 6, 7, 300]), (vec![5, 6, 7, 40, 50, 60, 300], vec![2, 1, 2, 1, 1]));
        assert_eq!(split(&[8, 16], vec![9, 3, 7, 4, 17]), (vec![3, 7, 4, 9, 17], vec![1, 1, 1, 1, 1]));
        assert_eq!(split(&[8, 16], vec![1; 17]).1, [8, 8, 1]);
        assert_eq!(split(&[16], Vec::new()).1, [0; 0]);
    }
}
