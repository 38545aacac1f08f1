//! Heartbeats: the lease renewed, steps and log segments noted, and what the executor should know told.
//!
//! The lease is not written at every beat: a thousand quiet attempts cost PostgreSQL mostly reads. It is written a ninth longer than what the
//! executor counts on, so that the beats which write nothing leave it long enough too: an executor counts from its last answered beat. A lease that
//! ran out is never renewed: from then on the next attempt may be on its way. It lasts as long as what was granted with the start, which is what the
//! executor counts on, whatever the setting is by now. Reports of more steps than a workflow may have are not kept.

use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use roadstead_domain::attempt::protocol::{HeartbeatReply, Segment};
use roadstead_domain::ids::AttemptId;
use roadstead_domain::workflow::validate::MAX_STEPS;
use std::time::Duration;
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Beat {
    pub attempt: AttemptId,
    /// SHA-256 of the session token.
    pub session_hash: Vec<u8>,
    /// A JSON array of the step reports that changed; they take the place of those with the same ids. No id is in it twice.
    pub steps: Option<String>,
    pub segments: Vec<Segment>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Integer)]
    place: i32,
    #[diesel(sql_type = Bool)]
    cancel: bool,
    #[diesel(sql_type = Bool)]
    following: bool,
}

const BEAT: &str = "
WITH beat AS (
    SELECT i.place, i.steps, a.execution_id, a.attempt, a.lease_expires_at,
           make_interval(secs => COALESCE(a.lease_seconds, {})) AS lease, e.cancel_requested_at IS NOT NULL AS cancel,
           COALESCE(a.followed_until > now(), false) AS following
    FROM UNNEST({}::int[], {}::uuid[], {}::int[], {}::bytea[], {}::text[]) AS i (place, execution_id, attempt, session_hash, steps)
    JOIN attempts a ON a.execution_id = ANY(ARRAY[i.execution_id]) AND a.attempt = i.attempt AND a.session_hash = i.session_hash
                   AND a.finished_at IS NULL AND a.lease_expires_at > now()
    JOIN LATERAL (SELECT attempt, state, cancel_requested_at FROM executions x
                  WHERE x.tenant = a.tenant AND x.id = a.execution_id OFFSET 0) e ON e.attempt = a.attempt AND e.state = 'running'
), renewed AS (
    UPDATE attempts a SET lease_expires_at = now() + b.lease * 10 / 9,
           steps = CASE WHEN b.steps IS NULL OR a.steps IS NULL THEN COALESCE(b.steps, a.steps) ELSE (
               SELECT COALESCE(json_agg(m.step ORDER BY m.known, m.new), '[]')::text FROM (
               SELECT COALESCE(n.step, k.step) AS step, k.place AS known, n.place AS new
               FROM json_array_elements(a.steps::json) WITH ORDINALITY AS k (step, place)
               FULL JOIN json_array_elements(b.steps::json) WITH ORDINALITY AS n (step, place)
                   ON n.step ->> 'id' = k.step ->> 'id'
               ORDER BY known, new LIMIT {}) m) END
    FROM beat b
    WHERE a.execution_id = ANY(ARRAY[b.execution_id]) AND a.attempt = b.attempt AND a.finished_at IS NULL
      AND (b.steps IS NOT NULL OR b.lease_expires_at < now() + b.lease)
), shipped AS (
    INSERT INTO log_segments (execution_id, attempt, seq, size_bytes, lines)
    SELECT b.execution_id, b.attempt, s.seq, s.size_bytes, s.lines
    FROM UNNEST({}::int[], {}::int[], {}::int8[], {}::int[]) AS s (place, seq, size_bytes, lines) JOIN beat b USING (place)
    ON CONFLICT DO NOTHING
)
SELECT place, cancel, following FROM beat";

/// `None` in a place: that attempt is no longer current. `lease`: of those whose start did not say.
pub async fn heartbeat(
    connection: &mut Connection,
    batch: &[Beat],
    lease: Duration,
) -> StoreResult<Vec<Option<HeartbeatReply>>> {
    let segments: Vec<(i32, Segment)> =
        batch.iter().enumerate().flat_map(|(n, b)| b.segments.iter().map(move |s| (n as i32, *s))).collect();
    let rows: Vec<Row> = statement(BEAT)
        .bind::<Integer, _>(lease.as_secs() as i32)
        .bind::<Array<Integer>, Vec<i32>>((0..batch.len() as i32).collect())
        .bind::<Array<SqlUuid>, Vec<Uuid>>(batch.iter().map(|b| b.attempt.execution_id.0).collect())
        .bind::<Array<Integer>, Vec<i32>>(batch.iter().map(|b| b.attempt.attempt).collect())
        .bind::<Array<Binary>, Vec<Vec<u8>>>(batch.iter().map(|b| b.session_hash.clone()).collect())
        .bind::<Array<Nullable<Text>>, Vec<Option<String>>>(batch.iter().map(|b| b.steps.clone()).collect())
        .bind::<BigInt, _>(MAX_STEPS as i64)
        .bind::<Array<Integer>, Vec<i32>>(segments.iter().map(|s| s.0).collect())
        .bind::<Array<Integer>, Vec<i32>>(segments.iter().map(|s| s.1.seq as i32).collect())
        .bind::<Array<BigInt>, Vec<i64>>(segments.iter().map(|s| s.1.size_bytes as i64).collect())
        .bind::<Array<Integer>, Vec<i32>>(segments.iter().map(|s| s.1.lines as i32).collect())
        .load(connection)
        .await?;
    let mut replies = vec![None; batch.len()];
    for row in rows {
        replies[row.place as usize] = Some(HeartbeatReply { cancel: row.cancel, following: row.following });
    }
    Ok(replies)
}
