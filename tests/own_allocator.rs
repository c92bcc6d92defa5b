//! A program that brings an allocator of its own, as a notebook or another crate may. That it compiles shows that the
//! library installs none; then figures of memory are readings of the whole process, and say so. It has no harness, so
//! that it begins as a program does: with one thread.
// clippy.toml allows this in test functions; without a harness there are none.
#![allow(clippy::expect_used)]

use std::alloc::System;

use llmore::memory::{self, DeviceMemory, Host};
use llmore::process;

#[global_allocator]
static ALLOCATOR: System = System;

const SIZE: usize = 256 << 20;

fn main() {
    // Only in a process of one thread is the environment written.
    process::keep_freed_memory();
    process::set_threads(2);
    let is_told = std::env::var("CANDLE_NUM_THREADS").as_deref() == Ok("1");
    assert_eq!(is_told, cfg!(target_os = "linux"), "CANDLE_NUM_THREADS");

    assert!(!Host.is_counted());
    if Host.taken().is_none() {
        println!("own_allocator: this system does not tell what a process has");
        return;
    }
    let memory = memory::of(&llmore::device::device("cpu").expect("a CPU"));
    let before = memory.held();
    memory.watch();
    let filled = std::hint::black_box(vec![1u8; SIZE]);
    assert!(memory.held() >= before + SIZE as u64 / 2, "{} after {before}", memory.held());
    assert!(memory.peak() >= before + SIZE as u64 / 2, "{} after {before}", memory.peak());
    drop(filled);
    println!("own_allocator: held and peak are what the process has");
}
