//! The tables of a study: scores as papers show them (a row per LLM and encoder, a column per benchmark), and the effect
//! of each axis.

use super::effects::{ALPHA, Effect};
use super::folder::Folder;
use super::grid::{Grid, Pair};
use crate::error::Result;
use crate::eval::stats::{exchange, holm, interval};
use crate::eval::{Published, PublishedModel};
use crate::show::{Cell, Table, p_value};

/// The mark of a score that cannot be told apart from the best.
const TIE: &str = "\u{2248}";

/// One column of scores.
struct Column {
    name: String,
    /// One benchmark, or all that are scored, for their mean.
    which: Vec<usize>,
    points: bool,
}

/// A score of the table before it is formatted.
struct Score {
    value: f64,
    text: String,
    best: bool,
    tie: bool,
}

impl Folder {
    /// The table of scores: a row per LLM and encoder, a column per benchmark and one for their mean. A score is the mean over
    /// seeds with its standard deviation over them and the 95 % interval over images; the best is bold, and scores that cannot
    /// be told apart from it have a mark. Published scores of the same parts are below a row, those of trivial answerers at the
    /// end.
    ///
    /// # Errors
    /// `Data` when results cannot be pooled.
    pub fn table(&self) -> Result<Table> {
        let grid = Grid::new(self);
        let (columns, pairs) = (self.columns(&grid), grid.pairs());
        let scores = scores(&grid, &columns, &pairs)?;
        let published = Published::open("llava-more")?;
        let mut table = Table::new(format!("study: {}", self.record().about)).column("LLM").column("encoder");
        for column in &columns {
            table = table.number(column.name.as_str());
        }
        for (row, pair) in pairs.iter().enumerate() {
            let mut cells = vec![Cell::from(pair.llm.as_str()), Cell::from(pair.encoder.as_str())];
            cells.extend(scores.iter().map(|column| spelled(column[row].as_ref(), column)));
            table.push(cells);
            if let Some(model) = published.of_parts(&pair.encoder, &pair.llm) {
                self.published_row(&mut table, model, &columns);
            }
        }
        self.baseline_rows(&mut table, &columns);
        let seeds = self.seeds(&grid, &columns, &pairs);
        Ok(table.note(self.notes(&scores, &seeds).join("\n")))
    }

    fn columns(&self, grid: &Grid) -> Vec<Column> {
        let record = self.record();
        let one = |benchmark: usize| Column {
            name: record.benchmarks[benchmark].clone(),
            which: vec![benchmark],
            points: self.in_points(benchmark),
        };
        let mut columns: Vec<Column> = (0..record.benchmarks.len()).map(one).collect();
        if grid.scored.len() > 1 {
            columns.push(Column { name: "mean".to_string(), which: grid.scored.clone(), points: false });
        }
        columns
    }

    /// Whether a benchmark's score is in points instead of a fraction.
    pub(super) fn in_points(&self, benchmark: usize) -> bool {
        self.example(benchmark).is_some_and(|results| results.scorer.metric().is_points())
    }

    fn published_row(&self, table: &mut Table, model: &PublishedModel, columns: &[Column]) {
        let value = |column: &Column| match column.which[..] {
            [benchmark] => model.headline(&self.record().benchmarks[benchmark]),
            _ => None,
        };
        if columns.iter().all(|column| value(column).is_none()) {
            return;
        }
        // Published scores are about all questions.
        let whole = self.record().limit.is_none();
        let label = if whole { "published" } else { "published, all questions" };
        let mut cells = vec![Cell::from(label), Cell::from(model.name.as_str())];
        cells.extend(columns.iter().map(|column| plain(value(column), column.points)));
        table.push(cells);
    }

    fn baseline_rows(&self, table: &mut Table, columns: &[Column]) {
        let record = self.record();
        let names: std::collections::BTreeSet<&String> = record.baselines.values().flat_map(|of| of.keys()).collect();
        for name in names {
            let value = |column: &Column| match column.which[..] {
                [benchmark] => record.baselines.get(&record.benchmarks[benchmark])?.get(name).copied(),
                _ => None,
            };
            let mut cells = vec![Cell::from("baseline"), Cell::from(name.as_str())];
            cells.extend(columns.iter().map(|column| plain(value(column), column.points)));
            table.push(cells);
        }
    }

    /// How many seeds are in the scores of each row: the smallest and the largest number over its columns.
    fn seeds(&self, grid: &Grid, columns: &[Column], pairs: &[Pair]) -> Vec<(String, usize, usize)> {
        let counts = |pair: &Pair| {
            let of = columns.iter().map(|column| grid.whole(&pair.cells, &column.which).len());
            let counts: Vec<usize> = of.filter(|count| *count > 0).collect();
            let name = self.record().pair_name(&pair.encoder, &pair.llm);
            Some((name, counts.iter().copied().min()?, counts.iter().copied().max()?))
        };
        pairs.iter().filter_map(counts).collect()
    }

    fn notes(&self, scores: &[Vec<Option<Score>>], seeds: &[(String, usize, usize)]) -> Vec<String> {
        let record = self.record();
        let mut notes = Vec::new();
        let over = over_seeds(record.seeds.len(), seeds);
        let ties = scores.iter().flatten().flatten().any(|score| score.tie);
        let mark =
            if ties { format!("; {TIE} is not told apart from it (paired by image, Holm)") } else { String::new() };
        notes.push(format!("percent, {over}95 % interval over images; bold is the best of a column{mark}"));
        let (done, cells) = (record.finished(), record.cells.len());
        if done < cells {
            let is_failed = |cell: &&super::StudyCell| cell.error.is_some() && !record.left(cell).is_empty();
            let failed = record.cells.iter().filter(is_failed).count();
            let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
            notes.push(format!("{done} of {cells} cells are done{failed}"));
        }
        if let Some(limit) = record.limit {
            notes.push(format!("the first {limit} questions of each benchmark"));
        }
        notes
    }

    /// The effect of each axis: one value against another, averaged over the other axes, on the mean of the benchmarks
    /// and on each. The interval is paired by image, p is corrected (Holm); then the smallest difference that would be
    /// found in 80 % of the cases, and the standard error over seeds.
    ///
    /// # Errors
    /// `Data` when results cannot be pooled.
    pub fn differences(&self) -> Result<Table> {
        let grid = Grid::new(self);
        let (headline, single) = (grid.headline_effects()?, grid.single_effects()?);
        let mut table = Table::new(format!("differences: {}", self.record().about))
            .column("first")
            .column("second")
            .column("benchmark")
            .number("difference")
            .column("95 % interval")
            .number("p (Holm)")
            .number("detectable")
            .number("over seeds")
            .column("");
        for effect in headline.iter().chain(&single) {
            table.push(self.effect_row(effect));
        }
        Ok(table.note(match headline.is_empty() {
            true => "nothing to compare yet: an axis needs two values with results",
            false => "in points; positive where the first is better; averaged over the rest of the grid",
        }))
    }

    fn effect_row(&self, effect: &Effect) -> Vec<Cell> {
        let points = effect.benchmark.is_some_and(|benchmark| self.in_points(benchmark));
        let paired = &effect.contrast.paired;
        let number = |value: f64| Cell::of(shown(value, points), value);
        let ends = paired
            .interval
            .map_or(String::new(), |ends| format!("{} to {}", signed(ends.low, points), signed(ends.high, points)));
        let verdict = match (effect.is_found(), effect.is_within_seeds()) {
            (false, _) => "not told apart",
            (true, true) => "within seeds",
            (true, false) => "",
        };
        let found = effect.is_found() && !effect.is_within_seeds();
        let ahead = paired.difference > 0.0;
        vec![
            Cell::from(effect.first.as_str()).bold_if(found && ahead),
            Cell::from(effect.second.as_str()).bold_if(found && !ahead),
            Cell::from(effect.benchmark.map_or("mean", |benchmark| &self.record().benchmarks[benchmark])),
            Cell::of(signed(paired.difference, points), paired.difference),
            ends.into(),
            Cell::of(p_value(effect.p), effect.p),
            effect.detectable(points).map_or(Cell::from("unknown"), number),
            effect.contrast.seeds.map_or(Cell::from(""), |seeds| number(seeds.error)),
            Cell::from(verdict),
        ]
    }
}

/// What the scores are averaged over: the seeds that are done, which need not be all.
fn over_seeds(all: usize, seeds: &[(String, usize, usize)]) -> String {
    let spread = "\u{b1} their standard deviation";
    let counts = || seeds.iter().flat_map(|(_, least, most)| [*least, *most]);
    let same = counts().min().filter(|least| counts().max() == Some(*least));
    match same {
        _ if all < 2 => String::new(),
        Some(1) => format!("mean over 1 of {all} seeds, "),
        Some(done) if done < all => format!("mean over {done} of {all} seeds {spread}, "),
        Some(_) => format!("mean over {all} seeds {spread}, "),
        None if seeds.is_empty() => String::new(),
        None => {
            let of = |(name, least, most): &(String, usize, usize)| match least == most {
                true => format!("{least} of {all} for {name}"),
                false => format!("{least} to {most} of {all} for {name}"),
            };
            let few: Vec<String> = seeds.iter().filter(|(_, least, _)| *least < all).map(of).collect();
            format!("mean over the seeds that are done {spread} ({}), ", few.join("; "))
        }
    }
}

/// The scores by column and row, with the best of each column and those that cannot be told apart from it: each is
/// compared with the best on the same questions, and p is corrected over the whole table.
fn scores(grid: &Grid, columns: &[Column], pairs: &[Pair]) -> Result<Vec<Vec<Option<Score>>>> {
    let mut table = Vec::with_capacity(columns.len());
    let (mut compared, mut raw) = (Vec::new(), Vec::new());
    for (number, column) in columns.iter().enumerate() {
        let mut scores = pairs.iter().map(|pair| score(grid, column, pair)).collect::<Result<Vec<_>>>()?;
        let value = |row: usize| scores[row].as_ref().map(|score| (row, score.value));
        let known: Vec<(usize, f64)> = (0..pairs.len()).filter_map(value).collect();
        let best = known.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(row, _)| *row);
        for (row, _) in known {
            let Some(best) = best.filter(|best| *best != row) else { continue };
            let cells = grid.matched(&pairs[best].cells, &pairs[row].cells);
            let both = cells.iter().filter(|(a, b)| grid.whole(&[*a, *b], &column.which).len() == 2);
            let (a, b): (Vec<usize>, Vec<usize>) = both.copied().unzip();
            if let (Some(a), Some(b)) = (grid.pooled(&a, &column.which)?, grid.pooled(&b, &column.which)?) {
                compared.push((number, row));
                raw.push(exchange(&a, &b));
            } else if let Some(score) = &mut scores[row] {
                // Without a seed that both have they cannot be compared yet.
                score.tie = true;
            }
        }
        table.push(scores);
        if let Some(score) = best.and_then(|best| table[number][best].as_mut()) {
            score.best = pairs.len() > 1;
        }
    }
    for ((column, row), p) in compared.into_iter().zip(holm(&raw)) {
        if let Some(score) = &mut table[column][row] {
            score.tie = p >= ALPHA;
        }
    }
    Ok(table)
}

fn score(grid: &Grid, column: &Column, pair: &Pair) -> Result<Option<Score>> {
    let Some(groups) = grid.pooled(&pair.cells, &column.which)? else { return Ok(None) };
    let value = groups.value();
    let mut text = shown(value, column.points);
    if let Some(spread) = grid.spread(&pair.cells, &column.which)? {
        text += &format!(" \u{b1}{}", shown(spread, column.points));
    }
    if let Some(ends) = interval(&groups) {
        text += &format!(" ({} to {})", shown(ends.low, column.points), shown(ends.high, column.points));
    }
    Ok(Some(Score { value, text, best: false, tie: false }))
}

fn spelled(score: Option<&Score>, column: &[Option<Score>]) -> Cell {
    let Some(score) = score else { return Cell::of("", serde_json::Value::Null) };
    // Padded, so that numbers are aligned.
    let end = match column.iter().flatten().any(|score| score.tie) {
        true if score.tie => format!(" {TIE}"),
        true => "  ".to_string(),
        false => String::new(),
    };
    Cell::of(format!("{}{end}", score.text), score.value).bold_if(score.best)
}

fn plain(value: Option<f64>, points: bool) -> Cell {
    value.map_or(Cell::of("", serde_json::Value::Null), |value| Cell::of(shown(value, points), value))
}

/// A fraction in percent without the sign, or points.
pub(super) fn shown(value: f64, points: bool) -> String {
    format!("{:.1}", if points { value } else { 100.0 * value })
}

/// The same with an explicit sign.
pub(super) fn signed(value: f64, points: bool) -> String {
    let text = shown(value.abs(), points);
    match value {
        _ if text == "0.0" => text,
        value if value < 0.0 => format!("\u{2212}{text}"),
        _ => format!("+{text}"),
    }
}
