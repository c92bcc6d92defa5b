//! Intervals. Questions about one image are not independent, so resampling is by image.

use std::collections::BTreeMap;

use crate::rng::Rng;

const RESAMPLES: u64 = 1000;

/// 95 % bootstrap interval of a mean, resampling whole groups; `None` for fewer than two groups.
pub fn clustered_interval(scores: &[(String, f64)]) -> Option<(f64, f64)> {
    let mut groups: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (group, score) in scores {
        let entry = groups.entry(group).or_default();
        entry.0 += score;
        entry.1 += 1.0;
    }
    let groups: Vec<(f64, f64)> = groups.into_values().collect();
    if groups.len() < 2 {
        return None;
    }
    let rng = Rng::new(0, "bootstrap");
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|resample| {
            let draws = rng.split(resample);
            let (mut sum, mut count) = (0.0, 0.0);
            for i in 0..groups.len() as u64 {
                let (group_sum, group_count) = groups[(draws.bits(i) % groups.len() as u64) as usize];
                sum += group_sum;
                count += group_count;
            }
            sum / count
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |quantile: f64| means[(quantile * (means.len() - 1) as f64).round() as usize];
    Some((at(0.025), at(0.975)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_widen_the_interval() {
        // 100 images, 10 questions each, all questions of an image right or wrong together.
        let together: Vec<(String, f64)> =
            (0..1000).map(|i| (format!("{}", i / 10), f64::from(u8::from((i / 10) % 2 == 0)))).collect();
        let apart: Vec<(String, f64)> = together.iter().enumerate().map(|(i, (_, s))| (i.to_string(), *s)).collect();
        let width = |scores: &[(String, f64)]| clustered_interval(scores).map(|(low, high)| high - low).unwrap();
        // Standard errors 0.5 / sqrt(100) and 0.5 / sqrt(1000); an interval is 3.92 of them wide.
        assert!((width(&together) - 0.196).abs() < 0.03, "{}", width(&together));
        assert!((width(&apart) - 0.062).abs() < 0.01, "{}", width(&apart));
    }
}
