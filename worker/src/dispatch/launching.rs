//! From a claimed entry to a process: all of a claim's at once, because each costs the kernel a good part of a millisecond.

use super::hand::Claimed;
use super::record::Handled;
use crate::clock;
use crate::launch::{Credential, End, Ended, LaunchFailure, LaunchOrder};
use crate::worker::Worker;
use metrics::{counter, histogram};
use roadstead_backend::secrets;
use roadstead_backend::telemetry::metrics::{DISPATCH_LAG_SECONDS, LAUNCH_FAILURES_TOTAL, LAUNCH_SECONDS};
use slog::{debug, warn};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A launch is not begun when its lease is this near its end: somebody else may take it over.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// A credential for one attempt, if its launcher wants one.
pub fn credential(worker: &Worker) -> Option<Credential> {
    worker.launcher.wants_credential().then(|| {
        let token = secrets::random_token();
        let hash = secrets::hash(&token);
        Credential { token, hash }
    })
}

/// Launches everything; answers what the entries came to, and whether each launch succeeded. The lease began after `asked_at`.
pub async fn launch_all(
    worker: &Arc<Worker>,
    claimed: Vec<(Claimed, Option<Credential>)>,
    asked_at: Instant,
) -> (Vec<Handled>, bool) {
    let mut launches = JoinSet::new();
    let mut handled = Vec::with_capacity(claimed.len());
    let mut all_well = true;
    let alone = claimed.len() == 1;
    for (claimed, credential) in claimed {
        let one = launch(Arc::clone(worker), claimed, credential, asked_at);
        if alone {
            let (entry, well) = one.await;
            handled.push(entry);
            all_well = well;
        } else {
            launches.spawn(one);
        }
    }
    while let Some(done) = launches.join_next().await {
        if let Ok((entry, well)) = done {
            handled.push(entry);
            all_well &= well;
        }
    }
    (handled, all_well)
}

async fn launch(
    worker: Arc<Worker>,
    claimed: Claimed,
    credential: Option<Credential>,
    asked_at: Instant,
) -> (Handled, bool) {
    let Claimed { entry, attempt, timeout, waited } = claimed;
    let tenant = entry.stream.tenant.clone();
    histogram!(DISPATCH_LAG_SECONDS).record(waited);
    if asked_at.elapsed() + LEASE_MARGIN > worker.settings.launch.launch_lease {
        warn!(worker.log_of(&tenant, attempt), "the launch came too late and is left to whoever takes it over");
        return (Handled { entry, launched: None }, true);
    }
    let order = LaunchOrder { tenant: tenant.clone(), attempt, credential, timeout };
    match timed(&worker, order).await {
        Ok(()) => {
            debug!(worker.log, "launched"; "execution_id" => %attempt.execution_id, "attempt" => attempt.attempt,
                   "tenant" => &tenant);
            (Handled { entry, launched: Some(attempt) }, true)
        }
        Err(LaunchFailure { reason, retryable }) => {
            let end = End::NotStarted { reason, retryable };
            worker.settle(Ended { tenant, attempt, end });
            (Handled { entry, launched: None }, false)
        }
    }
}

/// Launches, and counts how that went.
pub async fn timed(worker: &Worker, order: LaunchOrder) -> Result<(), LaunchFailure> {
    let began = clock::now();
    let launched = worker.launcher.launch(order).await;
    match &launched {
        Ok(()) => histogram!(LAUNCH_SECONDS, "launcher" => worker.launcher.name()).record(began.elapsed()),
        Err(failure) => counter!(LAUNCH_FAILURES_TOTAL, "reason" => failure.reason.code.clone()).increment(1),
    }
    launched
}
