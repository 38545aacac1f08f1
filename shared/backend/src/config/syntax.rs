//! What a variable's value looks like and what it means. The table says the kind of each, so that every program refuses the same values, whoever uses them.

use super::urls;
use crate::telemetry::Filter;
use roadstead_domain::attempt::placement::is_namespace_template;
use roadstead_domain::ids::is_name;
use roadstead_domain::workflow::quantity::Quantity;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const LONGEST_DURATION: Duration = Duration::from_secs(10 * 366 * 86_400);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What only its user can judge: a name, a path.
    Text,
    /// Likewise, and shown to nobody.
    Secret,
    Switch,
    Number {
        min: u64,
        max: u64,
    },
    /// Above zero.
    Duration,
    /// Likewise, and counted in whole seconds where it is used.
    Seconds,
    Word(&'static [&'static str]),
    /// Of processors or bytes, above zero.
    Quantity,
    Host,
    Listener,
    HttpUrl,
    PostgresUrl,
    RedisUrl,
    RedisPrefix,
    Bucket,
    LogFilter,
    NamespaceTemplate,
    Namespaces,
}

impl Kind {
    /// An error follows the variable's name.
    pub fn check(self, text: &str) -> Result<(), String> {
        match self {
            Self::Text | Self::Secret => Ok(()),
            Self::Switch => switch(text).map(drop),
            Self::Number { min, max } => match number(text) {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                _ => Err(format!("must be a whole number from {min} to {max}, not `{text}`")),
            },
            Self::Duration => duration(text).map(drop),
            Self::Seconds => match duration(text)?.subsec_nanos() {
                0 => Ok(()),
                _ => Err(format!("must be whole seconds, not `{text}`")),
            },
            Self::Word(words) if words.contains(&text) => Ok(()),
            Self::Word(words) => Err(format!("must be {}, not `{text}`", alternatives(words))),
            Self::Quantity => quantity(text).map(drop),
            Self::Host => host(text).map(drop),
            Self::Listener => listener(text).map(drop),
            Self::HttpUrl => urls::http(text).map(drop),
            Self::PostgresUrl => urls::postgres(text).map(drop),
            Self::RedisUrl => urls::redis(text).map(drop),
            Self::RedisPrefix => {
                let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
                ensure(is_plain && text.len() <= 64, "must be 1 to 64 letters, digits, `-`, `_` or `.`")
            }
            Self::Bucket => ensure((3..=63).contains(&text.len()), "must be a bucket name of 3 to 63 characters"),
            Self::LogFilter => Filter::parse(text).map(drop),
            Self::NamespaceTemplate if is_namespace_template(text) => Ok(()),
            Self::NamespaceTemplate => Err(format!(
                "must be a namespace of 1 to 63 letters a-z, digits and `-`, in which one `%s` may stand for the tenant, not `{text}`"
            )),
            Self::Namespaces => namespaces(text).map(drop),
        }
    }

    /// What of a value may be shown.
    pub fn shown(self, text: &str) -> String {
        match self {
            Self::Secret => "<redacted>".to_owned(),
            Self::RedisUrl => urls::redacted(&urls::redis(text).unwrap_or_default()),
            Self::HttpUrl | Self::PostgresUrl => urls::redacted(text),
            _ => text.to_owned(),
        }
    }

    /// Whether two values are one, however they are written.
    pub fn agree(self, one: &str, other: &str) -> bool {
        fn read<T: PartialEq>(read: fn(&str) -> Result<T, String>, one: &str, other: &str) -> bool {
            read(one).is_ok_and(|one| Ok(one) == read(other))
        }
        one == other
            || match self {
                Self::Switch => read(switch, one, other),
                Self::Number { .. } => read(number, one, other),
                Self::Duration | Self::Seconds => read(duration, one, other),
                Self::Host => read(host, one, other),
                Self::HttpUrl => read(urls::http, one, other),
                Self::PostgresUrl => read(urls::postgres, one, other),
                Self::RedisUrl => read(urls::redis, one, other),
                _ => false,
            }
    }
}

fn ensure(fits: bool, mistake: &str) -> Result<(), String> {
    if fits { Ok(()) } else { Err(mistake.to_owned()) }
}

fn alternatives(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

pub fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("must be `true` or `false`, not `{text}`")),
    }
}

pub fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("must be a whole number, not `{text}`"))
}

/// `30s`, `5m`, `24h`, or plain seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    match roadstead_domain::duration::parse(text) {
        Some(span) if !span.is_zero() && span <= LONGEST_DURATION => Ok(span),
        _ => Err(format!(
            "must be a duration above zero, as in `30s`, `5m`, `24h`, `30d`, or plain seconds, not `{text}`"
        )),
    }
}

/// The kubelet takes none at all for a limit that is not there.
pub fn quantity(text: &str) -> Result<Quantity, String> {
    match text.parse::<Quantity>() {
        Ok(quantity) if quantity.thousandths > 0 => Ok(quantity),
        _ => Err(format!("must be a Kubernetes quantity above zero, as in `500m`, `2`, `256Mi`, not `{text}`")),
    }
}

pub fn host(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        _ => text.parse().map_err(|_| format!("must be an IP address or `localhost`, not `{text}`")),
    }
}

/// `HOST:PORT`, or `:PORT`.
pub fn listener(text: &str) -> Result<(Option<IpAddr>, u16), String> {
    let parts = || {
        let (name, port) = text.rsplit_once(':')?;
        let address = match name.strip_prefix('[') {
            Some(bracketed) => Some(IpAddr::V6(bracketed.strip_suffix(']')?.parse().ok()?)),
            None if name.is_empty() => None,
            None => Some(host(name).ok().filter(IpAddr::is_ipv4)?),
        };
        Some((address, port.parse().ok()?))
    };
    parts().ok_or_else(|| format!("must be `IP:PORT` or `:PORT`, not `{text}`"))
}

pub fn namespaces(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> =
        text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    if names.is_empty() || !names.iter().all(|name| is_name(name)) {
        return Err(format!("must be namespaces with commas between them, not `{text}`"));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_units_or_seconds() {
        for (text, milliseconds) in [
            ("90", 90_000),
            ("30s", 30_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("250ms", 250),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for wrong in ["0", "0s", "-1", "5M", "1y", "soon", "1 month", "s", "99999999999999999999", "11y", "9999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_counted_in_seconds_has_no_parts_of_one() {
        assert_eq!(Kind::Seconds.check("1m"), Ok(()));
        for wrong in ["500ms", "1500ms"] {
            assert!(Kind::Seconds.check(wrong).unwrap_err().contains("whole seconds"), "{wrong}");
        }
    }

    #[test]
    fn a_listener_is_an_address_with_a_port_or_a_port() {
        let (v4, v6) = (IpAddr::from([127, 0, 0, 1]), "::1".parse::<IpAddr>().unwrap());
        for (text, expected) in [
            (":9", (None, 9)),
            ("127.0.0.1:9", (Some(v4), 9)),
            ("localhost:9", (Some(v4), 9)),
            ("[::1]:9", (Some(v6), 9)),
        ] {
            assert_eq!(listener(text), Ok(expected), "{text}");
        }
        for wrong in ["9", "::1:9", "127.0.0.1", "127.0.0.1:x", "[127.0.0.1]:9", "example.org:9", "[::1]9", ":99999"] {
            assert!(listener(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_of_nothing_is_none() {
        assert!(quantity("1m").is_ok());
        for wrong in ["0", "0Mi", "0.0", "much"] {
            assert!(quantity(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_ways_to_write_a_value_are_one_value() {
        for (kind, one, other) in [
            (Kind::Switch, "true", "1"),
            (Kind::Seconds, "1h", "3600"),
            (Kind::Host, "localhost", "127.0.0.1"),
            (Kind::RedisUrl, "redis://redis:6379", "redis:6379"),
            (Kind::Text, "a", "a"),
        ] {
            assert!(kind.agree(one, other), "{one} {other}");
        }
        for (kind, one, other) in [
            (Kind::Seconds, "1h", "60"),
            (Kind::Seconds, "soon", "later"),
            (Kind::RedisUrl, "a:6379", "b:6379"),
            (Kind::Text, "1", "01"),
        ] {
            assert!(!kind.agree(one, other), "{one} {other}");
        }
    }

    #[test]
    fn a_wrong_word_is_told_the_right_ones() {
        let mistake = Kind::Word(&["a", "b", "c"]).check("d").unwrap_err();
        assert_eq!(mistake, "must be `a`, `b` or `c`, not `d`");
    }
}
