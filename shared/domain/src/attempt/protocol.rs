//! The executor's protocol: what is said between an attempt's executor and the API.
//!
//! Every request goes to `{api_url}/v1/attempts/{execution_id}/{attempt}/…` with `Authorization: Bearer …`: `start` with
//! the launch credential, which in a pod is the token that the cluster gave it, everything after it with the session token. A `410 Gone`
//! at any point means that this attempt is no longer current: stop the children and exit without another word. Every request may be sent
//! again after a lost reply.

use crate::execution::Reason;
use crate::ids::ExecutionId;
use crate::workflow::Workflow;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What the process launcher writes to the executor's standard input, as one JSON document, and then closes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bootstrap {
    pub execution_id: ExecutionId,
    pub attempt: i32,
    /// Base URL of the API, without a trailing slash.
    pub api_url: String,
    /// Proves that this process is the launched attempt; good for one `start`.
    pub credential: String,
    /// Folder under which the attempt makes its workspace, and keeps it for others when it was left blank.
    pub workspace_root: String,
}

/// `POST …/start`. The executor chooses its session token (256 random bits, hex), so that a `start` whose reply was lost can be sent
/// again by the same executor and by no other: the API stores the token's hash in the row that grants the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StartRequest {
    pub session_token: String,
}

/// The answer to a granted start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StartGrant {
    pub workflow: Workflow,
    pub input: Input,
    /// The run deadline, from now on the executor's monotonic clock.
    pub timeout_seconds: u32,
    /// Children must be gone this long after the last heartbeat that was answered.
    pub lease_seconds: u32,
    pub heartbeat_seconds: u32,
    /// Between SIGTERM and SIGKILL; also how long a finished executor keeps trying to report.
    pub grace_seconds: u32,
    /// Presigned PUT for `outcome.json`, the second witness.
    pub outcome_url: String,
    /// Of the submission (W3C Trace Context), for the steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    pub limits: Limits,
}

/// Where the input is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The bytes that were submitted.
    Inline(Box<RawValue>),
    /// Presigned GET of an input that was too large for a row.
    Url { url: String, size_bytes: u64 },
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// A longer line of output is cut into several.
    pub max_line_bytes: u32,
    /// A log segment is shipped when it reaches this size.
    pub segment_bytes: u32,
    /// Output of one attempt; what comes after it is counted and dropped, and the log's last line says so.
    pub max_log_bytes: u64,
    pub max_result_bytes: u64,
    /// A result up to this size travels in `finish` too.
    pub inline_result_bytes: u32,
    pub max_artifacts: u32,
    pub max_artifact_bytes: u64,
    /// Artifacts up to this size are hashed before they are sent; what is sent in parts, is in parts of this size.
    pub part_bytes: u64,
}

/// `POST …/heartbeat`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The steps whose report changed since the last heartbeat that was answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepReport>,
    /// Segments that were shipped since then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<Segment>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// Stop the children and finish as cancelled.
    pub cancel: bool,
    /// Somebody reads along: ship what there is after half a second and beat as often.
    pub following: bool,
}

/// A shipped log segment: an object of newline-delimited [`LogLine`]s, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// From 0, without gaps.
    pub seq: u32,
    pub size_bytes: u64,
    pub lines: u32,
}

/// One line of output. Serialized as one line of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// From 0 over the whole attempt, without gaps.
    pub n: u64,
    /// Milliseconds since the Unix epoch.
    pub t: i64,
    pub step: String,
    pub stream: Stream,
    /// Without its line end; bytes that are not UTF-8 are replaced by U+FFFD.
    pub line: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    Stdout,
    Stderr,
    /// A word of the executor's own: that the log was cut, that a step was killed.
    System,
}

/// `POST …/uploads`: asks for presigned URLs, at most 64 at a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UploadRequest {
    pub objects: Vec<Upload>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Upload {
    pub object: Object,
    pub size_bytes: u64,
    /// Hex SHA-256 of the content. Signed as a header when given; not given for what is hashed while it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// An artifact above [`Limits::part_bytes`] is granted as one PUT, if a store takes that much at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    Log {
        seq: u32,
    },
    Result,
    /// Relative path with `/` between its parts.
    Artifact {
        path: String,
    },
}

/// The answer to [`UploadRequest`], in its order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UploadGrant {
    pub targets: Vec<UploadTarget>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadTarget {
    /// One PUT with exactly these headers.
    Put { url: String, headers: Vec<(String, String)> },
    /// PUT each part of [`Limits::part_bytes`] (the last may be shorter) to a URL from `…/uploads/parts`, then `…/uploads/complete`.
    Multipart { upload_id: String },
}

/// `POST …/uploads/parts`: URLs for some parts of one upload, at most 64 at a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartsRequest {
    pub path: String,
    pub upload_id: String,
    /// Part numbers from 1.
    pub parts: Vec<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartsGrant {
    pub urls: Vec<String>,
}

/// `POST …/uploads/complete`; answered with `{}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CompleteRequest {
    pub path: String,
    pub upload_id: String,
    /// The `ETag`s that S3 answered, in order of the parts.
    pub etags: Vec<String>,
}

/// `POST …/finish`, answered with `{}`; the same document is PUT as `outcome.json` when the API can't be reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finish {
    pub outcome: Outcome,
    pub steps: Vec<StepReport>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultReport>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// Segments that no answered heartbeat has reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<Segment>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Whether another attempt might do better.
    pub retryable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
}

/// The result document, which is in S3 as `result.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResultReport {
    pub size_bytes: u64,
    /// The document itself when it is small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<Box<RawValue>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    pub path: String,
    pub size_bytes: u64,
    /// Hex SHA-256 of the content.
    pub sha256: String,
}

/// Where one step of the workflow stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    pub id: String,
    pub state: StepState,
    /// Times that it was tried, whether or not there was a program to start.
    pub tries: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Milliseconds since the Unix epoch, of the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    Pending,
    Running,
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
    /// A step it needs did not succeed.
    Skipped,
}
