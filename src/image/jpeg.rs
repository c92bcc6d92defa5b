//! JPEG with exactly Pillow's pixels: libjpeg-turbo's decoder in C (mozjpeg's branch of it), which Pillow uses too.
//! libjpeg reports an error by unwinding; it is caught here, and dropping the decoder frees its memory.

use std::cell::Cell;
use std::io::{self, BufRead, Read};

use mozjpeg::{Decompress, Format};

use crate::guard;

/// Width and height.
pub(super) fn size(bytes: &[u8]) -> Result<(usize, usize), String> {
    caught(bytes, |source| Ok(Decompress::new_reader(source)?.size()))
}

/// The RGB bytes of an image; the caller has checked its size.
pub(super) fn rgb(bytes: &[u8]) -> Result<Vec<u8>, String> {
    caught(bytes, |source| match Decompress::new_reader(source)?.image()? {
        Format::RGB(mut started) => {
            let rgb = started.read_scanlines()?;
            started.finish().map(|()| rgb)
        }
        Format::Gray(mut started) => {
            let gray: Vec<u8> = started.read_scanlines()?;
            started.finish().map(|()| gray.into_iter().flat_map(|level| [level; 3]).collect())
        }
        Format::CMYK(mut started) => {
            let cmyk: Vec<[u8; 4]> = started.read_scanlines()?;
            started.finish().map(|()| cmyk.into_iter().flat_map(rgb_of_cmyk).collect())
        }
    })
}

/// The coding of a file that this decoder is built without, by the marker of its first frame.
pub(super) fn unread_coding(bytes: &[u8]) -> Option<&'static str> {
    let mut at = 2;
    while let Some([0xff, marker]) = bytes.get(at..at + 2) {
        match marker {
            // Fill bytes, and markers without a length.
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            0xc3 => return Some("lossless coding"),
            0xc5..=0xc7 => return Some("hierarchical coding"),
            0xc9 | 0xca => return Some("arithmetic coding"),
            0xcb | 0xcd..=0xcf => return Some("arithmetic coding, lossless or hierarchical"),
            0xc0..=0xc2 | 0xd9 | 0xda => return None,
            _ => at += 2 + usize::from(u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?])),
        }
    }
    None
}

/// Runs libjpeg on the file; the error is libjpeg's message.
fn caught<T>(bytes: &[u8], read: impl FnOnce(JpegBytes) -> io::Result<T>) -> Result<T, String> {
    let ended = Cell::new(false);
    let source = JpegBytes { rest: bytes, ended: &ended };
    let found = guard::catch("libjpeg", || read(source))
        .unwrap_or_else(|failure| Err(io::Error::other(failure.said().unwrap_or("libjpeg failed").to_string())));
    found.map_err(|error| match ended.get() {
        true => format!("it ends after {} bytes, before the image does", bytes.len()),
        false => error.to_string(),
    })
}

/// Pillow takes every file with four components for one of Adobe's, whose values are inverted.
pub(super) fn rgb_of_cmyk([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    // Pillow's rounded product of two bytes over 255.
    let inked = |ink: u8| {
        let product = u32::from(255 - ink) * u32::from(black) + 128;
        (((product >> 8) + product) >> 8) as u8
    };
    [cyan, magenta, yellow].map(|ink| black.saturating_sub(inked(ink)))
}

/// The file's bytes. Reading past their end is an error; libjpeg would paint the rest gray.
struct JpegBytes<'a> {
    rest: &'a [u8],
    ended: &'a Cell<bool>,
}

impl BufRead for JpegBytes<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() {
            self.ended.set(true);
            // Any kind except `UnexpectedEof`, which mozjpeg ignores.
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(self.rest)
    }

    fn consume(&mut self, amount: usize) {
        self.rest = self.rest.get(amount..).unwrap_or_default();
    }
}

impl Read for JpegBytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.rest.read(buffer)
    }
}
