//! Counter-based randomness: every number is a function of (seed, stream, index), never of threads, of call
//! order or of what was drawn before. Sample order, weight initialisation and sampling all come from here.

/// A stream of random numbers addressed by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rng {
    key: u64,
}

impl Rng {
    /// The stream `stream` of `seed`; different streams are independent.
    pub fn new(seed: u64, stream: &str) -> Self {
        let key = stream.bytes().fold(mix(seed ^ 0x6c6c_6d6f_7265), |key, byte| mix(key ^ u64::from(byte)));
        Rng { key }
    }

    /// The same stream, split by a number (an epoch, a step).
    pub fn split(self, index: u64) -> Self {
        Rng { key: mix(self.key ^ mix(index.wrapping_add(0x9e37_79b9))) }
    }

    /// The 64 bits at `index`.
    pub fn bits(self, index: u64) -> u64 {
        mix(self.key.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// A number in [0, 1) at `index`, 53 bits.
    pub fn uniform(self, index: u64) -> f64 {
        (self.bits(index) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A standard normal number at `index` (Box-Muller).
    pub fn normal(self, index: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(2 * index)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(2 * index + 1)).cos()
    }

    /// A permutation of `0..n` (Fisher-Yates).
    pub fn permutation(self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            let pick = (self.bits(last as u64) % (last as u64 + 1)) as usize;
            order.swap(last, pick);
        }
        order
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_indices_are_independent() {
        let rng = Rng::new(0, "order");
        assert_eq!(rng.bits(5), Rng::new(0, "order").bits(5));
        assert_ne!(rng.bits(5), rng.bits(6));
        assert_ne!(rng.bits(5), Rng::new(1, "order").bits(5));
        assert_ne!(rng.bits(5), Rng::new(0, "weights").bits(5));
        assert_ne!(rng.split(0).bits(5), rng.split(1).bits(5));
    }

    #[test]
    fn normal_has_mean_zero_and_unit_variance() {
        let rng = Rng::new(3, "normal");
        let draws: Vec<f64> = (0..100_000).map(|i| rng.normal(i)).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        // Three standard errors: 3 / sqrt(1e5) = 0.0095 and 3 * sqrt(2 / 1e5) = 0.0134.
        assert!(mean.abs() < 0.0095, "{mean}");
        assert!((variance - 1.0).abs() < 0.0134, "{variance}");
    }

    #[test]
    fn a_permutation_holds_every_index_once() {
        let mut order = Rng::new(7, "order").permutation(1000);
        assert_ne!(order[..5], [0, 1, 2, 3, 4]);
        order.sort_unstable();
        assert!(order.iter().enumerate().all(|(i, &v)| i == v));
    }
}
