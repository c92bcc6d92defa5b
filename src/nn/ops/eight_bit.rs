//! Moments in 8 bits: blocks of 256 values share one f32 scale, their largest magnitude, and a value is the nearest
//! of 256 levels that lie densely near the top and reach down over seven decades ("dynamic quantization").
//! Source: Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization"; the levels are those of bitsandbytes
//! 0.50.2 (`create_dynamic_map`), 2e-7 apart at most.

use std::sync::LazyLock;

use candle_core::{DType, Device, Result, Tensor};

/// Values that share a scale.
pub(super) const BLOCK_8BIT: usize = 256;

/// Decades below the scale that have levels of their own.
const DECADES: u32 = 7;
/// Bits of a magnitude's mantissa that choose a place in the table.
const MANTISSA: u32 = 8;
/// Binary orders of magnitude below 1 that the table covers; the smallest level is above 2^-22.
const ORDERS: u32 = 24;

/// A moment in 8 bits a value, on the device of its parameter.
#[derive(Clone, Debug)]
pub struct Moment8 {
    /// One level a value: u8, (values).
    pub codes: Tensor,
    /// One scale a block of 256: f32, (blocks).
    pub scales: Tensor,
    pub sign: Sign,
}

/// Which values a moment can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// 127 levels on each side of zero, and 1.
    Both,
    /// 254 levels above zero, and 1. A value above zero never becomes zero, as a second moment of
    /// zero would turn the first one into a step without bounds.
    Positive,
}

impl Moment8 {
    /// `count` zeros.
    pub fn zeros(count: usize, sign: Sign, device: &Device) -> Result<Self> {
        let codes = Tensor::zeros(count, DType::U8, device)?;
        let scales = Tensor::zeros(Self::blocks(count), DType::F32, device)?;
        Ok(Moment8 { codes, scales, sign })
    }

    /// How many scales `count` values have.
    pub fn blocks(count: usize) -> usize {
        count.div_ceil(BLOCK_8BIT)
    }

    /// Bytes that `count` values take.
    pub fn bytes(count: usize) -> usize {
        count + Self::blocks(count) * size_of::<f32>()
    }
}

/// The values of a block's codes.
pub(super) fn widen(codes: &[u8], scale: f32, values: &mut [f32], sign: Sign) {
    let decoded = &levels(sign).decoded;
    for (value, code) in values.iter_mut().zip(codes) {
        *value = decoded[usize::from(*code)] * scale;
    }
}

/// Writes the codes of a block and gives its scale.
pub(super) fn narrow(values: &[f32], codes: &mut [u8], sign: Sign) -> f32 {
    let scale = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    if scale == 0.0 {
        codes.fill(0);
        return 0.0;
    }
    let levels = levels(sign);
    for (code, value) in codes.iter_mut().zip(values) {
        *code = levels.encode(value / scale, sign);
    }
    scale
}

/// The levels of one kind of moment.
struct Levels {
    /// Half-way between a magnitude and the next, in order.
    borders: Vec<f32>,
    /// By the leading bits of a magnitude: the smallest number a magnitude of these bits can have.
    first: Vec<u8>,
    /// The value of every code.
    decoded: [f32; 256],
}

fn levels(sign: Sign) -> &'static Levels {
    static BOTH: LazyLock<Levels> = LazyLock::new(|| Levels::new(Sign::Both));
    static POSITIVE: LazyLock<Levels> = LazyLock::new(|| Levels::new(Sign::Positive));
    match sign {
        Sign::Both => &BOTH,
        Sign::Positive => &POSITIVE,
    }
}

impl Levels {
    fn new(sign: Sign) -> Self {
        let magnitudes = magnitudes(sign);
        let border = |pair: &[f64]| ((pair[0] + pair[1]) / 2.0) as f32;
        let mut borders: Vec<f32> = magnitudes.windows(2).map(border).collect();
        if sign == Sign::Positive {
            borders[0] = 0.0;
        }
        let bits = |place: u32| f32::from_bits(((127 - ORDERS) << 23) + (place << (23 - MANTISSA)));
        let places = (ORDERS << MANTISSA) + 1;
        let at = |place: u32| if place == 0 { 0.0 } else { bits(place) };
        let first = (0..places).map(|place| number(&borders, at(place)) as u8).collect();
        let mut decoded = [0.0; 256];
        for (code, value) in decoded.iter_mut().enumerate() {
            let magnitude = |number: usize| magnitudes[number] as f32;
            *value = match sign {
                Sign::Positive => magnitude(code),
                // What would be minus zero is the level 1.
                Sign::Both if code == 128 => 1.0,
                Sign::Both if code < 128 => magnitude(code),
                Sign::Both => -magnitude(code - 128),
            };
        }
        Levels { borders, first, decoded }
    }

    fn encode(&self, value: f32, sign: Sign) -> u8 {
        let magnitude = value.abs();
        // The last place holds 1 and what rounding puts above it.
        let last = self.first.len() - 1;
        let lowest = (127 - ORDERS) << 23;
        let place = (magnitude.to_bits().saturating_sub(lowest) >> (23 - MANTISSA)) as usize;
        let mut number = usize::from(self.first[place.min(last)]);
        while self.borders.get(number).is_some_and(|border| magnitude > *border) {
            number += 1;
        }
        match sign {
            Sign::Positive => number as u8,
            Sign::Both if value < 0.0 && number > 0 => number.min(127) as u8 | 128,
            Sign::Both => number as u8,
        }
    }
}

/// How many borders lie below a magnitude.
fn number(borders: &[f32], magnitude: f32) -> usize {
    borders.partition_point(|border| magnitude > *border)
}

/// Zero, the levels of every decade, and 1: decade d (0 is the smallest) of the seven has 2^d levels where there
/// is a sign and twice as many without one, each in the middle of an equal part of it.
fn magnitudes(sign: Sign) -> Vec<f64> {
    let mut magnitudes = vec![0.0];
    for decade in 0..DECADES {
        let parts = (1u32 << decade) * if sign == Sign::Positive { 2 } else { 1 };
        let top = 10f64.powi(decade as i32 + 1 - DECADES as i32);
        let middle = |part| top * (0.1 + 0.9 * (f64::from(part) + 0.5) / f64::from(parts));
        magnitudes.extend((0..parts).map(middle));
    }
    magnitudes.push(1.0);
    magnitudes
}

#[cfg(test)]
mod tests {
    use super::super::testing::values;
    use super::*;

    /// What is left of some values.
    fn kept(values: &[f32], sign: Sign) -> Vec<f32> {
        let mut codes = vec![0; values.len()];
        let mut kept = vec![0.0; values.len()];
        for (block, values) in values.chunks(BLOCK_8BIT).enumerate() {
            let place = block * BLOCK_8BIT..block * BLOCK_8BIT + values.len();
            let scale = narrow(values, &mut codes[place.clone()], sign);
            widen(&codes[place.clone()], scale, &mut kept[place], sign);
        }
        kept
    }

    fn floats(count: usize, seed: u64) -> Vec<f32> {
        // Over many orders of magnitude, as moments are.
        values(count, seed).iter().map(|value| (value * value * value) as f32).collect()
    }

    #[test]
    fn every_value_gets_the_nearest_level() {
        for sign in [Sign::Both, Sign::Positive] {
            let decoded = &levels(sign).decoded;
            for value in floats(20_000, 3).into_iter().chain([0.0, 1.0, -1.0, 1e-7, 1e-30, 0.1, -0.1]) {
                let value = if sign == Sign::Positive { value.abs().min(1.0) } else { value.clamp(-1.0, 1.0) };
                let code = levels(sign).encode(value, sign);
                let distance = (decoded[usize::from(code)] - value).abs();
                let nearest = decoded
                    .iter()
                    .filter(|level| sign == Sign::Both || value == 0.0 || **level > 0.0)
                    .map(|level| (level - value).abs())
                    .fold(f32::INFINITY, f32::min);
                // -1 has no level of its own.
                assert!(distance <= nearest * (1.0 + 1e-5) + 1e-9, "{sign:?} {value}: {distance} and {nearest}");
            }
        }
    }

    #[test]
    fn levels_are_256_different_ones_and_come_back_as_they_are() {
        for sign in [Sign::Both, Sign::Positive] {
            let mut sorted = levels(sign).decoded.to_vec();
            sorted.sort_by(f32::total_cmp);
            sorted.dedup();
            assert_eq!(sorted.len(), 256);
            for code in 0..=255u8 {
                assert_eq!(levels(sign).encode(levels(sign).decoded[usize::from(code)], sign), code);
            }
        }
    }

    #[test]
    fn a_second_moment_above_zero_stays_above_zero() {
        let values = kept(&[1.0, 1e-12, 0.0], Sign::Positive);
        assert!(values[1] > 0.0 && values[1] < 1e-6 && values[2] == 0.0, "{values:?}");
    }

    #[test]
    fn blocks_do_not_see_each_other() {
        let (mut small, large) = (floats(BLOCK_8BIT, 1), floats(BLOCK_8BIT, 2));
        small.iter_mut().for_each(|value| *value *= 1e-4);
        let alone = kept(&small, Sign::Both);
        let both = kept(&[small, large].concat(), Sign::Both);
        assert_eq!(alone, both[..BLOCK_8BIT]);
        assert_eq!(Moment8::bytes(1000), 1000 + 16);
    }
}
