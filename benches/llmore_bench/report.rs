//! Timing and the JSON line a measurement prints.

use std::time::Instant;

use llmore::error::Result;
use serde_json::json;

/// Runs `work` `warm` times untimed, then `rounds` times, in seconds.
pub fn time<T>(warm: usize, rounds: usize, mut work: impl FnMut() -> Result<T>) -> Result<(Vec<f64>, Vec<T>)> {
    let mut seconds = Vec::new();
    let mut results = Vec::new();
    for round in 0..warm + rounds {
        let start = Instant::now();
        results.push(work()?);
        if round >= warm {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    Ok((seconds, results))
}

/// Prints one measurement: seconds per item (step, image or token), its losses where there are any.
pub fn print(name: &str, item: &str, seconds: &[f64], losses: &[f64]) {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let megabytes = llmore::memory::DeviceMemory::most(&llmore::memory::Host).map_or(0.0, |bytes| bytes as f64 / 1e6);
    let line = json!({
        "name": name,
        "item": item,
        "median": sorted.get(sorted.len() / 2),
        "seconds": seconds,
        "peak_rss_mb": megabytes.round(),
        "losses": losses,
    });
    println!("{line}");
}
