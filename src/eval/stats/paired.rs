//! Two models on the same questions. The difference's interval is Tango's where every group is one question of an accuracy,
//! else a bootstrap over groups, stratified as the metric is, its quantiles moved outwards as far as Student's t asks for the
//! number of groups; where hardly any group differs, also as far as Tango's interval with a pair a group. Its p value comes from
//! exchanging the two models' answers group by group, which is exact for any metric when the models do not differ.

use rayon::prelude::*;

use super::groups::{Finish, jackknife};
use super::{Groups, Interval, SAME, Z, normal_cdf, t_quantile, tango};
use crate::error;
use crate::error::Result;
use crate::rng::Rng;

/// Bootstrap samples.
const RESAMPLES: u64 = 2_000;
/// Random exchanges for the p value.
const EXCHANGES: u64 = 10_000;
/// Up to this many groups that differ every exchange is looked at.
const EXACT: usize = 13;
/// Below this many groups that differ a bootstrap draws none of them, or the same ones, too often.
const FEW: usize = 10;

/// How two results differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Paired {
    /// Second minus first.
    pub difference: f64,
    pub interval: Option<Interval>,
    /// Two-sided, of no difference.
    pub p: f64,
    /// The jackknife's standard error of the difference.
    pub error: f64,
}

/// Compares two results group by group.
///
/// # Errors
/// `Data` when they do not have the same groups.
pub fn paired(first: &Groups, second: &Groups) -> Result<Paired> {
    if first.names != second.names || first.finish != second.finish {
        return Err(error!(
            Data,
            "results over {} and {} groups of questions cannot be paired: they are not the same",
            first.len(),
            second.len()
        ));
    }
    let left_out: Vec<f64> = first.left_out().iter().zip(second.left_out()).map(|(a, b)| b - a).collect();
    let (error, _) = jackknife(&left_out, &first.by_stratum());
    let (interval, p) = (difference(first, second), exchange(first, second));
    Ok(Paired { difference: second.value() - first.value(), interval, p, error })
}

/// The 95 % interval of the difference of two results with the same groups; `None` for fewer than two groups.
pub fn difference(first: &Groups, second: &Groups) -> Option<Interval> {
    if first.len() < 2 {
        return None;
    }
    let pairs = first.len() as f64;
    let interval = match discordant(first, second) {
        Some((a, b)) => tango(a as f64, b as f64, pairs),
        None => {
            let (mut interval, differing) = (bootstrap(first, second), differing(first, second));
            let width = (interval.high - interval.low) / first.scale;
            if differing.len() < FEW || width <= SAME {
                let wide = by_groups(first, second, &differing);
                interval = interval.with(wide.low).with(wide.high);
            }
            interval
        }
    };
    Some(interval.with(second.value() - first.value()))
}

/// Tango's interval with a pair a group. What a group adds to the difference is half of what exchanging its answers
/// changes; that a pair is either the same or differs wholly makes it the widest of intervals with this difference.
fn by_groups(first: &Groups, second: &Groups, differing: &[usize]) -> Interval {
    let (scale, groups) = (first.scale, first.len() as f64);
    let (a, b) = (first.totals(), second.totals());
    let seen = (first.finish.value(&b) - first.finish.value(&a)) / scale;
    let share = |group: &usize| {
        let (mut a, mut b) = (a.clone(), b.clone());
        for (place, (x, y)) in first.of(*group).iter().zip(second.of(*group)).enumerate() {
            a[place] += y - x;
            b[place] += x - y;
        }
        (seen - (first.finish.value(&b) - first.finish.value(&a)) / scale).abs() / 2.0
    };
    let moved = differing.iter().map(share).sum::<f64>().clamp(seen.abs(), 1.0);
    let wide = tango(groups * (moved - seen) / 2.0, groups * (moved + seen) / 2.0, groups);
    Interval { low: scale * wide.low, high: scale * wide.high }
}

/// Groups in which the two results differ.
fn differing(first: &Groups, second: &Groups) -> Vec<usize> {
    (0..first.len()).filter(|group| first.of(*group) != second.of(*group)).collect()
}

/// The bootstrap interval of the difference of two results with the same groups, at least two of them.
pub fn bootstrap(first: &Groups, second: &Groups) -> Interval {
    let rng = Rng::new(0, "bootstrap");
    let strata = first.by_stratum();
    let width = first.finish.width();
    let mut values: Vec<f64> = (0..RESAMPLES)
        .into_par_iter()
        .map(|resample| {
            let (draws, mut draw) = (rng.split(resample), 0);
            let mut totals = vec![0.0; 2 * width];
            for stratum in &strata {
                for _ in stratum {
                    let group = stratum[below(draws.bits(draw), stratum.len())];
                    draw += 1;
                    let both = first.of(group).iter().chain(second.of(group));
                    totals.iter_mut().zip(both).for_each(|(total, sum)| *total += sum);
                }
            }
            first.finish.value(&totals[width..]) - first.finish.value(&totals[..width])
        })
        .collect();
    values.sort_by(f64::total_cmp);
    // Plain percentiles are too narrow for few groups (Hesterberg 2015, "expanded percentile").
    let freedom: usize = strata.iter().map(|stratum| stratum.len() - 1).sum();
    let few = (1.0 + strata.len() as f64 / freedom.max(1) as f64).sqrt();
    let tail = normal_cdf(-(few * t_quantile(freedom as f64)).max(Z));
    let at = |quantile: f64| {
        let place = quantile * (values.len() - 1) as f64;
        let (below, rest) = (place.floor() as usize, place.fract());
        values[below] + rest * (values[(below + 1).min(values.len() - 1)] - values[below])
    };
    Interval { low: at(tail), high: at(1.0 - tail) }
}

/// A number below `n` from 64 bits.
fn below(bits: u64, n: usize) -> usize {
    ((u128::from(bits) * n as u128) >> 64) as usize
}

/// The share of exchanges that differ at least as much as what was seen.
pub fn exchange(first: &Groups, second: &Groups) -> f64 {
    let width = first.finish.width();
    // Groups that agree cannot change anything.
    let differing = differing(first, second);
    let (first_totals, second_totals) = (first.totals(), second.totals());
    let seen = (second.value() - first.value()).abs();
    // What moves from the second to the first when a group is exchanged.
    let moves: Vec<f64> =
        differing.iter().flat_map(|group| second.of(*group).iter().zip(first.of(*group)).map(|(b, a)| b - a)).collect();
    let exchanged = |is_exchanged: &dyn Fn(usize) -> bool| {
        let (mut a, mut b) = (first_totals.clone(), second_totals.clone());
        for (_, change) in moves.chunks_exact(width).enumerate().filter(|(i, _)| is_exchanged(*i)) {
            a.iter_mut().zip(change).for_each(|(total, change)| *total += change);
            b.iter_mut().zip(change).for_each(|(total, change)| *total -= change);
        }
        (first.finish.value(&b) - first.finish.value(&a)).abs()
    };
    let tolerance = 1e-9 * first.scale;
    let counts = |difference: f64| u64::from(difference >= seen - tolerance);
    if differing.len() <= EXACT {
        let all = 1u64 << differing.len();
        let as_much: u64 = (0..all).map(|bits| counts(exchanged(&|i| bits >> i & 1 == 1))).sum();
        return as_much as f64 / all as f64;
    }
    let rng = Rng::new(0, "exchange");
    let as_much: u64 = (0..EXCHANGES)
        .into_par_iter()
        .map(|number| {
            let coins = rng.split(number);
            counts(exchanged(&|i| coins.bits(i as u64 / 64) >> (i % 64) & 1 == 1))
        })
        .sum();
    (as_much + 1) as f64 / (EXCHANGES + 1) as f64
}

/// For metrics that are plain accuracies of single questions: how often only the first, and only the second is right.
pub(in crate::eval) fn discordant(first: &Groups, second: &Groups) -> Option<(u64, u64)> {
    let single = |groups: &Groups| {
        groups.finish == Finish::Ratio && (0..groups.len()).all(|g| matches!(groups.of(g), [0.0 | 1.0, 1.0]))
    };
    if !single(first) || !single(second) || first.names != second.names {
        return None;
    }
    let only = |a: &Groups, b: &Groups| (0..a.len()).filter(|g| a.of(*g)[0] > b.of(*g)[0]).count() as u64;
    Some((only(first, second), only(second, first)))
}
