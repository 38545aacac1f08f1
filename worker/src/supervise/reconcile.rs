//! Now and then, what is believed is compared with what is: rows that should be in a stream and are not, and the tenants' shares of the ring.

use super::relay::{share, stream};
use crate::trouble::Trouble;
use crate::worker::Worker;
use roadstead_backend::dispatch::Health;
use roadstead_backend::store::Connection;
use roadstead_backend::store::relay::{self, Backlog};
use slog::warn;
use std::time::Duration;

/// An API replica commits first and appends then; this is how long that may take before the row counts as forgotten.
const MARGIN: Duration = Duration::from_secs(5);
/// Streams that are looked at in one turn; the next turn goes on behind them.
const MAX_STREAMS: usize = 1_000;

#[derive(Debug, Default)]
pub struct Reconciliation {
    /// Where the next turn begins among the streams.
    next: usize,
}

impl Reconciliation {
    /// One turn: forgets what is believed wrongly, so that the relay enqueues it.
    pub async fn turn(&mut self, worker: &Worker, connection: &mut Connection) -> Result<(), Trouble> {
        let streams = relay::believed_streams(connection).await?;
        let begin = if self.next < streams.len() { self.next } else { 0 };
        for believed in streams.iter().cycle().skip(begin).take(streams.len().min(MAX_STREAMS)) {
            reconcile(worker, connection, believed).await?;
        }
        self.next = (begin + MAX_STREAMS) % streams.len().max(1);
        Ok(())
    }
}

async fn reconcile(worker: &Worker, connection: &mut Connection, believed: &Backlog) -> Result<(), Trouble> {
    let stream = stream(believed);
    worker.dispatch.note_share(&stream.tenant, share(believed)).await?;
    let oldest = worker.dispatch.oldest(&stream).await?;
    let lost = relay::forget_lost(connection, &stream.tenant, stream.priority, oldest, MARGIN).await?;
    if lost > 0 {
        warn!(worker.log, "rows were not in their stream"; "tenant" => &stream.tenant, "rows" => lost);
    }
    Ok(())
}

/// Repairs a Redis that is not the one that was filled.
pub async fn check_epoch(worker: &Worker) -> Result<(), Trouble> {
    match worker.dispatch.health().await? {
        Health::Same => Ok(()),
        Health::Lost => crate::dispatch::repair(worker).await,
    }
}

/// A queue must never be evicted. Answers whether that could be told.
pub async fn check_eviction(worker: &Worker) -> bool {
    let policy = worker.dispatch.eviction_policy().await;
    if let Some(policy) = policy.as_deref().filter(|policy| *policy != "noeviction") {
        warn!(worker.log, "Redis may evict the queue; set maxmemory-policy to noeviction"; "maxmemory_policy" => policy);
    }
    policy.is_some()
}
