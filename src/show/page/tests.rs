//! A page with hostile texts stays one page: everything is escaped, nothing is loaded, every color has two values.

use super::super::{Cell, LinePlot, Picture};
use super::*;

const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\" onload=\"x' <!-- \u{0}";

fn page() -> Page {
    let points = |shift: f64| (0..20).map(|i| (f64::from(i), shift + 1.0 / f64::from(i + 1))).collect();
    let plot = LinePlot {
        series: vec![(HOSTILE.into(), points(0.0)), ("b".into(), points(0.1))],
        title: HOSTILE.into(),
        ..LinePlot::default()
    };
    let table = Table::new(HOSTILE).column(HOSTILE).number("n").row([HOSTILE.into(), Cell::of("82.3 %", 0.823)]);
    let picture = Picture::new(400, 100, vec![9; 400 * 100 * 3]).unwrap();
    let card = Card {
        id: HOSTILE.into(),
        category: HOSTILE.into(),
        question: HOSTILE.into(),
        output: HOSTILE.into(),
        gold: HOSTILE.into(),
        why: HOSTILE.into(),
        right: false,
        shots: vec![Shot { picture, caption: HOSTILE.into() }],
    };
    let gallery = Gallery {
        title: HOSTILE.into(),
        note: HOSTILE.into(),
        cards: vec![card.clone(), Card { right: true, output: String::new(), category: "b".into(), ..card }],
    };
    Page {
        title: HOSTILE.into(),
        about: vec![HOSTILE.into()],
        headlines: vec![Headline::new(HOSTILE, HOSTILE, HOSTILE)],
        sections: vec![
            Section::new(HOSTILE)
                .with(Block::Note(HOSTILE.into()))
                .with(Block::List(vec![HOSTILE.into()]))
                .with(Block::Figures(vec![Figure::line(plot).unwrap()]))
                .with(Block::Table(table))
                .with(Block::Gallery(gallery))
                .with(Block::Text { title: HOSTILE.into(), text: HOSTILE.into() }),
        ],
    }
}

#[test]
fn hostile_texts_are_inert() {
    let html = page().html().unwrap();
    assert!(html.starts_with("<!doctype html>"));
    assert!(!html.contains("<img src=x"), "an element came through");
    assert!(!html.contains("x\" onload") && !html.contains('\u{0}'));
    // Our two scripts, one image per card, and no other active element.
    assert_eq!((html.matches("<script").count(), html.matches("</script>").count()), (2, 2));
    assert_eq!(html.matches("<img").count(), 2);
    assert!(html.contains("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;"));
}

#[test]
fn a_page_loads_nothing() {
    let html = page().html().unwrap();
    for loads in ["http://", "https://", "url(", "@import", "<link", "srcset", "<iframe"] {
        assert!(!html.contains(loads), "{loads}");
    }
    assert!(html.matches("src=").count() == html.matches("src=\"data:image/").count() + html.matches("src=x").count());
    assert!(html.contains("default-src 'none'; img-src data:;"));
}

#[test]
fn figures_have_every_color_in_both_themes() {
    let html = page().html().unwrap();
    let svg = &html[html.find("<svg").unwrap()..html.find("</svg>").unwrap()];
    assert!(!svg.contains("=\"#"), "a color is fixed");
    let names: std::collections::BTreeSet<&str> =
        svg.match_indices("var(").map(|(at, _)| svg[at + 4..].split(')').next().unwrap()).collect();
    assert!(names.len() > 4, "{names:?}");
    for name in names {
        // Light, dark by the system's setting, dark by the button, and printed.
        assert_eq!(html.matches(&format!("{name}:#")).count(), 4, "{name}");
    }
    assert!(html.contains("--f-ffffff:#ffffff") && html.contains("--f-ffffff:#1b1f24"));
}

#[test]
fn cells_carry_the_values_they_are_sorted_by() {
    let html = page().html().unwrap();
    assert!(html.contains("<td class=\"n\" data-v=\"0.823\">82.3 %</td>"), "no value");
}

#[test]
fn pictures_are_small() {
    let html = page().html().unwrap();
    assert!(html.contains("width=\"336\" height=\"84\""));
    assert!(html.len() < 120_000, "{} bytes", html.len());
}
