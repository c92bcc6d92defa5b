//! Tables of a page: written by `Table::walk` so that a click on a heading sorts by the values of the cells.

use super::super::table::Sink;
use super::super::table::{Align, Cell, Column, Table};
use super::super::text::escape;

/// The largest number of rows that are written.
const ROWS: usize = 500;

/// Cells of at most this many characters are not wrapped.
const SHORT: usize = 28;

/// A table in a box of its own that scrolls sideways on narrow screens.
pub(super) fn write(table: &Table, out: &mut String) {
    let mut sink = Sortable { out, label: table.title.as_deref().unwrap_or("table") };
    table.walk(&mut sink, Some(ROWS));
}

struct Sortable<'a> {
    out: &'a mut String,
    label: &'a str,
}

impl Sink for Sortable<'_> {
    fn start(&mut self, shape: &str, title: Option<&str>) {
        let label = escape(self.label);
        self.out.push_str(&format!(
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{label}\">\n<table>\n"
        ));
        let title = title.map_or(String::new(), |title| format!("<b>{}</b> ", escape(title)));
        self.out.push_str(&format!("<caption><span>{title}<small>{shape}</small></span></caption>\n"));
    }

    fn heading(&mut self, columns: &[Column]) {
        self.out.push_str("<thead><tr>");
        for column in columns {
            self.out.push_str(&format!("<th scope=\"col\"{}>{}</th>", class(column.align), escape(&column.name)));
        }
        self.out.push_str("</tr></thead>\n<tbody>\n");
    }

    fn row(&mut self, columns: &[Column], cells: &[Cell]) {
        self.out.push_str("<tr>");
        for (place, (column, cell)) in columns.iter().zip(cells).enumerate() {
            let class = match column.align {
                // Short cells are not wrapped, except in the first column, which stays visible on a narrow screen.
                Align::Left if place > 0 && cell.text.chars().count() <= SHORT => " class=\"s\"",
                align => class(align),
            };
            let value = cell.value.as_f64().map_or(String::new(), |value| format!(" data-v=\"{value}\""));
            let indent = cell.text.len() - cell.text.trim_start_matches(' ').len();
            let text = format!("{}{}", "&nbsp;".repeat(indent), escape(&cell.text[indent..]).replace('\n', "<br>"));
            let text = if cell.bold { format!("<b>{text}</b>") } else { text };
            self.out.push_str(&format!("<td{class}{value}>{text}</td>"));
        }
        self.out.push_str("</tr>\n");
    }

    fn gap(&mut self, columns: usize, rows: usize) {
        self.out
            .push_str(&format!("<tr class=\"gap\"><td colspan=\"{columns}\">&hellip; {rows} more rows</td></tr>\n"));
    }

    fn end(&mut self, note: Option<&str>) {
        self.out.push_str("</tbody>\n</table>\n</div>\n");
        if let Some(note) = note {
            self.out.push_str(&format!("<p class=\"note\">{}</p>\n", escape(note).replace('\n', "<br>")));
        }
    }
}

fn class(align: Align) -> &'static str {
    match align {
        Align::Left => "",
        Align::Right => " class=\"n\"",
    }
}
