//! The frame of a page: head, table of contents, headlines, sections. Style and script are files under
//! `stdlib/report/`; a content policy names the hash of the script, so that no other one runs and nothing is loaded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::super::text::escape;
use super::theme::Colors;
use super::{Block, Page, gallery, table};
use crate::error::Result;

const STYLE: &str = include_str!("../../../stdlib/report/page.css");
const SCRIPT: &str = include_str!("../../../stdlib/report/page.js");
/// The script that runs before the page is painted: sets the theme chosen last time, and marks that scripts are on.
const EARLY: &str = include_str!("../../../stdlib/report/early.js");

pub(super) fn write(page: &Page) -> Result<String> {
    let mut colors = Colors::default();
    let mut body = String::new();
    for (number, section) in page.sections.iter().enumerate() {
        let title = escape(&section.title);
        body.push_str(&format!(
            "<section id=\"s{number}\" aria-labelledby=\"h{number}\">\n<h2 id=\"h{number}\">{title}</h2>\n"
        ));
        for block in &section.blocks {
            write_block(block, &mut colors, &mut body)?;
        }
        body.push_str("</section>\n");
    }
    let [light, dark] = colors.css();
    let title = escape(&page.title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"generator\" content=\"llmore {}\">\n\
         <title>{title}</title>\n<style>\n{STYLE}\n:root{{{light}}}\n\
         @media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n\
         :root[data-theme=dark]{{{dark}}}\n@media print{{:root:root:root{{{light}}}}}\n</style>\n\
         <script>{EARLY}</script>\n</head>\n<body>\n",
        policy(),
        crate::build::VERSION,
    );
    header(page, &title, &mut out);
    out.push_str("<main>\n");
    out.push_str(&body);
    out.push_str(&format!(
        "</main>\n<footer>made by llmore {}; this file loads nothing</footer>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        crate::build::VERSION
    ));
    Ok(out)
}

/// Title, what it is about, the headlines and the table of contents.
fn header(page: &Page, title: &str, out: &mut String) {
    out.push_str(&format!("<header>\n<h1>{title}</h1>\n"));
    for line in &page.about {
        out.push_str(&format!("<p class=\"about\">{}</p>\n", escape(line)));
    }
    if !page.headlines.is_empty() {
        out.push_str("<dl class=\"headlines\">\n");
        for headline in &page.headlines {
            out.push_str(&format!(
                "<div><dt>{}</dt><dd>{}</dd><dd class=\"note\">{}</dd></div>\n",
                escape(&headline.label),
                escape(&headline.value),
                escape(&headline.note)
            ));
        }
        out.push_str("</dl>\n");
    }
    out.push_str("</header>\n<nav aria-label=\"contents\"><div><ul>");
    for (number, section) in page.sections.iter().enumerate() {
        out.push_str(&format!("<li><a href=\"#s{number}\">{}</a></li>", escape(&section.title)));
    }
    out.push_str("</ul><button type=\"button\" id=\"theme\" hidden>dark</button></div></nav>\n");
}

fn write_block(block: &Block, colors: &mut Colors, out: &mut String) -> Result<()> {
    match block {
        Block::Note(text) => out.push_str(&format!("<p>{}</p>\n", escape(text).replace('\n', "<br>"))),
        Block::List(items) => {
            let items: String = items.iter().map(|item| format!("<li>{}</li>\n", escape(item))).collect();
            out.push_str(&format!("<ul class=\"list\">\n{items}</ul>\n"));
        }
        Block::Figures(figures) => {
            out.push_str("<div class=\"figures\">\n");
            for figure in figures {
                // A wide figure keeps its text readable on a phone and scrolls.
                let wide = if figure.scene.width > 480.0 { " wide" } else { "" };
                let svg = colors.svg(figure)?;
                out.push_str(&format!("<div class=\"figure{wide}\">{svg}</div>\n"));
            }
            out.push_str("</div>\n");
        }
        Block::Table(content) => table::write(content, out),
        Block::Gallery(content) => gallery::write(content, out)?,
        Block::Text { title, text } => out.push_str(&format!(
            "<details class=\"text\"><summary>{}</summary><pre>{}</pre></details>\n",
            escape(title),
            escape(text)
        )),
    }
    Ok(())
}

/// The content policy: nothing is loaded, styles are those of the page, and only its two scripts run.
fn policy() -> String {
    let hash = |script: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(script)));
    format!(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {} {}; base-uri 'none'; form-action 'none'",
        hash(EARLY),
        hash(SCRIPT)
    )
}
