//! Sufficient statistics: per group a few sums, and the function that turns their totals into a metric.

use std::collections::BTreeMap;

use crate::bail;
use crate::error::Result;

/// What totals become.
#[derive(Clone, Debug, PartialEq)]
pub enum Finish {
    /// `[score, questions]`: a mean.
    Ratio,
    /// `[true positives, false positives, false negatives]`.
    F1,
    /// For each of the categories `[points, images]`: the sum over categories of points per image.
    Points(usize),
    /// The mean of several metrics, each as a share of the largest value it can have.
    Mean(Vec<(Finish, f64)>),
}

/// Where a group stands among several benchmarks: the benchmark and its stratum.
type Place = (usize, u32);

/// Fewer groups than this are no stratum of their own.
const FEW: usize = 5;

/// The groups of one result: images, or questions where images are not shared.
#[derive(Clone, Debug)]
pub struct Groups {
    pub finish: Finish,
    /// Names; two results with the same names in the same order can be paired.
    pub names: Vec<String>,
    /// `width` sums per group.
    pub sums: Vec<f64>,
    /// Sampling keeps the number of groups of each stratum: the categories of MME. 0 where there is one stratum.
    pub strata: Vec<u32>,
    /// Largest value the metric can have.
    pub scale: f64,
}

impl Finish {
    /// Sums per group.
    pub fn width(&self) -> usize {
        match self {
            Finish::Ratio => 2,
            Finish::F1 => 3,
            Finish::Points(categories) => 2 * categories,
            Finish::Mean(parts) => parts.iter().map(|(part, _)| part.width()).sum(),
        }
    }

    /// The metric; 0 where there is nothing to divide by.
    pub fn value(&self, totals: &[f64]) -> f64 {
        let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        match (self, totals) {
            (Finish::Ratio, &[sum, count, ..]) => ratio(sum, count),
            (Finish::F1, &[hits, false_alarms, misses, ..]) => ratio(2.0 * hits, 2.0 * hits + false_alarms + misses),
            (Finish::Points(_), totals) => totals.chunks_exact(2).map(|pair| ratio(pair[0], pair[1])).sum(),
            (Finish::Mean(parts), totals) => {
                let (mut rest, mut sum) = (totals, 0.0);
                for (part, largest) in parts {
                    let (own, later) = rest.split_at_checked(part.width()).unwrap_or((rest, &[]));
                    sum += part.value(own) / largest;
                    rest = later;
                }
                ratio(sum, parts.len() as f64)
            }
            _ => 0.0,
        }
    }
}

impl Groups {
    /// Adds rows up: `(group, stratum, sums)`.
    pub fn collect<'a>(finish: Finish, scale: f64, rows: impl Iterator<Item = (&'a str, u32, Vec<f64>)>) -> Self {
        let mut groups: BTreeMap<(u32, &str), Vec<f64>> = BTreeMap::new();
        for (name, stratum, sums) in rows {
            let totals = groups.entry((stratum, name)).or_insert_with(|| vec![0.0; finish.width()]);
            totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        let mut collected = Groups { finish, names: Vec::new(), sums: Vec::new(), strata: Vec::new(), scale };
        for ((stratum, name), sums) in groups {
            collected.names.push(name.to_string());
            collected.strata.push(stratum);
            collected.sums.extend(sums);
        }
        collected
    }

    /// The same groups in the order of their strata and keys: rounding and resampling go by the order of groups.
    pub fn ordered(self, key: impl Fn(&str) -> String) -> Groups {
        let keyed = |group: usize| (self.strata[group], key(&self.names[group]), group);
        let mut order: Vec<(u32, String, usize)> = (0..self.len()).map(keyed).collect();
        order.sort_unstable();
        let order = || order.iter().map(|(_, _, group)| *group);
        Groups {
            names: order().map(|group| self.names[group].clone()).collect(),
            sums: order().flat_map(|group| self.of(group).iter().copied()).collect(),
            strata: order().map(|group| self.strata[group]).collect(),
            ..self.clone()
        }
    }

    /// Several results on the same questions added up, so that a question's score is its mean over them: seeds, or what a
    /// comparison averages over. Every metric is a ratio of sums, so nothing has to be divided.
    ///
    /// # Errors
    /// `Data` when they do not have the same groups.
    pub fn pooled(all: &[&Groups]) -> Result<Groups> {
        let Some((first, others)) = all.split_first() else { bail!(Data, "there are no results to pool") };
        let mut pooled = (*first).clone();
        for other in others {
            if other.names != first.names || other.finish != first.finish {
                let (a, b) = (first.len(), other.len());
                bail!(Data, "results over {a} and {b} groups of questions cannot be pooled: they are not the same");
            }
            pooled.sums.iter_mut().zip(&other.sums).for_each(|(sum, more)| *sum += more);
        }
        Ok(pooled)
    }

    /// The results of several benchmarks as one, whose metric is the mean of theirs. Groups of one name are one group:
    /// benchmarks may ask about the same pictures. Sampling keeps how many groups each combination of benchmarks has.
    pub fn stacked(all: &[Groups]) -> Groups {
        let finish = Finish::Mean(all.iter().map(|groups| (groups.finish.clone(), groups.scale)).collect());
        let width = finish.width();
        // Per name the sums, and in which benchmark and stratum it stands.
        let mut rows: BTreeMap<&str, (Vec<f64>, Vec<Place>)> = BTreeMap::new();
        let mut offset = 0;
        for (number, groups) in all.iter().enumerate() {
            for (group, name) in groups.names.iter().enumerate() {
                let (sums, places) = rows.entry(name).or_insert_with(|| (vec![0.0; width], Vec::new()));
                sums[offset..].iter_mut().zip(groups.of(group)).for_each(|(total, sum)| *total += sum);
                places.push((number, groups.strata[group]));
            }
            offset += groups.finish.width();
        }
        let mut counts: BTreeMap<Vec<Place>, usize> = BTreeMap::new();
        rows.values().for_each(|(_, places)| *counts.entry(places.clone()).or_default() += 1);
        // A combination with hardly any group shows no spread of its own; such groups are sampled together.
        let strata: Vec<_> = counts.into_iter().filter(|(_, count)| *count >= FEW).map(|(places, _)| places).collect();
        let mut stacked = Groups { finish, names: Vec::new(), sums: Vec::new(), strata: Vec::new(), scale: 1.0 };
        for (name, (sums, places)) in rows {
            stacked.names.push(name.to_string());
            stacked.sums.extend(sums);
            stacked.strata.push(strata.binary_search(&places).unwrap_or(strata.len()) as u32);
        }
        stacked
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The metric over all groups.
    pub fn value(&self) -> f64 {
        self.finish.value(&self.totals())
    }

    /// The sums of a group.
    pub(super) fn of(&self, group: usize) -> &[f64] {
        let width = self.finish.width();
        &self.sums[group * width..(group + 1) * width]
    }

    pub(super) fn totals(&self) -> Vec<f64> {
        let mut totals = vec![0.0; self.finish.width()];
        for group in 0..self.len() {
            totals.iter_mut().zip(self.of(group)).for_each(|(total, sum)| *total += sum);
        }
        totals
    }

    /// The metric without each group in turn.
    pub(super) fn left_out(&self) -> Vec<f64> {
        let totals = self.totals();
        let without = |group| {
            let rest: Vec<f64> = totals.iter().zip(self.of(group)).map(|(total, sum)| total - sum).collect();
            self.finish.value(&rest)
        };
        (0..self.len()).map(without).collect()
    }

    /// Positions of the groups of each stratum.
    pub(super) fn by_stratum(&self) -> Vec<Vec<usize>> {
        let mut strata: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (group, stratum) in self.strata.iter().enumerate() {
            strata.entry(*stratum).or_default().push(group);
        }
        strata.into_values().collect()
    }
}

/// The jackknife's standard error of values that each leave one group out, and its degrees of freedom.
pub(super) fn jackknife(left_out: &[f64], strata: &[Vec<usize>]) -> (f64, f64) {
    let (mut variance, mut freedom) = (0.0, 0.0);
    for stratum in strata.iter().filter(|stratum| stratum.len() > 1) {
        let count = stratum.len() as f64;
        let mean = stratum.iter().map(|group| left_out[*group]).sum::<f64>() / count;
        let spread: f64 = stratum.iter().map(|group| (left_out[*group] - mean).powi(2)).sum();
        variance += (count - 1.0) / count * spread;
        freedom += count - 1.0;
    }
    (variance.sqrt(), freedom)
}
