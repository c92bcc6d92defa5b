//! The statistics of a grid: results pooled over seeds (and over the other axis), compared pair by pair on the same
//! questions. A question's score becomes its mean over the pooled cells; images are resampled, with all their questions.

use super::folder::Folder;
use crate::error::Result;
use crate::eval::shared;
use crate::eval::stats::{Groups, Paired, paired, t_quantile};

/// Sums per group of every complete result.
pub(super) struct Grid<'a> {
    pub folder: &'a Folder,
    /// By cell and benchmark.
    groups: Vec<Vec<Option<Groups>>>,
    /// Benchmarks with scores.
    pub scored: Vec<usize>,
}

/// One encoder with one LLM.
pub(super) struct Pair {
    pub encoder: String,
    pub llm: String,
    /// Its cells, one per seed.
    pub cells: Vec<usize>,
}

/// The comparison of two models, or of two values of an axis averaged over the other axes.
pub(super) struct Contrast {
    /// First minus second.
    pub paired: Paired,
    /// Questions that both sides answered.
    pub questions: usize,
    /// How much the difference varies with the seed, where there are several.
    pub seeds: Option<Seeds>,
}

/// How much a mean difference varies with the choice of seeds.
#[derive(Clone, Copy)]
pub(super) struct Seeds {
    /// Its standard error.
    pub error: f64,
    /// The margin that the error exceeds in one of 20 choices of seeds: Student's t with as many degrees of freedom as there are
    /// seeds beyond the first of each pair of models.
    pub margin: f64,
}

impl<'a> Grid<'a> {
    pub(super) fn new(folder: &'a Folder) -> Self {
        let (cells, benchmarks) = (folder.record().cells.len(), folder.record().benchmarks.len());
        let scored = folder.scored();
        // Cells of an older version may group questions by picture differently.
        let all = |benchmark| (0..cells).filter_map(|cell| folder.results(cell, benchmark)).collect::<Vec<_>>();
        let shared: Vec<_> = (0..benchmarks).map(|benchmark| shared(&all(benchmark))).collect();
        let groups = |cell: usize, benchmark: usize| {
            let results = folder.results(cell, benchmark).filter(|_| scored.contains(&benchmark))?;
            Some(shared[benchmark].as_ref().map_or_else(|| results.groups(), |groups| results.groups_by(groups)))
        };
        let groups =
            (0..cells).map(|cell| (0..benchmarks).map(|benchmark| groups(cell, benchmark)).collect()).collect();
        Grid { folder, groups, scored }
    }

    /// The rows of the table: LLM by LLM.
    pub(super) fn pairs(&self) -> Vec<Pair> {
        let record = self.folder.record();
        let mut pairs = Vec::new();
        for llm in &record.llms {
            for encoder in &record.encoders {
                let mine = |cell: &usize| record.cells[*cell].encoder == *encoder && record.cells[*cell].llm == *llm;
                let cells = (0..record.cells.len()).filter(mine).collect();
                pairs.push(Pair { encoder: encoder.clone(), llm: llm.clone(), cells });
            }
        }
        pairs
    }

    /// Whether a cell has complete results for all of the given benchmarks.
    fn has(&self, cell: usize, which: &[usize]) -> bool {
        !which.is_empty() && which.iter().all(|benchmark| self.groups[cell][*benchmark].is_some())
    }

    /// Those of the given cells that have complete results for all of the given benchmarks.
    pub(super) fn whole(&self, cells: &[usize], which: &[usize]) -> Vec<usize> {
        cells.iter().copied().filter(|cell| self.has(*cell, which)).collect()
    }

    /// The results of some cells on some benchmarks as one; several benchmarks have the mean of their metrics.
    pub(super) fn pooled(&self, cells: &[usize], which: &[usize]) -> Result<Option<Groups>> {
        let cells = self.whole(cells, which);
        if cells.is_empty() {
            return Ok(None);
        }
        let of = |benchmark: &usize| {
            let all: Vec<&Groups> = cells.iter().filter_map(|cell| self.groups[*cell][*benchmark].as_ref()).collect();
            Groups::pooled(&all)
        };
        let mut pooled = which.iter().map(of).collect::<Result<Vec<_>>>()?;
        Ok(if pooled.len() == 1 { pooled.pop() } else { Some(Groups::stacked(&pooled)) })
    }

    /// Compares the first cells of some pairs with the second ones, pooled over the pairs of which both are complete.
    pub(super) fn contrast(&self, pairs: &[(usize, usize)], which: &[usize]) -> Result<Option<Contrast>> {
        let whole = |(a, b): &&(usize, usize)| self.has(*a, which) && self.has(*b, which);
        let pairs: Vec<(usize, usize)> = pairs.iter().filter(whole).copied().collect();
        let (firsts, seconds): (Vec<usize>, Vec<usize>) = pairs.iter().copied().unzip();
        let (Some(first), Some(second)) = (self.pooled(&firsts, which)?, self.pooled(&seconds, which)?) else {
            return Ok(None);
        };
        let rows = |benchmark: &usize| self.folder.results(firsts[0], *benchmark).map_or(0, |r| r.rows.len());
        Ok(Some(Contrast {
            paired: paired(&second, &first)?,
            questions: which.iter().map(rows).sum(),
            seeds: self.over_seeds(&pairs, which)?,
        }))
    }

    /// The variance over seeds of the mean difference over pairs: the variance within groups that differ in the seed only,
    /// divided by the number of pairs.
    fn over_seeds(&self, pairs: &[(usize, usize)], which: &[usize]) -> Result<Option<Seeds>> {
        let cells = &self.folder.record().cells;
        let mut by_model: std::collections::BTreeMap<[&str; 4], Vec<f64>> = std::collections::BTreeMap::new();
        for (a, b) in pairs {
            let (first, second) = (&cells[*a], &cells[*b]);
            let key = [&first.encoder, &first.llm, &second.encoder, &second.llm].map(String::as_str);
            let (Some(x), Some(y)) = (self.pooled(&[*a], which)?, self.pooled(&[*b], which)?) else { continue };
            by_model.entry(key).or_default().push(x.value() - y.value());
        }
        let variances: Vec<f64> = by_model.values().filter_map(|values| variance(values)).collect();
        if variances.is_empty() || variances.len() < by_model.len() {
            return Ok(None);
        }
        let mean = variances.iter().sum::<f64>() / variances.len() as f64;
        let error = (mean / pairs.len() as f64).sqrt();
        let freedom: usize = by_model.values().map(|values| values.len() - 1).sum();
        Ok(Some(Seeds { error, margin: t_quantile(freedom as f64) * error }))
    }

    /// The standard deviation over the seeds of some cells; `None` for a single seed.
    pub(super) fn spread(&self, cells: &[usize], which: &[usize]) -> Result<Option<f64>> {
        let mut values = Vec::new();
        for cell in cells {
            values.extend(self.pooled(&[*cell], which)?.map(|groups| groups.value()));
        }
        Ok(variance(&values).map(f64::sqrt))
    }

    /// The cells of two rows that have the same seed.
    pub(super) fn matched(&self, a: &[usize], b: &[usize]) -> Vec<(usize, usize)> {
        let cells = &self.folder.record().cells;
        let same = |x: usize| b.iter().find(|y| cells[**y].seed == cells[x].seed).map(|y| (x, *y));
        a.iter().filter_map(|x| same(*x)).collect()
    }
}

/// The sample variance.
fn variance(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    Some(values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64)
}
