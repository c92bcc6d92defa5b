//! Statistics. Questions about one image are not independent, so everything here works on groups: each has a few sums
//! (its right answers and its questions, its true and false positives), and a metric is a function of their totals.
//! Resampling adds up sums and never scores anything again.

mod grid;
mod groups;
mod interval;
mod paired;
mod tango;

pub use grid::{detectable, detectable_between, holm, mcnemar};
pub use groups::{Finish, Groups};
pub use interval::{Interval, interval};
pub(in crate::eval) use paired::discordant;
pub use paired::{Paired, bootstrap, difference, exchange, paired};
pub use tango::tango;

/// Two-sided 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// A standard error below this share of the metric is what rounding leaves of none.
const SAME: f64 = 1e-12;

/// The 97.5 % quantile of Student's t: from a printed table below 4 degrees of freedom, from there on by the Cornish-Fisher
/// expansion, whose error is below 0.01 there.
pub fn t_quantile(freedom: f64) -> f64 {
    match freedom.round() as u32 {
        0 | 1 => return 12.706,
        2 => return 4.303,
        3 => return 3.182,
        _ => {}
    }
    let (z, n) = (Z, freedom.max(1.0));
    let power = |k: i32| z.powi(k);
    z + (power(3) + z) / (4.0 * n)
        + (5.0 * power(5) + 16.0 * power(3) + 3.0 * z) / (96.0 * n.powi(2))
        + (3.0 * power(7) + 19.0 * power(5) + 17.0 * power(3) - 15.0 * z) / (384.0 * n.powi(3))
}

/// The standard normal distribution function (Abramowitz and Stegun 7.1.26 on erfc, error below 2e-7).
fn normal_cdf(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let poly =
        ((((1.061_405_429 * t - 1.453_152_027) * t + 1.421_413_741) * t - 0.284_496_736) * t + 0.254_829_592) * t;
    let tail = 0.5 * poly * (-x * x).exp();
    if z < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests;
