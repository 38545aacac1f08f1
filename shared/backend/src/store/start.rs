//! The start: the linearisation point. PostgreSQL grants it once per attempt, whoever asks and however often.

use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Double, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use roadstead_domain::execution::{Event, Next, State, next};
use roadstead_domain::ids::{AttemptId, ExecutionId};
use std::collections::HashSet;
use std::time::Duration;
use uuid::Uuid;

/// An executor that asks to start.
#[derive(Clone, Debug)]
pub struct StartClaim {
    pub attempt: AttemptId,
    /// SHA-256 of the launch credential. `None`: a cluster has proven that it is the attempt's own pod that asks, which is worth the start of an
    /// attempt without a credential and of no other.
    pub launch_hash: Option<Vec<u8>>,
    /// SHA-256 of the session token that the executor chose.
    pub session_hash: Vec<u8>,
}

#[derive(Clone, Debug)]
pub enum Start {
    /// Granted now, or before to the same executor whose reply was lost.
    Granted(Granted),
    /// The attempt is not current, was started by another process, or its execution is to be cancelled.
    NotCurrent,
    /// Two requests for one attempt in one batch: ask again.
    Again,
}

/// What the executor's grant is made of.
#[derive(Clone, Debug)]
pub struct Granted {
    pub tenant: String,
    pub workflow: Option<(String, i32)>,
    pub spec: Option<String>,
    pub input: Option<String>,
    pub input_bytes: i64,
    pub timeout_seconds: i32,
    /// What the executor may count on without a word from the API: as it was when the start was granted.
    pub lease_seconds: i32,
    /// Of the submission (W3C Trace Context).
    pub traceparent: Option<String>,
    /// How long it had been due when this first attempt started; `None` for later attempts and for repeated answers.
    pub waited: Option<Duration>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    execution_id: Uuid,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Bool)]
    granted: bool,
    #[diesel(sql_type = Text)]
    tenant: String,
    #[diesel(sql_type = Nullable<Text>)]
    workflow: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    version: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    spec: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    input: Option<String>,
    #[diesel(sql_type = BigInt)]
    input_bytes: i64,
    #[diesel(sql_type = Integer)]
    timeout_seconds: i32,
    #[diesel(sql_type = Nullable<Integer>)]
    lease_seconds: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    traceparent: Option<String>,
    #[diesel(sql_type = Nullable<Double>)]
    waited_seconds: Option<f64>,
}

/// `asked` locks the attempts, so that it judges them as they are after a take-over that came in between, not as they were in the snapshot: there, an
/// attempt with this very session was granted by an earlier call, and one whose credential was replaced is not startable any more.
const START: &str = "
WITH asked AS (
    SELECT i.execution_id, i.attempt, i.session_hash, a.tenant, a.lease_seconds,
           a.session_hash = i.session_hash AND a.finished_at IS NULL AND e.attempt = i.attempt AS repeated,
           a.session_hash IS NULL AND a.launch_hash IS NOT DISTINCT FROM i.launch_hash AND a.released_at IS NULL
               AND e.state = {} AND e.attempt = i.attempt AND e.cancel_requested_at IS NULL AS startable
    FROM UNNEST({}::uuid[], {}::int[], {}::bytea[], {}::bytea[]) AS i (execution_id, attempt, launch_hash, session_hash)
    JOIN attempts a ON a.execution_id = ANY(ARRAY[i.execution_id]) AND a.attempt = i.attempt
    JOIN LATERAL (SELECT attempt, state, cancel_requested_at FROM executions x
                  WHERE x.tenant = a.tenant AND x.id = a.execution_id OFFSET 0) e ON true
    ORDER BY i.execution_id, i.attempt FOR UPDATE OF a
), started AS (
    UPDATE executions e SET state = {}, started_at = COALESCE(e.started_at, now()), reason_code = NULL, reason_message = NULL
    FROM asked s
    WHERE s.startable AND e.tenant = ANY(ARRAY[s.tenant]) AND e.id = s.execution_id AND e.attempt = s.attempt
      AND e.state = {} AND e.cancel_requested_at IS NULL
    RETURNING e.id, e.attempt, e.timeout_seconds, s.session_hash
), opened AS (
    UPDATE attempts a SET session_hash = s.session_hash, started_at = now(), launched_at = COALESCE(a.launched_at, now()),
           lease_seconds = {}, lease_expires_at = now() + make_interval(secs => {}), run_deadline = now() + make_interval(secs => s.timeout_seconds)
    FROM started s WHERE a.execution_id = ANY(ARRAY[s.id]) AND a.attempt = s.attempt
), told AS (
    INSERT INTO execution_events (execution_id, kind, attempt) SELECT id, 'started', attempt FROM started
)
SELECT s.execution_id, s.attempt, (s.repeated IS TRUE OR t.id IS NOT NULL) AS granted, e.tenant, e.workflow, e.version, e.spec, e.input,
       e.input_bytes, e.timeout_seconds, s.lease_seconds, e.traceparent,
       CASE WHEN t.id IS NOT NULL AND s.attempt = 1
            THEN extract(epoch FROM now() - GREATEST(e.created_at, e.run_at))::float8 END AS waited_seconds
FROM asked s JOIN executions e ON e.tenant = ANY(ARRAY[s.tenant]) AND e.id = s.execution_id LEFT JOIN started t ON t.id = s.execution_id";

/// Grants what may be granted; the answers are in the order of the batch.
pub async fn start(connection: &mut Connection, batch: &[StartClaim], lease: Duration) -> StoreResult<Vec<Start>> {
    debug_assert_eq!(next(State::Launching, Event::Start), Next::To(State::Running));
    let mut seen = HashSet::new();
    let once: Vec<&StartClaim> = batch.iter().filter(|claim| seen.insert(claim.attempt)).collect();
    let lease_seconds = lease.as_secs() as i32;
    let rows: Vec<Row> = statement(START)
        .bind::<Text, _>(State::Launching.as_str())
        .bind::<Array<SqlUuid>, Vec<Uuid>>(once.iter().map(|c| c.attempt.execution_id.0).collect())
        .bind::<Array<Integer>, Vec<i32>>(once.iter().map(|c| c.attempt.attempt).collect())
        .bind::<Array<Nullable<Binary>>, Vec<Option<Vec<u8>>>>(once.iter().map(|c| c.launch_hash.clone()).collect())
        .bind::<Array<Binary>, Vec<Vec<u8>>>(once.iter().map(|c| c.session_hash.clone()).collect())
        .bind::<Text, _>(State::Running.as_str())
        .bind::<Text, _>(State::Launching.as_str())
        .bind::<Integer, _>(lease_seconds)
        .bind::<Double, _>(f64::from(lease_seconds))
        .load(connection)
        .await?;
    let mut granted: std::collections::HashMap<AttemptId, Granted> = rows
        .into_iter()
        .filter(|row| row.granted)
        .map(|row| {
            let id = AttemptId { execution_id: ExecutionId(row.execution_id), attempt: row.attempt };
            (
                id,
                Granted {
                    tenant: row.tenant,
                    workflow: row.workflow.zip(row.version),
                    spec: row.spec,
                    input: row.input,
                    input_bytes: row.input_bytes,
                    timeout_seconds: row.timeout_seconds,
                    lease_seconds: row.lease_seconds.unwrap_or(lease_seconds),
                    traceparent: row.traceparent,
                    waited: row.waited_seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))),
                },
            )
        })
        .collect();
    let mut answered = HashSet::new();
    Ok(batch
        .iter()
        .map(|claim| {
            if !answered.insert(claim.attempt) {
                return Start::Again;
            }
            granted.remove(&claim.attempt).map_or(Start::NotCurrent, Start::Granted)
        })
        .collect())
}

#[derive(QueryableByName)]
struct Tenant {
    #[diesel(sql_type = Text)]
    tenant: String,
}

/// Whose attempt it is, whatever has become of it.
pub async fn tenant_of(connection: &mut Connection, attempt: AttemptId) -> StoreResult<Option<String>> {
    let row: Option<Tenant> = statement("SELECT tenant FROM attempts WHERE execution_id = {} AND attempt = {}")
        .bind::<SqlUuid, _>(attempt.execution_id.0)
        .bind::<Integer, _>(attempt.attempt)
        .get_result(connection)
        .await
        .optional()?;
    Ok(row.map(|row| row.tenant))
}
