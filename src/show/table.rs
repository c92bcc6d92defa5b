//! A table as data: columns, rows of cells, a title and a note. `Table::walk` feeds all its output formats (`text.rs`).
//! Cells hold the text for people and the value for programs.

use serde_json::{Map, Value, json};

/// The alignment of a column's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A column's heading and alignment.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub align: Align,
}

/// One cell: its text, its machine-readable value, and whether it is bold (the best of its column).
#[derive(Clone, Debug)]
pub struct Cell {
    pub text: String,
    pub value: Value,
    pub bold: bool,
}

impl Cell {
    /// A cell that shows `text` and exports `value`: `Cell::of(percent(x), x)`.
    pub fn of(text: impl Into<String>, value: impl Into<Value>) -> Self {
        Cell { text: text.into(), value: value.into(), bold: false }
    }

    /// The same cell in bold.
    pub fn bold(self) -> Self {
        self.bold_if(true)
    }

    /// The same cell, in bold when `winner` holds.
    pub fn bold_if(mut self, winner: bool) -> Self {
        self.bold = winner;
        self
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::of(text, text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::of(text.clone(), text)
    }
}

impl From<usize> for Cell {
    fn from(n: usize) -> Self {
        Cell::of(super::count(n), n)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Cell::of(super::number(value), value)
    }
}

/// Rows under named columns, built by chained calls:
/// `Table::new("tiny-vqa").column("metric").number("score").row(["accuracy".into(), 0.82.into()]).note("n = 64")`.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub title: Option<String>,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
    pub note: Option<String>,
}

impl Table {
    /// An empty table; an empty `title` means no title.
    pub fn new(title: impl Into<String>) -> Self {
        let title = title.into();
        Table { title: (!title.is_empty()).then_some(title), ..Table::default() }
    }

    /// The table with one more left-aligned column, for text.
    pub fn column(mut self, name: impl Into<String>) -> Self {
        self.columns.push(Column { name: name.into(), align: Align::Left });
        self
    }

    /// The table with one more right-aligned column, for numbers.
    pub fn number(mut self, name: impl Into<String>) -> Self {
        self.columns.push(Column { name: name.into(), align: Align::Right });
        self
    }

    /// The table with one more row; see [`Table::push`].
    pub fn row(mut self, cells: impl IntoIterator<Item = Cell>) -> Self {
        self.push(cells);
        self
    }

    /// Adds a row. A short row is filled with empty cells; a long one adds columns without names.
    pub fn push(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut row: Vec<Cell> = cells.into_iter().collect();
        while self.columns.len() < row.len() {
            self.columns.push(Column { name: String::new(), align: Align::Left });
        }
        row.resize(self.columns.len(), Cell::of("", Value::Null));
        self.rows.push(row);
    }

    /// The table with a line below it.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// The size in words: `9 rows x 4 columns`.
    pub fn shape(&self) -> String {
        let plural = |n: usize, thing: &str| format!("{n} {thing}{}", if n == 1 { "" } else { "s" });
        format!("{} x {}", plural(self.rows.len(), "row"), plural(self.columns.len(), "column"))
    }

    /// `{title, columns, rows: [{column: value}], note}`; values are numbers where the cells hold numbers.
    pub fn json(&self) -> Value {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let object = |row: &Vec<Cell>| -> Map<String, Value> {
            let cells = row.iter().map(|cell| cell.value.clone());
            names.iter().map(|name| name.to_string()).zip(cells).collect()
        };
        let rows: Vec<_> = self.rows.iter().map(object).collect();
        json!({ "title": self.title, "columns": names, "rows": rows, "note": self.note })
    }

    /// The traversal that all formats share: size and title, heading, rows without the middle of more than `limit`, note.
    pub(super) fn walk(&self, sink: &mut dyn Sink, limit: Option<usize>) {
        sink.start(&self.shape(), self.title.as_deref());
        sink.heading(&self.columns);
        let (head, tail) = match limit {
            Some(limit) if self.rows.len() > limit => (limit * 3 / 4, limit / 4),
            _ => (self.rows.len(), 0),
        };
        let rest = self.rows.len() - tail;
        self.rows[..head].iter().for_each(|row| sink.row(&self.columns, row));
        if rest > head {
            sink.gap(self.columns.len(), rest - head);
        }
        self.rows[rest..].iter().for_each(|row| sink.row(&self.columns, row));
        sink.end(self.note.as_deref());
    }
}

/// What a walk over a table writes to.
pub(super) trait Sink {
    fn start(&mut self, shape: &str, title: Option<&str>);
    fn heading(&mut self, columns: &[Column]);
    fn row(&mut self, columns: &[Column], cells: &[Cell]);
    fn gap(&mut self, columns: usize, rows: usize);
    fn end(&mut self, note: Option<&str>);
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let title = self.title.as_ref().map_or(String::new(), |title| format!("{title}, "));
        write!(f, "Table({title}{})", self.shape())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores() -> Table {
        Table::new("tiny-vqa")
            .column("metric")
            .number("score")
            .row(["accuracy".into(), Cell::of("82.3 %", 0.823).bold()])
            .row(["f1 <macro>".into(), 0.7.into()])
            .note("n = 64")
    }

    #[test]
    fn text_is_aligned_with_the_shape_first() {
        let rule = "\u{2500}";
        let expected = format!(
            "2 rows x 2 columns: tiny-vqa\n\
             metric       score\n{}  {}\naccuracy    82.3 %\nf1 <macro>     0.7\nn = 64\n",
            rule.repeat(10),
            rule.repeat(6)
        );
        assert_eq!(scores().text(None, false), expected);
        let colored = scores().text(Some(80), true);
        assert!(colored.contains("\u{1b}[1m82.3 %\u{1b}[0m"), "{colored}");
    }

    #[test]
    fn html_escapes_and_marks_the_winner() {
        let html = scores().html();
        assert!(html.contains("f1 &lt;macro&gt;"), "{html}");
        assert!(html.contains("<td style=\"text-align:right\"><b>82.3 %</b></td>"), "{html}");
    }

    #[test]
    fn json_keeps_numbers() {
        let value = scores().json();
        assert_eq!(value["rows"][0]["score"], 0.823);
        assert_eq!(value["rows"][1]["metric"], "f1 <macro>");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut table = Table::new("").column("id").column("question").number("score").column("a long tail");
        for i in 0..100usize {
            table.push([i.into(), "what color is the shape? ".repeat(8).into(), 0.5.into(), "\u{4e2d}\u{6587}".into()]);
        }
        for width in [24, 40, 80] {
            let text = table.text(Some(width), false);
            let widest = text.lines().map(crate::show::text::display_width).max();
            assert!(widest <= Some(width), "{width}: {text}");
            assert!(text.contains("60 more rows"), "{text}");
        }
        assert!(table.text(Some(24), false).contains("more column"));
        assert_eq!(table.text(None, false).lines().count(), 103);
    }
}
