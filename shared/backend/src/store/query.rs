//! Reading: executions, their attempts and their timeline. Every query names the tenant.

use super::statement::{Statement, statement};
use super::{Connection, StoreResult};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
use roadstead_domain::execution::{Priority, Reason, State};
use roadstead_domain::ids::ExecutionId;
use std::collections::HashMap;
use uuid::Uuid;

/// An execution as it stands, without its spec and input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    pub id: ExecutionId,
    pub tenant: String,
    pub state: State,
    pub reason: Option<Reason>,
    pub attempt: i32,
    pub max_attempts: i32,
    pub priority: Priority,
    pub workflow: Option<(String, i32)>,
    pub labels: Option<serde_json::Value>,
    pub cancel_requested: bool,
    pub input_bytes: i64,
    pub timeout_seconds: i32,
    pub created_at: DateTime<Utc>,
    pub run_at: Option<DateTime<Utc>>,
    pub queued_at: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub retry_of: Option<ExecutionId>,
    /// The result document as the executor sent it; `None` with a size when it is an object only.
    pub result: Option<String>,
    pub result_bytes: Option<i64>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    tenant: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Nullable<Text>)]
    reason_code: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    reason_message: Option<String>,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Integer)]
    max_attempts: i32,
    #[diesel(sql_type = SmallInt)]
    priority: i16,
    #[diesel(sql_type = Nullable<Text>)]
    workflow: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    version: Option<i32>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    labels: Option<serde_json::Value>,
    #[diesel(sql_type = Bool)]
    cancel_requested: bool,
    #[diesel(sql_type = BigInt)]
    input_bytes: i64,
    #[diesel(sql_type = Integer)]
    timeout_seconds: i32,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    run_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    queued_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    started_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    finished_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    retry_of: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    result: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    result_bytes: Option<i64>,
}

impl From<Row> for Execution {
    fn from(row: Row) -> Self {
        Self {
            id: ExecutionId(row.id),
            tenant: row.tenant,
            state: state(&row.state),
            reason: reason(row.reason_code, row.reason_message),
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            priority: Priority::from_rank(row.priority),
            workflow: row.workflow.zip(row.version),
            labels: row.labels,
            cancel_requested: row.cancel_requested,
            input_bytes: row.input_bytes,
            timeout_seconds: row.timeout_seconds,
            created_at: row.created_at,
            run_at: row.run_at,
            queued_at: row.queued_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            retry_of: row.retry_of.map(ExecutionId),
            result: row.result,
            result_bytes: row.result_bytes,
        }
    }
}

/// The CHECK on the column admits these words only. Another is of a schema that is newer than this program, which knows of no end of it then.
pub(super) fn state(word: &str) -> State {
    word.parse().unwrap_or(State::Running)
}

pub(super) fn reason(code: Option<String>, message: Option<String>) -> Option<Reason> {
    code.map(|code| Reason { code, message: message.unwrap_or_default() })
}

const GET_MANY: &str = "
SELECT id, tenant, state, reason_code, reason_message, attempt, max_attempts, priority, workflow, version, labels,
       cancel_requested_at IS NOT NULL AS cancel_requested, input_bytes, timeout_seconds, created_at, run_at, queued_at,
       started_at, finished_at, retry_of, result, result_bytes
FROM UNNEST({}::text[], {}::uuid[]) AS i (of_tenant, of_id) JOIN executions ON tenant = ANY(ARRAY[of_tenant]) AND id = of_id";

pub async fn get_many(
    connection: &mut Connection,
    tenant: &str,
    ids: &[Uuid],
) -> StoreResult<HashMap<Uuid, Execution>> {
    let rows: Vec<Row> = statement(GET_MANY)
        .bind::<Array<Text>, Vec<String>>(vec![tenant.to_owned(); ids.len()])
        .bind::<Array<SqlUuid>, _>(ids.to_vec())
        .load(connection)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.into())).collect())
}

/// `None`: there is none of that id in this tenant.
pub async fn get(connection: &mut Connection, tenant: &str, id: ExecutionId) -> StoreResult<Option<Execution>> {
    Ok(get_many(connection, tenant, &[id.0]).await?.remove(&id.0))
}

/// What a listing is narrowed to.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub states: Vec<State>,
    pub workflow: Option<String>,
    /// An object of the labels that must all be there.
    pub labels: Option<serde_json::Value>,
    pub created_after: Option<DateTime<Utc>>,
    /// Only executions older than this one: the keyset cursor.
    pub before: Option<ExecutionId>,
    pub limit: i64,
}

/// Newest first. The walk goes down the primary key, which only a bound on the id ends: `created_at` alone would be looked at in all rows that are older.
const LIST: &str = "
SELECT id, tenant, state, reason_code, reason_message, attempt, max_attempts, priority, workflow, version, labels,
       cancel_requested_at IS NOT NULL AS cancel_requested, input_bytes, timeout_seconds, created_at, run_at, queued_at,
       started_at, finished_at, retry_of, NULL::text AS result, result_bytes
FROM executions
WHERE tenant = {} AND id < {} AND id >= {} AND (cardinality({}::text[]) = 0 OR state = ANY({}::text[]))
  AND ({}::text IS NULL OR workflow = {}::text) AND ({}::jsonb IS NULL OR labels @> {}::jsonb) AND created_at > {}
ORDER BY id DESC LIMIT {}";

pub async fn list(connection: &mut Connection, tenant: &str, filter: &Filter) -> StoreResult<Vec<Execution>> {
    let states: Vec<String> = filter.states.iter().map(ToString::to_string).collect();
    let list = statement(LIST)
        .bind::<Text, _>(tenant.to_owned())
        .bind::<SqlUuid, _>(filter.before.map_or(Uuid::max(), |id| id.0))
        .bind::<SqlUuid, _>(filter.created_after.map_or(Uuid::nil(), smallest_id_of))
        .bind::<Array<Text>, _>(states.clone())
        .bind::<Array<Text>, _>(states)
        .bind::<Nullable<Text>, _>(filter.workflow.clone())
        .bind::<Nullable<Text>, _>(filter.workflow.clone())
        .bind::<Nullable<Jsonb>, _>(filter.labels.clone())
        .bind::<Nullable<Jsonb>, _>(filter.labels.clone())
        .bind::<Timestamptz, _>(filter.created_after.unwrap_or(DateTime::<Utc>::UNIX_EPOCH))
        .bind::<BigInt, _>(filter.limit);
    let rows: Vec<Row> = if filter.labels.is_some() {
        // Only a plan that knows that there are labels can go by their index.
        connection
            .transaction(async |connection| {
                connection.batch_execute("SET LOCAL plan_cache_mode = force_custom_plan").await?;
                list.load(connection).await
            })
            .await?
    } else {
        list.load(connection).await?
    };
    Ok(rows.into_iter().map(Execution::from).collect())
}

/// An id is made before its row's `created_at`, by up to this: in between an input may have been received. Clocks that were set are covered too.
const MAX_ID_AGE: TimeDelta = TimeDelta::hours(1);

/// No execution created after `created_after` has a smaller id.
fn smallest_id_of(created_after: DateTime<Utc>) -> Uuid {
    // A UUIDv7 has 48 bits of milliseconds; a later time would begin anew at zero.
    let millis = created_after.timestamp_millis().saturating_sub(MAX_ID_AGE.num_milliseconds()).clamp(0, (1 << 48) - 1);
    uuid::Builder::from_unix_timestamp_millis(millis.unsigned_abs(), &[0; 10]).into_uuid()
}

/// The parts of an execution that only its executor, or a retry, needs.
#[derive(Clone, Debug, QueryableByName)]
pub struct Definition {
    #[diesel(sql_type = Nullable<Text>)]
    pub spec: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub input: Option<String>,
}

pub async fn definition(connection: &mut Connection, tenant: &str, id: ExecutionId) -> StoreResult<Option<Definition>> {
    let row = statement("SELECT spec, input FROM executions WHERE tenant = {} AND id = {}")
        .bind::<Text, _>(tenant.to_owned())
        .bind::<SqlUuid, _>(id.0)
        .get_result(connection)
        .await
        .optional()?;
    Ok(row)
}

/// An attempt as it is told of.
#[derive(Clone, Debug, QueryableByName)]
pub struct Attempt {
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    /// `launching`, `running`, or how it ended: `succeeded`, `failed`, `timed_out`, `cancelled`, `lost`.
    #[diesel(sql_type = Text)]
    pub state: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub reason_code: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub reason_message: Option<String>,
    #[diesel(sql_type = Text)]
    pub worker: String,
    #[diesel(sql_type = Timestamptz)]
    pub claimed_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub launched_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub started_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub finished_at: Option<DateTime<Utc>>,
    /// JSON: `[StepReport]`.
    #[diesel(sql_type = Nullable<Text>)]
    pub steps: Option<String>,
}

const ATTEMPTS: &str = "
SELECT attempt, COALESCE(outcome, CASE WHEN started_at IS NULL THEN 'launching' ELSE 'running' END) AS state,
       reason_code, reason_message, worker, claimed_at, launched_at, started_at, finished_at, steps
FROM attempts WHERE tenant = {} AND execution_id = {} ORDER BY attempt";

/// In order; empty when there is no such execution in this tenant, too.
pub async fn attempts(connection: &mut Connection, tenant: &str, id: ExecutionId) -> StoreResult<Vec<Attempt>> {
    Ok(by_execution(ATTEMPTS, tenant, id).load(connection).await?)
}

/// What the current attempt of an execution left behind.
#[derive(Clone, Debug, QueryableByName)]
pub struct Manifest {
    /// The current attempt; 0 before the first.
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    /// JSON: `[Artifact]`; `None` while it has not reported its end.
    #[diesel(sql_type = Nullable<Text>)]
    pub artifacts: Option<String>,
}

const MANIFEST: &str = "
SELECT e.attempt, a.artifacts
FROM executions e LEFT JOIN attempts a ON a.tenant = e.tenant AND a.execution_id = e.id AND a.attempt = e.attempt
WHERE e.tenant = {} AND e.id = {}";

pub async fn manifest(connection: &mut Connection, tenant: &str, id: ExecutionId) -> StoreResult<Option<Manifest>> {
    Ok(by_execution(MANIFEST, tenant, id).get_result(connection).await.optional()?)
}

/// An entry of the timeline.
#[derive(Clone, Debug, QueryableByName)]
pub struct Event {
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    #[diesel(sql_type = Timestamptz)]
    pub at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    pub kind: String,
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    #[diesel(sql_type = Nullable<Text>)]
    pub detail: Option<String>,
}

/// The submission is the first entry (id 0); it is the execution's own row.
const EVENTS: &str = "
WITH execution AS (SELECT id, created_at FROM executions WHERE tenant = {} AND id = {})
SELECT 0::int8 AS id, created_at AS at, 'submitted' AS kind, 0 AS attempt, NULL::text AS detail FROM execution
UNION ALL
SELECT e.id, e.at, e.kind, e.attempt, e.detail FROM execution_events e JOIN execution x ON e.execution_id = ANY(ARRAY[x.id])
ORDER BY id";

pub async fn events(connection: &mut Connection, tenant: &str, id: ExecutionId) -> StoreResult<Vec<Event>> {
    Ok(by_execution(EVENTS, tenant, id).load(connection).await?)
}

/// A log segment of an attempt.
#[derive(Clone, Copy, Debug, QueryableByName)]
pub struct LogSegment {
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    #[diesel(sql_type = Integer)]
    pub seq: i32,
    #[diesel(sql_type = BigInt)]
    pub size_bytes: i64,
    #[diesel(sql_type = Integer)]
    pub lines: i32,
}

const LOG_SEGMENTS: &str = "
SELECT s.attempt, s.seq, s.size_bytes, s.lines FROM executions e JOIN log_segments s ON s.execution_id = e.id
WHERE e.tenant = {} AND e.id = {} AND s.attempt = {} AND s.seq >= {} ORDER BY s.seq";

/// The segments of one attempt, from `first` on.
pub async fn log_segments(
    connection: &mut Connection,
    tenant: &str,
    id: ExecutionId,
    attempt: i32,
    first: i32,
) -> StoreResult<Vec<LogSegment>> {
    Ok(by_execution(LOG_SEGMENTS, tenant, id)
        .bind::<Integer, _>(attempt)
        .bind::<Integer, _>(first)
        .load(connection)
        .await?)
}

fn by_execution(sql: &'static str, tenant: &str, id: ExecutionId) -> Statement<'static> {
    statement(sql).bind::<Text, _>(tenant.to_owned()).bind::<SqlUuid, _>(id.0)
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// A queue position is counted no further than this.
pub const MAX_COUNTED_AHEAD: i64 = 10_000;

/// Each arm is a range of one partial index: a comparison of whole rows ends the scan where an OR of its parts would filter the whole queue.
const AHEAD: &str = "
SELECT count(*) AS count FROM (
    SELECT 1 FROM executions WHERE tenant = {} AND state = 'queued' AND enqueued AND (priority, queued_at, id) < ({}, {}, {})
    UNION ALL
    SELECT 1 FROM executions WHERE tenant = {} AND state = 'queued' AND NOT enqueued AND (priority, queued_at, id) < ({}, {}, {})
    LIMIT {}) AS ahead";

/// How many of the tenant's executions go before this queued one, counted up to [`MAX_COUNTED_AHEAD`].
pub async fn ahead(connection: &mut Connection, execution: &Execution) -> StoreResult<i64> {
    let Some(queued_at) = execution.queued_at else { return Ok(0) };
    let arm = |statement: Statement<'static>| {
        statement
            .bind::<Text, _>(execution.tenant.clone())
            .bind::<SmallInt, _>(execution.priority.rank())
            .bind::<Timestamptz, _>(queued_at)
            .bind::<SqlUuid, _>(execution.id.0)
    };
    let row: Count = arm(arm(statement(AHEAD))).bind::<BigInt, _>(MAX_COUNTED_AHEAD).get_result(connection).await?;
    Ok(row.count)
}
