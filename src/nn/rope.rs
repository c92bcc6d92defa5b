//! Rotary position embeddings: frequencies from a spec, angles in f64, tables in f32 that grow as positions are
//! used. Source: transformers 4.49.0, `modeling_rope_utils.py` and `Phi3RotaryEmbedding`.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, Tensor, bail};
use serde::Serialize;

use super::ops::{self, RopeTable};
use super::packing::Packing;

/// The rotary part of a decoder spec.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rope {
    /// `rope_theta`.
    pub base: f64,
    /// How many of each head's values are rotated; the rest pass through.
    pub rotary_dim: usize,
    /// How frequencies are stretched for a longer context.
    pub scaling: RopeScaling,
}

/// Stretching of rotary frequencies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum RopeScaling {
    None,
    /// All frequencies are divided by this.
    Linear(f64),
    /// Llama-3.1: long wavelengths are slowed down by `factor`, short ones kept, with a ramp between.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_context: f64,
    },
    LongRope(LongRope),
}

/// Phi-3's scaling: each frequency has a divisor for sequences that fit the original context and another one for
/// longer ones. Which of the two is a matter of the whole sequence: one that grows beyond the original context is computed
/// from its beginning again, as in transformers, since cached keys cannot be rotated again. So decoding with a cache equals
/// the full pass at every length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LongRope {
    /// One divisor per frequency, (rotary_dim / 2).
    pub short: Vec<f64>,
    pub long: Vec<f64>,
    pub original_context: usize,
    /// The factor of cosines and sines in both cases.
    pub attention_factor: f64,
}

impl Rope {
    /// One frequency per rotated pair, (rotary_dim / 2); with two sets of divisors those of short sequences.
    pub fn frequencies(&self) -> Vec<f64> {
        match &self.scaling {
            RopeScaling::LongRope(scaling) => self.divided(&scaling.short),
            scaling => self.unscaled().map(|frequency| scaling.apply(frequency)).collect(),
        }
    }

    /// The longest sequence that has the first of two sets of divisors.
    pub fn switch(&self) -> Option<usize> {
        match &self.scaling {
            RopeScaling::LongRope(scaling) => Some(scaling.original_context),
            _ => None,
        }
    }

    fn unscaled(&self) -> impl Iterator<Item = f64> {
        let (base, dim) = (self.base, self.rotary_dim as f64);
        (0..self.rotary_dim / 2).map(move |i| base.powf(-2.0 * i as f64 / dim))
    }

    fn divided(&self, divisors: &[f64]) -> Vec<f64> {
        self.unscaled().zip(divisors).map(|(frequency, divisor)| frequency / divisor).collect()
    }

    /// Appends rows to a table. With two sets of divisors its first `original_context` rows are the positions of
    /// short sequences, and those of long ones follow, from 0 on.
    fn extend(&self, table: &mut RopeTable, rows: Range<usize>) {
        let RopeScaling::LongRope(scaling) = &self.scaling else {
            return table.extend(&self.frequencies(), rows, 1.0);
        };
        let original = scaling.original_context;
        let short = rows.start.min(original)..rows.end.min(original);
        let long = rows.start.max(original) - original..rows.end.max(original) - original;
        table.extend(&self.divided(&scaling.short), short, scaling.attention_factor);
        table.extend(&self.divided(&scaling.long), long, scaling.attention_factor);
    }

    /// The table row of every token: its position, or where a long sequence has that.
    fn rows(&self, packing: &Packing) -> Result<Arc<[u32]>> {
        let RopeScaling::LongRope(LongRope { original_context: original, .. }) = self.scaling else {
            return Ok(packing.positions.clone());
        };
        let mut rows = packing.positions.to_vec();
        for (segment, &planned) in packing.segments.iter().zip(packing.planned.iter()) {
            let rows = &mut rows[segment.q.clone()];
            if planned > original {
                rows.iter_mut().for_each(|row| *row += original as u32);
            } else if let Some(position) = rows.iter().find(|&&row| row as usize >= original) {
                bail!("rope: position {position} of a sequence that was planned for {planned}, within {original}");
            }
        }
        Ok(rows.into())
    }
}

/// A rope with the table of the positions used so far.
pub struct Rotary {
    rope: Rope,
    context: usize,
    table: Mutex<Arc<RopeTable>>,
}

/// The rotations of one forward pass.
pub struct Angles {
    table: Arc<RopeTable>,
    rows: Arc<[u32]>,
}

impl Rotary {
    /// For positions below `context`; nothing is computed yet.
    pub fn new(rope: Rope, context: usize) -> Self {
        let table = RopeTable::new(&rope.frequencies(), 0, 1.0);
        Rotary { rope, context, table: Mutex::new(Arc::new(table)) }
    }

    /// The rotations of a packing's positions; errors if one is outside the context.
    pub fn angles(&self, packing: &Packing) -> Result<Angles> {
        if let Some(position) = packing.positions.iter().find(|&&position| position as usize >= self.context) {
            bail!("rope: position {position} is outside the context of {}", self.context);
        }
        let rows = self.rope.rows(packing)?;
        let needed = rows.iter().max().map_or(0, |&row| row as usize + 1);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() < needed {
            // In powers of two, so that decoding token by token does not copy the table each time.
            let mut longer = RopeTable::clone(&table);
            self.rope.extend(&mut longer, table.len()..needed.next_power_of_two());
            *table = Arc::new(longer);
        }
        Ok(Angles { table: table.clone(), rows })
    }
}

impl Angles {
    /// Rotates x (tokens, heads * head_dim).
    pub fn rotate(&self, x: &Tensor, head_dim: usize) -> Result<Tensor> {
        ops::rope(x, &self.table, &self.rows, head_dim)
    }
}

impl RopeScaling {
    fn apply(&self, frequency: f64) -> f64 {
        match *self {
            RopeScaling::None | RopeScaling::LongRope(_) => frequency,
            RopeScaling::Linear(factor) => frequency / factor,
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let wavelength = std::f64::consts::TAU / frequency;
                if wavelength < original_context / high_freq_factor {
                    frequency
                } else if wavelength > original_context / low_freq_factor {
                    frequency / factor
                } else {
                    let smooth =
                        (original_context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// `LlamaRotaryEmbedding(config).inv_freq` of transformers 4.49.0 for Llama-3.1-8B.
    #[test]
    fn llama_3_1_frequencies_agree_with_transformers() {
        let rope = Rope {
            base: 500_000.0,
            rotary_dim: 128,
            scaling: RopeScaling::Llama3 {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_context: 8192.0,
            },
        };
        let got = rope.frequencies();
        let expected = [
            (0, 1.0),
            (16, 3.76060309e-2),
            (28, 3.21144599e-3),
            (29, 2.16657076e-3),
            (32, 5.24846161e-4),
            (34, 1.78507813e-4),
            (35, 9.55621235e-5),
            (48, 6.64786987e-6),
            (63, 3.06892599e-7),
        ];
        for (i, value) in expected {
            assert!((got[i] / value - 1.0).abs() < 1e-6, "{i}: {} against {value}", got[i]);
        }
    }

    #[test]
    fn longrope_goes_by_the_planned_length() {
        let scaling = LongRope { short: vec![1.0], long: vec![4.0], original_context: 8, attention_factor: 1.0 };
        let rope = Rope { base: 10_000.0, rotary_dim: 2, scaling: RopeScaling::LongRope(scaling) };
        let rotary = Rotary::new(rope.clone(), 100);
        let packing = Packing::whole(&[8, 9, 3]);
        let angles = rotary.angles(&packing).unwrap();
        let expected: Vec<u32> = (0..8).chain(8..17).chain(0..3).collect();
        assert_eq!(angles.rows.to_vec(), expected);
        let x = Tensor::new(&[[1f32, 0.0]; 20], &Device::Cpu).unwrap();
        let cosines = angles.rotate(&x, 2).unwrap().get_on_dim(1, 0).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(
            [cosines[7], cosines[15], cosines[19]],
            [7f64.cos(), (7.0f64 / 4.0).cos(), 2f64.cos()].map(|c| c as f32)
        );
        let unplanned = Packing { planned: Arc::from([8]), ..Packing::whole(&[9]) };
        let message = rotary.angles(&unplanned).err().unwrap().to_string();
        assert!(message.contains("position 8 of a sequence that was planned for 8, within 8"), "{message}");
        let message = rotary.angles(&Packing::whole(&[101])).err().unwrap().to_string();
        assert!(message.contains("position 100 is outside the context of 100"), "{message}");
    }

    #[test]
    fn a_table_that_grew_is_the_table_made_at_once() {
        let rope = Rope { base: 10_000.0, rotary_dim: 8, scaling: RopeScaling::Linear(3.0) };
        let rotary = Rotary::new(rope.clone(), 1 << 17);
        for length in [3, 1, 70, 300] {
            assert!(rotary.angles(&Packing::whole(&[length])).unwrap().table.len() < 2 * 300);
        }
        let grown = rotary.angles(&Packing::whole(&[1])).unwrap();
        assert_eq!(*grown.table, RopeTable::new(&rope.frequencies(), 512, 1.0));
    }
}
