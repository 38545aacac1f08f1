//! Cancelling: at once while nothing is live, otherwise a wish that the executor hears of at its next heartbeat.

use super::query::{self, Execution};
use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::QueryableByName;
use diesel::sql_types::{Integer, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use roadstead_domain::execution::{Event, Next, State, next};
use roadstead_domain::ids::ExecutionId;

/// What became of the request.
#[derive(Clone, Debug)]
pub enum Cancel {
    /// It is cancelled by this request.
    Done(Execution),
    /// It was cancelled before, or will be when its executor has heard of it.
    Noted(Execution),
    /// It ended in another way.
    Ended(Execution),
    NotFound,
}

#[derive(QueryableByName)]
struct Changed {
    #[diesel(sql_type = Integer)]
    #[expect(dead_code, reason = "its presence is the answer")]
    attempt: i32,
}

const CANCEL_NOW: &str = "
WITH moved AS (
    UPDATE executions SET state = 'cancelled', cancel_requested_at = COALESCE(cancel_requested_at, now()), finished_at = now(),
           run_at = CASE WHEN attempt = 0 THEN run_at END,
           enqueued = false, queue_deadline = NULL, reason_code = 'cancelled', reason_message = 'cancelled on request'
    WHERE tenant = {} AND id = {} AND state = {} AND attempt = {}
    RETURNING id, attempt
), told AS (
    INSERT INTO execution_events (execution_id, kind, attempt) SELECT id, 'cancelled', attempt FROM moved
)
SELECT attempt FROM moved";

const CANCEL_WISH: &str = "
WITH noted AS (
    UPDATE executions SET cancel_requested_at = now()
    WHERE tenant = {} AND id = {} AND state = {} AND attempt = {} AND cancel_requested_at IS NULL
    RETURNING id, attempt
), told AS (
    INSERT INTO execution_events (execution_id, kind, attempt) SELECT id, 'cancel_requested', attempt FROM noted
)
SELECT attempt FROM noted";

/// Asking again gives the same answer.
pub async fn cancel(connection: &mut Connection, tenant: &str, id: ExecutionId) -> StoreResult<Cancel> {
    // Each turn fails only when the state moved on in between, and there are few states.
    for _ in 0..8 {
        let Some(execution) = query::get(connection, tenant, id).await? else { return Ok(Cancel::NotFound) };
        let sql = match next(execution.state, Event::Cancel) {
            Next::To(State::Cancelled) => CANCEL_NOW,
            Next::Noted if execution.cancel_requested || execution.state == State::Cancelled => {
                return Ok(Cancel::Noted(execution));
            }
            Next::Noted => CANCEL_WISH,
            Next::To(_) | Next::Refused => return Ok(Cancel::Ended(execution)),
        };
        let changed: Vec<Changed> = statement(sql)
            .bind::<Text, _>(tenant.to_owned())
            .bind::<SqlUuid, _>(id.0)
            .bind::<Text, _>(execution.state.as_str())
            .bind::<Integer, _>(execution.attempt)
            .load(connection)
            .await?;
        if !changed.is_empty()
            && let Some(now) = query::get(connection, tenant, id).await?
        {
            return Ok(if sql == CANCEL_NOW { Cancel::Done(now) } else { Cancel::Noted(now) });
        }
    }
    Err(super::StoreError::Unavailable(format!("execution {id} kept moving while it was cancelled")))
}
