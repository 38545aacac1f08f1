//! What the supervisor looks for: attempts past a deadline, berths that nobody gave back, and when to look again.

use super::statement::statement;
use super::{Connection, StoreResult};
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use roadstead_domain::ids::{AttemptId, ExecutionId};
use std::time::Duration;
use uuid::Uuid;

/// Why an attempt is overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// No start was granted in time.
    Start,
    /// Its executor has not renewed the lease: by its own clock it stopped its children before.
    Lease,
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
}

const OVERDUE: &str = "
SELECT tenant, execution_id, attempt, started_at IS NOT NULL AS started FROM attempts
WHERE released_at IS NULL AND finished_at IS NULL
  AND ((started_at IS NULL AND start_deadline < now()) OR (started_at IS NOT NULL AND lease_expires_at < now()))
LIMIT {}";

pub async fn overdue(connection: &mut Connection, limit: i64) -> StoreResult<Vec<(String, AttemptId, Overdue)>> {
    let rows: Vec<OverdueRow> = statement(OVERDUE).bind::<BigInt, _>(limit).load(connection).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let id = AttemptId { execution_id: ExecutionId(row.execution_id), attempt: row.attempt };
            (row.tenant, id, if row.started { Overdue::Lease } else { Overdue::Start })
        })
        .collect())
}

/// Gives back berths of attempts that ended `grace` ago and whose launcher has not said that they are gone: it died.
/// Answers how many.
pub async fn release_forgotten(connection: &mut Connection, grace: Duration) -> StoreResult<usize> {
    Ok(statement(
        "UPDATE attempts SET released_at = now()
         WHERE released_at IS NULL AND finished_at < now() - make_interval(secs => {})",
    )
    .bind::<Double, _>(grace.as_secs_f64())
    .execute(connection)
    .await?)
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

const OUTLOOK: &str = "
SELECT EXISTS (SELECT 1 FROM attempts WHERE released_at IS NULL)
           OR EXISTS (SELECT 1 FROM executions WHERE state = 'queued' AND enqueued)
           OR EXISTS (SELECT 1 FROM executions WHERE state = 'queued' AND NOT enqueued) AS busy,
       LEAST((SELECT min(run_at) FROM executions WHERE state = 'scheduled'),
             (SELECT min(queue_deadline) FROM executions WHERE queue_deadline IS NOT NULL AND state IN ('scheduled', 'queued')))
           AS next_at,
       now() AS now";

pub async fn outlook(connection: &mut Connection) -> StoreResult<Outlook> {
    Ok(statement(OUTLOOK).get_result(connection).await?)
}
