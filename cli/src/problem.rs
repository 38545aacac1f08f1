//! What the API says when it refuses: an RFC 9457 problem, read leniently, because a proxy may answer in its place.

use roadstead_domain::decode::FieldError;
use serde::Deserialize;

/// The `type` of what a submission of a workflow is answered that is not there.
pub const UNKNOWN_WORKFLOW: &str = "https://roadstead.dev/problems/unknown-workflow";
/// How much of an answer that is no problem document is shown.
const MAX_SHOWN_CHARS: usize = 300;

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Problem {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub title: Option<String>,
    #[serde(default)]
    pub detail: Option<String>,
    #[serde(default)]
    pub request_id: Option<String>,
    #[serde(default)]
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// Reads an answer's body; what is no problem document is taken for its detail.
    pub fn read(body: &[u8]) -> Self {
        if let Ok(problem) = serde_json::from_slice::<Self>(body)
            && (problem.title.is_some() || problem.detail.is_some() || !problem.kind.is_empty())
        {
            return problem;
        }
        let text = String::from_utf8_lossy(body);
        let text = text.trim();
        let detail = (!text.is_empty()).then(|| text.chars().take(MAX_SHOWN_CHARS).collect());
        Self { detail, ..Self::default() }
    }

    /// One sentence: the detail, or the title, or nothing.
    pub fn sentence(&self) -> Option<&str> {
        self.detail.as_deref().or(self.title.as_deref())
    }
}

/// One line a mistake: its place, if it has one, and what is wrong with it.
pub fn field_lines(errors: &[FieldError]) -> String {
    let mut lines = String::new();
    for FieldError { pointer, detail } in errors {
        lines.push_str("\n  ");
        if !pointer.is_empty() {
            lines.push_str(pointer);
            lines.push_str(": ");
        }
        lines.push_str(detail);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_read_with_its_field_errors() {
        let problem = Problem::read(
            br#"{"type":"https://x/invalid","title":"Invalid","status":400,"detail":"2 mistakes","request_id":"r1",
                "errors":[{"pointer":"/spec/steps/0/id","detail":"is missing"},{"pointer":"","detail":"too big"}]}"#,
        );
        assert_eq!(problem.sentence(), Some("2 mistakes"));
        assert_eq!(problem.request_id.as_deref(), Some("r1"));
        assert_eq!(field_lines(&problem.errors), "\n  /spec/steps/0/id: is missing\n  too big");
    }

    #[test]
    fn what_a_proxy_answers_is_shown_and_cut() {
        let page = format!("<html>{}</html>", "x".repeat(10_000));
        let problem = Problem::read(page.as_bytes());
        assert_eq!(problem.sentence().unwrap().chars().count(), MAX_SHOWN_CHARS);
        assert_eq!(Problem::read(b"").sentence(), None);
        assert_eq!(Problem::read(b"{}").sentence(), Some("{}"));
        assert_eq!(Problem::read(&[0xff, b'x']).sentence(), Some("\u{fffd}x"));
    }
}
