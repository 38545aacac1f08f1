//! After Redis lost its data: PostgreSQL forgets what it believed to be enqueued, and the relay enqueues it anew.
//!
//! In this order: what is enqueued after the epoch began is believed rightly, and what was before is forgotten. Done twice, or by two
//! at once, it makes duplicates and nothing worse.

use crate::trouble::Trouble;
use crate::worker::Worker;
use roadstead_backend::store::relay;
use slog::{info, warn};

pub async fn repair(worker: &Worker) -> Result<(), Trouble> {
    let rows = relay::forget_all(&mut *worker.database.get().await?).await?;
    worker.dispatch.begin_epoch().await?;
    worker.dispatch.ring_supervisor().await?;
    if rows == 0 {
        info!(worker.log, "Redis is new or has lost its data; nothing was in it");
    } else {
        warn!(worker.log, "Redis is new or has lost its data; what is queued is enqueued again"; "rows" => rows);
    }
    Ok(())
}
