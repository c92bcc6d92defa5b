//! The first frame of a GIF on Pillow's canvas: large enough for screen and frame together; outside the frame it has the
//! transparent color, else color 0 of the palette (not the background color).

use gif::{ColorOutput, DecodeOptions, Decoder, DecodingError, Frame};

/// Width and height of the canvas.
pub(super) fn size(bytes: &[u8]) -> Result<(usize, usize), String> {
    let mut decoder = open(bytes)?;
    let screen = (decoder.width(), decoder.height());
    Ok(canvas(screen, first_frame(&mut decoder)?))
}

/// The RGB bytes of the canvas; the caller has checked its size.
pub(super) fn rgb(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut decoder = open(bytes)?;
    let screen = (decoder.width(), decoder.height());
    let frame = first_frame(&mut decoder)?;
    let (width, height) = canvas(screen, frame);
    let (left, top, columns) = (usize::from(frame.left), usize::from(frame.top), usize::from(frame.width));
    let mut indices = vec![frame.transparent.unwrap_or(0); width * height];
    let mut pixels = vec![0; columns * usize::from(frame.height)];
    decoder.read_into_buffer(&mut pixels).map_err(sentence)?;
    for (y, row) in pixels.chunks_exact(columns.max(1)).enumerate() {
        let first = (top + y) * width + left;
        indices[first..first + columns].copy_from_slice(row);
    }
    let palette = colors(decoder.palette().map_err(sentence)?);
    // A canvas may be large: its size is known, so the vector does not grow step by step.
    let mut rgb = Vec::with_capacity(3 * indices.len());
    indices.into_iter().for_each(|index| rgb.extend(palette[usize::from(index)]));
    Ok(rgb)
}

fn open(bytes: &[u8]) -> Result<Decoder<&[u8]>, String> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.read_info(bytes).map_err(sentence)
}

fn first_frame<'a>(decoder: &'a mut Decoder<&[u8]>) -> Result<&'a Frame<'static>, String> {
    decoder.next_frame_info().map_err(sentence)?.ok_or_else(|| "it holds no image".to_string())
}

fn canvas((width, height): (u16, u16), frame: &Frame) -> (usize, usize) {
    let reach = |start: u16, length: u16| usize::from(start) + usize::from(length);
    (reach(frame.left, frame.width).max(width.into()), reach(frame.top, frame.height).max(height.into()))
}

/// The 256 colors; missing ones are black, except that Pillow continues a palette that is a gray ramp as far as it goes.
fn colors(palette: &[u8]) -> [[u8; 3]; 256] {
    let known = palette.as_chunks().0;
    let is_wedge = known.iter().zip(0..).all(|(color, level)| *color == [level; 3]);
    std::array::from_fn(|index| match known.get(index) {
        Some(color) => *color,
        None if is_wedge => [index as u8; 3],
        None => [0; 3],
    })
}

fn sentence(error: DecodingError) -> String {
    error.to_string()
}
