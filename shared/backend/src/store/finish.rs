//! The executor's own report of an attempt's end: checked against its session, decided by the state machine, settled.

use super::settle::{Live, Settlement, Witness, settle};
use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::QueryableByName;
use diesel::sql_types::{Array, Binary, Bool, Double, Integer, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use roadstead_domain::attempt::protocol::Finish;
use roadstead_domain::execution::State;
use roadstead_domain::execution::retry::Standing;
use roadstead_domain::ids::AttemptId;
use std::time::Duration;
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Report {
    pub attempt: AttemptId,
    /// SHA-256 of the session token.
    pub session_hash: Vec<u8>,
    pub finish: Finish,
}

/// What became of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// Committed now: the execution went to this state.
    Settled {
        tenant: String,
        state: State,
        /// Since the attempt's start.
        ran: Duration,
    },
    /// This executor's end was settled before: a lost reply, or its other witness was quicker.
    Before,
    NotCurrent,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Integer)]
    place: i32,
    #[diesel(sql_type = Text)]
    tenant: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Integer)]
    max_attempts: i32,
    #[diesel(sql_type = Bool)]
    cancel_requested: bool,
    #[diesel(sql_type = Bool)]
    ended: bool,
    #[diesel(sql_type = Double)]
    ran_seconds: f64,
}

const SESSIONS: &str = "
SELECT i.place, a.tenant, e.state, e.max_attempts, e.cancel_requested_at IS NOT NULL AS cancel_requested,
       a.finished_at IS NOT NULL OR e.attempt <> a.attempt OR e.state <> 'running' AS ended,
       COALESCE(extract(epoch FROM now() - a.started_at), 0)::float8 AS ran_seconds
FROM UNNEST({}::int[], {}::uuid[], {}::int[], {}::bytea[]) AS i (place, execution_id, attempt, session_hash)
JOIN attempts a ON a.execution_id = ANY(ARRAY[i.execution_id]) AND a.attempt = i.attempt AND a.session_hash = i.session_hash
JOIN LATERAL (SELECT attempt, state, max_attempts, cancel_requested_at FROM executions x
              WHERE x.tenant = a.tenant AND x.id = a.execution_id OFFSET 0) e ON true";

/// The answers are in the order of the batch.
pub async fn finish(connection: &mut Connection, batch: &[Report]) -> StoreResult<Vec<Finished>> {
    let mut answers = vec![Finished::NotCurrent; batch.len()];
    let mut open: Vec<usize> = (0..batch.len()).collect();
    // A cancel that arrives between the reading and the writing makes the decision anew; it can't arrive twice.
    for _ in 0..3 {
        let mut decided = Vec::new();
        for row in sessions(connection, batch, &open).await? {
            let place = row.place as usize;
            if row.ended {
                answers[place] = Finished::Before;
                continue;
            }
            let ran = Duration::from_secs_f64(row.ran_seconds.max(0.0));
            decided.push((place, ran, settlement(row, &batch[place])));
        }
        let settlements: Vec<Settlement> = decided.iter().map(|(_, _, s)| s.clone()).collect();
        let applied = settle(connection, &settlements).await?;
        open.clear();
        for ((place, ran, settlement), applied) in decided.into_iter().zip(applied) {
            match settlement.next_state() {
                Some(state) if applied => {
                    answers[place] = Finished::Settled { tenant: settlement.live.tenant, state, ran };
                }
                Some(_) => open.push(place),
                None => {}
            }
        }
        if open.is_empty() {
            break;
        }
    }
    Ok(answers)
}

async fn sessions(connection: &mut Connection, batch: &[Report], open: &[usize]) -> StoreResult<Vec<Row>> {
    Ok(statement(SESSIONS)
        .bind::<Array<Integer>, Vec<i32>>(open.iter().map(|&n| n as i32).collect())
        .bind::<Array<SqlUuid>, Vec<Uuid>>(open.iter().map(|&n| batch[n].attempt.execution_id.0).collect())
        .bind::<Array<Integer>, Vec<i32>>(open.iter().map(|&n| batch[n].attempt.attempt).collect())
        .bind::<Array<Binary>, Vec<Vec<u8>>>(open.iter().map(|&n| batch[n].session_hash.clone()).collect())
        .load(connection)
        .await?)
}

fn settlement(row: Row, report: &Report) -> Settlement {
    Settlement {
        live: Live {
            tenant: row.tenant,
            id: report.attempt,
            state: super::query::state(&row.state),
            standing: Standing {
                attempt: report.attempt.attempt,
                max_attempts: row.max_attempts,
                cancel_requested: row.cancel_requested,
            },
        },
        witness: Witness::Report(Box::new(report.finish.clone())),
        release: false,
    }
}
