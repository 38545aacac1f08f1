//! Durations as people write them: `30s`, `5m`, `1h30m`, or plain seconds.

use std::time::Duration;

/// Nobody's mistake: `m` is minutes, and there are no months or years, which have no length of their own.
const UNITS: &[(&[&str], u64)] = &[
    (&["ms"], 1),
    (&["s", "sec", "secs", "second", "seconds"], 1_000),
    (&["m", "min", "mins", "minute", "minutes"], 60_000),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600_000),
    (&["d", "day", "days"], 86_400_000),
    (&["w", "week", "weeks"], 604_800_000),
];

/// `None`: it is none, or longer than can be counted in milliseconds.
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse::<u64>().ok()?.checked_mul(1_000).map(Duration::from_millis);
    }
    let mut milliseconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let after = after.trim_start();
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        let (_, length) = UNITS.iter().find(|(names, _)| names.contains(&unit))?;
        milliseconds = number.parse::<u64>().ok()?.checked_mul(*length)?.checked_add(milliseconds)?;
        rest = after.trim_start();
    }
    (!text.is_empty()).then(|| Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_added_up_and_plain_numbers_are_seconds() {
        for (text, milliseconds) in [
            ("90", 90_000),
            ("30s", 30_000),
            ("250ms", 250),
            ("1h30m", 5_400_000),
            ("1h 30min", 5_400_000),
            ("2days", 172_800_000),
            ("2 days", 172_800_000),
            ("1w", 604_800_000),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_none_or_too_long_is_refused() {
        for text in [
            "",
            "s",
            "-1s",
            "1.5s",
            "5M",
            "1y",
            "1 month",
            "1h-1m",
            "h1",
            "1é",
            "99999999999999999999",
            "18446744073709551615",
            "18446744073709551615s1000000000ns",
            "18446744073709551615ms1ms",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
