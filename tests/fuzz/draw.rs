//! Numbers that an input is made from. Each is a function of (seed, reader, index of the input, place), so that an input can
//! be made again and none has to be kept.

use llmore::rng::Rng;

/// The draws of one input.
pub struct Draw {
    rng: Rng,
    at: u64,
}

impl Draw {
    pub fn new(seed: u64, reader: &str, index: u64) -> Self {
        Draw { rng: Rng::new(seed, reader).split(index), at: 0 }
    }

    pub fn bits(&mut self) -> u64 {
        self.at += 1;
        self.rng.bits(self.at)
    }

    /// A number below `n`; 0 where there is none.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.bits() % n as u64) as usize }
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of these, of which there is at least one.
    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// How many mutations an input gets: mostly few, so that it still looks like one.
    pub fn mutations(&mut self) -> usize {
        let mut count = 1;
        while count < 12 && self.one_in(2) {
            count += 1;
        }
        count
    }
}
