//! What the API answers, as far as people are shown it. Read leniently: a newer API may say more, or other words.
//!
//! `json` output never goes through these types; it is the answer's own bytes.

use crate::failure::Failure;
use roadstead_domain::execution::{Reason, State};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Execution {
    pub id: String,
    pub workflow: Option<String>,
    pub version: Option<i64>,
    pub state: String,
    pub reason: Option<Reason>,
    pub attempt: i64,
    pub max_attempts: i64,
    pub priority: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub cancel_requested: bool,
    pub queue: Option<Queue>,
    pub created_at: Option<String>,
    pub run_at: Option<String>,
    pub started_at: Option<String>,
    pub finished_at: Option<String>,
    pub retry_of: Option<String>,
    pub result: Option<Box<RawValue>>,
}

impl Execution {
    /// Whether it has ended. A state this program does not know has not.
    pub fn is_over(&self) -> bool {
        self.state.parse::<State>().is_ok_and(State::is_terminal)
    }

    pub fn succeeded(&self) -> bool {
        self.state == State::Succeeded.as_str()
    }

    /// `name@version`, or what stands for an execution of an inline definition.
    pub fn workflow_shown(&self) -> String {
        match (&self.workflow, self.version) {
            (Some(name), Some(version)) => format!("{name}@{version}"),
            (Some(name), None) => name.clone(),
            (None, _) => "(inline)".to_owned(),
        }
    }

    pub fn reason_shown(&self) -> String {
        match &self.reason {
            None => String::new(),
            Some(reason) if reason.code == self.state => reason.message.clone(),
            Some(reason) => format!("{}: {}", reason.code, reason.message),
        }
    }

    /// Why it has not started yet, if that is known.
    pub fn waiting_shown(&self) -> String {
        let Some(queue) = &self.queue else { return String::new() };
        let mut parts = Vec::new();
        if let Some(ahead) = queue.ahead {
            parts.push(format!("{ahead} ahead"));
        }
        if let Some(what) = &queue.waiting_for {
            parts.push(format!("waiting for {what}"));
        }
        parts.join(", ")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Queue {
    pub ahead: Option<u64>,
    pub waiting_for: Option<String>,
}

/// One page of a list; items keep their bytes.
#[derive(Debug, Deserialize)]
pub struct Page {
    pub items: Vec<Box<RawValue>>,
    #[serde(default)]
    pub next_cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Attempt {
    pub attempt: i64,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Step {
    pub id: String,
    pub state: String,
    pub tries: u32,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub message: Option<String>,
}

impl Step {
    /// Its end in a few words, when it says more than its state.
    pub fn ending(&self) -> String {
        match (&self.message, self.signal, self.exit_code) {
            (Some(message), ..) => message.clone(),
            (None, Some(signal), _) => format!("signal {signal}"),
            (None, None, Some(code)) if code != 0 => format!("exit status {code}"),
            _ => String::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
pub struct Artifact {
    pub path: String,
    pub size_bytes: u64,
    pub sha256: String,
}

/// One line of a log, with the attempt that printed it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LogEvent {
    pub step: String,
    pub stream: String,
    pub line: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct WorkflowEntry {
    pub name: String,
    pub version: Option<i64>,
    pub created_at: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Capacity {
    pub cap: u64,
    pub live: i64,
    pub queued: Vec<Waiting>,
    pub oldest_age_seconds: Option<f64>,
    pub finished_per_second: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Waiting {
    pub tenant: String,
    pub priority: String,
    pub queued: i64,
}

/// Reads an answer.
pub fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(answer).map_err(|e| Failure::local("can't read the API's answer", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_of_a_newer_api_can_be_read() {
        let execution: Execution = read(
            br#"{"id":"x","state":"hibernating","workflow":null,"version":null,"reason":null,"labels":{},"new":[1],
                "queue":{"ahead":3,"waiting_for":"moon"},"result":{"n":1.50}}"#,
        )
        .unwrap();
        assert!(!execution.is_over());
        assert_eq!(execution.workflow_shown(), "(inline)");
        assert_eq!(execution.waiting_shown(), "3 ahead, waiting for moon");
        assert_eq!(execution.result.unwrap().get(), r#"{"n":1.50}"#);
    }
}
