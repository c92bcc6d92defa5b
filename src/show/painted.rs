//! Text with highlighted parts: what is supervised in a sample, where its image is. One list of spans is shown in the
//! terminal, in the notebook and, with brackets in place of color, everywhere else.

use super::text::escape;

const RESET: &str = "\u{1b}[0m";

/// The style of a span of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Dimmed: context that is not supervised.
    Quiet,
    /// Supervised.
    Strong,
    /// A placeholder for something that is not text, such as an image.
    Mark,
}

/// A span of text, and the hint shown when the pointer is over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub text: String,
    pub tone: Tone,
    pub hint: String,
}

/// A text in spans, with a line below it.
#[derive(Clone, Debug, Default)]
pub struct Painted {
    pub spans: Vec<Span>,
    pub note: String,
}

impl Painted {
    /// The text for a terminal: with ANSI colors, or with brackets around supervised spans.
    pub fn text(&self, color: bool) -> String {
        let mut out = String::new();
        for group in self.spans.chunk_by(|a, b| a.tone == b.tone) {
            let text: String = group.iter().map(|span| span.text.as_str()).collect();
            let tone = group[0].tone;
            out.push_str(&match (color, tone) {
                (true, Tone::Quiet) => format!("\u{1b}[2m{text}{RESET}"),
                (true, Tone::Strong) => format!("\u{1b}[1;32m{text}{RESET}"),
                (true, Tone::Mark) => format!("\u{1b}[36m{text}{RESET}"),
                (false, Tone::Strong) => format!("[{text}]"),
                (false, Tone::Quiet | Tone::Mark) => text,
            });
        }
        if !self.note.is_empty() {
            out.push_str(&format!("\n{}", self.note));
        }
        out
    }

    /// The text as HTML that needs no style sheet; every span is an element with its hint as a tooltip.
    pub fn html(&self) -> String {
        let mut out = String::from("<pre style=\"white-space:pre-wrap\">");
        for span in &self.spans {
            let style = match span.tone {
                Tone::Quiet => "color:#5b636d",
                Tone::Strong => "background:#d9f0e8;color:#00593f;font-weight:bold",
                Tone::Mark => "background:#dcecf6;color:#0072b2",
            };
            // A token that is a line break alone would be invisible.
            let text = escape(&span.text).replace('\n', "<span style=\"opacity:0.5\">\u{21b5}</span>\n");
            out.push_str(&format!("<span style=\"{style}\" title=\"{}\">{text}</span>", escape(&span.hint)));
        }
        out.push_str("</pre>\n");
        if !self.note.is_empty() {
            out.push_str(&format!("<p><small>{}</small></p>\n", escape(&self.note)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painted() -> Painted {
        let span = |text: &str, tone, hint: &str| Span { text: text.into(), tone, hint: hint.into() };
        let spans = vec![
            span("<image>", Tone::Mark, "16 positions"),
            span("what?", Tone::Quiet, "7"),
            span("bl", Tone::Strong, "8"),
            span("ue\n", Tone::Strong, "9"),
        ];
        Painted { spans, note: "2 of 4 supervised".to_string() }
    }

    #[test]
    fn brackets_stand_in_for_color() {
        assert_eq!(painted().text(false), "<image>what?[blue\n]\n2 of 4 supervised");
        let colored = painted().text(true);
        assert!(colored.contains("\u{1b}[1;32mblue\n\u{1b}[0m"), "{colored:?}");
    }

    #[test]
    fn html_has_an_element_a_token_and_escapes() {
        let html = painted().html();
        assert!(html.contains("title=\"16 positions\">&lt;image&gt;</span>"), "{html}");
        assert!(html.contains("title=\"8\">bl</span>"), "{html}");
    }
}
