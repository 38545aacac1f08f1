//! Settling: the one statement by which live attempts end, whoever witnessed the end.
//!
//! The state machine decides in Rust from what was read; the write is conditional on exactly that, so a decision that
//! was overtaken writes nothing and is made again by its caller.

use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use roadstead_domain::attempt::protocol::{Finish, Status};
use roadstead_domain::execution::retry::Standing;
use roadstead_domain::execution::{Event, Next, Reason, State, next};
use roadstead_domain::ids::{AttemptId, ExecutionId};
use std::collections::HashSet;
use uuid::Uuid;

/// How an attempt's end was witnessed.
#[derive(Clone, Debug)]
pub enum Witness {
    /// By its own report, over the API or as `outcome.json`.
    Report(Box<Finish>),
    /// Its process or pod is gone, or its lease ran out.
    Lost(Reason),
    /// It could not be started.
    StartFailed { reason: Reason, retryable: bool },
    /// Its run deadline passed and it is gone.
    TimedOut(Reason),
}

/// A live attempt as it was read, which a settlement's write is conditional on.
#[derive(Clone, Debug)]
pub struct Live {
    pub tenant: String,
    pub id: AttemptId,
    pub state: State,
    pub standing: Standing,
}

/// One attempt's end, decided.
#[derive(Clone, Debug)]
pub struct Settlement {
    pub live: Live,
    pub witness: Witness,
    /// Whether the berth is free with it: the witness is the process's or pod's end itself.
    pub release: bool,
}

impl Settlement {
    /// The state that the execution goes to, by the state machine; `None` where the end means nothing any more.
    pub fn next_state(&self) -> Option<State> {
        let standing = self.live.standing;
        let event = match &self.witness {
            Witness::Report(finish) => standing.reported(&finish.outcome),
            Witness::Lost(_) => standing.lost(),
            Witness::StartFailed { retryable, .. } => standing.start_failed(*retryable),
            Witness::TimedOut(_) if standing.cancel_requested => Event::AttemptCancelled,
            Witness::TimedOut(_) => Event::AttemptTimedOut,
        };
        match next(self.live.state, event) {
            Next::To(state) => Some(state),
            Next::Noted | Next::Refused => None,
        }
    }

    fn reason(&self) -> Option<Reason> {
        match &self.witness {
            Witness::Report(finish) if finish.outcome.status == Status::Cancelled => finish.outcome.reason.clone(),
            // However it ended: it was to.
            _ if self.next_state() == Some(State::Cancelled) => {
                Some(Reason::new(Reason::CANCELLED, "cancelled on request"))
            }
            Witness::Report(finish) => finish.outcome.reason.clone(),
            Witness::Lost(reason) | Witness::StartFailed { reason, .. } | Witness::TimedOut(reason) => {
                Some(reason.clone())
            }
        }
    }

    fn outcome(&self) -> &'static str {
        match &self.witness {
            Witness::Report(finish) => match finish.outcome.status {
                Status::Succeeded => "succeeded",
                Status::Failed => "failed",
                Status::TimedOut => "timed_out",
                Status::Cancelled => "cancelled",
            },
            Witness::Lost(_) => "lost",
            Witness::StartFailed { .. } => "failed",
            Witness::TimedOut(_) => "timed_out",
        }
    }

    fn report(&self) -> Option<&Finish> {
        match &self.witness {
            Witness::Report(finish) => Some(finish),
            Witness::Lost(_) | Witness::StartFailed { .. } | Witness::TimedOut(_) => None,
        }
    }
}

/// Longest message that is kept of a reason, in characters.
const MAX_MESSAGE_CHARS: usize = 2_000;

pub(super) fn bounded(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(MAX_MESSAGE_CHARS).collect()
}

const SETTLE: &str = "
WITH input AS (
    SELECT * FROM UNNEST({}::int[], {}::text[], {}::uuid[], {}::int[], {}::text[], {}::bool[], {}::text[], {}::float8[], {}::text[],
                         {}::text[], {}::text[], {}::int8[], {}::text[], {}::text[], {}::text[], {}::bool[])
        AS t (place, tenant, id, attempt, from_state, cancel_seen, to_state, backoff_seconds, reason_code,
              reason_message, result, result_bytes, outcome, steps, artifacts, release)
), moved AS (
    UPDATE executions e SET
        state = i.to_state,
        run_at = CASE WHEN i.to_state = 'scheduled' THEN now() + make_interval(secs => i.backoff_seconds) ELSE e.run_at END,
        queued_at = NULL, enqueued = false, queue_deadline = NULL,
        finished_at = CASE WHEN i.to_state = 'scheduled' THEN NULL ELSE now() END,
        reason_code = i.reason_code, reason_message = i.reason_message, result = i.result, result_bytes = i.result_bytes
    FROM input i
    WHERE e.tenant = ANY(ARRAY[i.tenant]) AND e.id = i.id AND e.attempt = i.attempt AND e.state = i.from_state
      AND (e.cancel_requested_at IS NOT NULL) = i.cancel_seen
    RETURNING i.place, i.id, i.attempt, i.to_state, i.outcome, i.reason_code, i.reason_message, i.steps, i.artifacts, i.release
), ended AS (
    UPDATE attempts a SET finished_at = now(), outcome = m.outcome, reason_code = m.reason_code, reason_message = m.reason_message,
           steps = COALESCE(m.steps, a.steps), artifacts = m.artifacts,
           released_at = CASE WHEN m.release THEN now() ELSE a.released_at END
    FROM moved m WHERE a.execution_id = ANY(ARRAY[m.id]) AND a.attempt = m.attempt AND a.finished_at IS NULL
), shipped AS (
    INSERT INTO log_segments (execution_id, attempt, seq, size_bytes, lines)
    SELECT m.id, m.attempt, s.seq, s.size_bytes, s.lines
    FROM UNNEST({}::int[], {}::int[], {}::int8[], {}::int[]) AS s (place, seq, size_bytes, lines) JOIN moved m USING (place)
    ON CONFLICT DO NOTHING
), told AS (
    INSERT INTO execution_events (execution_id, kind, attempt, detail)
    SELECT id, CASE WHEN to_state = 'scheduled' THEN 'retry_scheduled' ELSE to_state END, attempt,
           CASE WHEN reason_code IS NOT NULL THEN reason_code || ': ' || reason_message END
    FROM moved
)
SELECT place FROM moved";

#[derive(QueryableByName)]
struct Place {
    #[diesel(sql_type = Integer)]
    place: i32,
}

/// Writes the settlements that still apply and answers, by place, which did.
pub async fn settle(connection: &mut Connection, settlements: &[Settlement]) -> StoreResult<Vec<bool>> {
    let mut seen = HashSet::new();
    let rows: Vec<(i32, &Settlement, State)> = settlements
        .iter()
        .enumerate()
        .filter_map(|(place, s)| Some((place as i32, s, s.next_state()?)))
        .filter(|(_, s, _)| seen.insert(s.live.id))
        .collect();
    let mut applied = vec![false; settlements.len()];
    if rows.is_empty() {
        return Ok(applied);
    }
    for row in statement_for(&rows).load::<Place>(connection).await? {
        applied[row.place as usize] = true;
    }
    Ok(applied)
}

fn statement_for(rows: &[(i32, &Settlement, State)]) -> super::statement::Statement<'static> {
    macro_rules! column {
        ($row:ident => $value:expr) => {
            rows.iter().map(|(_, $row, _)| $value).collect::<Vec<_>>()
        };
    }
    let segments: Vec<_> = rows
        .iter()
        .flat_map(|(place, s, _)| {
            s.report().into_iter().flat_map(move |f| f.segments.iter().map(move |g| (*place, *g)))
        })
        .collect();
    statement(SETTLE)
        .bind::<Array<Integer>, Vec<i32>>(rows.iter().map(|row| row.0).collect())
        .bind::<Array<Text>, Vec<String>>(column!(s => s.live.tenant.clone()))
        .bind::<Array<SqlUuid>, Vec<Uuid>>(column!(s => s.live.id.execution_id.0))
        .bind::<Array<Integer>, Vec<i32>>(column!(s => s.live.id.attempt))
        .bind::<Array<Text>, Vec<String>>(column!(s => s.live.state.to_string()))
        .bind::<Array<Bool>, Vec<bool>>(column!(s => s.live.standing.cancel_requested))
        .bind::<Array<Text>, Vec<String>>(rows.iter().map(|row| row.2.to_string()).collect())
        .bind::<Array<Double>, Vec<f64>>(column!(s => s.live.standing.backoff().as_secs_f64()))
        .bind::<Array<Nullable<Text>>, Vec<Option<String>>>(column!(s => s.reason().map(|r| bounded(&r.code))))
        .bind::<Array<Nullable<Text>>, Vec<Option<String>>>(column!(s => s.reason().map(|r| bounded(&r.message))))
        .bind::<Array<Nullable<Text>>, Vec<Option<String>>>(
            column!(s => s.report().and_then(|f| f.result.as_ref()?.inline.as_ref().map(|raw| raw.get().to_owned()))),
        )
        .bind::<Array<Nullable<BigInt>>, Vec<Option<i64>>>(
            column!(s => s.report().and_then(|f| f.result.as_ref().map(|r| r.size_bytes as i64))),
        )
        .bind::<Array<Text>, Vec<String>>(column!(s => s.outcome().to_owned()))
        .bind::<Array<Nullable<Text>>, Vec<Option<String>>>(column!(s => s.report().and_then(|f| json(&f.steps))))
        .bind::<Array<Nullable<Text>>, Vec<Option<String>>>(column!(s => s.report().and_then(|f| json(&f.artifacts))))
        .bind::<Array<Bool>, Vec<bool>>(column!(s => s.release))
        .bind::<Array<Integer>, Vec<i32>>(segments.iter().map(|s| s.0).collect())
        .bind::<Array<Integer>, Vec<i32>>(segments.iter().map(|s| s.1.seq as i32).collect())
        .bind::<Array<BigInt>, Vec<i64>>(segments.iter().map(|s| s.1.size_bytes as i64).collect())
        .bind::<Array<Integer>, Vec<i32>>(segments.iter().map(|s| s.1.lines as i32).collect())
}

/// A list as JSON text; `None` when empty.
fn json<T: serde::Serialize>(items: &[T]) -> Option<String> {
    if items.is_empty() { None } else { serde_json::to_string(items).ok() }
}

#[derive(QueryableByName)]
struct LiveRow {
    #[diesel(sql_type = Text)]
    tenant: String,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Integer)]
    max_attempts: i32,
    #[diesel(sql_type = Bool)]
    cancel_requested: bool,
}

impl From<LiveRow> for Live {
    fn from(row: LiveRow) -> Self {
        Self {
            tenant: row.tenant,
            id: AttemptId { execution_id: ExecutionId(row.id), attempt: row.attempt },
            state: super::query::state(&row.state),
            standing: Standing {
                attempt: row.attempt,
                max_attempts: row.max_attempts,
                cancel_requested: row.cancel_requested,
            },
        }
    }
}

const LIVE: &str = "
SELECT e.tenant, e.id, e.attempt, e.state, e.max_attempts, e.cancel_requested_at IS NOT NULL AS cancel_requested
FROM UNNEST({}::uuid[], {}::int[]) AS i (execution_id, attempt)
JOIN attempts a ON a.execution_id = ANY(ARRAY[i.execution_id]) AND a.attempt = i.attempt AND a.finished_at IS NULL
JOIN LATERAL (SELECT tenant, id, attempt, state, max_attempts, cancel_requested_at FROM executions x
              WHERE x.tenant = a.tenant AND x.id = a.execution_id OFFSET 0) e ON e.attempt = a.attempt
WHERE e.state IN ('launching', 'running') AND ({}::text IS NULL OR a.worker = {}::text)";

/// Who saw an attempt's end.
#[derive(Clone, Debug)]
pub enum Observer {
    /// The worker that launched it. When another worker has taken the launch over, what this one saw end was another process.
    Launcher { worker: String },
    /// Whose word holds whoever launched it: the supervisor, from the rows, or who saw the attempt's one Job end.
    Anyone,
}

impl Observer {
    /// The worker whose attempts these are; `None`: anybody's.
    pub(super) fn worker(&self) -> Option<String> {
        match self {
            Self::Launcher { worker } => Some(worker.clone()),
            Self::Anyone => None,
        }
    }
}

/// Those of the attempts that are current and live, and this observer's to judge.
pub async fn live(connection: &mut Connection, attempts: &[AttemptId], observer: &Observer) -> StoreResult<Vec<Live>> {
    let worker = observer.worker();
    let rows: Vec<LiveRow> = statement(LIVE)
        .bind::<Array<SqlUuid>, Vec<Uuid>>(attempts.iter().map(|a| a.execution_id.0).collect())
        .bind::<Array<Integer>, Vec<i32>>(attempts.iter().map(|a| a.attempt).collect())
        .bind::<Nullable<Text>, _>(worker.clone())
        .bind::<Nullable<Text>, _>(worker)
        .load(connection)
        .await?;
    Ok(rows.into_iter().map(Live::from).collect())
}

/// Settles one attempt by a witness, whatever it was doing; `None` when its end means nothing any more.
/// A decision overtaken by a cancel is made again, a bounded number of times.
pub async fn settle_one(
    connection: &mut Connection,
    id: AttemptId,
    observer: &Observer,
    witness: Witness,
    release: bool,
) -> StoreResult<Option<State>> {
    for _ in 0..3 {
        let Some(live) = live(connection, &[id], observer).await?.pop() else { return Ok(None) };
        // Read as late by its rows, and granted in between: it runs.
        let started = live.state == State::Running && matches!(witness, Witness::StartFailed { .. });
        if started && matches!(observer, Observer::Anyone) {
            return Ok(None);
        }
        let settlement = Settlement { live, witness: witness.clone(), release };
        let to = settlement.next_state();
        if settle(connection, &[settlement]).await?[0] {
            return Ok(to);
        }
    }
    Ok(None)
}
