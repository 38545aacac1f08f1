//! Which of a route's content types a client wants, after RFC 9110's `Accept`.

use crate::problem::{Kind, Problem};
use actix_web::http::header::{ACCEPT, HeaderMap};

/// The most wanted of `offered`; the first one when the client does not say, and among equals.
pub fn content_type(headers: &HeaderMap, offered: &[&'static str]) -> Result<&'static str, Problem> {
    let ranges: Vec<(&str, f32)> = headers
        .get_all(ACCEPT)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        // Empty elements of a list count for nothing (RFC 9110, 5.6.1).
        .filter(|element| !element.trim().is_empty())
        .map(range)
        .collect();
    if ranges.is_empty() {
        return Ok(offered[0]);
    }
    let mut best = ("", 0.0);
    for name in offered {
        let quality = quality(name, &ranges);
        if quality > best.1 {
            best = (name, quality);
        }
    }
    if best.1 > 0.0 {
        return Ok(best.0);
    }
    Err(Problem::new(Kind::NotAcceptable, format!("this route answers with {}", offered.join(", "))))
}

/// A media range and its weight.
fn range(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = |part: &str| {
        let (name, value) = part.split_once('=')?;
        name.eq_ignore_ascii_case("q").then(|| value.parse().ok())?
    };
    (name, parts.find_map(weight).unwrap_or(1.0))
}

/// The weight that the most specific of the matching ranges gives.
fn quality(name: &str, ranges: &[(&str, f32)]) -> f32 {
    let kind = name.split('/').next().unwrap_or_default();
    let specificity = |range: &str| match range.split_once('/') {
        Some(("*", "*")) => Some(1),
        Some((given, "*")) if given.eq_ignore_ascii_case(kind) => Some(2),
        Some(_) if range.eq_ignore_ascii_case(name) => Some(3),
        _ => None,
    };
    ranges
        .iter()
        .filter_map(|(range, quality)| Some((specificity(range)?, *quality)))
        .max_by_key(|(specificity, _)| *specificity)
        .map_or(0.0, |(_, quality)| quality)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    const OFFERED: &[&str] = &["text/plain", "application/x-ndjson", "text/event-stream"];

    fn wanted(accept: &str) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        content_type(&headers, OFFERED).ok()
    }

    #[test]
    fn the_most_wanted_type_is_chosen() {
        assert_eq!(content_type(&HeaderMap::new(), OFFERED).ok(), Some("text/plain"));
        for (accept, expected) in [
            ("*/*", Some("text/plain")),
            ("Text/Event-Stream", Some("text/event-stream")),
            ("text/event-stream, */*;q=0.1", Some("text/event-stream")),
            ("text/plain;q=0.5, application/x-ndjson; charset=utf-8; q=0.6", Some("application/x-ndjson")),
            ("text/*, text/plain;q=0", Some("text/event-stream")),
            ("application/*", Some("application/x-ndjson")),
            ("image/png", None),
            ("*/*;q=0", None),
            ("nonsense", None),
            ("", Some("text/plain")),
            (" , ", Some("text/plain")),
            ("text/plain;Q=0, text/event-stream;q=0.1", Some("text/event-stream")),
        ] {
            assert_eq!(wanted(accept), expected, "{accept}");
        }
    }
}
