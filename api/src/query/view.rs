//! The execution as it is told over HTTP: one shape for every route that answers with one, its members in the contract's order.
//!
//! Pure. A result is told only of an execution that has ended: what a failed attempt left is not the execution's.

use chrono::{DateTime, SecondsFormat, Utc};
use roadstead_backend::store::query::Execution;
use roadstead_domain::execution::{Priority, Reason, State};
use roadstead_domain::ids::ExecutionId;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;
use utoipa::ToSchema;

/// A moment, as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub DateTime<Utc>);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// One execution of a workflow.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Execution)]
pub struct ExecutionView<'a> {
    #[schema(value_type = uuid::Uuid)]
    pub id: ExecutionId,
    pub tenant: &'a str,
    /// Null when the definition came with the submission.
    #[schema(example = "word-count")]
    pub workflow: Option<&'a str>,
    pub version: Option<i32>,
    #[schema(value_type = StateWord)]
    pub state: State,
    #[schema(value_type = Option<ReasonView>)]
    pub reason: Option<&'a Reason>,
    /// The current attempt; 0 before the first.
    pub attempt: i32,
    pub max_attempts: i32,
    #[schema(value_type = PriorityWord)]
    pub priority: Priority,
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub labels: Labels<'a>,
    pub cancel_requested: bool,
    /// Null once an attempt has started.
    pub queue: Option<Queue>,
    #[schema(value_type = chrono::DateTime<Utc>)]
    pub created_at: Time,
    /// Not before then: as submitted, or the end of a retry's backoff. `null` where that was over when it was submitted.
    #[schema(value_type = Option<chrono::DateTime<Utc>>)]
    pub run_at: Option<Time>,
    /// The start of the first attempt that started.
    #[schema(value_type = Option<chrono::DateTime<Utc>>)]
    pub started_at: Option<Time>,
    #[schema(value_type = Option<chrono::DateTime<Utc>>)]
    pub finished_at: Option<Time>,
    #[schema(value_type = Option<uuid::Uuid>)]
    pub retry_of: Option<ExecutionId>,
    /// The result document when it is small (64 KiB); a larger one, and those of a listing, are behind `links.result`.
    #[schema(value_type = Option<Value>)]
    pub result: Option<&'a RawValue>,
    pub links: Links,
}

// The words of `State` and `Priority`, for the OpenAPI document; a test compares them.

/// Where an execution stands.
#[derive(ToSchema)]
#[schema(as = State, rename_all = "snake_case")]
pub enum StateWord {
    Scheduled,
    Queued,
    Launching,
    Running,
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
}

/// Order within one tenant.
#[derive(ToSchema)]
#[schema(as = Priority, rename_all = "snake_case")]
pub enum PriorityWord {
    High,
    Normal,
    Low,
}

/// Why an execution, or an attempt, is as it is.
#[derive(ToSchema)]
#[schema(as = Reason)]
#[expect(dead_code, reason = "the shape of `Reason`, for the document only")]
pub struct ReasonView {
    /// For programs; stable.
    #[schema(example = "step_failed")]
    code: String,
    /// For people.
    message: String,
}

/// An execution's place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Queue {
    /// How many of the tenant's executions go before it, counted up to 10,000; null where it was not counted: in a listing, right after a
    /// submission, and before it is queued at all.
    pub ahead: Option<i64>,
    pub waiting_for: WaitingFor,
}

/// Why an execution has not started yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitingFor {
    /// Its time has not come.
    RunAt,
    /// The wait before another attempt.
    Backoff,
    /// As many attempts are live as may be.
    Cap,
    /// As many of the tenant's attempts are live as the tenant may have.
    TenantLimit,
    /// Its turn, or its process's start.
    Dispatch,
    /// A place for its pod in the cluster; `reason` says what there is too little of.
    PodScheduling,
    /// Its pod's images; `reason` says more when they do not come.
    Image,
}

/// The labels as an object, empty when there are none.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a>(pub Option<&'a Value>);

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(labels) => labels.serialize(serializer),
            None => serializer.collect_map(std::iter::empty::<((), ())>()),
        }
    }
}

/// What else can be asked of an execution. `cancel` takes a POST.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Links {
    #[serde(rename = "self")]
    #[schema(value_type = String)]
    pub itself: Link,
    #[schema(value_type = String)]
    pub attempts: Link,
    #[schema(value_type = String)]
    pub events: Link,
    #[schema(value_type = String)]
    pub logs: Link,
    #[schema(value_type = String)]
    pub result: Link,
    #[schema(value_type = String)]
    pub artifacts: Link,
    #[schema(value_type = String)]
    pub cancel: Link,
}

/// A path below an execution's own.
#[derive(Clone, Copy, Debug)]
pub struct Link(ExecutionId, &'static str);

const EXECUTIONS: &str = "/v1/executions/";
/// The longest member of [`Links`].
const MAX_SUFFIX_BYTES: usize = "/artifacts".len();
const MAX_LINK_BYTES: usize = EXECUTIONS.len() + uuid::fmt::Hyphenated::LENGTH + MAX_SUFFIX_BYTES;

impl Link {
    /// Written into `buffer`: seven of them are in every answer that tells of an execution.
    fn path(self, buffer: &mut [u8; MAX_LINK_BYTES]) -> &str {
        let Self(id, suffix) = self;
        let (head, rest) = buffer.split_at_mut(EXECUTIONS.len());
        head.copy_from_slice(EXECUTIONS.as_bytes());
        id.0.hyphenated().encode_lower(rest);
        let end = MAX_LINK_BYTES - MAX_SUFFIX_BYTES + suffix.len();
        buffer[end - suffix.len()..end].copy_from_slice(suffix.as_bytes());
        std::str::from_utf8(&buffer[..end]).unwrap_or_default()
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path(&mut [0; MAX_LINK_BYTES]))
    }
}

impl Serialize for Link {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.path(&mut [0; MAX_LINK_BYTES]))
    }
}

/// An execution's own path.
pub fn location(id: ExecutionId) -> Link {
    Link(id, "")
}

impl Links {
    pub const fn of(id: ExecutionId) -> Self {
        Self {
            itself: Link(id, ""),
            attempts: Link(id, "/attempts"),
            events: Link(id, "/events"),
            logs: Link(id, "/logs"),
            result: Link(id, "/result"),
            artifacts: Link(id, "/artifacts"),
            cancel: Link(id, "/cancel"),
        }
    }
}

impl<'a> ExecutionView<'a> {
    pub fn of(execution: &'a Execution, queue: Option<Queue>) -> Self {
        Self {
            id: execution.id,
            tenant: &execution.tenant,
            workflow: execution.workflow.as_ref().map(|(name, _)| name.as_str()),
            version: execution.workflow.as_ref().map(|(_, version)| *version),
            state: execution.state,
            reason: execution.reason.as_ref(),
            attempt: execution.attempt,
            max_attempts: execution.max_attempts,
            priority: execution.priority,
            labels: Labels(execution.labels.as_ref()),
            cancel_requested: execution.cancel_requested,
            queue,
            created_at: Time(execution.created_at),
            run_at: execution.run_at.map(Time),
            started_at: execution.started_at.map(Time),
            finished_at: execution.finished_at.map(Time),
            retry_of: execution.retry_of,
            result: result(execution),
            links: Links::of(execution.id),
        }
    }

    /// An execution as it stands right after its submission, when nobody has looked at the queue yet.
    pub fn of_submitted(execution: &'a Execution) -> Self {
        Self::of(execution, Queue::uncounted(execution, WaitingFor::Dispatch))
    }
}

impl Queue {
    /// The place of an execution without a count of those ahead; `queued_for` is what a queued one waits for.
    pub fn uncounted(execution: &Execution, queued_for: WaitingFor) -> Option<Self> {
        let waiting_for = match execution.state {
            State::Scheduled if execution.attempt == 0 => WaitingFor::RunAt,
            State::Scheduled => WaitingFor::Backoff,
            State::Queued => queued_for,
            State::Launching => waiting_in_a_cluster(execution.reason.as_ref()).unwrap_or(WaitingFor::Dispatch),
            State::Running | State::Succeeded | State::Failed | State::TimedOut | State::Cancelled => return None,
        };
        Some(Self { ahead: None, waiting_for })
    }
}

/// What a launched attempt waits for, by the reason that is noted while it does not start.
fn waiting_in_a_cluster(reason: Option<&Reason>) -> Option<WaitingFor> {
    match reason?.code.as_str() {
        Reason::UNSCHEDULABLE | Reason::QUOTA_EXCEEDED => Some(WaitingFor::PodScheduling),
        Reason::IMAGE_PULLING | Reason::IMAGE_PULL_BACKOFF => Some(WaitingFor::Image),
        _ => None,
    }
}

/// The inline result. What its executor sent was checked to be JSON; a text that is not is shown as none.
fn result(execution: &Execution) -> Option<&RawValue> {
    let text = execution.result.as_deref().filter(|_| execution.state.is_terminal())?;
    serde_json::from_str(text).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;
    use utoipa::PartialSchema;

    pub fn execution(state: State) -> Execution {
        Execution {
            id: "01939d3c-7c1e-7000-8000-0000000000aa".parse().unwrap(),
            tenant: "acme".to_owned(),
            state,
            reason: None,
            attempt: 1,
            max_attempts: 4,
            priority: Priority::Normal,
            workflow: Some(("word-count".to_owned(), 3)),
            labels: None,
            cancel_requested: false,
            input_bytes: 0,
            timeout_seconds: 60,
            created_at: "2026-11-21T03:04:05.678901Z".parse().unwrap(),
            run_at: None,
            queued_at: None,
            started_at: None,
            finished_at: None,
            retry_of: None,
            result: Some("{\"n\": 1.50}".to_owned()),
            result_bytes: Some(11),
        }
    }

    #[test]
    fn an_execution_is_told_in_the_contracts_order_with_its_result_byte_for_byte() {
        let execution = execution(State::Succeeded);
        let text = serde_json::to_string(&ExecutionView::of(&execution, None)).unwrap();
        let path = "/v1/executions/01939d3c-7c1e-7000-8000-0000000000aa";
        assert_eq!(
            text,
            format!(
                "{{\"id\":\"01939d3c-7c1e-7000-8000-0000000000aa\",\"tenant\":\"acme\",\"workflow\":\"word-count\",\"version\":3,\
                 \"state\":\"succeeded\",\"reason\":null,\"attempt\":1,\"max_attempts\":4,\"priority\":\"normal\",\"labels\":{{}},\
                 \"cancel_requested\":false,\"queue\":null,\"created_at\":\"2026-11-21T03:04:05.678Z\",\"run_at\":null,\
                 \"started_at\":null,\"finished_at\":null,\"retry_of\":null,\"result\":{{\"n\": 1.50}},\"links\":{{\
                 \"self\":\"{path}\",\"attempts\":\"{path}/attempts\",\"events\":\"{path}/events\",\"logs\":\"{path}/logs\",\
                 \"result\":\"{path}/result\",\"artifacts\":\"{path}/artifacts\",\"cancel\":\"{path}/cancel\"}}}}"
            )
        );
    }

    #[test]
    fn a_launched_execution_waits_for_what_its_reason_says() {
        for (code, expected) in [
            (Some("unschedulable"), WaitingFor::PodScheduling),
            (Some("quota_exceeded"), WaitingFor::PodScheduling),
            (Some("image_pulling"), WaitingFor::Image),
            (Some("image_pull_backoff"), WaitingFor::Image),
            (Some("step_failed"), WaitingFor::Dispatch),
            (None, WaitingFor::Dispatch),
        ] {
            let reason = code.map(|code| Reason::new(code, "words"));
            let launching = Execution { reason, ..execution(State::Launching) };
            assert_eq!(Queue::uncounted(&launching, WaitingFor::Cap).unwrap().waiting_for, expected, "{code:?}");
        }
    }

    #[test]
    fn what_a_failed_attempt_left_is_not_the_executions_result() {
        let execution = execution(State::Scheduled);
        assert!(ExecutionView::of(&execution, None).result.is_none());
    }

    #[test]
    fn the_documented_words_are_the_domains() {
        let words = |schema: utoipa::openapi::RefOr<utoipa::openapi::Schema>| {
            serde_json::to_value(schema).unwrap()["enum"].clone()
        };
        assert_eq!(words(StateWord::schema()), json!(State::ALL));
        assert_eq!(words(PriorityWord::schema()), json!(Priority::ALL));
    }
}
