//! Pictures in the terminal: the kitty, iTerm2 and sixel protocols, else half-blocks of text.
//! The environment decides first; the terminal is queried only when the environment does not say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::sixel;
use crate::error::Result;
use crate::show::Picture;

/// The maximum width of half-blocks in columns: more are no clearer and scroll the text away.
const WIDEST: usize = 100;
/// Assumed pixels per terminal column when the terminal scales the picture.
const COLUMN: usize = 10;
/// Bytes of base64 that one kitty escape may carry.
const CHUNK: usize = 4096;

/// The protocol by which a terminal shows pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Graphics {
    Kitty,
    Iterm,
    Sixel,
    /// Two pixels a character, in 24-bit colors or the 256 of xterm.
    Block {
        true_color: bool,
    },
    /// No pictures.
    Off,
}

impl Graphics {
    /// The choice by the environment: `LLMORE_GRAPHICS` (`kitty iterm sixel block none`, anything else is `auto`), then the
    /// terminal's own variables. Without a terminal there are no pictures unless the variable asks for them.
    pub fn detect(is_tty: bool, env: &dyn Fn(&str) -> Option<String>) -> Graphics {
        let get = |name: &str| env(name).unwrap_or_default();
        let (term, program) = (get("TERM"), get("TERM_PROGRAM"));
        let block = Graphics::Block { true_color: ["truecolor", "24bit"].contains(&get("COLORTERM").as_str()) };
        match get("LLMORE_GRAPHICS").as_str() {
            "kitty" => return Graphics::Kitty,
            "iterm" => return Graphics::Iterm,
            "sixel" => return Graphics::Sixel,
            "block" => return block,
            "none" => return Graphics::Off,
            _ => {}
        }
        if !is_tty || term == "dumb" {
            return Graphics::Off;
        }
        let multiplexed = env("TMUX").is_some() || env("STY").is_some() || term.starts_with("screen");
        let colors = if env("NO_COLOR").is_some_and(|value| !value.is_empty()) { Graphics::Off } else { block };
        if multiplexed {
            return colors;
        }
        let kitty = env("KITTY_WINDOW_ID").is_some() || term.contains("kitty") || term.contains("ghostty");
        let iterm = ["iTerm.app", "WezTerm", "mintty"].contains(&program.as_str()) || get("LC_TERMINAL") == "iTerm2";
        let sixel = ["foot", "mlterm", "contour"].iter().any(|name| term.starts_with(name)) || term.contains("sixel");
        match (kitty || program == "ghostty", iterm, sixel) {
            (true, ..) => Graphics::Kitty,
            (_, true, _) => Graphics::Iterm,
            (.., true) => Graphics::Sixel,
            _ => colors,
        }
    }

    /// The choice for this process: the environment, then, where that is not conclusive and both ends are a terminal, a query
    /// to the terminal. Takes at most 0.1 s (0.5 s over SSH); callers keep the result.
    pub fn of_terminal() -> Graphics {
        use std::io::IsTerminal;
        let env = |name: &str| std::env::var(name).ok();
        let is_tty = std::io::stdout().is_terminal();
        let found = Graphics::detect(is_tty, &env);
        let chosen =
            ["kitty", "iterm", "sixel", "block", "none"].contains(&env("LLMORE_GRAPHICS").unwrap_or_default().as_str());
        let asks = matches!(found, Graphics::Block { .. }) && !chosen && is_tty && std::io::stdin().is_terminal();
        if !asks {
            return found;
        }
        let patience = if env("SSH_CONNECTION").is_some() { 500 } else { 100 };
        super::query::ask(patience).and_then(|reply| understood(&reply)).unwrap_or(found)
    }
}

/// The protocol that a terminal supports according to its reply to kitty's query and to DA1.
fn understood(reply: &[u8]) -> Option<Graphics> {
    let reply = String::from_utf8_lossy(reply);
    if reply.contains("\u{1b}_Gi=31;OK") {
        return Some(Graphics::Kitty);
    }
    let attributes = reply.split("\u{1b}[?").nth(1)?.split('c').next()?;
    attributes.split(';').skip(1).any(|attribute| attribute == "4").then_some(Graphics::Sixel)
}

/// The escape sequences that show `rgb` (`height * width * 3` bytes) at the cursor, at most `columns` wide, ending in a
/// line break; empty for `Off`. Errors: bytes that do not fill the picture.
pub fn encode(graphics: Graphics, width: usize, height: usize, rgb: &[u8], columns: usize) -> Result<String> {
    let picture = Picture::new(width, height, rgb)?;
    let cells = width.div_ceil(COLUMN).clamp(1, columns.max(1));
    Ok(match graphics {
        Graphics::Kitty => kitty(&picture.png()?, cells),
        Graphics::Iterm => {
            let png = picture.png()?;
            let size = png.len();
            let data = STANDARD.encode(png);
            format!("\u{1b}]1337;File=inline=1;size={size};width={cells};preserveAspectRatio=1:{data}\u{7}\n")
        }
        Graphics::Sixel => {
            let wide = width.min(cells * COLUMN);
            sixel::encode(&picture.scaled(wide, (height * wide / width).max(1)))
        }
        Graphics::Block { true_color } => blocks(&picture, columns.clamp(1, WIDEST), true_color),
        Graphics::Off => String::new(),
    })
}

/// A PNG in chunks of base64; `q=2` suppresses the terminal's reply.
fn kitty(png: &[u8], cells: usize) -> String {
    let data = STANDARD.encode(png);
    let chunks: Vec<&[u8]> = data.as_bytes().chunks(CHUNK).collect();
    let mut text = String::new();
    for (i, chunk) in chunks.iter().enumerate() {
        let first = if i == 0 { format!("a=T,f=100,q=2,c={cells},") } else { String::new() };
        let more = u8::from(i + 1 < chunks.len());
        text.push_str(&format!("\u{1b}_G{first}m={more};{}\u{1b}\\", String::from_utf8_lossy(chunk)));
    }
    text.push('\n');
    text
}

/// Two pixels per character: the upper as foreground of an upper half block, the lower as background. Pictures wider than
/// `columns` are shrunk by area means, tiny ones enlarged by whole factors.
fn blocks(picture: &Picture, columns: usize, true_color: bool) -> String {
    let factor = (columns / picture.width).min(WIDEST / 2 / picture.width.max(picture.height)).max(1);
    let wide = (picture.width * factor).min(columns);
    let high = (picture.height * wide).div_ceil(picture.width).next_multiple_of(2);
    let picture = picture.scaled(wide, high);
    let pixel = |x: usize, y: usize| -> [u8; 3] { std::array::from_fn(|c| picture.rgb[(y * wide + x) * 3 + c]) };
    let mut text = String::new();
    for y in (0..high).step_by(2) {
        let mut last = None;
        for x in 0..wide {
            let pair = (pixel(x, y), pixel(x, y + 1));
            if last != Some(pair) {
                text.push_str(&format!("\u{1b}[38;{};48;{}m", color(pair.0, true_color), color(pair.1, true_color)));
                last = Some(pair);
            }
            text.push('\u{2580}');
        }
        text.push_str("\u{1b}[0m\n");
    }
    text
}

/// The parameters of a color: `2;r;g;b`, or `5;n` with the nearest of xterm's cube and grays.
fn color([red, green, blue]: [u8; 3], true_color: bool) -> String {
    if true_color {
        return format!("2;{red};{green};{blue}");
    }
    const LEVELS: [i32; 6] = [0, 95, 135, 175, 215, 255];
    let level = |value: u8| (0..6).min_by_key(|i| (LEVELS[*i] - i32::from(value)).abs()).unwrap_or(0);
    let (r, g, b) = (level(red), level(green), level(blue));
    let mean = (i32::from(red) + i32::from(green) + i32::from(blue)) / 3;
    let gray = ((mean - 8 + 5) / 10).clamp(0, 23);
    let distance = |to: [i32; 3]| {
        let parts = [red, green, blue].map(i32::from).into_iter().zip(to);
        parts.map(|(a, b)| (a - b) * (a - b)).sum::<i32>()
    };
    let cube = distance([LEVELS[r], LEVELS[g], LEVELS[b]]);
    if distance([8 + 10 * gray; 3]) < cube {
        format!("5;{}", 232 + gray)
    } else {
        format!("5;{}", 16 + 36 * r + 6 * g + b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(is_tty: bool, variables: &[(&str, &str)]) -> Graphics {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string());
        Graphics::detect(is_tty, &find)
    }

    fn gradient(width: usize, height: usize) -> Vec<u8> {
        (0..width * height).flat_map(|i| [(i % 251) as u8, (i / width % 256) as u8, 77]).collect()
    }

    #[test]
    fn the_environment_decides() {
        let text = Graphics::Block { true_color: false };
        let cases: [(&[(&str, &str)], Graphics); 12] = [
            (&[("TERM", "xterm-kitty")], Graphics::Kitty),
            (&[("KITTY_WINDOW_ID", "1"), ("TMUX", "/x"), ("TERM", "screen-256color")], text),
            (&[("TERM", "xterm-ghostty")], Graphics::Kitty),
            (&[("TERM_PROGRAM", "iTerm.app")], Graphics::Iterm),
            (&[("TERM_PROGRAM", "WezTerm")], Graphics::Iterm),
            (&[("TERM", "foot")], Graphics::Sixel),
            (&[("TERM", "xterm-256color")], text),
            (&[("TERM", "xterm"), ("COLORTERM", "truecolor")], Graphics::Block { true_color: true }),
            (&[("TERM", "dumb")], Graphics::Off),
            (&[("TERM", "xterm"), ("NO_COLOR", "1")], Graphics::Off),
            (&[("TERM", "xterm-kitty"), ("LLMORE_GRAPHICS", "none")], Graphics::Off),
            (&[("TERM", "dumb"), ("LLMORE_GRAPHICS", "sixel")], Graphics::Sixel),
        ];
        for (variables, expected) in cases {
            assert_eq!(detect(true, variables), expected, "{variables:?}");
        }
        assert_eq!(detect(false, &[("TERM", "xterm-kitty")]), Graphics::Off);
        assert_eq!(detect(false, &[("LLMORE_GRAPHICS", "kitty")]), Graphics::Kitty);
    }

    #[test]
    fn replies_are_understood() {
        assert_eq!(understood(b"\x1b_Gi=31;OK\x1b\\\x1b[?62;c"), Some(Graphics::Kitty));
        assert_eq!(understood(b"\x1b[?62;4;22c"), Some(Graphics::Sixel));
        assert_eq!(understood(b"\x1b[?4c"), None); // a VT132, not an attribute
        assert_eq!(understood(b"\x1b[?1;2c"), None);
        assert_eq!(understood(b""), None);
    }

    #[test]
    fn the_kitty_payload_is_the_picture() {
        let rgb: Vec<u8> = gradient(120, 90).iter().enumerate().map(|(i, v)| v ^ (i * i % 255) as u8).collect();
        let text = encode(Graphics::Kitty, 120, 90, &rgb, 80).unwrap();
        let escapes: Vec<&str> = text.split("\u{1b}\\").filter_map(|part| part.split("\u{1b}_G").nth(1)).collect();
        assert!(escapes.len() > 2 && escapes[0].starts_with("a=T,f=100,q=2,c=12,m=1;"), "{}", &text[..40]);
        let data: String = escapes.iter().filter_map(|escape| escape.split_once(';')).map(|(_, data)| data).collect();
        assert!(escapes.iter().all(|escape| escape.len() < CHUNK + 40) && escapes.last().unwrap().starts_with("m=0;"));
        let decoded = image::load_from_memory(&STANDARD.decode(data).unwrap()).unwrap().to_rgb8();
        assert_eq!(decoded.into_raw(), rgb);
    }

    #[test]
    fn the_iterm_payload_is_the_picture() {
        let rgb = gradient(30, 20);
        let text = encode(Graphics::Iterm, 30, 20, &rgb, 2).unwrap();
        assert!(text.contains(";width=2;"), "{text}");
        let data = text.trim_end_matches(['\u{7}', '\n']).rsplit(':').next().unwrap().trim_end_matches('\u{7}');
        let decoded = image::load_from_memory(&STANDARD.decode(data).unwrap()).unwrap().to_rgb8();
        assert_eq!(decoded.into_raw(), rgb);
    }

    #[test]
    fn half_blocks_have_the_size_of_the_picture() {
        let wide = Graphics::Block { true_color: true };
        // (width, height, columns) -> (characters a line, lines)
        for (size, expected) in [
            ((200, 100, 80), (80, 20)),
            ((640, 360, 200), (100, 29)),
            ((10, 10, 80), (50, 25)),
            ((64, 64, 80), (64, 32)),
        ] {
            let text = encode(wide, size.0, size.1, &gradient(size.0, size.1), size.2).unwrap();
            let lines: Vec<usize> = text.lines().map(|line| line.matches('\u{2580}').count()).collect();
            assert_eq!((lines[0], lines.len()), expected, "{size:?}");
            assert!(lines.iter().all(|n| *n == expected.0));
        }
        let two = encode(wide, 1, 2, &[255, 0, 0, 0, 0, 255], 1).unwrap();
        assert_eq!(two, "\u{1b}[38;2;255;0;0;48;2;0;0;255m\u{2580}\u{1b}[0m\n");
    }

    #[test]
    fn the_256_colors_are_the_nearest() {
        let cases = [
            ([255, 0, 0], "5;196"),
            ([0, 0, 0], "5;16"),
            ([255; 3], "5;231"),
            ([128; 3], "5;244"),
            ([95, 135, 175], "5;67"),
        ];
        for (rgb, expected) in cases {
            assert_eq!(color(rgb, false), expected, "{rgb:?}");
        }
    }

    #[test]
    fn off_is_silent_and_wrong_sizes_are_errors() {
        assert_eq!(encode(Graphics::Off, 1, 1, &[0; 3], 80).unwrap(), "");
        assert!(encode(Graphics::Kitty, 2, 1, &[0; 3], 80).is_err());
    }
}
