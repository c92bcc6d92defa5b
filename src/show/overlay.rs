//! Pictures with a grid of values laid over them as a heat map.

use super::color::Scale;
use super::picture::Picture;
use crate::bail;
use crate::error::Result;

impl Picture {
    /// The picture in gray under a grid of `rows` x `columns` values (row-major): dark where they are low, colored where they
    /// are high, one block per value. Errors: a length that does not fit.
    pub fn under_heat(&self, (rows, columns): (usize, usize), values: &[f32]) -> Result<Picture> {
        if rows == 0 || columns == 0 || values.len() != rows * columns {
            bail!(Shape, "{} values do not fill a grid of {rows} x {columns}", values.len());
        }
        let high = values.iter().copied().filter(|value| value.is_finite()).fold(0f32, f32::max);
        let scale = Scale::over(0.0, f64::from(high));
        let mut rgb = Vec::with_capacity(self.rgb.len());
        for (place, pixel) in self.rgb.chunks_exact(3).enumerate() {
            let (x, y) = (place % self.width, place / self.width);
            let value = values[(y * rows / self.height) * columns + x * columns / self.width];
            let share = if high > 0.0 && value.is_finite() { f64::from(value / high) } else { 0.0 };
            let gray = pixel.iter().map(|level| f64::from(*level)).sum::<f64>() / 3.0;
            let strength = 0.3 + 0.45 * share;
            rgb.extend(
                scale
                    .color(f64::from(value))
                    .map(|hue| (gray * (1.0 - strength) + f64::from(hue) * strength).round() as u8),
            );
        }
        Picture::new(self.width, self.height, rgb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_covers_its_block() {
        let picture = Picture::new(4, 2, vec![100; 24]).unwrap();
        let heat = picture.under_heat((1, 2), &[0.0, 0.5]).unwrap();
        let pixel = |x: usize, y: usize| heat.rgb[(y * 4 + x) * 3..][..3].to_vec();
        assert_eq!(pixel(0, 0), pixel(1, 1));
        assert_eq!(pixel(2, 0), pixel(3, 1));
        // 0.25 * 100 + 0.75 * (253, 231, 37), the light end of the scale.
        assert_eq!(pixel(3, 1), [215, 198, 53]);
        assert!(picture.under_heat((2, 2), &[0.0; 3]).is_err());
    }
}
