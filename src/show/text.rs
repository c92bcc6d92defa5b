//! Two output formats of a table: aligned text and HTML, both fed by `Table::walk`.
//! Widths are terminal columns, in which a CJK character takes two.

use super::table::{Align, Cell, Column, Sink, Table};

const BOLD: &str = "\u{1b}[1m";
const DIM: &str = "\u{1b}[2m";
const RESET: &str = "\u{1b}[0m";
/// Terminal columns between two cells.
const GAP: usize = 2;
/// The smallest width to which a column of text is cut.
const NARROWEST: usize = 8;

impl Table {
    /// Aligned text, starting with the size. With a `width` in terminal columns, long cells are cut, columns that still do not
    /// fit are left out and the middle of a long table is left out; a line says so in each case. Without a `width` everything
    /// is written. `color` allows ANSI bold and dim.
    pub fn text(&self, width: Option<usize>, color: bool) -> String {
        let mut sink = Text::new(self, width, color);
        self.walk(&mut sink, width.map(|_| 40));
        sink.finish()
    }

    /// An HTML `<table>` that needs no style sheet.
    pub fn html(&self) -> String {
        let mut sink = Html::new();
        self.walk(&mut sink, Some(200));
        sink.finish()
    }
}

/// Aligned text for a terminal or a pipe.
pub(super) struct Text {
    out: String,
    widths: Vec<usize>,
    hidden: Vec<String>,
    limit: Option<usize>,
    color: bool,
}

impl Text {
    pub(super) fn new(table: &Table, limit: Option<usize>, color: bool) -> Self {
        let natural = |i: usize| {
            let cells = table.rows.iter().map(|row| one_line(&row[i].text)).map(|text| display_width(&text));
            cells.chain([display_width(&table.columns[i].name)]).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..table.columns.len()).map(natural).collect();
        if let Some(limit) = limit {
            fit(&mut widths, &table.columns, limit);
        }
        let hidden = table.columns[widths.len()..].iter().map(|column| column.name.clone()).collect();
        Text { out: String::new(), widths, hidden, limit, color }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    fn line(&mut self, text: &str, style: &str) {
        let text = self.limit.map_or(text.to_string(), |limit| cut(text, limit));
        let text = text.trim_end();
        if self.color && !style.is_empty() {
            self.out.push_str(&format!("{style}{text}{RESET}\n"));
        } else {
            self.out.push_str(&format!("{text}\n"));
        }
    }

    fn cells<'a>(&mut self, cells: impl Iterator<Item = (&'a str, Align, bool)>) {
        let mut line = String::new();
        for (i, ((text, align, bold), width)) in cells.zip(&self.widths).enumerate() {
            let text = cut(&one_line(text), *width);
            let padding = " ".repeat(width.saturating_sub(display_width(&text)));
            let text = if bold && self.color { format!("{BOLD}{text}{RESET}") } else { text };
            line.push_str(&" ".repeat(if i == 0 { 0 } else { GAP }));
            match align {
                Align::Left => line.extend([text, padding]),
                Align::Right => line.extend([padding, text]),
            }
        }
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }
}

impl Sink for Text {
    fn start(&mut self, shape: &str, title: Option<&str>) {
        let line = title.map_or(shape.to_string(), |title| format!("{shape}: {title}"));
        self.line(&line, DIM);
    }

    fn heading(&mut self, columns: &[Column]) {
        self.cells(columns.iter().map(|column| (column.name.as_str(), column.align, true)));
        let rules: Vec<String> = self.widths.iter().map(|width| "\u{2500}".repeat(*width)).collect();
        self.line(&rules.join(&" ".repeat(GAP)), DIM);
    }

    fn row(&mut self, columns: &[Column], cells: &[Cell]) {
        self.cells(columns.iter().zip(cells).map(|(column, cell)| (cell.text.as_str(), column.align, cell.bold)));
    }

    fn gap(&mut self, _columns: usize, rows: usize) {
        self.line(&format!("\u{2026} {rows} more rows"), DIM);
    }

    fn end(&mut self, note: Option<&str>) {
        if !self.hidden.is_empty() {
            let plural = if self.hidden.len() == 1 { "" } else { "s" };
            let names = self.hidden.join(", ");
            self.line(&format!("\u{2026} {} more column{plural}: {names}", self.hidden.len()), DIM);
        }
        if let Some(note) = note {
            note.lines().for_each(|line| self.line(line, DIM));
        }
    }
}

/// A `<table>` that looks right in any HTML viewer.
pub(super) struct Html {
    out: String,
}

impl Html {
    pub(super) fn new() -> Self {
        Html { out: String::from("<table>\n") }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }
}

impl Sink for Html {
    fn start(&mut self, shape: &str, title: Option<&str>) {
        let title = title.map_or(String::new(), |title| format!("<b>{}</b> ", escape(title)));
        self.out.push_str(&format!("<caption style=\"text-align:left\">{title}{shape}</caption>\n"));
    }

    fn heading(&mut self, columns: &[Column]) {
        self.out.push_str("<thead><tr>");
        for column in columns {
            self.out.push_str(&format!("<th{}>{}</th>", style(column.align), escape(&column.name)));
        }
        self.out.push_str("</tr></thead>\n<tbody>\n");
    }

    fn row(&mut self, columns: &[Column], cells: &[Cell]) {
        self.out.push_str("<tr>");
        for (column, cell) in columns.iter().zip(cells) {
            let text = escape(&cell.text).replace('\n', "<br>");
            let text = if cell.bold { format!("<b>{text}</b>") } else { text };
            self.out.push_str(&format!("<td{}>{text}</td>", style(column.align)));
        }
        self.out.push_str("</tr>\n");
    }

    fn gap(&mut self, columns: usize, rows: usize) {
        self.out.push_str(&format!("<tr><td colspan=\"{columns}\">&hellip; {rows} more rows</td></tr>\n"));
    }

    fn end(&mut self, note: Option<&str>) {
        self.out.push_str("</tbody>\n</table>\n");
        if let Some(note) = note {
            self.out.push_str(&format!("<p><small>{}</small></p>\n", escape(note).replace('\n', "<br>")));
        }
    }
}

fn style(align: Align) -> &'static str {
    match align {
        Align::Left => " style=\"text-align:left\"",
        Align::Right => " style=\"text-align:right\"",
    }
}

/// Text escaped for use between tags and in attributes; control characters are replaced.
pub(super) fn escape(text: &str) -> String {
    let known = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    let text: String = text.chars().map(|c| if known(c) { c } else { '\u{fffd}' }).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Narrows the widest columns until the line fits into `limit`, then drops columns from the right.
fn fit(widths: &mut Vec<usize>, columns: &[Column], limit: usize) {
    let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
    while total(widths) > limit {
        let wide = |i: &usize| widths[*i] > NARROWEST && columns[*i].align == Align::Left;
        match (0..widths.len()).filter(wide).max_by_key(|i| widths[*i]) {
            Some(widest) => widths[widest] -= 1,
            None if widths.len() > 1 => drop(widths.pop()),
            None => {
                widths.iter_mut().for_each(|width| *width = limit);
                return;
            }
        }
    }
}

/// The text with line breaks and tabs replaced by spaces.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The text cut to `width` terminal columns, with an ellipsis where it was cut.
fn cut(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_string();
    }
    let mut kept = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += char_width(c);
        if used > width {
            break;
        }
        kept.push(c);
    }
    kept.push('\u{2026}');
    kept
}

/// The number of terminal columns that `text` takes.
pub(super) fn display_width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    match c as u32 {
        0x0300..=0x036f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
        0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}
