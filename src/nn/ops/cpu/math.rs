//! Vectorizable exp, tanh, erf and row reductions for kernels. Polynomials were fitted at Chebyshev nodes
//! (in f64, then rounded); the measured errors are asserted in the tests below.
//! Reductions keep `LANES` running sums, so their order of addition is fixed.

/// Running sums of a reduction: four AVX registers hide the latency of an addition.
const LANES: usize = 32;

/// `a * b + c`, fused where the instruction exists.
#[inline(always)]
pub(super) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// The polynomial with `coefficients`, lowest power first.
#[inline(always)]
fn polynomial<const FMA: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut value = coefficients[N - 1];
    for power in (0..N - 1).rev() {
        value = fma::<FMA>(value, x, coefficients[power]);
    }
    value
}

/// e^x; zero below -86.6 (where e^x < 2.5e-38), infinity above 88.72, NaN stays NaN.
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with few enough bits that its product with n is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x < -86.6 { -86.6 } else { x };
    let clamped = if clamped > 88.8 { 88.8 } else { clamped };
    let shifted = fma::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, -LN2_LOW, fma::<FMA>(n, -LN2_HIGH, clamped));
    let tail =
        polynomial::<FMA, 6>(r, [0.5, 0.166_666_67, 0.041_666_467, 0.008_333_31, 0.001_393_364_7, 0.000_198_909_9]);
    let mantissa = 1.0 + fma::<FMA>(tail * r, r, r);
    // 2^(n-1), doubled afterwards: 2^128 has no representation.
    let power = f32::from_bits(shifted.to_bits().wrapping_add(126) << 23);
    let value = mantissa * power * 2.0;
    if x < -86.6 { 0.0 } else { value }
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(super) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// The hyperbolic tangent.
#[inline(always)]
pub(super) fn tanh<const FMA: bool>(x: f32) -> f32 {
    let size = x.abs();
    let large = 1.0 - 2.0 / (exp::<FMA>(2.0 * size) + 1.0);
    let square = x * x;
    let tail = polynomial::<FMA, 6>(
        square,
        [-0.333_333_34, 0.133_333_04, -0.053_959_258, 0.021_768_918, -0.008_343_945, 0.002_292_745],
    );
    let small = fma::<FMA>(tail * square, x, x);
    if size < 0.625 { small } else { large.copysign(x) }
}

/// The error function.
#[inline(always)]
pub(super) fn erf<const FMA: bool>(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let near = polynomial::<FMA, 7>(
        square,
        [0.128_379_17, -0.376_126_35, 0.112_836_91, -0.026_859_151, 0.005_200_369, -0.000_813_470_9, 8.334_719e-5],
    );
    let small = fma::<FMA>(near, x, x);
    // ln(erfc(x)); from 4 on erf rounds to 1.
    let bounded = if size > 4.0 { 4.0 } else { size };
    let far = polynomial::<FMA, 9>(
        bounded,
        [
            0.000_320_441_53,
            -1.130_237_6,
            -0.631_814_54,
            -0.110_094_48,
            0.026_431_018,
            -0.004_763_575_3,
            0.000_597_743_5,
            -4.617_791_3e-5,
            1.643_569_7e-6,
        ],
    );
    let large = (1.0 - exp::<FMA>(far)).copysign(x);
    // Written so that NaN takes the branch that keeps it.
    if size >= 0.93 { large } else { small }
}

/// The sum of `term(i)` over `0..len`, in `LANES` running sums.
#[inline(always)]
pub(super) fn sum_of(len: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = len / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    let rest: f32 = (whole..len).map(&term).sum();
    lanes.iter().sum::<f32>() + rest
}

/// The scalar product.
#[inline(always)]
pub(super) fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] = fma::<FMA>(a[lane], b[lane], lanes[lane]);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The largest value; NaN is passed over, and an empty slice gives minus infinity.
#[inline(always)]
pub(super) fn maximum(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

/// Replaces every value by `e^(value - shift)` and returns their sum.
#[inline(always)]
pub(super) fn exponentials<const FMA: bool>(values: &mut [f32], shift: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let mut chunks = values.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *value = exp::<FMA>(*value - shift);
            *lane += *value;
        }
    }
    let mut rest = 0f32;
    for value in chunks.into_remainder() {
        *value = exp::<FMA>(*value - shift);
        rest += *value;
    }
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error over `steps` arguments between `from` and `to`, in units of the last place.
    fn worst_ulp(from: f32, to: f32, approximation: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        const STEPS: usize = 400_000;
        (0..=STEPS)
            .map(|step| from + (to - from) * (step as f32 / STEPS as f32))
            .map(|x| {
                let exact = exact(f64::from(x));
                let ulp = f64::from((exact.abs() as f32).max(f32::MIN_POSITIVE));
                let ulp = f64::from(f32::from_bits((ulp as f32).to_bits() + 1)) - ulp;
                (f64::from(approximation(x)) - exact).abs() / ulp
            })
            .fold(0.0, f64::max)
    }

    fn check<const FMA: bool>(limits: [f64; 3]) {
        let erf_oracle = candle_core::cpu::erf::erf_f64;
        let worst = [
            worst_ulp(-86.5, 88.7, exp::<FMA>, f64::exp),
            worst_ulp(-10.0, 10.0, tanh::<FMA>, f64::tanh),
            worst_ulp(-5.0, 5.0, erf::<FMA>, erf_oracle),
        ];
        println!("FMA {FMA}: max error in ulp: exp {:.2}, tanh {:.2}, erf {:.2}", worst[0], worst[1], worst[2]);
        for (worst, limit) in worst.iter().zip(limits) {
            assert!(worst <= &limit, "{worst} ulp, expected at most {limit}");
        }
    }

    #[test]
    fn approximations_are_within_two_ulp_of_the_f64_functions() {
        check::<false>([2.0, 2.0, 2.0]);
        // Without the FMA flag the test still runs `mul_add`, as a library call with the same result.
        check::<true>([2.0, 2.0, 2.0]);
    }

    #[test]
    fn edges_of_the_range() {
        assert_eq!(exp::<false>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp::<false>(-200.0), 0.0);
        assert_eq!(exp::<false>(0.0), 1.0);
        assert_eq!(exp::<false>(f32::INFINITY), f32::INFINITY);
        assert_eq!(erf::<false>(f32::INFINITY), 1.0);
        assert_eq!(tanh::<false>(f32::NEG_INFINITY), -1.0);
        for nan in [exp::<true>(f32::NAN), tanh::<true>(f32::NAN), erf::<true>(f32::NAN)] {
            assert!(nan.is_nan());
        }
    }

    #[test]
    fn reductions_cover_the_remainder() {
        let values: Vec<f32> = (0..77).map(|i| i as f32 - 38.0).collect();
        let squares: f32 = values.iter().map(|v| v * v).sum();
        assert_eq!(dot::<true>(&values, &values), squares);
        assert_eq!(sum_of(77, |i| values[i] * values[i]), squares);
        assert_eq!(maximum(&values), 38.0);
        assert_eq!(maximum(&values[..3]), -36.0);
    }
}
