//! Galleries of a page: questions as cards, each with its pictures, the model's answer, the right answer and how the
//! score came about. Pictures are embedded, small enough to keep the file small.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::picture::Picture;
use super::super::text::escape;
use crate::error::Result;

/// The longer side of an embedded picture, in pixels.
const LARGEST: usize = 336;

/// A gallery of questions.
#[derive(Clone, Debug, Default)]
pub struct Gallery {
    /// The heading above the cards, where a section has several galleries.
    pub title: String,
    pub cards: Vec<Card>,
    /// What is left out, and why.
    pub note: String,
}

/// One question.
#[derive(Clone, Debug, Default)]
pub struct Card {
    pub id: String,
    pub category: String,
    pub right: bool,
    pub question: String,
    pub output: String,
    pub gold: String,
    /// How the output led to the score, in words.
    pub why: String,
    /// The question's picture first, then maps of it.
    pub shots: Vec<Shot>,
}

/// A picture with a caption.
#[derive(Clone)]
pub struct Shot {
    pub picture: Picture,
    pub caption: String,
}

impl std::fmt::Debug for Shot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shot({} x {}, {:?})", self.picture.width, self.picture.height, self.caption)
    }
}

/// Writes a gallery with its filters.
pub(super) fn write(gallery: &Gallery, out: &mut String) -> Result<()> {
    let wrong = gallery.cards.iter().filter(|card| !card.right).count();
    out.push_str("<div class=\"gallery\">\n");
    if !gallery.title.is_empty() {
        out.push_str(&format!("<h3>{}</h3>\n", escape(&gallery.title)));
    }
    tools(gallery, wrong, out);
    if !gallery.note.is_empty() {
        out.push_str(&format!("<p class=\"note\">{}</p>\n", escape(&gallery.note)));
    }
    out.push_str("<ul class=\"cards\">\n");
    for card in &gallery.cards {
        write_card(card, out)?;
    }
    out.push_str("</ul>\n</div>\n");
    Ok(())
}

/// Buttons that choose wrong, right or all answers, and a list of categories. They are hidden where scripts are off.
fn tools(gallery: &Gallery, wrong: usize, out: &mut String) {
    let right = gallery.cards.len() - wrong;
    let mut categories: Vec<&str> = gallery.cards.iter().map(|card| card.category.as_str()).collect();
    categories.sort_unstable();
    categories.dedup();
    categories.retain(|category| !category.is_empty());
    out.push_str("<div class=\"tools\" hidden>\n<div class=\"choice\" role=\"group\" aria-label=\"answers\">");
    for (name, count) in [("wrong", wrong), ("right", right), ("all", wrong + right)] {
        out.push_str(&format!(
            "<button type=\"button\" data-show=\"{name}\" aria-pressed=\"false\">{name} <small>{count}</small></button>"
        ));
    }
    out.push_str("</div>\n");
    if categories.len() > 1 {
        out.push_str("<label>category <select><option value=\"\">all</option>");
        for category in categories {
            let category = escape(category);
            out.push_str(&format!("<option value=\"{category}\">{category}</option>"));
        }
        out.push_str("</select></label>\n");
    }
    out.push_str("<span class=\"shown\" role=\"status\"></span>\n</div>\n");
}

fn write_card(card: &Card, out: &mut String) -> Result<()> {
    let (verdict, mark) = if card.right { ("right", "&#10003;") } else { ("wrong", "&#10007;") };
    let category = escape(&card.category);
    out.push_str(&format!("<li class=\"card {verdict}\" data-category=\"{category}\">\n<article>\n"));
    if !card.shots.is_empty() {
        out.push_str("<div class=\"shots\">");
        for shot in &card.shots {
            write_shot(shot, &card.id, out)?;
        }
        out.push_str("</div>\n");
    }
    out.push_str(&format!("<p class=\"question\">{}</p>\n", escape(&card.question)));
    out.push_str(&format!(
        "<dl><div class=\"output\"><dt>answer</dt><dd><span class=\"mark\" title=\"{verdict}\">{mark}</span> {}</dd></div>\
         <div><dt>gold</dt><dd>{}</dd></div></dl>\n",
        or_nothing(&card.output),
        or_nothing(&card.gold)
    ));
    out.push_str(&format!("<details><summary>why</summary><pre>{}</pre></details>\n", escape(&card.why)));
    let separator = if category.is_empty() { "" } else { " &middot; " };
    out.push_str(&format!("<p class=\"id\">{category}{separator}{}</p>\n</article>\n</li>\n", escape(&card.id)));
    Ok(())
}

fn or_nothing(text: &str) -> String {
    if text.trim().is_empty() { "<i>nothing</i>".to_string() } else { escape(text) }
}

fn write_shot(shot: &Shot, id: &str, out: &mut String) -> Result<()> {
    let picture = fitted(&shot.picture);
    // Few pixels are to be seen as pixels, not smoothed.
    let hard = if picture.width.max(picture.height) <= 128 { " class=\"hard\"" } else { "" };
    let (width, height) = (picture.width, picture.height);
    let alt = escape(&format!("{} of question {id}", if shot.caption.is_empty() { "picture" } else { &shot.caption }));
    let (kind, data) = encoded(&picture)?;
    out.push_str(&format!(
        "<figure><img{hard} src=\"data:image/{kind};base64,{}\" alt=\"{alt}\" width=\"{width}\" height=\"{height}\">",
        STANDARD.encode(data)
    ));
    if !shot.caption.is_empty() {
        out.push_str(&format!("<figcaption>{}</figcaption>", escape(&shot.caption)));
    }
    out.push_str("</figure>");
    Ok(())
}

/// The picture as pages show it: its longer side at most 336 pixels.
pub fn fitted(picture: &Picture) -> Picture {
    let longest = picture.width.max(picture.height);
    if longest <= LARGEST {
        return picture.clone();
    }
    let scaled = |side: usize| (side * LARGEST).div_ceil(longest).max(1);
    picture.scaled(scaled(picture.width), scaled(picture.height))
}

/// PNG, or JPEG where the PNG would be large (a photograph).
fn encoded(picture: &Picture) -> Result<(&'static str, Vec<u8>)> {
    const LARGE: usize = 48 << 10;
    let png = picture.png()?;
    match png.len() {
        0..=LARGE => Ok(("png", png)),
        _ => Ok(("jpeg", picture.jpeg()?)),
    }
}
