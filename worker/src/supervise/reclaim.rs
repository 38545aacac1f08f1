//! What dead workers left in the middle: entries that they took and never acknowledged, launches that they claimed and did not get done, and
//! berths that they can't give back.

use crate::clock;
use crate::dispatch::{LEASE_MARGIN, Launched, credential, demands, launch};
use crate::launch::{LaunchOrder, Reach};
use crate::trouble::Trouble;
use crate::worker::Worker;
use roadstead_backend::dispatch::Taken;
use roadstead_backend::store::launch::{Abandoned, abandoned, launched, take_over};
use roadstead_backend::store::{Connection, StoreResult, overdue};
use slog::{info, warn};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

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
    let mut abandoned = abandoned(connection, MAX_LAUNCHES).await?;
    if worker.launcher.reach() == Reach::Worker {
        // What is alive here is about to be recorded.
        abandoned.retain(|launch| !worker.launcher.holds(launch.attempt));
    }
    let executions: Vec<_> = abandoned.iter().map(|a| (a.tenant.clone(), a.attempt.execution_id)).collect();
    let mut demands = demands(connection, worker, &executions).await?;
    for Abandoned { tenant, attempt, timeout_seconds } in abandoned {
        let until = clock::now() + worker.settings.launch.launch_lease.saturating_sub(LEASE_MARGIN);
        let credential = credential(worker);
        let hash = credential.as_ref().map(|credential| credential.hash.clone());
        if !take_over(connection, &worker.id, attempt, hash, worker.settings.launch).await? {
            continue;
        }
        // One that was put off has only waited for its next try.
        if worker.launcher.explain(attempt).is_none() {
            warn!(worker.log_of(&tenant, attempt), "took over a launch");
        }
        let timeout = Duration::from_secs(timeout_seconds.unsigned_abs().into());
        let demand = demands.remove(&attempt.execution_id);
        let order = LaunchOrder { tenant, attempt, credential, demand, is_taken_over: true, timeout };
        worker.settling.spawn(finish_launch(Arc::clone(worker), order, until));
    }
    Ok(())
}

/// In the background: a cluster that does not answer would hold up everything else.
async fn finish_launch(worker: Arc<Worker>, order: LaunchOrder, until: Instant) {
    let (tenant, attempt) = (order.tenant.clone(), order.attempt);
    if launch(&worker, order, until).await != Launched::Done {
        return;
    }
    let recorded: StoreResult<()> =
        async { launched(&mut *worker.database.get().await?, &worker.id, &[attempt]).await }.await;
    if let Err(error) = recorded {
        // It is found and taken over again.
        warn!(worker.log_of(&tenant, attempt), "a launch can't be recorded"; "error" => %error);
    }
}

/// Gives back the berths of ended attempts whose worker is gone, and calls the workers.
pub async fn release_forgotten(worker: &Worker, connection: &mut Connection) -> Result<(), Trouble> {
    if worker.launcher.reach() == Reach::Cluster {
        // Whoever looks sees whether the pod is gone.
        return Ok(());
    }
    let released = overdue::release_forgotten(connection, RELEASE_GRACE).await?;
    if released > 0 {
        info!(worker.log, "gave back berths of a dead worker"; "berths" => released);
        worker.dispatch.ring_workers().await?;
    }
    Ok(())
}
