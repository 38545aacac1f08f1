//! Query parameters: every mistake at once, an unknown parameter with the nearest known one.
//!
//! An empty value counts as absent. U+0000 is refused here, because PostgreSQL's text can't hold it.

use crate::problem::Problem;
use actix_web::web::Query;
use chrono::{DateTime, Utc};
use roadstead_domain::decode::{Errors, nearest};
use std::time::Duration;

/// A query string under decoding. Each accessor takes its parameter out; [`Params::finish`] reports what is left.
#[derive(Debug)]
pub struct Params {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    errors: Errors,
}

impl Params {
    pub fn of(query: &str) -> Self {
        let mut errors = Errors::default();
        let read = Query::<Vec<(String, String)>>::from_query(query);
        if read.is_err() {
            errors.push("", "the query string can't be read");
        }
        let pairs = read.map_or_else(|_| Vec::new(), Query::into_inner);
        for (name, value) in &pairs {
            if name.contains('\0') || value.contains('\0') {
                errors.push(shortened(name), "holds the character U+0000");
            }
        }
        Self { pairs, known: Vec::new(), errors }
    }

    /// A parameter that may be given several times.
    pub fn many(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        let (taken, rest) = std::mem::take(&mut self.pairs).into_iter().partition(|(given, _)| given == name);
        self.pairs = rest;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).filter(|value| !value.is_empty()).collect()
    }

    pub fn one(&mut self, name: &'static str) -> Option<String> {
        let mut values = self.many(name);
        if values.len() > 1 {
            self.error(name, "is given several times");
        }
        values.pop()
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, name: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let text = self.one(name)?;
        let number = text.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.error(name, format!("must be a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// A duration as in `30s`, `500ms`, `1m` or plain seconds, up to `max`.
    pub fn duration(&mut self, name: &'static str, max: Duration) -> Option<Duration> {
        let text = self.one(name)?;
        let duration = roadstead_domain::duration::parse(&text).filter(|duration| *duration <= max);
        if duration.is_none() {
            self.error(name, format!("must be a duration as in `30s`, of {} s at most", max.as_secs()));
        }
        duration
    }

    pub fn boolean(&mut self, name: &'static str) -> Option<bool> {
        match self.one(name)?.as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => {
                self.error(name, "must be true or false");
                None
            }
        }
    }

    pub fn time(&mut self, name: &'static str) -> Option<DateTime<Utc>> {
        let text = self.one(name)?;
        let time = DateTime::parse_from_rfc3339(&text).ok();
        if time.is_none() {
            self.error(name, "must be a time as in 2026-11-21T08:30:00Z (a `+` in a URL is written %2B)");
        }
        time.map(Into::into)
    }

    pub fn error(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.push(name, detail);
    }

    /// Reports every parameter that nobody took.
    pub fn finish<T>(mut self, value: T) -> Result<T, Problem> {
        for (name, _) in std::mem::take(&mut self.pairs) {
            if self.errors.is_full() {
                break;
            }
            let known = match nearest(&name, &self.known) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if self.known.is_empty() => "this route takes none".to_owned(),
                None => format!("known ones: {}", self.known.join(", ")),
            };
            let name = shortened(&name);
            self.error(&name, format!("unknown query parameter `{name}`; {known}"));
        }
        self.errors.into_result(value).map_err(Problem::fields)
    }
}

fn shortened(name: &str) -> String {
    name.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(query: &str) -> String {
        let mut params = Params::of(query);
        params.one("cursor");
        params.integer("limit", 1..=500);
        params.time("created_after");
        params.many("label");
        params.finish(()).unwrap_err().detail().to_owned()
    }

    #[test]
    fn an_unknown_parameter_is_named_with_the_nearest_known_one() {
        assert_eq!(refused("limt=3"), "limt: unknown query parameter `limt`; did you mean `limit`?");
        assert!(refused("zzz=3").contains("known ones: cursor, limit, created_after, label"));
    }

    #[test]
    fn values_that_can_not_be_used_are_refused() {
        for query in ["limit=0", "limit=501", "limit=x", "limit=1&limit=2", "created_after=yesterday", "label=a:%00"] {
            let name = query.split('=').next().unwrap();
            assert!(refused(query).starts_with(&format!("{name}: ")), "{query}");
        }
    }

    #[test]
    fn durations_take_units_and_have_a_bound() {
        let read = |query: &str| {
            let mut params = Params::of(query);
            let duration = params.duration("wait", Duration::from_secs(60));
            params.finish(duration).ok()
        };
        assert_eq!(read("wait=30s"), Some(Some(Duration::from_secs(30))));
        assert_eq!(read("wait=1m"), Some(Some(Duration::from_secs(60))));
        assert_eq!(read("wait=5"), Some(Some(Duration::from_secs(5))));
        for refused in [
            "wait=61s",
            "wait=-1",
            "wait=soon",
            "wait=99999999999999999999",
            "wait=1h",
            "wait=18446744073709551615s1000000000ns",
        ] {
            assert_eq!(read(refused), None, "{refused}");
        }
    }

    #[test]
    fn empty_values_count_as_absent() {
        let mut params = Params::of("cursor=&limit=&label=&label=a:b&created_after=2026-11-21T01:00:00%2B01:00");
        assert_eq!((params.one("cursor"), params.integer("limit", 1..=500)), (None, None));
        assert_eq!(params.many("label"), ["a:b"]);
        assert_eq!(params.time("created_after"), "2026-11-21T00:00:00Z".parse().ok());
        assert!(params.finish(()).is_ok());
    }
}
