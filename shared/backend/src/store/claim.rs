//! Claiming: berths are given out under the cap, one claimer at a time, against the attempts that still hold one.
//!
//! A berth is held from the claim until the launcher saw the attempt's process or pod end (`released_at`), so that live Jobs never
//! exceed the cap, not even for the moment between a reported end and the process's exit. When another worker has taken a launch
//! over, the berth is that worker's to give back.

use super::settle::Observer;
use super::statement::statement;
use super::{Connection, StoreError, StoreResult};
use crate::config::LaunchTimes;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Double, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
use roadstead_domain::execution::{Event, Next, State, next};
use roadstead_domain::ids::{AttemptId, ExecutionId};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// How the berths stand.
#[derive(Clone, Debug, Default)]
pub struct Berths {
    pub live: i64,
    pub live_by_tenant: HashMap<String, i64>,
}

#[derive(QueryableByName)]
struct LiveOfTenant {
    #[diesel(sql_type = Text)]
    tenant: String,
    #[diesel(sql_type = BigInt)]
    live: i64,
}

/// Counts the attempts that hold a berth. A look, not a reservation: the claim counts again.
pub async fn berths(connection: &mut Connection) -> StoreResult<Berths> {
    let rows: Vec<LiveOfTenant> =
        statement("SELECT tenant, count(*) AS live FROM attempts WHERE released_at IS NULL GROUP BY tenant")
            .load(connection)
            .await?;
    Ok(Berths {
        live: rows.iter().map(|row| row.live).sum(),
        live_by_tenant: rows.into_iter().map(|row| (row.tenant, row.live)).collect(),
    })
}

/// An id that a worker took from a stream and wants to claim.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub tenant: String,
    pub id: ExecutionId,
    /// SHA-256 of the launch credential, where the launcher uses one.
    pub launch_hash: Option<Vec<u8>>,
}

/// What became of a wanted id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is this worker's to launch; it was queued for so long.
    Claimed { attempt: i32, timeout_seconds: i32, waited_ms: i64 },
    /// It is queued, but the cap is reached.
    NoBerth,
    /// It is queued, but its tenant's own limit is reached.
    TenantFull,
    /// A duplicate, cancelled or expired: acknowledge and drop.
    NotQueued,
}

#[derive(QueryableByName)]
struct ClaimRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Nullable<Integer>)]
    attempt: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    timeout_seconds: Option<i32>,
    #[diesel(sql_type = BigInt)]
    waited_ms: i64,
    #[diesel(sql_type = Bool)]
    tenant_full: bool,
}

/// Held for the length of a claim, so that two workers can't both take the last berth ("roadclam").
const CLAIM_LOCK: &str = "SELECT pg_advisory_xact_lock(8245918687350939501)";

/// The row is looked up by a subquery of its own (`OFFSET 0` keeps it one): joined with the tenants, the planner may come to go through all rows of a
/// tenant instead.
const CLAIM: &str = "
WITH wanted AS (
    SELECT * FROM UNNEST({}::text[], {}::uuid[], {}::bytea[]) WITH ORDINALITY AS t (tenant, id, launch_hash, place)
), live AS (
    SELECT tenant, count(*) AS live FROM attempts WHERE released_at IS NULL GROUP BY tenant
), candidate AS (
    SELECT w.tenant, w.id, w.launch_hash, w.place, e.queued_at, COALESCE(l.live, 0)
               + row_number() OVER (PARTITION BY w.tenant ORDER BY w.place) > n.max_concurrent IS TRUE AS tenant_full
    FROM wanted w
    JOIN LATERAL (SELECT queued_at FROM executions x WHERE x.tenant = w.tenant AND x.id = w.id AND x.state = {} OFFSET 0) e ON true
    JOIN tenants n ON n.name = w.tenant
    LEFT JOIN live l ON l.tenant = w.tenant
), chosen AS (
    SELECT * FROM candidate WHERE NOT tenant_full
    ORDER BY place LIMIT GREATEST(0, LEAST({}::int8, {}::int8 - (SELECT COALESCE(sum(live), 0) FROM live)))
), claimed AS (
    UPDATE executions e SET state = {}, attempt = e.attempt + 1, reason_code = NULL, reason_message = NULL
    FROM chosen c WHERE e.tenant = ANY(ARRAY[c.tenant]) AND e.id = c.id AND e.state = {}
    RETURNING e.tenant, e.id, e.attempt, e.timeout_seconds, c.launch_hash
), opened AS (
    INSERT INTO attempts (execution_id, attempt, tenant, launch_hash, worker, launch_lease_expires_at, start_deadline)
    SELECT id, attempt, tenant, launch_hash, {}, now() + make_interval(secs => {}), now() + make_interval(secs => {}) FROM claimed
), told AS (
    INSERT INTO execution_events (execution_id, kind, attempt, detail) SELECT id, 'claimed', attempt, {} FROM claimed
)
SELECT w.id, c.attempt, c.timeout_seconds, w.tenant_full,
       GREATEST(0, extract(epoch FROM now() - w.queued_at) * 1000)::int8 AS waited_ms
FROM candidate w LEFT JOIN claimed c ON c.id = w.id";

/// Claims what fits under `cap` and the tenants' own limits, in the order given. The answers are by id; an id that is not in them twice
/// is asked for once only.
pub async fn claim(
    connection: &mut Connection,
    wanted: &[Wanted],
    worker: &str,
    cap: i64,
    times: LaunchTimes,
) -> StoreResult<HashMap<ExecutionId, Claim>> {
    Ok(release_and_claim(connection, (&Observer::Anyone, &[]), wanted, worker, (cap, cap), times).await?.1)
}

/// Gives back berths and claims anew in one commit: under load a berth is taken again the moment it is free. At most `room` are claimed: whoever asks may
/// have processes of its own left whose berths are another's by now.
/// Answers what [`release`] does, and what [`claim`] does.
pub async fn release_and_claim(
    connection: &mut Connection,
    gone: (&Observer, &[AttemptId]),
    wanted: &[Wanted],
    worker: &str,
    (room, cap): (i64, i64),
    times: LaunchTimes,
) -> StoreResult<(HashSet<AttemptId>, HashMap<ExecutionId, Claim>)> {
    debug_assert_eq!(next(State::Queued, Event::Claim), Next::To(State::Launching));
    let mut seen = HashSet::new();
    let once: Vec<&Wanted> = wanted.iter().filter(|w| seen.insert(w.id)).collect();
    let claim = statement(CLAIM)
        .bind::<Array<Text>, Vec<String>>(once.iter().map(|w| w.tenant.clone()).collect())
        .bind::<Array<SqlUuid>, Vec<Uuid>>(once.iter().map(|w| w.id.0).collect())
        .bind::<Array<Nullable<Binary>>, Vec<Option<Vec<u8>>>>(once.iter().map(|w| w.launch_hash.clone()).collect())
        .bind::<Text, _>(State::Queued.as_str())
        .bind::<BigInt, _>(room)
        .bind::<BigInt, _>(cap)
        .bind::<Text, _>(State::Launching.as_str())
        .bind::<Text, _>(State::Queued.as_str())
        .bind::<Text, _>(worker.to_owned())
        .bind::<Double, _>(times.launch_lease.as_secs_f64())
        .bind::<Double, _>(times.start_timeout.as_secs_f64())
        .bind::<Text, _>(worker.to_owned());
    let (released, rows): (HashSet<AttemptId>, Vec<ClaimRow>) = connection
        .transaction(async |connection| {
            connection.batch_execute(CLAIM_LOCK).await?;
            let (observer, gone) = gone;
            let released = if gone.is_empty() { HashSet::new() } else { release(connection, observer, gone).await? };
            Ok::<_, StoreError>((released, claim.load(connection).await?))
        })
        .await?;
    let mut answers: HashMap<ExecutionId, Claim> = wanted.iter().map(|w| (w.id, Claim::NotQueued)).collect();
    for row in rows {
        let answer = match row.attempt.zip(row.timeout_seconds) {
            Some((attempt, timeout_seconds)) => Claim::Claimed { attempt, timeout_seconds, waited_ms: row.waited_ms },
            None if row.tenant_full => Claim::TenantFull,
            None => Claim::NoBerth,
        };
        answers.insert(ExecutionId(row.id), answer);
    }
    Ok((released, answers))
}

#[derive(QueryableByName)]
struct ReleasedRow {
    #[diesel(sql_type = SqlUuid)]
    execution_id: Uuid,
    #[diesel(sql_type = Integer)]
    attempt: i32,
}

/// `ANY` says what the join says too: whatever the planner takes for the shorter side, the berths of others are not gone through.
const RELEASE: &str = "
UPDATE attempts a SET released_at = now() FROM UNNEST({}::uuid[], {}::int[]) AS i (execution_id, attempt)
WHERE a.execution_id = ANY({}::uuid[]) AND a.execution_id = i.execution_id AND a.attempt = i.attempt AND ({}::text IS NULL OR a.worker = {}::text)
  AND a.released_at IS NULL AND a.finished_at IS NOT NULL
RETURNING a.execution_id, a.attempt";

/// Gives back the berths of attempts whose end is recorded and whose process or pod the observer saw end. Answers whose berths these were;
/// of the others some are still to be settled.
pub async fn release(
    connection: &mut Connection,
    observer: &Observer,
    gone: &[AttemptId],
) -> StoreResult<HashSet<AttemptId>> {
    let executions: Vec<Uuid> = gone.iter().map(|a| a.execution_id.0).collect();
    let rows: Vec<ReleasedRow> = statement(RELEASE)
        .bind::<Array<SqlUuid>, Vec<Uuid>>(executions.clone())
        .bind::<Array<Integer>, Vec<i32>>(gone.iter().map(|a| a.attempt).collect())
        .bind::<Array<SqlUuid>, Vec<Uuid>>(executions)
        .bind::<Nullable<Text>, _>(observer.worker())
        .bind::<Nullable<Text>, _>(observer.worker())
        .load(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| AttemptId { execution_id: ExecutionId(row.execution_id), attempt: row.attempt })
        .collect())
}
