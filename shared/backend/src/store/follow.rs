//! Following a log: what a reader sees of its growth, and that somebody reads, which the executor hears of at its next heartbeat.

use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::QueryableByName;
use diesel::sql_types::{Bool, Double, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use roadstead_domain::execution::State;
use roadstead_domain::ids::ExecutionId;
use std::time::Duration;

/// Marks the attempt's log as read along for the next `span`.
pub async fn follow(
    connection: &mut Connection,
    tenant: &str,
    id: ExecutionId,
    attempt: i32,
    span: Duration,
) -> StoreResult<()> {
    statement(
        "UPDATE attempts SET followed_until = now() + make_interval(secs => {})
         WHERE tenant = {} AND execution_id = {} AND attempt = {} AND finished_at IS NULL",
    )
    .bind::<Double, _>(span.as_secs_f64())
    .bind::<Text, _>(tenant.to_owned())
    .bind::<SqlUuid, _>(id.0)
    .bind::<Integer, _>(attempt)
    .execute(connection)
    .await?;
    Ok(())
}

/// How far the logs of an execution have grown.
#[derive(Clone, Debug)]
pub struct Growth {
    pub state: State,
    pub max_attempts: i32,
    /// In order.
    pub attempts: Vec<AttemptLog>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptLog {
    pub attempt: i32,
    pub started: bool,
    /// Nothing will be added to it.
    pub finished: bool,
    pub last_seq: Option<i32>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Integer)]
    max_attempts: i32,
    #[diesel(sql_type = Nullable<Integer>)]
    attempt: Option<i32>,
    #[diesel(sql_type = Bool)]
    started: bool,
    #[diesel(sql_type = Bool)]
    finished: bool,
    #[diesel(sql_type = Nullable<Integer>)]
    last_seq: Option<i32>,
}

const GROWTH: &str = "
SELECT e.state, e.max_attempts, a.attempt, a.started_at IS NOT NULL AS started, a.finished_at IS NOT NULL AS finished,
       (SELECT max(s.seq) FROM log_segments s WHERE s.execution_id = e.id AND s.attempt = a.attempt) AS last_seq
FROM executions e LEFT JOIN attempts a ON a.tenant = e.tenant AND a.execution_id = e.id
WHERE e.tenant = {} AND e.id = {} ORDER BY a.attempt";

/// One look, from one snapshot: a finished attempt's `last_seq` is its last. `None`: no such execution in this tenant.
pub async fn growth(connection: &mut Connection, tenant: &str, id: ExecutionId) -> StoreResult<Option<Growth>> {
    let rows: Vec<Row> =
        statement(GROWTH).bind::<Text, _>(tenant.to_owned()).bind::<SqlUuid, _>(id.0).load(connection).await?;
    let Some(first) = rows.as_slice().first() else { return Ok(None) };
    let (state, max_attempts) = (super::query::state(&first.state), first.max_attempts);
    let attempts = rows
        .into_iter()
        .filter_map(|row| {
            let Row { started, finished, last_seq, .. } = row;
            Some(AttemptLog { attempt: row.attempt?, started, finished, last_seq })
        })
        .collect();
    Ok(Some(Growth { state, max_attempts, attempts }))
}
