//! From a segment's lines to what a reader gets: chosen by step and stream, in the reader's format.
//!
//! Pure. A line that is no log line is passed over: a segment's content was uploaded by an executor, which runs beside the tenant's own code.

use crate::query::message;
use roadstead_domain::attempt::protocol::Stream;
use serde::Deserialize;
use std::borrow::Cow;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The lines as they were printed.
    Text,
    /// A JSON object a line.
    Ndjson,
    /// The same objects as server-sent events.
    Events,
}

impl Format {
    /// In the order of preference.
    pub const CONTENT_TYPES: &'static [&'static str] =
        &["text/plain", "application/x-ndjson", crate::query::EVENT_STREAM];

    pub fn of(content_type: &str) -> Self {
        match content_type {
            "application/x-ndjson" => Self::Ndjson,
            crate::query::EVENT_STREAM => Self::Events,
            _ => Self::Text,
        }
    }
}

/// Which lines are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub step: Option<String>,
    pub stream: Option<Stream>,
}

impl Filter {
    pub fn takes_all(&self) -> bool {
        self.step.is_none() && self.stream.is_none()
    }

    fn takes(&self, entry: &Entry<'_>) -> bool {
        self.step.as_ref().is_none_or(|step| *step == entry.step)
            && self.stream.is_none_or(|stream| stream == entry.stream)
    }
}

/// A log line as it lies in a segment.
#[derive(Deserialize)]
struct Entry<'a> {
    n: u64,
    #[serde(borrow)]
    step: Cow<'a, str>,
    stream: Stream,
    #[serde(borrow)]
    line: Cow<'a, str>,
}

fn entries(segment: &[u8]) -> impl Iterator<Item = (&str, Entry<'_>)> {
    segment
        .split(|byte| *byte == b'\n')
        .filter_map(|text| std::str::from_utf8(text).ok().map(str::trim_ascii))
        // An array of the members would be taken for an entry too. CR is legal between the members of an object, but the end of a line in an event stream.
        .filter(|text| text.starts_with('{') && !text.contains('\r'))
        .filter_map(|text| Some((text, serde_json::from_str(text).ok()?)))
}

/// How many lines of the segment are wanted.
pub fn count(segment: &[u8], filter: &Filter) -> u64 {
    entries(segment).filter(|(_, entry)| filter.takes(entry)).count() as u64
}

/// Where in a segment to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skip {
    /// Lines numbered lower were given before.
    pub below: u64,
    /// So many of the wanted lines are older than the tail.
    pub wanted: u64,
}

/// The wanted lines of a segment in the reader's format. `skip.wanted` is used up by what it skips.
pub fn render(segment: &[u8], attempt: i32, filter: &Filter, skip: &mut Skip, format: Format) -> String {
    let mut out = String::with_capacity(segment.len());
    for (text, entry) in entries(segment) {
        if entry.n < skip.below || !filter.takes(&entry) {
            continue;
        }
        if skip.wanted > 0 {
            skip.wanted -= 1;
            continue;
        }
        write(&mut out, attempt, text, &entry, format);
    }
    out
}

fn write(out: &mut String, attempt: i32, text: &str, entry: &Entry<'_>, format: Format) {
    // Compact JSON stays what its executor wrote; it only gets the attempt put before its first member.
    let numbered = || format!("{{\"attempt\":{attempt},{}", text.strip_prefix('{').unwrap_or(text).trim_ascii_start());
    match format {
        Format::Text => {
            out.push_str(&entry.line);
            out.push('\n');
        }
        Format::Ndjson => {
            out.push_str(&numbered());
            out.push('\n');
        }
        Format::Events => message(out, Some(format_args!("{attempt}-{}", entry.n)), &numbered()),
    }
}

/// A place in a log, as the id of an event.
pub fn parse_event_id(id: &str) -> Option<(i32, u64)> {
    let (attempt, n) = id.split_once('-')?;
    let attempt = attempt.parse().ok().filter(|attempt| *attempt >= 1)?;
    Some((attempt, n.parse().ok()?))
}

/// The line that stands for a segment that is not stored any more.
pub fn missing_segment(first_line: u64, seq: i32, lines: i32) -> String {
    format!(
        "{{\"n\":{first_line},\"t\":0,\"step\":\"\",\"stream\":\"system\",\"line\":\"[segment {seq} of this log, {lines} lines, is not stored any more]\"}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: &[u8] = b"{\"n\":4,\"t\":1,\"step\":\"a\",\"stream\":\"stdout\",\"line\":\"one\"}\n\
        garbage\n\
        [4,\"a\",\"stdout\",\"x\"]\n\
        { \"n\":5,\"t\":2,\"step\":\"b\",\"stream\":\"stderr\",\"line\":\"t\\u0077o \\\"\\u001b\"}\r\n\
        {\"n\":6,\"t\":3,\"step\":\"a\",\"stream\":\"stderr\",\"line\":\"\"}\n\
        \xff\xff\n";

    fn rendered(filter: &Filter, mut skip: Skip, format: Format) -> String {
        render(SEGMENT, 2, filter, &mut skip, format)
    }

    fn filter(step: Option<&str>, stream: Option<Stream>) -> Filter {
        Filter { step: step.map(ToOwned::to_owned), stream }
    }

    #[test]
    fn text_is_what_was_printed() {
        assert_eq!(rendered(&Filter::default(), Skip::default(), Format::Text), "one\ntwo \"\u{1b}\n\n");
    }

    #[test]
    fn objects_carry_their_attempt_and_stay_on_one_line() {
        let ndjson = rendered(&Filter::default(), Skip::default(), Format::Ndjson);
        assert_eq!(ndjson.lines().count(), 3);
        for line in ndjson.lines() {
            assert!(line.starts_with("{\"attempt\":2,\"n\":"), "{line}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(line).unwrap()["attempt"], 2);
        }
        let events = rendered(&filter(Some("b"), None), Skip::default(), Format::Events);
        assert!(events.starts_with("id: 2-5\ndata: {\"attempt\":2,\"n\":5,") && events.ends_with("}\n\n"), "{events}");
    }

    #[test]
    fn lines_are_chosen_by_step_stream_and_place() {
        let text = |filter: &Filter, below, wanted| rendered(filter, Skip { below, wanted }, Format::Text);
        assert_eq!(text(&filter(Some("a"), None), 0, 0), "one\n\n");
        assert_eq!(text(&filter(Some("a"), Some(Stream::Stderr)), 0, 0), "\n");
        assert_eq!(text(&Filter::default(), 6, 0), "\n");
        assert_eq!(text(&filter(None, Some(Stream::Stderr)), 0, 1), "\n");
        assert_eq!(count(SEGMENT, &Filter::default()), 3);
        assert_eq!(count(SEGMENT, &filter(Some("a"), None)), 2);
    }

    #[test]
    fn a_skip_is_used_up_over_several_segments() {
        let mut skip = Skip { below: 0, wanted: 4 };
        assert_eq!(render(SEGMENT, 1, &Filter::default(), &mut skip, Format::Text), "");
        assert_eq!(render(SEGMENT, 1, &Filter::default(), &mut skip, Format::Text), "two \"\u{1b}\n\n");
    }

    #[test]
    fn the_word_for_a_missing_segment_is_a_line_like_any_other() {
        let line = missing_segment(7, 3, 12);
        let text = render(line.as_bytes(), 1, &filter(None, Some(Stream::System)), &mut Skip::default(), Format::Text);
        assert_eq!(text, "[segment 3 of this log, 12 lines, is not stored any more]\n");
    }

    #[test]
    fn event_ids_name_an_attempt_and_a_line() {
        assert_eq!(parse_event_id("2-17"), Some((2, 17)));
        for bad in ["", "2", "2-", "-1", "0-1", "a-b", "1-2-3", "99999999999-1"] {
            assert_eq!(parse_event_id(bad), None, "{bad}");
        }
    }
}
