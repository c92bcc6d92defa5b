//! Numbers formatted for people: three significant digits and a unit, not a machine's full precision.

/// A count with a magnitude: `853`, `1,234`, `31.6 k`, `8.35 B`. Below 10,000 it is exact.
pub fn count(n: usize) -> String {
    if n < 10_000 {
        return grouped(n);
    }
    scaled(n as f64, 1000.0, &["", " k", " M", " B", " T"])
}

/// A memory or file size in binary units: `512 B`, `1.50 KiB`, `2.37 GiB`.
pub fn bytes(n: u64) -> String {
    if n < 1024 {
        return format!("{n} B");
    }
    scaled(n as f64, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// A duration given in seconds: `0.41 ms`, `12.3 s`, `4 min 12 s`, `1 h 03 min`, `2 d 4 h`.
pub fn seconds(duration: f64) -> String {
    if !duration.is_finite() || duration < 0.0 {
        return "?".to_string();
    }
    if duration < 0.9995 {
        return format!("{} ms", significant(duration * 1e3));
    }
    if duration < 59.95 {
        return format!("{} s", significant(duration));
    }
    let whole = duration.round() as u64;
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86_400);
    match (days, hours) {
        (0, 0) => format!("{minutes} min {:02} s", whole % 60),
        (0, _) => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A fraction as a percentage with one decimal: `0.823` is `82.3 %`; NaN is `-`.
pub fn percent(fraction: f64) -> String {
    if fraction.is_finite() { format!("{:.1} %", fraction * 100.0) } else { "-".to_string() }
}

/// A p value: `0.043`, `< 0.001`.
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_string() } else { format!("{p:.3}") }
}

/// Any number in at most four significant digits: `0.0432`, `12`, `1,234`, `1.5e-5`; NaN is `nan`.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return value.to_string().to_lowercase();
    }
    if value == 0.0 {
        return "0".to_string();
    }
    if value.fract() == 0.0 && size < 1e6 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", grouped(size as usize));
    }
    if !(1e-3..1e6).contains(&size) {
        let text = format!("{value:.2e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", trimmed(mantissa));
    }
    let decimals = (3 - size.log10().floor() as i64).max(0) as usize;
    trimmed(&format!("{value:.decimals$}")).to_string()
}

/// A whole count to its last digit: `214,354`.
pub fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `value` divided by `base` until it has at most three digits before the point, with the unit of that power.
fn scaled(mut value: f64, base: f64, units: &[&str]) -> String {
    let mut power = 0;
    // 999.5 would print as 1000: it belongs to the next unit.
    while value >= 999.5 && power + 1 < units.len() {
        value /= base;
        power += 1;
    }
    format!("{}{}", significant(value), units[power])
}

/// Three significant digits, trailing zeros kept ("1.50"), never an exponent.
fn significant(value: f64) -> String {
    let decimals = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_sizes() {
        let cases = [
            (0, "0"),
            (853, "853"),
            (1_234, "1,234"),
            (9_999, "9,999"),
            (31_640, "31.6 k"),
            (853_000, "853 k"),
            (999_700, "1.00 M"),
            (8_351_000_000, "8.35 B"),
        ];
        for (n, expected) in cases {
            assert_eq!(count(n), expected);
        }
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(1_024_000), "0.98 MiB");
        assert_eq!(bytes(78 << 30), "78.0 GiB");
    }

    #[test]
    fn durations() {
        let cases = [
            (0.00041, "0.41 ms"),
            (0.85, "850 ms"),
            (0.9999, "1.00 s"),
            (12.34, "12.3 s"),
            (59.96, "1 min 00 s"),
            (252.0, "4 min 12 s"),
            (3780.0, "1 h 03 min"),
            (187_200.0, "2 d 4 h"),
            (f64::NAN, "?"),
        ];
        for (duration, expected) in cases {
            assert_eq!(seconds(duration), expected);
        }
    }

    #[test]
    fn numbers_keep_four_digits_at_most() {
        let cases = [
            (0.0, "0"),
            (0.0432, "0.0432"),
            (12.0, "12"),
            (-1234.0, "-1,234"),
            (1234.56, "1235"),
            (0.123456, "0.1235"),
            (1.5e-5, "1.5e-5"),
            (2e-5, "2e-5"),
            (1.23456e9, "1.23e9"),
            (f64::NAN, "nan"),
            (f64::INFINITY, "inf"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected);
        }
        assert_eq!(percent(0.8234), "82.3 %");
        assert_eq!(percent(f64::NAN), "-");
    }
}
