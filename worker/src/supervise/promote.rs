//! What time alone does: executions that have become due are queued, and those that waited past their queue deadline end.

use metrics::counter;
use roadstead_backend::store::{Connection, StoreResult, promote};
use roadstead_backend::telemetry::metrics::EXECUTIONS_FINISHED_TOTAL;
use roadstead_domain::execution::State;

const BATCH: i64 = 1_000;
const MAX_BATCHES: usize = 10;

/// Answers how many rows moved; as many as [`MAX_BATCHES`] batches hold, there may be more.
pub async fn promote(connection: &mut Connection) -> StoreResult<usize> {
    let mut moved = 0;
    for _ in 0..MAX_BATCHES {
        let due = promote::promote(connection, BATCH).await?;
        let late = promote::expire(connection, BATCH).await?;
        counter!(EXECUTIONS_FINISHED_TOTAL, "outcome" => State::TimedOut.as_str()).increment(late as u64);
        moved += due + late;
        if due.max(late) < BATCH as usize {
            break;
        }
    }
    Ok(moved)
}
