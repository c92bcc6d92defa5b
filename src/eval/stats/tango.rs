//! Tango's score interval for the difference of two proportions in paired data (Statistics in Medicine 17, 1998). It has
//! width where no pair differs, and keeps within -1 and 1.

use super::{Interval, Z};

/// Halvings of the range in which an end lies; 2^-60 is less than an f64 tells apart here.
const HALVINGS: usize = 60;

/// The 95 % interval of second minus first, from the pairs in which only the first, and only the second is right, of all
/// pairs. The counts need not be whole.
pub fn tango(only_first: f64, only_second: f64, pairs: f64) -> Interval {
    let seen = (only_second - only_first) / pairs;
    // The score statistic falls as the difference that is tried rises.
    let end = |mut low: f64, mut high: f64, target: f64| {
        for _ in 0..HALVINGS {
            let middle = low.midpoint(high);
            match statistic((only_second, only_first), pairs, middle) > target {
                true => low = middle,
                false => high = middle,
            }
        }
        low.midpoint(high)
    };
    Interval { low: end(-1.0, seen, Z), high: end(seen, 1.0, -Z) }
}

/// How many standard errors a difference `d` lies below what was seen, the errors those that hold if `d` is true.
fn statistic((gains, losses): (f64, f64), pairs: f64, d: f64) -> f64 {
    // The share of losses that is likeliest under `d` solves a quadratic equation.
    let b = (2.0 * pairs - gains + losses) * d - gains - losses;
    let root = (b * b + 8.0 * pairs * losses * d * (1.0 - d)).max(0.0).sqrt();
    let losses_then = (root - b) / (4.0 * pairs);
    let variance = pairs * (2.0 * losses_then + d * (1.0 - d));
    let distance = gains - losses - pairs * d;
    // Where nothing can vary, any distance is too far.
    if variance > 0.0 { distance / variance.sqrt() } else { distance.signum() * f64::MAX * f64::from(distance != 0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Values of `tango_scc_paired_ci(.., c=0)` in evalstats 0.3.3, and of the equation solved by hand where nothing
    // differs: z^2 / (n + z^2).
    #[test]
    fn ends_are_those_of_another_implementation() {
        let cases = [
            ((0.0, 0.0, 40.0), (-8.76, 8.76)),
            ((40.0, 0.0, 40.0), (-100.0, -82.48)),
            ((0.0, 40.0, 40.0), (82.48, 100.0)),
            ((30.0, 0.0, 30.0), (-100.0, -77.3)),
            ((0.0, 1.0, 40.0), (-6.48, 12.88)),
            ((3.0, 9.0, 30.0), (-2.88, 41.17)),
            ((25.0, 7.0, 100.0), (-28.75, -7.33)),
        ];
        for ((first, second, pairs), (low, high)) in cases {
            let got = tango(first, second, pairs);
            let near = |a: f64, percent: f64| (100.0 * a - percent).abs() < 0.006;
            assert!(near(got.low, low) && near(got.high, high), "{first} {second} {pairs}: {got:?}");
        }
    }
}
