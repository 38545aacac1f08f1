//! Answers, checked.

use roadstead_testkit::Answer;
use serde_json::Value;

/// What is looked at in every answer.
pub trait Checked {
    /// The JSON of an answer with this status.
    fn ok(&self, status: u16) -> Value;
    /// A header's value; empty when it is not there.
    fn value(&self, header: &str) -> &str;
    /// The answer as a problem of this status and kind, whole as RFC 9457 and the contract want it.
    fn problem(&self, status: u16, slug: &str) -> Value;
    /// The detail of what is wrong at this pointer.
    fn error_at(&self, pointer: &str) -> String;
}

impl Checked for Answer {
    #[track_caller]
    fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn value(&self, header: &str) -> &str {
        self.header(header).unwrap_or_default()
    }

    #[track_caller]
    fn problem(&self, status: u16, slug: &str) -> Value {
        let problem = self.ok(status);
        assert_eq!(self.value("content-type"), "application/problem+json", "{problem}");
        assert!(problem["type"].as_str().is_some_and(|kind| kind.ends_with(&format!("/{slug}"))), "{slug}: {problem}");
        assert_eq!(problem["status"], status, "{problem}");
        for member in ["title", "detail", "request_id"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        assert_eq!(problem["request_id"], self.value("x-request-id"), "{problem}");
        problem
    }

    #[track_caller]
    fn error_at(&self, pointer: &str) -> String {
        let problem = self.json();
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        let found = errors.iter().find(|error| error["pointer"] == pointer);
        let found = found.unwrap_or_else(|| panic!("no error at `{pointer}`: {problem}"));
        found["detail"].as_str().unwrap_or_else(|| panic!("no detail: {problem}")).to_owned()
    }
}

pub fn is_terminal(execution: &Value) -> bool {
    matches!(execution["state"].as_str(), Some("succeeded" | "failed" | "timed_out" | "cancelled"))
}
