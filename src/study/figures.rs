//! The figures of a study: bars with intervals, and a radar chart, both over benchmarks.

use super::folder::Folder;
use super::grid::Grid;
use crate::error;
use crate::error::Result;
use crate::eval::stats::interval;
use crate::show::{Bar, Figure, GroupedBars, Radar};

impl Folder {
    /// Bars with 95 % intervals: a group per benchmark, a bar per encoder and LLM. Scores in points are shown as percent of
    /// the maximum.
    ///
    /// # Errors
    /// `Data` when no cell is done.
    pub fn bars(&self) -> Result<Figure> {
        let grid = self.measured()?;
        let pairs = grid.pairs();
        let bar = |cells: &[usize], benchmark: usize| -> Result<Option<Bar>> {
            let Some(groups) = grid.pooled(cells, &[benchmark])? else { return Ok(None) };
            let percent = |value: f64| 100.0 * value / groups.scale;
            let ends = interval(&groups).map(|ends| (percent(ends.low), percent(ends.high)));
            Ok(Some(Bar { value: percent(groups.value()), interval: ends }))
        };
        let groups = grid.scored.iter().map(|benchmark| {
            let bars = pairs.iter().map(|pair| bar(&pair.cells, *benchmark)).collect::<Result<_>>()?;
            Ok((self.record().benchmarks[*benchmark].clone(), bars))
        });
        Figure::grouped_bars(&GroupedBars {
            groups: groups.collect::<Result<_>>()?,
            series: pairs.iter().map(|pair| self.record().pair_name(&pair.encoder, &pair.llm)).collect(),
            title: self.title(),
            x: self.axis(&grid),
        })
    }

    /// A radar chart over benchmarks: a line per encoder and LLM, in percent of the maximum.
    ///
    /// # Errors
    /// `Data` when no cell is done, or for fewer than three benchmarks.
    pub fn radar(&self) -> Result<Figure> {
        let grid = self.measured()?;
        if grid.scored.len() < 3 {
            return Err(error!(Data, "a radar chart needs three benchmarks, this study has {}", grid.scored.len())
                .help("`bars()` draws any number"));
        }
        let mut series = Vec::new();
        for pair in grid.pairs() {
            let value = |benchmark: &usize| -> Result<f64> {
                let groups = grid.pooled(&pair.cells, &[*benchmark])?;
                Ok(groups.map_or(f64::NAN, |groups| 100.0 * groups.value() / groups.scale))
            };
            let values = grid.scored.iter().map(value).collect::<Result<Vec<_>>>()?;
            if values.iter().any(|value| value.is_finite()) {
                series.push((self.record().pair_name(&pair.encoder, &pair.llm), values));
            }
        }
        Figure::radar(&Radar {
            axes: grid.scored.iter().map(|benchmark| self.record().benchmarks[*benchmark].clone()).collect(),
            series,
            title: self.title(),
            note: self.axis(&grid),
        })
    }

    fn measured(&self) -> Result<Grid<'_>> {
        let grid = Grid::new(self);
        if grid.scored.is_empty() {
            return Err(error!(Data, "no cell of the study in `{}` has results yet", self.dir().display())
                .help("`run()` makes them"));
        }
        Ok(grid)
    }

    fn title(&self) -> String {
        let record = self.record();
        match (record.encoders.len(), record.llms.len()) {
            (_, 1) => format!("Encoders with {}", record.llms[0]),
            (1, _) => format!("LLMs with {}", record.encoders[0]),
            (encoders, llms) => format!("{encoders} encoders with {llms} LLMs"),
        }
    }

    fn axis(&self, grid: &Grid) -> String {
        let record = self.record();
        let points = grid.scored.iter().any(|benchmark| self.in_points(*benchmark));
        let of = if points { " (of the most points there are)" } else { "" };
        let done = grid.pairs().into_iter().map(|pair| grid.whole(&pair.cells, &grid.scored).len());
        let done: Vec<usize> = done.filter(|count| *count > 0).collect();
        let (least, most, all) = (done.iter().min(), done.iter().max(), record.seeds.len());
        let seeds = match (least, most) {
            _ if all < 2 => String::new(),
            (Some(least), Some(most)) if least == most && *least == all => format!(", mean of {all} seeds"),
            (Some(least), Some(most)) if least == most => format!(", mean of {least} of {all} seeds"),
            (Some(least), Some(most)) => format!(", mean of {least} to {most} of {all} seeds"),
            _ => String::new(),
        };
        format!("percent{of}{seeds}")
    }
}
