//! The relay's side of PostgreSQL: queued rows that are not in Redis, in order, and the belief `enqueued` repaired.

use super::statement::statement;
use super::{Connection, StoreResult};
use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use roadstead_domain::execution::{Priority, State};
use roadstead_domain::ids::ExecutionId;
use std::time::Duration;
use uuid::Uuid;

/// A stream that has rows waiting for it in PostgreSQL.
#[derive(Clone, Debug)]
pub struct Backlog {
    pub tenant: String,
    pub priority: Priority,
    pub weight: i32,
    pub max_concurrent: Option<i32>,
}

#[derive(QueryableByName)]
struct BacklogRow {
    #[diesel(sql_type = Text)]
    tenant: String,
    #[diesel(sql_type = SmallInt)]
    priority: i16,
    #[diesel(sql_type = Integer)]
    weight: i32,
    #[diesel(sql_type = Nullable<Integer>)]
    max_concurrent: Option<i32>,
}

impl From<BacklogRow> for Backlog {
    fn from(row: BacklogRow) -> Self {
        Self {
            tenant: row.tenant,
            priority: Priority::from_rank(row.priority),
            weight: row.weight,
            max_concurrent: row.max_concurrent,
        }
    }
}

/// A loose index scan: one probe for each (tenant, priority), however many rows wait (PostgreSQL wiki, "Loose indexscan").
const BACKLOGS: &str = "
WITH RECURSIVE stream AS (
    (SELECT tenant, priority FROM executions WHERE state = 'queued' AND NOT enqueued ORDER BY tenant, priority LIMIT 1)
    UNION ALL
    SELECT n.tenant, n.priority FROM stream s CROSS JOIN LATERAL (
        SELECT e.tenant, e.priority FROM executions e
        WHERE e.state = 'queued' AND NOT e.enqueued AND (e.tenant, e.priority) > (s.tenant, s.priority)
        ORDER BY e.tenant, e.priority LIMIT 1) n
)
SELECT s.tenant, s.priority, t.weight, t.max_concurrent FROM stream s JOIN tenants t ON t.name = s.tenant
ORDER BY s.tenant, s.priority";

pub async fn backlogs(connection: &mut Connection) -> StoreResult<Vec<Backlog>> {
    let rows: Vec<BacklogRow> = statement(BACKLOGS).load(connection).await?;
    Ok(rows.into_iter().map(Backlog::from).collect())
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// The next rows that wait for one stream, oldest first.
pub async fn waiting(
    connection: &mut Connection,
    tenant: &str,
    priority: Priority,
    limit: i64,
) -> StoreResult<Vec<ExecutionId>> {
    let rows: Vec<Id> = statement(
        "SELECT id FROM executions WHERE tenant = {} AND priority = {} AND state = 'queued' AND NOT enqueued
         ORDER BY queued_at, id LIMIT {}",
    )
    .bind::<Text, _>(tenant.to_owned())
    .bind::<SmallInt, _>(priority.rank())
    .bind::<BigInt, _>(limit)
    .load(connection)
    .await?;
    Ok(rows.into_iter().map(|row| ExecutionId(row.id)).collect())
}

/// Notes what is believed of rows of one tenant: that they are in their stream, or that they are not.
pub async fn mark(connection: &mut Connection, tenant: &str, ids: &[ExecutionId], enqueued: bool) -> StoreResult<()> {
    statement(
        "UPDATE executions e SET enqueued = {} FROM UNNEST({}::text[], {}::uuid[], {}::text[]) AS i (tenant, id, state)
         WHERE e.tenant = ANY(ARRAY[i.tenant]) AND e.id = i.id AND e.state = i.state AND e.enqueued <> {}",
    )
    .bind::<Bool, _>(enqueued)
    .bind::<Array<Text>, Vec<String>>(vec![tenant.to_owned(); ids.len()])
    .bind::<Array<SqlUuid>, Vec<Uuid>>(ids.iter().map(|id| id.0).collect())
    .bind::<Array<Text>, Vec<&'static str>>(vec![State::Queued.as_str(); ids.len()])
    .bind::<Bool, _>(enqueued)
    .execute(connection)
    .await?;
    Ok(())
}

/// Rows of one statement, which has its time limit. There may be millions.
const FORGOTTEN_AT_ONCE: i64 = 10_000;

/// In the order of their index, from the last one of the part before: what was forgotten just now still stands there. A row is written by its key, and
/// compared with what was read: by the words of that index's condition it would be looked for there, among all of its tenant's.
const FORGET_SOME: &str = "
WITH part AS (
    SELECT tenant, priority, queued_at, id, state, enqueued FROM executions
    WHERE state = 'queued' AND enqueued AND (tenant, priority, queued_at, id) > ({}, {}, {}, {})
    ORDER BY tenant, priority, queued_at, id LIMIT {}
), forgotten AS (
    UPDATE executions e SET enqueued = false FROM part
    WHERE e.tenant = ANY(ARRAY[part.tenant]) AND e.id = part.id AND e.state = part.state AND e.enqueued = part.enqueued
)
SELECT tenant, priority, queued_at, id, count(*) OVER () AS rows FROM part
ORDER BY tenant DESC, priority DESC, queued_at DESC, id DESC LIMIT 1";

#[derive(QueryableByName)]
struct Forgotten {
    #[diesel(sql_type = Text)]
    tenant: String,
    #[diesel(sql_type = SmallInt)]
    priority: i16,
    #[diesel(sql_type = Timestamptz)]
    queued_at: DateTime<Utc>,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

/// After Redis lost its data: nothing is enqueued. Answers how many rows will be enqueued anew. Part by part, so that claims and cancels that come by wait
/// for little; cut short, it begins anew.
pub async fn forget_all(connection: &mut Connection) -> StoreResult<i64> {
    let (mut rows, mut last) = (0, Forgotten::nothing());
    loop {
        let part: Option<Forgotten> = statement(FORGET_SOME)
            .bind::<Text, _>(last.tenant)
            .bind::<SmallInt, _>(last.priority)
            .bind::<Timestamptz, _>(last.queued_at)
            .bind::<SqlUuid, _>(last.id)
            .bind::<BigInt, _>(FORGOTTEN_AT_ONCE)
            .get_result(connection)
            .await
            .optional()?;
        let Some(part) = part else { return Ok(rows) };
        rows += part.rows;
        if part.rows < FORGOTTEN_AT_ONCE {
            return Ok(rows);
        }
        last = part;
    }
}

impl Forgotten {
    /// Before all.
    fn nothing() -> Self {
        Self { tenant: String::new(), priority: i16::MIN, queued_at: DateTime::UNIX_EPOCH, id: Uuid::nil(), rows: 0 }
    }
}

/// Streams that rows are believed to be in: the same loose index scan over the other index.
const STREAMS: &str = "
WITH RECURSIVE stream AS (
    (SELECT tenant, priority FROM executions WHERE state = 'queued' AND enqueued ORDER BY tenant, priority LIMIT 1)
    UNION ALL
    SELECT n.tenant, n.priority FROM stream s CROSS JOIN LATERAL (
        SELECT e.tenant, e.priority FROM executions e
        WHERE e.state = 'queued' AND e.enqueued AND (e.tenant, e.priority) > (s.tenant, s.priority)
        ORDER BY e.tenant, e.priority LIMIT 1) n
)
SELECT s.tenant, s.priority, t.weight, t.max_concurrent FROM stream s JOIN tenants t ON t.name = s.tenant
ORDER BY s.tenant, s.priority";

pub async fn believed_streams(connection: &mut Connection) -> StoreResult<Vec<Backlog>> {
    let rows: Vec<BacklogRow> = statement(STREAMS).load(connection).await?;
    Ok(rows.into_iter().map(Backlog::from).collect())
}

/// A stream is in order, so a row that was queued `margin` before its first entry, or before now when there is none, is not in it: whoever should have
/// enqueued it died in between.
///
/// In a busy stream the first entry's row is mostly claimed already, and keeps its `queued_at` until its attempt ends. A first entry whose row is gone or
/// has none any more is about to be acknowledged: it tells nothing, and a comparison with NULL forgets nothing.
const FORGET_LOST: &str = "
UPDATE executions SET enqueued = false
WHERE tenant = {} AND priority = {} AND state = 'queued' AND enqueued
  AND queued_at < CASE WHEN {}::uuid IS NULL THEN now()
                       ELSE (SELECT h.queued_at FROM executions h WHERE h.tenant = {} AND h.id = {}) END - make_interval(secs => {})";

/// Notes that rows which were believed to be in a stream are not. `head`: the stream's first entry, if it has one. Answers how many rows there were.
pub async fn forget_lost(
    connection: &mut Connection,
    tenant: &str,
    priority: Priority,
    head: Option<ExecutionId>,
    margin: Duration,
) -> StoreResult<usize> {
    Ok(statement(FORGET_LOST)
        .bind::<Text, _>(tenant.to_owned())
        .bind::<SmallInt, _>(priority.rank())
        .bind::<Nullable<SqlUuid>, _>(head.map(|id| id.0))
        .bind::<Text, _>(tenant.to_owned())
        .bind::<Nullable<SqlUuid>, _>(head.map(|id| id.0))
        .bind::<Double, _>(margin.as_secs_f64())
        .execute(connection)
        .await?)
}
