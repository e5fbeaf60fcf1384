//! Numbers in words: counts, bytes, times and rates, written alike wherever the program says them.

/// A number with its digits in groups of three: `400,000`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something, given in the singular: `1 image`, `2,000 images`, `3 batches`, `4 boundaries`.
pub fn count(n: impl TryInto<u64>, what: &str) -> String {
    // What does not fit is larger than anything that can be counted here.
    let n = n.try_into().unwrap_or(u64::MAX);
    if n == 1 { format!("1 {what}") } else { format!("{} {}", grouped(n), plural(what)) }
}

fn plural(what: &str) -> String {
    let consonant = |c: char| !"aeiou".contains(c);
    match what.strip_suffix('y') {
        Some(stem) if stem.ends_with(consonant) => format!("{stem}ies"),
        _ if ["s", "x", "z", "ch", "sh"].iter().any(|end| what.ends_with(end)) => format!("{what}es"),
        _ => format!("{what}s"),
    }
}

/// Bytes in binary units: `0 B`, `512 B`, `6.7 MiB`, `1.2 GiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be printed as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A time in its two largest units: `0.4 s`, `42 s`, `5 min 12 s`, `1 h 20 min`, `13 d 2 h`.
pub fn duration(seconds: f64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    // NaN becomes 0; a thousand years are more than anything here takes.
    let seconds = if seconds > 0.0 { seconds.min(3.2e10) } else { 0.0 };
    if seconds < 9.95 {
        let tenths = format!("{seconds:.1}");
        return format!("{} s", tenths.strip_suffix(".0").unwrap_or(&tenths));
    }
    let whole = seconds.round() as u64;
    let i = UNITS.iter().position(|(length, _)| whole >= *length).unwrap_or(UNITS.len() - 1);
    let Some(&(smaller, smaller_name)) = UNITS.get(i + 1) else { return format!("{whole} s") };
    // Rounded to the second unit before it is taken apart: 59 min 59 s and a half are an hour.
    let rounded = (whole + smaller / 2) / smaller * smaller;
    let (length, name) = match i.checked_sub(1).map(|larger| UNITS[larger]) {
        Some((larger, _)) if rounded >= larger => return duration(rounded as f64),
        _ => UNITS[i],
    };
    match rounded % length / smaller {
        0 => format!("{} {name}", grouped(rounded / length)),
        rest => format!("{} {name} {rest} {smaller_name}", grouped(rounded / length)),
    }
}

/// A rate, or another number of which three digits tell enough: `6,440`, `123`, `12.3`, `1.23`, `0.0123`.
pub fn three_digits(value: f64) -> String {
    if !value.is_finite() {
        return "--".to_string();
    }
    let size = value.abs();
    if size < 1e-9 {
        return "0".to_string();
    }
    let sign = if value < 0.0 { "-" } else { "" };
    // Rounded first: 9.996 has two digits before the point.
    let scale = 10_f64.powi(2 - size.log10().floor() as i32);
    let rounded = (size * scale).round() / scale;
    let decimals = (2 - rounded.log10().floor() as i32).max(0) as usize;
    match rounded {
        0.0..1000.0 => format!("{sign}{rounded:.decimals$}"),
        1e15.. => format!("{sign}{rounded:.2e}"),
        _ => format!("{sign}{}", grouped(rounded.round() as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_and_words_follow_their_number() {
        let groups = [(0, "0"), (999, "999"), (1000, "1,000"), (400_000, "400,000"), (1_234_567, "1,234,567")];
        for (n, expected) in groups {
            assert_eq!(grouped(n), expected);
        }
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
        let words = [
            (1, "image", "1 image"),
            (0, "image", "0 images"),
            (2, "image", "2 images"),
            (5000, "launch", "5,000 launches"),
            (2, "boundary", "2 boundaries"),
            (3, "day", "3 days"),
            (2, "pass", "2 passes"),
            (1, "pass", "1 pass"),
        ];
        for (n, what, expected) in words {
            assert_eq!(count(n as u64, what), expected);
        }
        assert_eq!(count(7_usize, "file"), "7 files");
    }

    #[test]
    fn bytes_have_the_unit_that_fits() {
        for (n, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (6_990_636, "6.7 MiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(bytes(n), expected);
        }
    }

    #[test]
    fn times_have_their_two_largest_units() {
        for (seconds, expected) in [
            (0.0, "0 s"),
            (0.04, "0 s"),
            (0.42, "0.4 s"),
            (3.0, "3 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (42.4, "42 s"),
            (59.6, "1 min"),
            (60.0, "1 min"),
            (312.0, "5 min 12 s"),
            (3599.6, "1 h"),
            (4800.0, "1 h 20 min"),
            (86_399.0, "1 d"),
            (13.0 * 86_400.0 + 7200.0, "13 d 2 h"),
            (400_000.0 * 86_400.0, "370,370 d 9 h"),
            (-1.0, "0 s"),
            (f64::NAN, "0 s"),
            (f64::INFINITY, "370,370 d 9 h"),
        ] {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn three_digits_tell_a_rate() {
        for (value, expected) in [
            (6440.4429, "6,440"),
            (12.34, "12.3"),
            (9.996, "10.0"),
            (999.6, "1,000"),
            (123.4, "123"),
            (1.0, "1.00"),
            (0.012_34, "0.0123"),
            (0.0, "0"),
            (1_234_567.0, "1,230,000"),
            (-2.5, "-2.50"),
            (2.5e17, "2.50e17"),
            (f64::NAN, "--"),
            (f64::INFINITY, "--"),
        ] {
            assert_eq!(three_digits(value), expected, "{value}");
        }
    }
}
