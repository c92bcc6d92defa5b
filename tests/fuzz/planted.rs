//! Readers that do what none should, at one input: the mutator has to find it, and to go on.

use super::frames::Frame;
use super::reader::{Input, Read, Reader, Seed};

/// How many inputs they are given, and which of them is the one.
pub const INPUTS: u64 = 40;
pub const AT: u64 = 17;

pub const ALL: &[&Reader] = &[
    &Reader { name: "panics", seeds, words: &[], open: |_| at(|| panic!("planted")) },
    &Reader { name: "waits", seeds, words: &[], open: |_| at(wait) },
    &Reader { name: "fills", seeds, words: &[], open: |_| at(fill) },
    &Reader { name: "ends", seeds, words: &[], open: |_| at(|| std::process::abort()) },
    &Reader { name: "guarded", seeds, words: &[], open: |_| at(guarded) },
];

/// So many that the one is a seed.
fn seeds() -> Vec<Seed> {
    (0..INPUTS).map(|number| Seed { kind: number.to_string(), bytes: b"seed".to_vec(), frame: Frame::Bytes }).collect()
}

fn at(act: impl Fn() + 'static) -> Read {
    Box::new(move |input: &Input| {
        if input.kind == AT.to_string() {
            act();
        }
        true
    })
}

fn wait() {
    let start = std::time::Instant::now();
    let mut sum = 0u64;
    while start.elapsed().as_secs() < 60 {
        sum = std::hint::black_box(sum.wrapping_add(1));
    }
}

fn fill() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity((1 << 30) + (1 << 20))));
}

fn guarded() {
    let caught = std::panic::catch_unwind(|| panic!("caught within"));
    assert!(caught.is_err());
}
