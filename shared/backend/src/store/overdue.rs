//! What the supervisor looks for: attempts past a deadline, berths that nobody gave back, and when to look again.

use super::settle::Observer;
use super::statement::statement;
use super::{Connection, StoreResult};
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use roadstead_domain::ids::{AttemptId, ExecutionId};
use std::time::Duration;
use uuid::Uuid;

/// Why an attempt is overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// No start was granted in time; or it is to be cancelled, and hangs before its start or was never launched.
    Start,
    /// Its executor has not renewed the lease: by its own clock it stopped its children before.
    Lease,
    /// Its executor should have ended it at the run deadline and has not. Once it is settled its next heartbeat is refused, and it stops.
    Run,
}

/// An executor ends its attempt at the deadline by itself; the supervisor steps in this much later.
const RUN_DEADLINE_SLACK_SECONDS: f64 = 60.0;
/// An executor whose start is refused because of a cancel goes away by itself; one that never asked for its start does not.
const CANCELLED_START_SLACK_SECONDS: f64 = 3.0;
/// A worker that is present has this long to end what is overdue, process and all, before it is settled without a witness.
const WORKER_SLACK_SECONDS: f64 = 10.0;

/// An attempt past a deadline.
#[derive(Clone, Debug)]
pub struct Late {
    pub tenant: String,
    pub attempt: AttemptId,
    pub why: Overdue,
    /// The worker that launched it is present and still has its time to end it.
    pub worker_may_end_it: bool,
}

/// The lease by which a worker with attempts says that it is present, and sees to their berths itself.
pub fn presence(worker: &str) -> String {
    format!("worker:{worker}")
}

#[derive(QueryableByName)]
struct OverdueRow {
    #[diesel(sql_type = Text)]
    tenant: String,
    #[diesel(sql_type = SqlUuid)]
    execution_id: Uuid,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Bool)]
    started: bool,
    #[diesel(sql_type = Bool)]
    silent: bool,
    #[diesel(sql_type = Bool)]
    worker_may_end_it: bool,
}

/// The execution's row is looked up by a subquery of its own (`OFFSET 0` keeps it one), for the reason that [`super::claim`] gives.
const OVERDUE: &str = "
SELECT tenant, execution_id, attempt, started, silent,
       late_since > now() - make_interval(secs => {})
           AND EXISTS (SELECT 1 FROM leases l WHERE l.name = 'worker:' || worker AND l.expires_at > now()) AS worker_may_end_it
FROM (SELECT a.tenant, a.execution_id, a.attempt, a.worker, a.started_at IS NOT NULL AS started,
             COALESCE(a.lease_expires_at < now(), false) AS silent,
             CASE WHEN a.started_at IS NOT NULL THEN LEAST(a.lease_expires_at, a.run_deadline + make_interval(secs => {}))
                  WHEN e.cancel_requested_at IS NOT NULL
                      THEN LEAST(a.start_deadline, CASE WHEN a.launched_at IS NULL THEN a.launch_lease_expires_at
                                                        ELSE e.cancel_requested_at + make_interval(secs => {}) END)
                  ELSE a.start_deadline END AS late_since
      FROM attempts a
      JOIN LATERAL (SELECT cancel_requested_at FROM executions x WHERE x.tenant = a.tenant AND x.id = a.execution_id OFFSET 0) e ON true
      WHERE a.released_at IS NULL AND a.finished_at IS NULL AND (a.started_at IS NULL OR a.tenant <> ALL({}::text[]))) AS live
WHERE late_since < now()
ORDER BY late_since LIMIT {}";

/// Of these tenants, of whom nothing is seen, only those that have not started.
pub async fn overdue(connection: &mut Connection, out_of_sight: &[String], limit: i64) -> StoreResult<Vec<Late>> {
    let rows: Vec<OverdueRow> = statement(OVERDUE)
        .bind::<Double, _>(WORKER_SLACK_SECONDS)
        .bind::<Double, _>(RUN_DEADLINE_SLACK_SECONDS)
        .bind::<Double, _>(CANCELLED_START_SLACK_SECONDS)
        .bind::<Array<Text>, _>(out_of_sight.to_vec())
        .bind::<BigInt, _>(limit)
        .load(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| Late {
            tenant: row.tenant,
            attempt: AttemptId { execution_id: ExecutionId(row.execution_id), attempt: row.attempt },
            why: match (row.started, row.silent) {
                (false, _) => Overdue::Start,
                (true, true) => Overdue::Lease,
                (true, false) => Overdue::Run,
            },
            worker_may_end_it: row.worker_may_end_it,
        })
        .collect())
}

/// Puts a start deadline off: somebody else's queue held the attempt back until `begun` ago, and it has `start_timeout` from then on. `false`: it has
/// started or ended by now, or is to be cancelled.
pub async fn put_off_start(
    connection: &mut Connection,
    tenant: &str,
    attempt: AttemptId,
    begun: Duration,
    start_timeout: Duration,
) -> StoreResult<bool> {
    let put_off = statement(
        "UPDATE attempts a SET start_deadline = now() + make_interval(secs => {})
         WHERE a.tenant = {} AND a.execution_id = {} AND a.attempt = {} AND a.started_at IS NULL AND a.finished_at IS NULL
           AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.tenant = a.tenant AND e.id = a.execution_id
                           AND e.cancel_requested_at IS NOT NULL)",
    )
    .bind::<Double, _>(start_timeout.saturating_sub(begun).as_secs_f64())
    .bind::<Text, _>(tenant.to_owned())
    .bind::<SqlUuid, _>(attempt.execution_id.0)
    .bind::<Integer, _>(attempt.attempt)
    .execute(connection)
    .await?;
    Ok(put_off > 0)
}

/// Gives back berths of attempts that ended `grace` ago and whose worker is not present, so that it can't say when their processes are
/// gone. Answers how many.
pub async fn release_forgotten(connection: &mut Connection, grace: Duration) -> StoreResult<usize> {
    Ok(statement(
        "UPDATE attempts a SET released_at = now()
         WHERE a.released_at IS NULL AND a.finished_at < now() - make_interval(secs => {})
           AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.name = 'worker:' || a.worker AND l.expires_at > now())",
    )
    .bind::<Double, _>(grace.as_secs_f64())
    .execute(connection)
    .await?)
}

/// An executor that has reported its end goes away at once; one that hangs then keeps a berth from others.
const EXIT_SLACK_SECONDS: f64 = 60.0;

#[derive(QueryableByName)]
struct SurplusRow {
    #[diesel(sql_type = SqlUuid)]
    execution_id: Uuid,
    #[diesel(sql_type = Integer)]
    attempt: i32,
}

const SURPLUS: &str = "
SELECT i.execution_id, i.attempt
FROM UNNEST({}::uuid[], {}::int[]) AS i (execution_id, attempt)
LEFT JOIN attempts a ON a.execution_id = ANY(ARRAY[i.execution_id]) AND a.attempt = i.attempt
WHERE a.attempt IS NULL OR a.worker <> {}::text OR a.released_at IS NOT NULL OR a.finished_at < now() - make_interval(secs => {})";

/// Those of the attempts that are alive before the observer's eyes which should not be any more: settled without it, or taken over, or long finished.
pub async fn surplus(
    connection: &mut Connection,
    observer: &Observer,
    alive: &[AttemptId],
) -> StoreResult<Vec<AttemptId>> {
    let rows: Vec<SurplusRow> = statement(SURPLUS)
        .bind::<Array<SqlUuid>, Vec<Uuid>>(alive.iter().map(|a| a.execution_id.0).collect())
        .bind::<Array<Integer>, Vec<i32>>(alive.iter().map(|a| a.attempt).collect())
        .bind::<Nullable<Text>, _>(observer.worker())
        .bind::<Double, _>(EXIT_SLACK_SECONDS)
        .load(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| AttemptId { execution_id: ExecutionId(row.execution_id), attempt: row.attempt })
        .collect())
}

/// An attempt that holds a berth.
#[derive(Clone, Debug)]
pub struct Berthed {
    pub tenant: String,
    pub attempt: AttemptId,
}

#[derive(QueryableByName)]
struct BerthedRow {
    #[diesel(sql_type = Text)]
    tenant: String,
    #[diesel(sql_type = SqlUuid)]
    execution_id: Uuid,
    #[diesel(sql_type = Integer)]
    attempt: i32,
}

const BERTHED: &str = "
SELECT tenant, execution_id, attempt FROM attempts
WHERE released_at IS NULL AND COALESCE(launched_at, finished_at) IS NOT NULL
  AND (finished_at IS NOT NULL OR lease_expires_at IS NULL OR lease_expires_at < now())";

/// Attempts with a berth that were launched and are not heard of: as many as the cap at most. Whoever renews its lease lives, whether it is to be seen or
/// not.
pub async fn berthed(connection: &mut Connection) -> StoreResult<Vec<Berthed>> {
    let rows: Vec<BerthedRow> = statement(BERTHED).load(connection).await?;
    Ok(rows
        .into_iter()
        .map(|row| Berthed {
            tenant: row.tenant,
            attempt: AttemptId { execution_id: ExecutionId(row.execution_id), attempt: row.attempt },
        })
        .collect())
}

/// What lies ahead.
#[derive(Clone, Copy, Debug, QueryableByName)]
pub struct Outlook {
    /// Something is queued or live.
    #[diesel(sql_type = Bool)]
    pub busy: bool,
    /// The next time at which a row asks for something.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub next_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    pub now: DateTime<Utc>,
}

/// The first of an order, not `min`: planned for an empty table, that one is an aggregate over all rows of an index.
const OUTLOOK: &str = "
SELECT EXISTS (SELECT 1 FROM attempts WHERE released_at IS NULL)
           OR EXISTS (SELECT 1 FROM executions WHERE state = 'queued' AND enqueued)
           OR EXISTS (SELECT 1 FROM executions WHERE state = 'queued' AND NOT enqueued) AS busy,
       LEAST((SELECT run_at FROM executions WHERE state = 'scheduled' ORDER BY run_at LIMIT 1),
             (SELECT queue_deadline FROM executions WHERE queue_deadline IS NOT NULL AND state IN ('scheduled', 'queued')
              ORDER BY queue_deadline LIMIT 1))
           AS next_at,
       now() AS now";

pub async fn outlook(connection: &mut Connection) -> StoreResult<Outlook> {
    Ok(statement(OUTLOOK).get_result(connection).await?)
}
