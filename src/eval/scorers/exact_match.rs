//! Exact match after trimming, lower-casing and dropping a final full stop.

use super::Verdict;

/// 1 when output and answer agree, else 0.
pub(super) fn score(output: &str, answer: &str) -> Verdict {
    let (extracted, gold) = (normalized(output), normalized(answer));
    let score = if extracted == gold { 1.0 } else { 0.0 };
    let sign = if extracted == gold { "==" } else { "!=" };
    let why = format!("output {output:?} -> {extracted:?} {sign} {gold:?} -> {score}");
    Verdict { extracted, score, why }
}

fn normalized(text: &str) -> String {
    text.trim().trim_end_matches('.').trim_end().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_space_and_a_full_stop_do_not_matter() {
        assert_eq!(score(" Yes.\n", "yes").score, 1.0);
        assert_eq!(score("yes it is", "yes").score, 0.0);
        assert_eq!(score("", "yes").why, "output \"\" -> \"\" != \"yes\" -> 0");
    }
}
