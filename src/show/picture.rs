//! An RGB picture in memory: rows from the top, three bytes a pixel, no padding.

use std::io::Cursor;
use std::sync::Arc;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use crate::error::Result;
use crate::{bail, error, guard};

/// Pixels to be shown: `rgb` holds `height * width * 3` bytes. Cloning shares them.
#[derive(Clone)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub rgb: Arc<[u8]>,
}

impl Picture {
    /// A picture from its bytes. Errors: a side of 0, or a length that is not `width * height * 3`.
    pub fn new(width: usize, height: usize, rgb: impl Into<Arc<[u8]>>) -> Result<Self> {
        let rgb = rgb.into();
        if width == 0 || height == 0 {
            bail!(Shape, "a picture of {width} x {height} pixels has nothing to show");
        }
        if rgb.len() != width * height * 3 {
            bail!(
                Shape,
                "{} bytes do not fill a picture of {width} x {height} pixels, which takes {}",
                rgb.len(),
                width * height * 3
            );
        }
        Ok(Picture { width, height, rgb })
    }

    /// The picture as a PNG file.
    pub fn png(&self) -> Result<Vec<u8>> {
        let mut file = Cursor::new(Vec::new());
        PngEncoder::new_with_quality(&mut file, CompressionType::Default, FilterType::Adaptive)
            .write_image(&self.rgb, self.width as u32, self.height as u32, ExtendedColorType::Rgb8)
            .map_err(|cause| {
                error!(File, "cannot encode a picture of {} x {} as PNG: {cause}", self.width, self.height)
            })?;
        Ok(file.into_inner())
    }

    /// The picture as a JPEG file, as pages embed photographs.
    pub fn jpeg(&self) -> Result<Vec<u8>> {
        const QUALITY: f32 = 85.0;
        let encode = || -> std::io::Result<Vec<u8>> {
            let mut encoder = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
            encoder.set_size(self.width, self.height);
            encoder.set_quality(QUALITY);
            let mut started = encoder.start_compress(Vec::new())?;
            started.write_scanlines(&self.rgb)?;
            started.finish()
        };
        // libjpeg (mozjpeg) reports an error by unwinding.
        guard::catch("libjpeg", encode)
            .unwrap_or_else(|failure| Err(std::io::Error::other(failure.to_string())))
            .map_err(|cause| {
                error!(File, "cannot encode a picture of {} x {} as JPEG: {cause}", self.width, self.height)
            })
    }

    /// The picture at another size: nearest neighbor where it grows, the mean over the covered area where it shrinks.
    pub fn scaled(&self, width: usize, height: usize) -> Picture {
        let (width, height) = (width.max(1), height.max(1));
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let columns = coverage(self.width, width);
        let rows = coverage(self.height, height);
        // (height_in, width_out, 3): columns first, then rows.
        let mut narrow = vec![0f32; self.height * width * 3];
        for y in 0..self.height {
            for (x, taps) in columns.iter().enumerate() {
                for &(source, weight) in taps {
                    for c in 0..3 {
                        narrow[(y * width + x) * 3 + c] +=
                            weight * f32::from(self.rgb[(y * self.width + source) * 3 + c]);
                    }
                }
            }
        }
        let mut rgb = vec![0u8; height * width * 3];
        let mut line = vec![0f32; width * 3];
        for (y, taps) in rows.iter().enumerate() {
            line.fill(0.0);
            for &(source, weight) in taps {
                let from = &narrow[source * width * 3..(source + 1) * width * 3];
                line.iter_mut().zip(from).for_each(|(sum, value)| *sum += weight * value);
            }
            let to = &mut rgb[y * width * 3..(y + 1) * width * 3];
            to.iter_mut().zip(&line).for_each(|(byte, value)| *byte = value.round() as u8);
        }
        Picture { width, height, rgb: rgb.into() }
    }
}

/// For each of `to` output pixels its source pixels and weights, `(source, weight)`; weights sum to 1.
fn coverage(from: usize, to: usize) -> Vec<Vec<(usize, f32)>> {
    let step = from as f64 / to as f64;
    let taps = |i: usize| {
        if to >= from {
            return vec![((((i as f64 + 0.5) * step) as usize).min(from - 1), 1.0)];
        }
        let (start, end) = (i as f64 * step, ((i + 1) as f64 * step).min(from as f64));
        let share = |j: usize| (end.min((j + 1) as f64) - start.max(j as f64)) / (end - start);
        (start as usize..(end.ceil() as usize).min(from)).map(|j| (j, share(j) as f32)).collect()
    };
    (0..to).map(taps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinking_keeps_the_mean_and_growing_the_pixels() {
        let picture = Picture::new(4, 2, (0..24u8).map(|i| i * 10).collect::<Vec<_>>()).unwrap();
        let one = picture.scaled(1, 1);
        assert_eq!(one.rgb[..], [105, 115, 125]); // means of bytes 0, 3, 6, .. times 10
        let third = Picture::new(3, 1, vec![0, 0, 0, 90, 90, 90, 240, 240, 240]).unwrap().scaled(2, 1);
        assert_eq!(third.rgb[..], [30, 30, 30, 190, 190, 190]); // (0 + 90/2) / 1.5 and (90/2 + 240) / 1.5
        let big = picture.scaled(8, 4);
        assert_eq!(big.rgb[..6], [0, 10, 20, 0, 10, 20]);
        assert_eq!(big.scaled(4, 2).rgb, picture.rgb);
    }

    #[test]
    fn a_wrong_length_is_an_error() {
        let error = Picture::new(2, 2, vec![0; 11]).map(|_| ()).unwrap_err();
        assert_eq!(error.message(), "11 bytes do not fill a picture of 2 x 2 pixels, which takes 12");
    }
}
