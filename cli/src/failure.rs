//! How a command fails: what went wrong, what to try, and the exit status that scripts rely on.

use crate::problem::{Problem, UNKNOWN_WORKFLOW, field_lines};
use reqwest::{Method, StatusCode};
use roadstead_domain::decode::FieldError;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The arguments or the input are wrong, found without asking the API.
    #[error("{0}")]
    Usage(String),
    /// A definition that the person wrote is wrong.
    #[error("{file} is not a valid workflow:{}", field_lines(.errors))]
    Definition { file: String, errors: Vec<FieldError> },
    #[error("{0}")]
    NotFound(String),
    /// The API answered, but not with what was asked for.
    #[error("{}", refusal(.0))]
    Refused(Box<Refusal>),
    /// No answer came.
    #[error("no answer from {url}: {cause}")]
    Unreachable { url: String, cause: String, timed_out: bool },
    /// The execution ended in another state than `succeeded`; `what` says which.
    #[error("{what}")]
    Unsuccessful { what: String },
    /// Whoever read standard output has gone.
    #[error("standard output was closed")]
    OutputClosed,
    /// This machine failed: a file, a folder, an answer that can't be read.
    #[error("{0}")]
    Local(String),
}

/// An answer with an error status.
#[derive(Debug)]
pub struct Refusal {
    pub method: Method,
    pub url: String,
    pub status: StatusCode,
    pub problem: Problem,
    pub retry_after_seconds: Option<u64>,
}

impl Failure {
    pub fn local(doing: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::Local(format!("{doing}: {error}"))
    }

    pub fn exit_status(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Usage(_) | Self::Definition { .. } => 2,
            Self::NotFound(_) => 3,
            Self::Unreachable { .. } => 5,
            Self::Unsuccessful { .. } | Self::Local(_) => 1,
            Self::Refused(refusal) => refusal.exit_status(),
        }
    }

    /// What is told on standard error: what happened, and what to try.
    pub fn describe(&self) -> String {
        match self.advice() {
            Some(advice) => format!("{self}\n  try: {advice}"),
            None => self.to_string(),
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some(
                "`roadstead dev` runs the whole stack on this machine; ROADSTEAD_URL names the address of another one"
                    .to_owned(),
            ),
            Self::Refused(refusal) => refusal.advice(),
            _ => None,
        }
    }
}

impl Refusal {
    fn exit_status(&self) -> u8 {
        match self.status {
            StatusCode::NOT_FOUND => 3,
            _ if self.problem.kind == UNKNOWN_WORKFLOW => 3,
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY => 2,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => 4,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => 5,
            status if status.is_server_error() => 5,
            _ => 1,
        }
    }

    fn advice(&self) -> Option<String> {
        let advice = match self.status {
            _ if self.problem.kind == UNKNOWN_WORKFLOW => {
                "`roadstead workflow list`, which shows what there is; `roadstead workflow apply FILE` stores one"
            }
            StatusCode::UNAUTHORIZED => {
                "put a valid key into ROADSTEAD_API_KEY; `roadstead-api keys create --tenant NAME` makes one"
            }
            StatusCode::FORBIDDEN => "use a key whose role allows this; `roadstead-api keys create --role` makes one",
            // Where the problem names what there is not, the rest of the path is right.
            StatusCode::NOT_FOUND if self.problem.sentence().is_none_or(|sentence| sentence.contains("not yours")) => {
                "check the id or name, and that the key in ROADSTEAD_API_KEY belongs to its tenant"
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                return Some(match self.retry_after_seconds {
                    Some(seconds) => format!("again in {seconds} s"),
                    None => "again in a while".to_owned(),
                });
            }
            status if status.is_server_error() => "the API's log under this request id",
            _ => return None,
        };
        Some(advice.to_owned())
    }
}

fn refusal(refusal: &Refusal) -> String {
    let Refusal { method, url, status, problem, .. } = refusal;
    let sentence = problem.sentence().or(status.canonical_reason()).unwrap_or("no reason given");
    let request = problem.request_id.as_ref().map_or_else(String::new, |id| format!(", request id {id}"));
    // A single mistake is often the sentence already.
    let is_told = problem.errors.len() == 1 && sentence.contains(&problem.errors[0].detail);
    let fields = if is_told { String::new() } else { field_lines(&problem.errors) };
    format!("{sentence}{fields}\n  ({} to {method} {url}{request})", status.as_u16())
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe { Self::OutputClosed } else { Self::Local(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, kind: &str) -> Failure {
        Failure::Refused(Box::new(Refusal {
            method: Method::POST,
            url: "http://h/v1/executions".to_owned(),
            status: StatusCode::from_u16(status).unwrap(),
            problem: Problem {
                kind: kind.to_owned(),
                ..Problem::read(
                    br#"{"detail":"no","request_id":"r9","errors":[{"pointer":"/input","detail":"is bad"}]}"#,
                )
            },
            retry_after_seconds: (status == 429).then_some(7),
        }))
    }

    #[test]
    fn every_refusal_has_the_contracts_exit_status() {
        for (status, expected) in [
            (400, 2),
            (401, 4),
            (403, 4),
            (404, 3),
            (409, 1),
            (413, 2),
            (415, 2),
            (422, 2),
            (408, 5),
            (429, 5),
            (500, 5),
            (503, 5),
        ] {
            assert_eq!(refused(status, "t").exit_status(), expected, "{status}");
        }
        assert_eq!(refused(400, UNKNOWN_WORKFLOW).exit_status(), 3);
        assert_eq!(
            Failure::Unreachable { url: String::new(), cause: String::new(), timed_out: false }.exit_status(),
            5
        );
        assert_eq!(Failure::OutputClosed.exit_status(), 0);
    }

    #[test]
    fn a_refusal_names_fields_url_and_request_and_what_to_try() {
        let told = refused(429, "t").describe();
        for part in
            ["no\n", "/input: is bad", "429 to POST http://h/v1/executions", "request id r9", "try: again in 7 s"]
        {
            assert!(told.contains(part), "{part} in {told}");
        }
    }
}
