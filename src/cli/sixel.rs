//! Sixel: a palette of at most 255 colors, then bands of six rows, one pass per color in each band.

use crate::show::Picture;

const COLORS: usize = 255;

/// The DCS sequence of a picture, one sixel a pixel, ending in a line break.
pub(super) fn encode(picture: &Picture) -> String {
    let (palette, indices) = quantized(picture);
    // P2 = 1: pixels that are not drawn keep the background; "1;1 makes pixels square.
    let mut text = format!("\u{1b}P0;1;0q\"1;1;{};{}", picture.width, picture.height);
    for (i, color) in palette.iter().enumerate() {
        let [red, green, blue] = color.map(|value| (u32::from(value) * 100 + 127) / 255);
        text.push_str(&format!("#{i};2;{red};{green};{blue}"));
    }
    for band in indices.chunks(picture.width * 6) {
        let mut used: Vec<u8> = band.to_vec();
        used.sort_unstable();
        used.dedup();
        for color in used {
            text.push_str(&format!("#{color}"));
            push_runs(&mut text, band, picture.width, color);
            text.push('$');
        }
        text.push('-');
    }
    text.push_str("\u{1b}\\\n");
    text
}

/// The sixels of one color in a band, run-length encoded; empty ones at the end are left out.
fn push_runs(text: &mut String, band: &[u8], width: usize, color: u8) {
    let sixel = |x: usize| -> u8 {
        let rows = band.iter().skip(x).step_by(width).enumerate();
        63 + rows.fold(0, |bits, (row, index)| bits | (u8::from(*index == color) << row))
    };
    let sixels: Vec<u8> = (0..width).map(sixel).collect();
    let end = sixels.iter().rposition(|sixel| *sixel != 63).map_or(0, |last| last + 1);
    for run in sixels[..end].chunk_by(|a, b| a == b) {
        let shape = char::from(run[0]);
        match run.len() {
            n @ 4.. => text.push_str(&format!("!{n}{shape}")),
            n => text.extend(std::iter::repeat_n(shape, n)),
        }
    }
}

/// The palette and each pixel's index in it: median cut over colors of five bits a channel.
fn quantized(picture: &Picture) -> (Vec<[u8; 3]>, Vec<u8>) {
    let cell =
        |pixel: &[u8]| usize::from(pixel[0] >> 3) << 10 | usize::from(pixel[1] >> 3) << 5 | usize::from(pixel[2] >> 3);
    // Per cell of the 32 x 32 x 32 cube: the number of pixels and the sums of their channels.
    let mut cube = vec![[0u64; 4]; 1 << 15];
    for pixel in picture.rgb.chunks_exact(3) {
        let sums = &mut cube[cell(pixel)];
        sums[3] += 1;
        (0..3).for_each(|c| sums[c] += u64::from(pixel[c]));
    }
    let filled: Vec<usize> = (0..cube.len()).filter(|i| cube[*i][3] > 0).collect();
    let mut boxes = vec![filled];
    while boxes.len() < COLORS {
        let weight = |cells: &Vec<usize>| cells.iter().map(|i| cube[*i][3]).sum::<u64>() * u64::from(longest(cells).1);
        let Some(largest) = (0..boxes.len()).filter(|i| boxes[*i].len() > 1).max_by_key(|i| weight(&boxes[*i])) else {
            break;
        };
        let mut cells = boxes.swap_remove(largest);
        let shift = longest(&cells).0;
        cells.sort_by_key(|i| (i >> shift) & 31);
        let half = cells.iter().map(|i| cube[*i][3]).sum::<u64>() / 2;
        let mut seen = 0;
        let middle = cells.iter().position(|i| {
            seen += cube[*i][3];
            seen > half
        });
        let middle = middle.unwrap_or(0).clamp(1, cells.len() - 1);
        let upper = cells.split_off(middle);
        boxes.extend([cells, upper]);
    }
    let mut index_of = vec![0u8; cube.len()];
    let mut palette = Vec::new();
    for (index, cells) in boxes.iter().enumerate() {
        let mut total = [0u64; 4];
        for i in cells {
            index_of[*i] = index as u8;
            (0..4).for_each(|c| total[c] += cube[*i][c]);
        }
        palette.push(std::array::from_fn(|c| ((total[c] + total[3] / 2) / total[3].max(1)) as u8));
    }
    let indices = picture.rgb.chunks_exact(3).map(|pixel| index_of[cell(pixel)]).collect();
    (palette, indices)
}

/// The channel (as a shift) along which the cells extend furthest, and how far.
fn longest(cells: &[usize]) -> (usize, u32) {
    let reach = |shift: usize| {
        let values = || cells.iter().map(move |i| (i >> shift) & 31);
        (values().max().unwrap_or(0) - values().min().unwrap_or(0)) as u32
    };
    [10, 5, 0].map(|shift| (shift, reach(shift))).into_iter().max_by_key(|(_, reach)| *reach).unwrap_or((0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sixel decoder for the subset written here: `(width, height, pixels)`.
    fn decode(text: &str) -> (usize, usize, Vec<[u8; 3]>) {
        let body = text.strip_prefix("\u{1b}P0;1;0q\"1;1;").unwrap().strip_suffix("\u{1b}\\\n").unwrap();
        let (size, body) = body.split_at(body.find('#').unwrap());
        let (width, height) = size.split_once(';').unwrap();
        let (width, height): (usize, usize) = (width.parse().unwrap(), height.parse().unwrap());
        let mut pixels = vec![[1, 2, 3]; width * height];
        let mut palette = vec![[0u8; 3]; 256];
        let (mut x, mut top, mut color) = (0, 0, 0);
        let mut rest = body;
        let number = |rest: &mut &str| -> usize {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (digits, tail) = rest.split_at(end);
            *rest = tail;
            digits.parse().unwrap()
        };
        while let Some(c) = rest.chars().next() {
            rest = &rest[1..];
            let repeat = if c == '!' { number(&mut rest) } else { 1 };
            let c = if c == '!' { rest.chars().next().unwrap() } else { c };
            match c {
                '#' => {
                    color = number(&mut rest);
                    if rest.starts_with(";2;") {
                        rest = &rest[2..];
                        palette[color] = std::array::from_fn(|_| {
                            rest = &rest[1..];
                            (number(&mut rest) * 255 / 100) as u8
                        });
                    }
                }
                '$' => x = 0,
                '-' => (x, top) = (0, top + 6),
                '?'..='~' => {
                    rest = if repeat > 1 { &rest[1..] } else { rest };
                    for _ in 0..repeat {
                        (0..6)
                            .filter(|row| (c as u8 - 63) >> row & 1 == 1)
                            .for_each(|row| pixels[(top + row) * width + x] = palette[color]);
                        x += 1;
                    }
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        (width, height, pixels)
    }

    #[test]
    fn decoding_gives_the_picture_back() {
        let rgb: Vec<u8> = (0..40 * 20usize).flat_map(|i| [(i % 40 * 6) as u8, (i / 40 * 12) as u8, 90]).collect();
        let picture = Picture::new(40, 20, rgb).unwrap();
        let (width, height, pixels) = decode(&encode(&picture));
        assert_eq!((width, height), (40, 20));
        let error = |(seen, pixel): (&[u8; 3], &[u8])| (0..3).map(|c| seen[c].abs_diff(pixel[c])).max();
        let worst = pixels.iter().zip(picture.rgb.chunks_exact(3)).filter_map(error).max();
        assert!(worst <= Some(12), "{worst:?}");
    }

    #[test]
    fn few_colors_are_kept_exactly() {
        let picture = Picture::new(3, 1, vec![255, 0, 0, 255, 255, 255, 0, 0, 51]).unwrap();
        let (_, _, pixels) = decode(&encode(&picture));
        assert_eq!(pixels, [[255, 0, 0], [255; 3], [0, 0, 51]]);
    }
}
