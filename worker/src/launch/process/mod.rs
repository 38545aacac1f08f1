//! The process launcher: an attempt is an executor on this machine, in a process group of its own.
//!
//! Invariants: there are never more executors of this worker than the cap; an attempt's end is told only when nothing that it started is
//! alive any more, also when its executor was killed; the credential passes through a pipe, never through arguments or environment.
//! Executors outlive this worker: they report by themselves.

mod children;
mod exit;
mod leftovers;
mod orphans;
mod spawn;
mod strays;

pub(in crate::launch) use exit::{Status, judge};
pub use leftovers::{leftovers, remove as remove_leftover};
pub use spawn::Surroundings;

use super::{Ended, LaunchError, LaunchOrder, Launcher, Needs, News, Reach, Stage, StopCause};
use crate::backoff::Backoff;
use crate::clock;
use children::{Children, Orders};
use exit::Exit;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use roadstead_domain::execution::Reason;
use roadstead_domain::ids::AttemptId;
use slog::{Logger, error, warn};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Child;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;

/// Ends that wait to be told; whoever observes is never this far behind, because each holds a berth.
const MAX_UNTOLD_ENDS: usize = 65_536;
/// What is left of an attempt dies by SIGKILL at once, unless it hangs in the kernel.
const SWEEP_PATIENCE: Duration = Duration::from_secs(5);
/// An executor that ends well leaves nothing; this is how often that is checked all the same.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

pub struct ProcessLauncher {
    shared: Arc<Shared>,
    untold: Mutex<mpsc::Receiver<Ended>>,
}

struct Shared {
    surroundings: Surroundings,
    children: Children,
    /// Held while sweeping; when that was last done.
    swept: Mutex<Instant>,
    ends: mpsc::Sender<Ended>,
    log: Logger,
}

impl ProcessLauncher {
    /// At most `cap` children at once.
    pub fn new(surroundings: Surroundings, cap: usize, log: Logger) -> Self {
        let (ends, untold) = mpsc::channel(MAX_UNTOLD_ENDS);
        let shared = Shared { surroundings, children: Children::new(cap), swept: Mutex::new(clock::now()), ends, log };
        Self { shared: Arc::new(shared), untold: Mutex::new(untold) }
    }
}

impl Launcher for ProcessLauncher {
    fn name(&self) -> &'static str {
        "process"
    }

    fn reach(&self) -> Reach {
        Reach::Worker
    }

    fn needs(&self) -> Needs {
        Needs { credential: true, demand: false }
    }

    fn launch(&self, order: LaunchOrder, _until: Instant) -> BoxFuture<'_, Result<(), LaunchError>> {
        async move {
            // Spawning takes less than a millisecond and waits for nothing but the kernel.
            let spawned = self.shared.children.adopt(order.attempt, || self.shared.surroundings.spawn(&order));
            let (child, orders) = spawned.map_err(|error| LaunchError::Refused {
                reason: Reason::new(Reason::CREATE_REJECTED, format!("the executor could not be started: {error}")),
                retryable: true,
            })?;
            tokio::spawn(attend(Arc::clone(&self.shared), child, orders, order.tenant));
            Ok(())
        }
        .boxed()
    }

    fn observe(&self) -> BoxFuture<'_, News> {
        async move {
            match self.untold.lock().await.recv().await {
                Some(ended) => News::Ended(ended),
                // `self` holds a sender.
                None => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn stop(&self, attempt: AttemptId, cause: StopCause) -> bool {
        self.shared.children.stop(attempt, cause);
        true
    }

    fn end_strays(&self, attempt: AttemptId, _cause: StopCause) -> BoxFuture<'_, bool> {
        strays::end(attempt, self.shared.surroundings.workspace(attempt), SWEEP_PATIENCE).boxed()
    }

    fn held(&self) -> Vec<AttemptId> {
        self.shared.children.held()
    }

    fn live(&self) -> watch::Receiver<usize> {
        self.shared.children.live()
    }
}

/// Stays with one executor to its end, and to the end of what it leaves.
async fn attend(shared: Arc<Shared>, mut child: Child, mut orders: Orders, tenant: String) {
    let exit = exit::wait(&mut child, &mut orders).await;
    let (serial, attempt) = (orders.serial, orders.attempt);
    shared.children.reaped(serial);
    if exit.is_clean() {
        shared.sweep_now_and_then().await;
    } else {
        let folder = shared.surroundings.workspace(attempt);
        shared.end_all_of(attempt, folder.clone()).await;
        if exit.may_leave_workspace()
            && let Err(error) = leftovers::remove(folder).await
        {
            warn!(shared.log, "an attempt's workspace can't be removed"; "execution_id" => %attempt.execution_id,
                  "attempt" => attempt.attempt, "tenant" => &tenant, "error" => %error);
        }
    }
    let Exit { status, last_words, stopped } = exit;
    let end = exit::judge(status, stopped, &last_words);
    // The place is free before the end is told: whoever hears of it may launch at once.
    shared.children.gone();
    // Nobody observes any more only when this process ends.
    let _ = shared.ends.send(Ended { tenant, attempt, end, because: None, stage: Stage::Gone }).await;
    shared.children.told(serial);
}

impl Shared {
    /// Returns when nothing of this attempt is alive: its next attempt must not meet what hangs in the kernel.
    async fn end_all_of(&self, attempt: AttemptId, workspace: PathBuf) {
        let mut backoff = Backoff::default();
        // When others' processes can't be killed either, this attempt's are looked for by name.
        while !self.sweep().await && !strays::end(attempt, workspace.clone(), SWEEP_PATIENCE).await {
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Ends everything whose executor is dead; answers whether it did.
    async fn sweep(&self) -> bool {
        let mut swept = self.swept.lock().await;
        let all_ended = orphans::sweep(&self.children, SWEEP_PATIENCE).await;
        if !all_ended {
            error!(self.log, "processes of ended attempts can't be killed");
        }
        *swept = clock::now();
        all_ended
    }

    async fn sweep_now_and_then(&self) {
        let due = self.swept.try_lock().is_ok_and(|swept| swept.elapsed() >= SWEEP_INTERVAL);
        if due {
            self.sweep().await;
        }
    }
}
