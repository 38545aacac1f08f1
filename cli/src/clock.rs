//! The wall clock, and how times are shown to people. No other file asks what time it is.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use roadstead_domain::duration;

pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// A time as people give it: RFC 3339, or `+` and a duration from now.
pub fn parse_time(text: &str) -> Result<String, String> {
    if let Some(duration) = text.strip_prefix('+') {
        let duration = duration::parse(duration).ok_or_else(|| format!("`{text}` is no delay as in +10m or +1h30m"))?;
        let delta = TimeDelta::from_std(duration).map_err(|_| format!("`{text}` is too far away"))?;
        let time = now().checked_add_signed(delta).ok_or_else(|| format!("`{text}` is too far away"))?;
        return Ok(time.to_rfc3339_opts(SecondsFormat::Millis, true));
    }
    let time = DateTime::parse_from_rfc3339(text)
        .map_err(|_| format!("`{text}` is neither a time as in 2030-01-31T08:00:00Z nor a delay as in +10m"))?;
    Ok(time.with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// How long ago `timestamp` was, in one or two units; empty when it can't be read.
pub fn age(timestamp: &str) -> String {
    DateTime::parse_from_rfc3339(timestamp)
        .map_or_else(|_| String::new(), |then| short(now().signed_duration_since(then)))
}

/// The time between two timestamps; empty when one can't be read.
pub fn between(from: &str, to: &str) -> String {
    match (DateTime::parse_from_rfc3339(from), DateTime::parse_from_rfc3339(to)) {
        (Ok(from), Ok(to)) => short(to.signed_duration_since(from)),
        _ => String::new(),
    }
}

/// A duration in one or two units: `850ms`, `42s`, `3m 5s`, `2h 10m`, `4d 1h`.
pub fn short(duration: TimeDelta) -> String {
    let milliseconds = duration.num_milliseconds().max(0);
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rfc_3339_or_a_delay() {
        assert_eq!(parse_time("2030-01-31T09:00:00+01:00").unwrap(), "2030-01-31T08:00:00.000Z");
        let soon = parse_time("+10m").unwrap();
        let delta = DateTime::parse_from_rfc3339(&soon).unwrap().signed_duration_since(now());
        assert!((590..=600).contains(&delta.num_seconds()), "{delta}");
        for bad in ["tomorrow", "+", "+x", "10m", "+99999999999y"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_short() {
        let shown = |ms: i64| short(TimeDelta::milliseconds(ms));
        assert_eq!(shown(-5), "0ms");
        assert_eq!(shown(850), "850ms");
        assert_eq!(shown(42_900), "42s");
        assert_eq!(shown(185_000), "3m 5s");
        assert_eq!(shown(7_800_000), "2h 10m");
        assert_eq!(shown(349_200_000), "4d 1h");
    }
}
