//! Rotary position embeddings: frequencies from a spec, angles in f64, tables in f32.
//! Source: transformers 4.49.0, `modeling_rope_utils.py`.

use std::sync::Arc;

use super::ops::RopeTable;

/// The rotary part of a decoder spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// `rope_theta`.
    pub base: f64,
    /// How many of each head's values are rotated; the rest pass through.
    pub rotary_dim: usize,
    /// How frequencies are stretched for a longer context.
    pub scaling: RopeScaling,
}

/// Stretching of rotary frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    None,
    /// Llama-3.1: long wavelengths are slowed down by `factor`, short ones kept, with a ramp between.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_context: f64,
    },
}

impl Rope {
    /// One frequency per rotated pair, (rotary_dim / 2).
    pub fn frequencies(&self) -> Vec<f64> {
        let dim = self.rotary_dim as f64;
        (0..self.rotary_dim / 2).map(|i| self.scaling.apply(self.base.powf(-2.0 * i as f64 / dim))).collect()
    }

    /// The table for positions `0..positions`.
    pub fn table(&self, positions: usize) -> Arc<RopeTable> {
        Arc::new(RopeTable::new(&self.frequencies(), positions, 1.0))
    }
}

impl RopeScaling {
    fn apply(&self, frequency: f64) -> f64 {
        match *self {
            RopeScaling::None => frequency,
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
}
