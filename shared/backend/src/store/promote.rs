//! What time alone does to executions that are not live: due ones are queued, expired ones end.

use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;
use roadstead_domain::execution::{Event, Next, State, next};

const PROMOTE: &str = "
WITH due AS (
    SELECT tenant, id, state FROM executions WHERE state = 'scheduled' AND run_at <= now()
    ORDER BY run_at LIMIT {} FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE executions e SET state = 'queued', queued_at = now(), enqueued = false, run_at = CASE WHEN e.attempt = 0 THEN e.run_at END
    FROM due d WHERE e.tenant = ANY(ARRAY[d.tenant]) AND e.id = d.id AND e.state = d.state
    RETURNING e.id, e.attempt
)
INSERT INTO execution_events (execution_id, kind, attempt) SELECT id, 'queued', attempt FROM moved";

/// Queues `scheduled` rows whose time has come; the relay enqueues them. A `run_at` that was a retry's backoff is over with it. Answers how many.
pub async fn promote(connection: &mut Connection, limit: i64) -> StoreResult<usize> {
    debug_assert_eq!(next(State::Scheduled, Event::Due), Next::To(State::Queued));
    Ok(statement(PROMOTE).bind::<BigInt, _>(limit).execute(connection).await?)
}

const EXPIRE: &str = "
WITH late AS (
    SELECT tenant, id FROM executions
    WHERE queue_deadline <= now() AND queue_deadline IS NOT NULL AND state IN ('scheduled', 'queued')
    ORDER BY queue_deadline LIMIT {} FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE executions e SET state = 'timed_out', finished_at = now(), enqueued = false,
           reason_code = 'queue_timeout', reason_message = 'it was not started before its queue deadline'
    FROM late l WHERE e.tenant = ANY(ARRAY[l.tenant]) AND e.id = l.id AND e.state IN ('scheduled', 'queued')
    RETURNING e.id, e.attempt
)
INSERT INTO execution_events (execution_id, kind, attempt, detail) SELECT id, 'timed_out', attempt, 'queue_timeout' FROM moved";

/// Ends what waited past its queue deadline. Answers how many.
pub async fn expire(connection: &mut Connection, limit: i64) -> StoreResult<usize> {
    debug_assert_eq!(next(State::Queued, Event::QueueExpired), Next::To(State::TimedOut));
    Ok(statement(EXPIRE).bind::<BigInt, _>(limit).execute(connection).await?)
}
