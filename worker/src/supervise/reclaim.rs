//! What dead workers left in the middle: entries that they took and never acknowledged, launches that they claimed and did not get done, and
//! berths that they can't give back.

use crate::dispatch::{credential, launch};
use crate::launch::{End, Ended, LaunchFailure, LaunchOrder};
use crate::trouble::Trouble;
use crate::worker::Worker;
use roadstead_backend::dispatch::Taken;
use roadstead_backend::store::launch::{abandoned, launched, take_over};
use roadstead_backend::store::{Connection, StoreResult, overdue};
use slog::{info, warn};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A live worker touches what it holds several times as often.
const IDLE: Duration = Duration::from_secs(60);
const MAX_ENTRIES: usize = 128;
const MAX_LAUNCHES: i64 = 64;
/// From an attempt's end to its berth's being free, when its worker can't say that the process is gone: an executor exits after its report as soon as
/// it has removed its workspace.
const RELEASE_GRACE: Duration = Duration::from_secs(15);

/// Gives the dispatcher of this worker what others took long ago. They keep their places in their streams.
pub async fn reclaim_entries(worker: &Worker, dispatcher: &mpsc::Sender<Vec<Taken>>) -> Result<(), Trouble> {
    // Room for them first: what is reclaimed here is this worker's.
    let Ok(place) = dispatcher.try_reserve() else { return Ok(()) };
    let entries = worker.dispatch.reclaim(&worker.id, IDLE, MAX_ENTRIES).await?;
    if !entries.is_empty() {
        info!(worker.log, "took over entries of a dead worker"; "entries" => entries.len());
        place.send(entries);
    }
    Ok(())
}

/// Launches again what was claimed and not launched: the same attempts, whose former credentials are void.
pub async fn launch_abandoned(worker: &Arc<Worker>, connection: &mut Connection) -> StoreResult<()> {
    for abandoned in abandoned(connection, MAX_LAUNCHES).await? {
        let (attempt, tenant) = (abandoned.attempt, abandoned.tenant);
        if worker.launcher.holds(attempt) {
            // It is alive here, and about to be recorded.
            continue;
        }
        let credential = credential(worker);
        let hash = credential.as_ref().map(|credential| credential.hash.clone());
        if !take_over(connection, &worker.id, attempt, hash, worker.settings.launch).await? {
            continue;
        }
        warn!(worker.log_of(&tenant, attempt), "took over a launch");
        let timeout = Duration::from_secs(abandoned.timeout_seconds.unsigned_abs().into());
        match launch(worker, LaunchOrder { tenant: tenant.clone(), attempt, credential, timeout }).await {
            Ok(()) => launched(connection, &worker.id, &[attempt]).await?,
            Err(LaunchFailure { reason, retryable }) => {
                worker.settle(Ended { tenant, attempt, end: End::NotStarted { reason, retryable } });
            }
        }
    }
    Ok(())
}

/// Gives back the berths of ended attempts whose worker is gone, and calls the workers.
pub async fn release_forgotten(worker: &Worker, connection: &mut Connection) -> Result<(), Trouble> {
    let released = overdue::release_forgotten(connection, RELEASE_GRACE).await?;
    if released > 0 {
        info!(worker.log, "gave back berths of a dead worker"; "berths" => released);
        worker.dispatch.ring_workers().await?;
    }
    Ok(())
}
