//! From a claimed entry to a process or a Job: all of a claim's at once, because each takes a good part of a millisecond, or many.

use super::hand::Claimed;
use super::record::Handled;
use crate::clock;
use crate::launch::{Credential, End, Ended, LaunchError, LaunchOrder, Stage};
use crate::worker::Worker;
use metrics::{counter, histogram};
use roadstead_backend::secrets;
use roadstead_backend::store::launch::{self, Demand};
use roadstead_backend::store::{Connection, StoreResult};
use roadstead_backend::telemetry::metrics::{DISPATCH_LAG_SECONDS, LAUNCH_FAILURES_TOTAL, LAUNCH_SECONDS, UNKNOWN};
use roadstead_domain::ids::ExecutionId;
use slog::{debug, info, warn};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A launch is not begun, or tried again, when its lease is this near its end: somebody else may take it over.
pub const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// A claimed entry with the order for its launch; without one, what the order needs could not be had in time.
type Ordered = (Claimed, Option<LaunchOrder>);

/// A credential for one attempt, if its launcher wants one.
pub fn credential(worker: &Worker) -> Option<Credential> {
    worker.launcher.needs().credential.then(|| {
        let token = secrets::random_token();
        let hash = secrets::hash(&token);
        Credential { token, hash }
    })
}

/// The orders for what was claimed.
pub async fn ordered(
    connection: &mut Connection,
    worker: &Worker,
    claimed: Vec<(Claimed, Option<Credential>)>,
) -> Vec<Ordered> {
    let wanted: Vec<_> = claimed.iter().map(|(c, _)| (c.entry.stream.tenant.clone(), c.attempt.execution_id)).collect();
    let mut demands = match demands(connection, worker, &wanted).await {
        Ok(demands) => demands,
        Err(error) => {
            warn!(worker.log, "launches are left to be taken over"; "error" => %error);
            return claimed.into_iter().map(|(claimed, _)| (claimed, None)).collect();
        }
    };
    claimed
        .into_iter()
        .map(|(claimed, credential)| {
            let order = LaunchOrder {
                tenant: claimed.entry.stream.tenant.clone(),
                attempt: claimed.attempt,
                credential,
                demand: demands.remove(&claimed.attempt.execution_id),
                is_taken_over: false,
                timeout: claimed.timeout,
            };
            (claimed, Some(order))
        })
        .collect()
}

/// What the executions ask of a cluster, if the launcher wants to know.
pub async fn demands(
    connection: &mut Connection,
    worker: &Worker,
    executions: &[(String, ExecutionId)],
) -> StoreResult<HashMap<ExecutionId, Demand>> {
    if worker.launcher.needs().demand && !executions.is_empty() {
        launch::demands(connection, executions).await
    } else {
        Ok(HashMap::new())
    }
}

/// Launches that are under way.
#[derive(Debug)]
pub struct Launches {
    /// Whether each went well.
    tasks: JoinSet<bool>,
    any_failed: bool,
    recorder: mpsc::Sender<Handled>,
}

impl Launches {
    pub fn new(recorder: mpsc::Sender<Handled>) -> Self {
        Self { tasks: JoinSet::new(), any_failed: false, recorder }
    }

    /// Begins them all; each is done by `until`, and what its entry came to is recorded then.
    pub fn begin(&mut self, worker: &Arc<Worker>, claimed: Vec<Ordered>, until: Instant) {
        for (claimed, order) in claimed {
            let (worker, recorder) = (Arc::clone(worker), self.recorder.clone());
            self.tasks.spawn(async move {
                let (handled, well) = launch_claimed(&worker, claimed, order, until).await;
                // Its receiver lives as long as there are senders.
                let _ = recorder.send(handled).await;
                well
            });
        }
    }

    pub fn under_way(&self) -> usize {
        self.tasks.len()
    }

    /// Waits until no more than `left` are under way.
    pub async fn settle_down(&mut self, left: usize) {
        while let Some(well) = self.tasks.try_join_next() {
            self.any_failed |= !matches!(well, Ok(true));
        }
        while self.tasks.len() > left {
            let well = self.tasks.join_next().await;
            self.any_failed |= !matches!(well, Some(Ok(true)));
        }
    }

    /// Whether one failed since this was last asked.
    pub fn take_failed(&mut self) -> bool {
        std::mem::take(&mut self.any_failed)
    }
}

async fn launch_claimed(
    worker: &Arc<Worker>,
    claimed: Claimed,
    order: Option<LaunchOrder>,
    until: Instant,
) -> (Handled, bool) {
    let Claimed { entry, attempt, waited, .. } = claimed;
    histogram!(DISPATCH_LAG_SECONDS).record(waited);
    let launched = match order {
        Some(order) => launch(worker, order, until).await,
        None => Launched::Left,
    };
    if launched == Launched::Left {
        // With nothing live, whoever supervises may be idle, and would not see its lease run out before the next reconciliation.
        let _ = worker.dispatch.ring_supervisor().await;
    }
    let handled = Handled { entry, launched: (launched == Launched::Done).then_some(attempt) };
    (handled, launched == Launched::Done)
}

/// What became of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launched {
    Done,
    /// Nothing was started, and that is being settled.
    Failed,
    /// It may have been started, or not: it is left to whoever takes it over.
    Left,
}

/// Launches by `until`, and counts how that went.
pub async fn launch(worker: &Arc<Worker>, order: LaunchOrder, until: Instant) -> Launched {
    let (tenant, attempt, began) = (order.tenant.clone(), order.attempt, clock::now());
    let log = worker.log_of(&tenant, attempt);
    if began >= until {
        warn!(log, "the launch came too late and is left to whoever takes it over");
        return Launched::Left;
    }
    match worker.launcher.launch(order, until).await {
        Ok(()) => {
            histogram!(LAUNCH_SECONDS, "launcher" => worker.launcher.name()).record(began.elapsed());
            debug!(log, "launched");
            Launched::Done
        }
        Err(LaunchError::Refused { reason, retryable }) => {
            worker.settle(Ended {
                tenant,
                attempt,
                end: End::NotStarted { reason, retryable },
                because: None,
                stage: Stage::Refused,
            });
            Launched::Failed
        }
        Err(LaunchError::Unknown(why)) => {
            // What keeps it is told as the execution's reason, and is a failure, counted once, if it lasts until the start deadline.
            if worker.launcher.explain(attempt).is_some() {
                info!(log, "it can't be launched now, so it is left to whoever takes it over"; "why" => why);
            } else {
                counter!(LAUNCH_FAILURES_TOTAL, "reason" => UNKNOWN).increment(1);
                warn!(log, "whether it was launched is not known, so it is left to whoever takes it over"; "why" => why);
            }
            Launched::Left
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_is_noticed_while_others_are_under_way() {
        let mut launches = Launches::new(mpsc::channel(1).0);
        launches.tasks.spawn(std::future::pending());
        launches.tasks.spawn(async { true });
        launches.tasks.spawn(async { false });
        while launches.under_way() > 1 {
            tokio::task::yield_now().await;
            launches.settle_down(128).await;
        }
        assert!(launches.take_failed());
        assert!(!launches.take_failed(), "once");
    }
}
