//! Launching: what a worker records of it, and the launches that a dead worker left behind.

use super::settle::bounded;
use super::statement::statement;
use super::{Connection, StoreResult};
use crate::config::LaunchTimes;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Binary, Double, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::TryStreamExt;
use roadstead_domain::execution::Reason;
use roadstead_domain::ids::{AttemptId, ExecutionId};
use roadstead_domain::workflow::Resources;
use serde::Deserialize;
use std::collections::HashMap;
use uuid::Uuid;

const LAUNCHED: &str = "
WITH launched AS (
    UPDATE attempts a SET launched_at = now() FROM UNNEST({}::uuid[], {}::int[]) AS i (execution_id, attempt)
    WHERE a.execution_id = ANY(ARRAY[i.execution_id]) AND a.attempt = i.attempt AND a.worker = {} AND a.launched_at IS NULL
    RETURNING a.execution_id, a.attempt
)
INSERT INTO execution_events (execution_id, kind, attempt) SELECT execution_id, 'launched', attempt FROM launched";

/// Records that the process or Job exists. From here on its ids may be acknowledged.
pub async fn launched(connection: &mut Connection, worker: &str, attempts: &[AttemptId]) -> StoreResult<()> {
    statement(LAUNCHED)
        .bind::<Array<SqlUuid>, Vec<Uuid>>(attempts.iter().map(|a| a.execution_id.0).collect())
        .bind::<Array<Integer>, Vec<i32>>(attempts.iter().map(|a| a.attempt).collect())
        .bind::<Text, _>(worker.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// What an attempt asks of a cluster: a part of its definition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Demand {
    /// `None`: its workflow names none.
    #[serde(default)]
    pub image: Option<String>,
    #[serde(default)]
    pub resources: Resources,
}

#[derive(QueryableByName)]
struct DemandRow {
    #[diesel(sql_type = SqlUuid)]
    execution_id: Uuid,
    #[diesel(sql_type = Nullable<Text>)]
    definition: Option<String>,
}

/// The definitions are read here: PostgreSQL's JSON refuses what one may hold (U+0000).
const DEMANDS: &str = "
SELECT e.id AS execution_id, COALESCE(e.spec, w.definition) AS definition
FROM UNNEST({}::text[], {}::uuid[]) AS i (tenant, id)
JOIN executions e ON e.tenant = ANY(ARRAY[i.tenant]) AND e.id = i.id
LEFT JOIN workflows w ON w.tenant = i.tenant AND w.name = e.workflow AND w.version = e.version";

/// What the executions' definitions ask of a cluster. They are read one by one: together they may be larger than the memory that there is.
pub async fn demands(
    connection: &mut Connection,
    executions: &[(String, ExecutionId)],
) -> StoreResult<HashMap<ExecutionId, Demand>> {
    let rows = statement(DEMANDS)
        .bind::<Array<Text>, Vec<String>>(executions.iter().map(|(tenant, _)| tenant.clone()).collect())
        .bind::<Array<SqlUuid>, Vec<Uuid>>(executions.iter().map(|(_, id)| id.0).collect())
        .load_stream::<DemandRow>(connection)
        .await?;
    let demands = rows.map_ok(|row| {
        // Definitions were checked before they were stored.
        let demand = row.definition.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        (ExecutionId(row.execution_id), demand)
    });
    Ok(demands.try_collect().await?)
}

/// Why a launched attempt has not started yet.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub tenant: String,
    pub attempt: AttemptId,
    pub reason: Reason,
}

const NOTE_WAITING: &str = "
WITH noted AS (
    UPDATE executions e SET reason_code = i.reason_code, reason_message = i.reason_message
    FROM UNNEST({}::text[], {}::uuid[], {}::int[], {}::text[], {}::text[]) AS i (tenant, id, attempt, reason_code, reason_message)
    WHERE e.tenant = ANY(ARRAY[i.tenant]) AND e.id = i.id AND e.attempt = i.attempt AND e.state = 'launching'
      AND (e.reason_code, e.reason_message) IS DISTINCT FROM (i.reason_code, i.reason_message)
    RETURNING e.id, e.attempt, e.reason_code, e.reason_message
)
INSERT INTO execution_events (execution_id, kind, attempt, detail)
SELECT id, 'waiting', attempt, reason_code || ': ' || reason_message FROM noted";

/// Notes why launched attempts have not started yet. Means nothing of those that have.
pub async fn note_waiting(connection: &mut Connection, waiting: &[Waiting]) -> StoreResult<()> {
    statement(NOTE_WAITING)
        .bind::<Array<Text>, Vec<String>>(waiting.iter().map(|w| w.tenant.clone()).collect())
        .bind::<Array<SqlUuid>, Vec<Uuid>>(waiting.iter().map(|w| w.attempt.execution_id.0).collect())
        .bind::<Array<Integer>, Vec<i32>>(waiting.iter().map(|w| w.attempt.attempt).collect())
        .bind::<Array<Text>, Vec<String>>(waiting.iter().map(|w| bounded(&w.reason.code)).collect())
        .bind::<Array<Text>, Vec<String>>(waiting.iter().map(|w| bounded(&w.reason.message)).collect())
        .execute(connection)
        .await?;
    Ok(())
}

/// A launch that its worker did not get done.
#[derive(Clone, Debug)]
pub struct Abandoned {
    pub tenant: String,
    pub attempt: AttemptId,
    pub timeout_seconds: i32,
}

#[derive(QueryableByName)]
struct AbandonedRow {
    #[diesel(sql_type = Text)]
    tenant: String,
    #[diesel(sql_type = SqlUuid)]
    execution_id: Uuid,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Integer)]
    timeout_seconds: i32,
}

/// The execution's row is looked up by a subquery of its own, for the reason that [`super::claim`] gives. Those that have waited longest come first: what
/// is put off comes due again and again, and would keep the others out.
const ABANDONED: &str = "
SELECT a.tenant, a.execution_id, a.attempt, e.timeout_seconds
FROM attempts a
JOIN LATERAL (SELECT attempt, state, timeout_seconds, cancel_requested_at FROM executions x
              WHERE x.tenant = a.tenant AND x.id = a.execution_id OFFSET 0) e ON e.attempt = a.attempt
WHERE a.released_at IS NULL AND a.launched_at IS NULL AND a.launch_lease_expires_at < now() AND a.start_deadline > now()
  AND e.state = 'launching' AND e.cancel_requested_at IS NULL
ORDER BY a.launch_lease_expires_at LIMIT {}";

/// Launches whose lease ran out before they were recorded as done, and which still have time to start.
pub async fn abandoned(connection: &mut Connection, limit: i64) -> StoreResult<Vec<Abandoned>> {
    let rows: Vec<AbandonedRow> = statement(ABANDONED).bind::<BigInt, _>(limit).load(connection).await?;
    Ok(rows
        .into_iter()
        .map(|row| Abandoned {
            tenant: row.tenant,
            attempt: AttemptId { execution_id: ExecutionId(row.execution_id), attempt: row.attempt },
            timeout_seconds: row.timeout_seconds,
        })
        .collect())
}

/// Past its start deadline an attempt is being settled, and its berth is free with that: nothing of it may come to be by then.
const TAKE_OVER: &str = "
UPDATE attempts a SET worker = {}, launch_hash = {}, launch_lease_expires_at = now() + make_interval(secs => {})
WHERE a.execution_id = {} AND a.attempt = {} AND a.launched_at IS NULL AND a.started_at IS NULL
  AND a.released_at IS NULL AND a.finished_at IS NULL AND a.launch_lease_expires_at < now() AND a.start_deadline > now()";

/// Takes over the launch of the same attempt. A process that the former worker may have started yet can't start any more: its credential is
/// replaced. `false`: somebody else was quicker, it has started after all, or its time to start is over.
pub async fn take_over(
    connection: &mut Connection,
    worker: &str,
    attempt: AttemptId,
    launch_hash: Option<Vec<u8>>,
    times: LaunchTimes,
) -> StoreResult<bool> {
    let rows = statement(TAKE_OVER)
        .bind::<Text, _>(worker.to_owned())
        .bind::<Nullable<Binary>, _>(launch_hash)
        .bind::<Double, _>(times.launch_lease.as_secs_f64())
        .bind::<SqlUuid, _>(attempt.execution_id.0)
        .bind::<Integer, _>(attempt.attempt)
        .execute(connection)
        .await?;
    Ok(rows == 1)
}
