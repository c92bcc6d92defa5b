//! Tests of the statistics against tables and arithmetic that fits in a comment.

use super::*;

fn means(rows: &[(usize, f64)]) -> Groups {
    let names: Vec<String> = rows.iter().map(|(group, _)| format!("{group:05}")).collect();
    let rows = rows.iter().zip(&names).map(|((_, score), name)| (name.as_str(), 0, vec![*score, 1.0]));
    Groups::collect(Finish::Ratio, 1.0, rows)
}

#[test]
fn clusters_widen_the_interval() {
    // 100 images, 10 questions each, all questions of an image right or wrong together.
    let together = means(&(0..1000).map(|i| (i / 10, f64::from(u8::from((i / 10) % 2 == 0)))).collect::<Vec<_>>());
    let apart = means(&(0..1000).map(|i| (i, f64::from(u8::from((i / 10) % 2 == 0)))).collect::<Vec<_>>());
    let width = |groups| interval(groups).map(|interval| interval.high - interval.low).unwrap();
    // Standard errors 0.5 / sqrt(99) and 0.5 / sqrt(999), t of 1.984 and 1.962; log-odds shrink a little.
    assert!((width(&together) - 0.1985).abs() < 0.004, "{}", width(&together));
    assert!((width(&apart) - 0.0620).abs() < 0.001, "{}", width(&apart));
}

#[test]
fn nothing_wrong_is_not_certainty() {
    let all_right = means(&(0..50).map(|i| (i, 1.0)).collect::<Vec<_>>());
    let interval = interval(&all_right).unwrap();
    assert_eq!(interval.high, 1.0);
    // Wilson with t(49) = 2.01: n / (n + t^2).
    assert!((interval.low - 50.0 / (50.0 + 2.0096f64.powi(2))).abs() < 1e-4, "{interval:?}");
    assert_eq!(super::interval(&means(&[(0, 1.0)])), None);
}

#[test]
fn quantiles_are_those_of_tables() {
    // Printed tables of Student's t and of the normal distribution.
    for (freedom, expected) in
        [(1.0, 12.7062), (2.0, 4.3027), (3.0, 3.1824), (4.0, 2.7764), (9.0, 2.2622), (30.0, 2.0423), (1000.0, 1.9623)]
    {
        assert!((t_quantile(freedom) - expected).abs() < 0.01, "{freedom}: {}", t_quantile(freedom));
    }
    for (z, expected) in [(-1.959964, 0.025), (0.0, 0.5), (1.0, 0.841345)] {
        assert!((normal_cdf(z) - expected).abs() < 1e-6);
    }
}

#[test]
fn mcnemar_is_the_binomial_test() {
    // Twice the tail of the binomial, with Python's fractions.
    for (a, b, expected) in [(0, 0, 1.0), (1, 5, 0.21875), (2, 12, 0.012939453125), (10, 10, 1.0), (3, 0, 0.25)] {
        assert!((mcnemar(a, b) - expected).abs() < 1e-12, "{a} {b}");
    }
    // The same, and erfc((40 - 1) / sqrt(1020) / sqrt(2)).
    assert!((mcnemar(480, 520) - 0.2174).abs() < 1e-4, "{}", mcnemar(480, 520));
    assert!((mcnemar(490, 530) - 0.2221).abs() < 2e-4, "{}", mcnemar(490, 530));
}

#[test]
fn holm_keeps_the_order() {
    // Sorted: 4 * .005, 3 * .01, 2 * .03, 1 * .04 and not below the one before.
    let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
    for (got, expected) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
        assert!((got - expected).abs() < 1e-12, "{corrected:?}");
    }
}

#[test]
fn exchanging_single_questions_is_mcnemar() {
    // 30 questions, 9 of them only the second gets right, 3 only the first.
    let first = means(&(0..30).map(|i| (i, f64::from(u8::from(i < 15)))).collect::<Vec<_>>());
    let second = means(&(0..30).map(|i| (i, f64::from(u8::from((3..24).contains(&i))))).collect::<Vec<_>>());
    assert_eq!(discordant(&first, &second), Some((3, 9)));
    let exact = mcnemar(3, 9);
    let got = paired(&first, &second).unwrap();
    assert!((got.p - exact).abs() < 1e-9, "{} {exact}", got.p);
    assert!((got.difference - 0.2).abs() < 1e-12);
    let interval = got.interval.unwrap();
    assert!(interval.low < 0.0 && interval.contains(0.2) && interval.high < 0.5, "{interval:?}");
    assert_eq!(paired(&first, &first).unwrap().p, 1.0);
}

#[test]
fn what_a_benchmark_can_show() {
    // 1,000 questions, 20 % disagreement: 2.8016 * sqrt(0.2 / 1000).
    assert!((detectable_between(1000, 0.2) - 0.03962).abs() < 1e-5);
}

#[test]
fn pooling_is_the_mean_over_seeds() {
    // Two seeds on three pictures with 2, 1 and 1 questions: 3 / 4 and 1 / 4 right, together 4 / 8.
    let first = means(&[(0, 1.0), (0, 1.0), (1, 1.0), (2, 0.0)]);
    let second = means(&[(0, 0.0), (0, 1.0), (1, 0.0), (2, 0.0)]);
    let pooled = Groups::pooled(&[&first, &second]).unwrap();
    assert_eq!((pooled.value(), pooled.len()), (0.5, 3));
    assert_eq!(pooled.sums, [3.0, 4.0, 1.0, 2.0, 0.0, 2.0]);
    // Leaving a picture out: (4 - 3) / 4, (4 - 1) / 6, 4 / 6. Deviations from their mean 17 / 36: -8, 1, 7 of 36ths; with
    // n = 3 the variance is 2 / 3 * (64 + 1 + 49) / 36^2.
    let error = (2.0 / 3.0 * 114.0f64).sqrt() / 36.0;
    let nothing = means(&[(0, 0.0), (0, 0.0), (1, 0.0), (2, 0.0)]);
    let none = Groups::pooled(&[&nothing, &nothing]).unwrap();
    assert!((paired(&none, &pooled).unwrap().error - error).abs() < 1e-12);
    assert!(Groups::pooled(&[&first, &means(&[(7, 1.0)])]).is_err());
}

#[test]
fn several_benchmarks_have_the_mean_of_their_metrics() {
    let accuracy = means(&(0..20).map(|i| (i, f64::from(u8::from(i < 10)))).collect::<Vec<_>>());
    let rows = (0..20).map(|i| (format!("{i:05}"), u32::from(i % 2 == 0)));
    let points = rows.map(|(name, stratum)| (name, stratum, vec![100.0, 1.0])).collect::<Vec<_>>();
    let points = points.iter().map(|(name, stratum, sums)| (name.as_str(), *stratum, sums.clone()));
    let points = Groups::collect(Finish::Points(1), 200.0, points);
    let both = Groups::stacked(&[accuracy.clone(), points]);
    // The pictures are the same 20; half of them lie in each of the two strata.
    assert_eq!((both.value(), both.len(), both.by_stratum().len()), (0.5, 20, 2));
    // One benchmark twice over other pictures: half the variance of one.
    let renamed = Groups { names: accuracy.names.iter().map(|name| format!("x{name}")).collect(), ..accuracy.clone() };
    let error = |groups: &Groups| {
        let nothing = Groups { sums: groups.sums.chunks(2).flat_map(|s| [0.0, s[1]]).collect(), ..groups.clone() };
        paired(&nothing, groups).unwrap().error
    };
    let (one, two) = (error(&accuracy), error(&Groups::stacked(&[accuracy.clone(), renamed])));
    assert!((two / one - 0.5f64.sqrt()).abs() < 1e-9, "{one} {two}");
    // And over the same ones: no further knowledge.
    let same = error(&Groups::stacked(&[accuracy.clone(), accuracy]));
    assert!((same / one - 1.0).abs() < 1e-9, "{one} {same}");
}

#[test]
fn points_are_summed_over_categories() {
    let rows = [
        ("a", 0u32, vec![200.0, 1.0, 0.0, 0.0]),
        ("b", 0, vec![0.0, 1.0, 0.0, 0.0]),
        ("c", 1, vec![0.0, 0.0, 150.0, 1.0]),
    ];
    let groups = Groups::collect(Finish::Points(2), 400.0, rows.into_iter());
    assert_eq!(groups.value(), 250.0);
    assert!(interval(&groups).unwrap().contains(250.0));
}

#[test]
fn many_differing_groups_are_exchanged_at_random() {
    // 40 questions, 18 of which only the second gets right, 6 only the first: more than are exchanged in every way.
    let first = means(&(0..40).map(|i| (i, f64::from(u8::from(i < 10)))).collect::<Vec<_>>());
    let second = means(&(0..40).map(|i| (i, f64::from(u8::from((6..28).contains(&i))))).collect::<Vec<_>>());
    let exact = mcnemar(6, 18);
    assert_eq!(discordant(&first, &second), Some((6, 18)));
    // Four standard errors of a share of 10,000 draws.
    let (got, error) = (exchange(&first, &second), (exact * (1.0 - exact) / 1e4).sqrt());
    assert!((got - exact).abs() < 4.0 * error + 1e-4, "{got} {exact}");
    assert!((exchange(&second, &first) - exact).abs() < 4.0 * error + 1e-4);
}

#[test]
fn the_ends_of_a_difference_hold_what_was_seen() {
    // Pictures with two questions: no single pairs, so groups are drawn again. The difference is 1 / 4.
    let rows = |right: &dyn Fn(usize) -> bool| {
        means(&(0..80).map(|i| (i / 2, f64::from(u8::from(right(i))))).collect::<Vec<_>>())
    };
    let (first, second) = (rows(&|i| i % 4 == 0), rows(&|i| i % 4 < 2));
    let paired = paired(&first, &second).unwrap();
    let interval = paired.interval.unwrap();
    // Half of 40 pictures differ, by 1 of 2 questions: a standard error of sqrt(0.25 / 4 / 39) and t(39) = 2.02.
    let half = 2.02 * (0.25f64 * 0.25 / 39.0).sqrt();
    assert!((paired.difference - 0.25).abs() < 1e-12);
    assert!((paired.error - (0.25f64 * 0.25 / 39.0).sqrt()).abs() < 1e-9, "{}", paired.error);
    assert!(
        (interval.low - (0.25 - half)).abs() < 0.015 && (interval.high - (0.25 + half)).abs() < 0.015,
        "{interval:?}"
    );
    // 20 groups differ one way: of 10,000 exchanges none does as much, and what was seen counts as one more.
    assert!((paired.p - 1.0 / 10_001.0).abs() < 1e-12, "{}", paired.p);
    let back = super::paired(&second, &first).unwrap();
    assert!((back.difference + 0.25).abs() < 1e-12 && (back.p - paired.p).abs() < 0.02);
    assert!(!interval.contains(interval.low - 1e-9) && interval.contains(interval.high));
}

#[test]
fn the_jackknife_has_a_degree_of_freedom_less_in_each_stratum() {
    // Values 1, 2, 6 deviate from 3 by -2, -1, 3; values 0, 4 by -2, 2; a stratum of one says nothing.
    let (error, freedom) =
        super::groups::jackknife(&[1.0, 2.0, 6.0, 0.0, 4.0, 9.0], &[vec![0, 1, 2], vec![3, 4], vec![5]]);
    assert!((error - (2.0 / 3.0 * 14.0 + 0.5 * 8.0f64).sqrt()).abs() < 1e-12, "{error}");
    assert_eq!(freedom, 3.0);
}

#[test]
fn a_bootstrap_over_few_groups_is_as_wide_as_students_t() {
    // 12 pictures of which the second model gains 0, 1, .. 11 twelfths: the error of the mean is sqrt(143 / 11 / 12) / 12.
    let gains = |gain: f64| {
        let names: Vec<String> = (0..12).map(|group| format!("{group:02}")).collect();
        let rows = names.iter().enumerate().map(|(group, name)| (name.as_str(), 0, vec![gain * group as f64, 12.0]));
        Groups::collect(Finish::Ratio, 1.0, rows.collect::<Vec<_>>().into_iter())
    };
    let interval = bootstrap(&gains(0.0), &gains(1.0));
    let half = (interval.high - interval.low) / 2.0;
    let error = (143.0f64 / 11.0 / 12.0).sqrt() / 12.0;
    // t(11) = 2.201; plain percentiles would give 1.96 * sqrt(11 / 12) = 1.877.
    assert!((half / error - 2.201).abs() < 0.15, "{}", half / error);
}
