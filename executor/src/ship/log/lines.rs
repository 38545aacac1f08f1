//! From bytes to lines, and from lines to the segment's NDJSON. Pure; memory is bounded by the longest line that is let through.

use roadstead_domain::attempt::protocol::Stream;
use std::borrow::Cow;

/// Cuts one stream of output into lines of at most `max_bytes`.
#[derive(Debug)]
pub struct Lines {
    partial: Vec<u8>,
    max_bytes: usize,
}

impl Lines {
    pub fn new(max_bytes: usize) -> Self {
        // A character of UTF-8 must fit.
        Self { partial: Vec::new(), max_bytes: max_bytes.max(4) }
    }

    /// Calls `line` for each line that `bytes` completes.
    pub fn feed(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.whole(&bytes[..end], &mut line);
            bytes = &bytes[end + 1..];
        }
        self.partial.extend_from_slice(bytes);
        // One byte more may be a `\r` before the line's end.
        if self.partial.len() > self.max_bytes + 1 {
            let partial = std::mem::take(&mut self.partial);
            let left = self.cut(&partial, self.max_bytes + 1, &mut line);
            self.partial = partial[left..].to_vec();
        }
    }

    /// What came after the last line end, if anything.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            let partial = std::mem::take(&mut self.partial);
            let left = self.cut(&partial, self.max_bytes, &mut line);
            line(&partial[left..]);
        }
    }

    fn whole(&mut self, end: &[u8], line: &mut impl FnMut(&[u8])) {
        if self.partial.is_empty() && end.len() <= self.max_bytes {
            return line(end.strip_suffix(b"\r").unwrap_or(end));
        }
        let mut all = std::mem::take(&mut self.partial);
        all.extend_from_slice(end);
        let text = all.strip_suffix(b"\r").unwrap_or(&all);
        let left = self.cut(text, self.max_bytes, line);
        line(&text[left..]);
        all.clear();
        self.partial = all;
    }

    /// Hands over full lines until at most `until` bytes are left; answers where they begin.
    fn cut(&self, bytes: &[u8], until: usize, line: &mut impl FnMut(&[u8])) -> usize {
        let mut from = 0;
        while bytes.len() - from > until {
            let to = from + boundary(&bytes[from..], self.max_bytes);
            line(&bytes[from..to]);
            from = to;
        }
        from
    }
}

/// The last place up to `max` that does not split a character of UTF-8.
fn boundary(bytes: &[u8], max: usize) -> usize {
    let is_inside = |at: usize| bytes[at] & 0b1100_0000 == 0b1000_0000;
    (max - 3..=max).rev().find(|&at| !is_inside(at)).unwrap_or(max)
}

/// Writes `LogLine`s of one source without building one.
#[derive(Debug)]
pub struct Encoder {
    /// `,"step":"…","stream":"…","line":`
    label: Vec<u8>,
    /// `,"t":…` and the label, for lines of the moment `moment_ms`.
    middle: Vec<u8>,
    moment_ms: i64,
}

impl Encoder {
    pub fn new(step: &str, stream: Stream) -> Self {
        let mut label = b",\"step\":".to_vec();
        push_json(&mut label, &step);
        label.extend_from_slice(b",\"stream\":");
        push_json(&mut label, &stream);
        label.extend_from_slice(b",\"line\":");
        Self { label, middle: Vec::new(), moment_ms: i64::MIN }
    }

    /// Appends one line of a segment.
    pub fn encode(&mut self, out: &mut Vec<u8>, n: u64, moment_ms: i64, line: &[u8]) {
        self.at(moment_ms);
        out.extend_from_slice(b"{\"n\":");
        push_json(out, &n);
        out.extend_from_slice(&self.middle);
        let text = match std::str::from_utf8(line) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(line),
        };
        push_json(out, &text.as_ref());
        out.extend_from_slice(b"}\n");
    }

    /// Times are rendered once for all lines of a moment.
    fn at(&mut self, moment_ms: i64) {
        if self.moment_ms != moment_ms {
            self.moment_ms = moment_ms;
            self.middle.clear();
            self.middle.extend_from_slice(b",\"t\":");
            push_json(&mut self.middle, &moment_ms);
            self.middle.extend_from_slice(&self.label);
        }
    }
}

fn push_json(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(out, value).expect("strings and numbers always serialize into memory");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use roadstead_domain::attempt::protocol::LogLine;

    fn split(max: usize, pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::new(max);
        let mut found = Vec::new();
        for piece in pieces {
            lines.feed(piece, |line| found.push(String::from_utf8_lossy(line).into_owned()));
        }
        lines.finish(|line| found.push(String::from_utf8_lossy(line).into_owned()));
        found
    }

    #[test]
    fn lines_end_at_line_ends_wherever_the_pieces_do() {
        assert_eq!(split(80, &[b"one\ntw", b"o\r\n", b"\nlast"]), ["one", "two", "", "last"]);
        assert_eq!(split(80, &[b"end\n"]), ["end"]);
        assert!(split(80, &[]).is_empty());
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        assert_eq!(split(8, &["äöüäöüä\n".as_bytes()]), ["äöüä", "öüä"]);
        assert_eq!(split(9, &["äöüäöüä\n".as_bytes()]), ["äöüä", "öüä"]);
        assert_eq!(split(8, &[b"123456", b"78\r\n", b"12345678", b"9"]), ["12345678", "12345678", "9"]);
        assert_eq!(split(8, &[&[0xBF; 20]]).len(), 3, "what is not UTF-8 is cut somewhere");
    }

    #[test]
    fn an_encoded_line_is_the_protocol_s() {
        let mut out = Vec::new();
        let mut encoder = Encoder::new("a-step", Stream::Stderr);
        encoder.encode(&mut out, 7, 1_763_700_000_123, b"tab\t \"quote\" \x1b[0m \xff \xf0\x9f\xa6\x80");
        let line: LogLine = serde_json::from_slice(&out).unwrap();
        let expected = LogLine {
            n: 7,
            t: 1_763_700_000_123,
            step: "a-step".into(),
            stream: Stream::Stderr,
            line: "tab\t \"quote\" \u{1b}[0m \u{fffd} 🦀".into(),
        };
        assert_eq!(line, expected);
        assert!(out.ends_with(b"}\n") && !out[..out.len() - 1].contains(&b'\n'));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_output_is_cut_into_pieces(
            text in "[a-zé\n]{0,200}", cuts in prop::collection::vec(0usize..200, 0..6), max in 4usize..40
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            let found = split(max, &pieces);
            prop_assert_eq!(found.concat(), text.replace('\n', ""));
            prop_assert!(found.iter().all(|line| line.len() <= max));
            prop_assert_eq!(found, split(max, &[bytes]), "the pieces don't matter");
        }
    }
}
